using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Logging;

namespace LlmPipeline.ServiceDefaults;

/// <summary>
/// The certificates of <see cref="TlsOptions"/>. Files that change on disk count for the next connection; open ones go on. Files
/// that cannot be read, because they are just being replaced, leave the certificates as they were.
/// </summary>
public sealed partial class TlsCertificates
{
    private readonly TlsOptions _options;
    private readonly ILogger _logger;
    private readonly Lock _lock = new();
    private Loaded _loaded = new(null, []);
    private DateTime[] _times = [];

    /// <summary>Reads the certificates that a configuration names.</summary>
    /// <exception cref="InvalidOperationException">Only one of certificate and key is named, or a file cannot be used.</exception>
    public TlsCertificates(IConfiguration configuration, ILogger<TlsCertificates> logger)
    {
        ArgumentNullException.ThrowIfNull(configuration);
        _options = configuration.GetSection(TlsOptions.Section).Get<TlsOptions>() ?? new TlsOptions();
        _logger = logger;
        if (string.IsNullOrEmpty(_options.Certificate) != string.IsNullOrEmpty(_options.Key))
        {
            throw new InvalidOperationException("Of Tls:Certificate and Tls:Key only one is set. Name both PEM files, or none.");
        }

        try
        {
            _times = Times();
            _loaded = Load();
        }
        catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or CryptographicException)
        {
            throw new InvalidOperationException($"The files of Tls:Certificate ({_options.Certificate}), Tls:Key and Tls:Authority ({_options.Authority}) cannot be used: {exception.Message}", exception);
        }
    }

    /// <summary>This service has a certificate, and so serves gRPC over TLS.</summary>
    public bool HasCertificate => !string.IsNullOrEmpty(_options.Certificate);

    private bool HasAuthority => !string.IsNullOrEmpty(_options.Authority);

    /// <summary>Whether a configuration asks for gRPC over TLS.</summary>
    public static bool IsConfigured(IConfiguration configuration) => !string.IsNullOrEmpty(configuration?[$"{TlsOptions.Section}:{nameof(TlsOptions.Certificate)}"]);

    /// <summary>Lets an endpoint speak TLS where this service has a certificate.</summary>
    public void Secure(ListenOptions endpoint)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        if (HasCertificate)
        {
            endpoint.UseHttps(new TlsHandshakeCallbackOptions
            {
                OnConnection = context => ValueTask.FromResult(Server(context.Connection.RemoteEndPoint?.ToString() ?? "an unknown address")),
            });
        }
    }

    /// <summary>For a connection that is about to be accepted.</summary>
    /// <param name="peer">Who connects, for the log.</param>
    public SslServerAuthenticationOptions Server(string peer) => new()
    {
        ServerCertificateContext = Current().Own,
        ClientCertificateRequired = HasAuthority,
        RemoteCertificateValidationCallback = (_, certificate, chain, errors) =>
        {
            if (!HasAuthority || Problem(certificate, chain, errors & ~SslPolicyErrors.RemoteCertificateNameMismatch) is not { } problem)
            {
                return true;
            }

            LogRefusedClient(peer, problem);
            return false;
        },
    };

    /// <summary>For connections to a host; the certificates are looked up when one is opened.</summary>
    /// <param name="host">Its name, which its certificate has to bear; null where the handler that uses the options fills it in.</param>
    public SslClientAuthenticationOptions Client(string? host = null) => new()
    {
        TargetHost = host,
        LocalCertificateSelectionCallback = (_, _, _, _, _) => Current().Certificate!,
        RemoteCertificateValidationCallback = (sender, certificate, chain, errors) =>
        {
            if (Problem(certificate, chain, errors) is not { } problem)
            {
                return true;
            }

            LogRefusedServer(host ?? (sender as SslStream)?.TargetHostName ?? "", problem);
            return false;
        },
    };

    /// <summary>What is wrong with a peer's certificate; null for nothing.</summary>
    private string? Problem(X509Certificate? certificate, X509Chain? chain, SslPolicyErrors errors)
    {
        if (certificate is null || (errors & SslPolicyErrors.RemoteCertificateNotAvailable) != 0)
        {
            return "it shows no certificate";
        }

        if ((errors & SslPolicyErrors.RemoteCertificateNameMismatch) != 0)
        {
            return $"its certificate is for {certificate.Subject}, not for this name";
        }

        if (!HasAuthority)
        {
            return errors == SslPolicyErrors.None ? null : $"its certificate ({certificate.Subject}) is not trusted by this system: {errors}";
        }

        using var own = new X509Chain();
        own.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        own.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        own.ChainPolicy.CustomTrustStore.AddRange(Current().Authorities);
        foreach (var element in chain?.ChainElements.Skip(1) ?? [])
        {
            own.ChainPolicy.ExtraStore.Add(element.Certificate);
        }

        return own.Build(certificate as X509Certificate2 ?? new X509Certificate2(certificate)) ? null
            : $"its certificate ({certificate.Subject}) does not come from an authority of Tls:Authority, or is out of date: {string.Join(" ", own.ChainStatus.Select(s => s.StatusInformation.Trim()).Distinct())}";
    }

    private Loaded Current()
    {
        lock (_lock)
        {
            try
            {
                var times = Times();
                if (!times.SequenceEqual(_times))
                {
                    _loaded = Load();
                    _times = times;
                    LogReloaded();
                }
            }
            catch (Exception exception) when (exception is IOException or UnauthorizedAccessException or CryptographicException)
            {
                LogNotReloaded(exception);
            }

            return _loaded;
        }
    }

    private DateTime[] Times() => [.. new[] { _options.Certificate, _options.Key, _options.Authority }.Select(path => string.IsNullOrEmpty(path) ? default : File.GetLastWriteTimeUtc(path))];

    private Loaded Load()
    {
        var authorities = new X509Certificate2Collection();
        if (HasAuthority)
        {
            authorities.ImportFromPemFile(_options.Authority!);
        }

        if (!HasCertificate)
        {
            return new Loaded(null, authorities);
        }

        var certificate = X509Certificate2.CreateFromPemFile(_options.Certificate!, _options.Key);
        var chain = new X509Certificate2Collection();
        chain.ImportFromPemFile(_options.Certificate!);
        return new Loaded(SslStreamCertificateContext.Create(certificate, chain, offline: true), authorities) { Certificate = certificate };
    }

    private sealed record Loaded(SslStreamCertificateContext? Own, X509Certificate2Collection Authorities)
    {
        public X509Certificate2? Certificate { get; init; }
    }

    [LoggerMessage(1050, LogLevel.Warning, "The connection from {Peer} is refused: {Problem}.")]
    private partial void LogRefusedClient(string peer, string problem);

    [LoggerMessage(1051, LogLevel.Warning, "The connection to {Host} is not made: {Problem}.")]
    private partial void LogRefusedServer(string host, string problem);

    [LoggerMessage(1052, LogLevel.Information, "The certificates of section Tls were read again; new connections have them.")]
    private partial void LogReloaded();

    [LoggerMessage(1053, LogLevel.Warning, "The certificates of section Tls changed and cannot be read; connections go on with those from before.")]
    private partial void LogNotReloaded(Exception exception);
}
