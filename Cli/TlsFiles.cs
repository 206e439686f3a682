using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using LlmPipeline.Cli.RunFiles;

namespace LlmPipeline.Cli;

/// <summary>PEM files for an https endpoint; each may be missing.</summary>
/// <param name="Authority">Authorities that the server's certificate has to come from; without it, the system's.</param>
/// <param name="Certificate">What this program shows to a server that asks who it is, followed by intermediate authorities.</param>
/// <param name="Key">Private key of the certificate; without it, in the certificate's file.</param>
internal sealed record TlsFiles(string? Authority, string? Certificate, string? Key)
{
    /// <summary>Reads the files.</summary>
    /// <exception cref="RunFileException">A file cannot be used, or a key has no certificate.</exception>
    public SslClientAuthenticationOptions Read()
    {
        if (Key is not null && Certificate is null)
        {
            throw new RunFileException($"--key {Key}: a key needs its certificate; name its file with --certificate");
        }

        var options = new SslClientAuthenticationOptions();
        if (Authority is not null)
        {
            options.CertificateChainPolicy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
            Read("--authority", Authority, options.CertificateChainPolicy.CustomTrustStore.ImportFromPemFile);
        }

        if (Certificate is not null)
        {
            Read("--certificate", Certificate, file =>
            {
                var chain = new X509Certificate2Collection();
                chain.ImportFromPemFile(file);
                options.ClientCertificateContext = SslStreamCertificateContext.Create(X509Certificate2.CreateFromPemFile(file, Key), chain, offline: true);
            });
        }

        return options;
    }

    private static void Read(string option, string file, Action<string> read)
    {
        try
        {
            read(file);
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or CryptographicException)
        {
            throw new RunFileException($"{option} {file}: cannot be used: {exception.Message}");
        }
    }
}
