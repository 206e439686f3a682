using System.Net;
using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace LlmPipeline.Fakes;

/// <summary>An authority and certificates of its making, as PEM files in a folder that goes with it.</summary>
public sealed class TestAuthority : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("tls-").FullName;
    private readonly ECDsa _key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
    private readonly X509Certificate2 _certificate;

    /// <summary>A new authority, valid for a day.</summary>
    public TestAuthority()
    {
        var request = new CertificateRequest("CN=Test authority", _key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
        _certificate = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddHours(-1), DateTimeOffset.UtcNow.AddDays(1));
        File.WriteAllText(Path.Combine(_folder, "authority.pem"), _certificate.ExportCertificatePem());
    }

    /// <summary>Issues a certificate for localhost, and returns the settings that name its files.</summary>
    public (string Key, string Value)[] Settings(string name)
    {
        Issue(name);
        return [("Tls:Certificate", PathOf(name, "pem")), ("Tls:Key", PathOf(name, "key")), ("Tls:Authority", Path.Combine(_folder, "authority.pem"))];
    }

    /// <summary>Issues a certificate for localhost, in place of an older one; returns its thumbprint.</summary>
    public string Issue(string name)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256);
        var names = new SubjectAlternativeNameBuilder();
        names.AddDnsName("localhost");
        names.AddIpAddress(IPAddress.Loopback);
        request.CertificateExtensions.Add(names.Build());
        using var issued = request.Create(_certificate, DateTimeOffset.UtcNow.AddMinutes(-30), DateTimeOffset.UtcNow.AddHours(12), RandomNumberGenerator.GetBytes(8));
        File.WriteAllText(PathOf(name, "key"), key.ExportPkcs8PrivateKeyPem());
        File.WriteAllText(PathOf(name, "pem"), issued.ExportCertificatePem());
        return issued.Thumbprint;
    }

    /// <summary>For a caller with a new certificate that trusts this authority alone.</summary>
    public SslClientAuthenticationOptions Client(string name)
    {
        var files = Settings(name);
        var options = new SslClientAuthenticationOptions
        {
            CertificateChainPolicy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck },
            ClientCertificateContext = SslStreamCertificateContext.Create(X509Certificate2.CreateFromPemFile(files[0].Value, files[1].Value), null, offline: true),
        };
        options.CertificateChainPolicy.CustomTrustStore.ImportFromPemFile(files[2].Value);
        return options;
    }

    public void Dispose()
    {
        _certificate.Dispose();
        _key.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private string PathOf(string name, string extension) => Path.Combine(_folder, $"{name}.{extension}");
}
