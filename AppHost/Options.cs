using System.Diagnostics.CodeAnalysis;
using System.Globalization;

namespace LlmPipeline.AppHost;

/// <summary>What the command line asks for. Whatever is not an option here goes on as configuration, for example <c>--Section:Key=value</c>.</summary>
internal sealed class Options
{
    /// <summary>Exit code for a command line that cannot be understood.</summary>
    public const int UsageExitCode = 2;

    private const string Usage = """
        Usage: dotnet run --project AppHost -- [options]

          --quickstart           train, evaluate and publish a small model, then keep serving it
          --text FOLDER          the text that --quickstart learns from (default: the .NET SDK's documentation)
          --workers N            training processes (default 2)
          --preprocessors N      processes that make datasets, together (default 1)
          --device auto|cpu|cuda where they compute (default auto); with cuda, worker r takes GPU r mod --gpus
          --gpus N               GPUs to spread the workers over (default 1)
          --http-port N          port of the page and of REST (default 5080)
          --grpc-port N          port of gRPC (default 5081)
          --azurite              keep everything in a local Azure Storage emulator (needs Node.js) instead of a folder
          --verbose              show all log lines of the services
          --SECTION:KEY=VALUE    configuration, for example --ConnectionStrings:storage="folder=/data"
        """;

    /// <summary>Starts the blob service of the Azure Storage emulator with <c>npx</c>, on its well-known port.</summary>
    public static readonly string[] AzuriteArguments =
        ["--yes", "--package", "azurite@3", "azurite-blob", "--location", ".llmpipeline/azurite", "--skipApiVersionCheck", "--silent"];

    private static readonly string[] Flags = ["quickstart", "azurite", "verbose"];
    private static readonly string[] Devices = ["auto", "cpu", "cuda"];

    private readonly Dictionary<string, string> _values = new(StringComparer.OrdinalIgnoreCase)
    {
        ["workers"] = "2",
        ["preprocessors"] = "1",
        ["device"] = "auto",
        ["gpus"] = "1",
        ["http-port"] = "5080",
        ["grpc-port"] = "5081",
        ["text"] = "",
    };

    private readonly List<string> _arguments = [];

    private Options()
    {
    }

    /// <summary>The command line in the form that configuration understands: <c>--key=value</c>.</summary>
    public string[] Arguments => [.. _arguments];

    public int Workers => Number("workers");

    public int Preprocessors => Number("preprocessors");

    public int HttpPort => Number("http-port");

    public int GrpcPort => Number("grpc-port");

    public bool Quickstart => IsOn("quickstart");

    public bool Azurite => IsOn("azurite");

    /// <summary>Arguments for <c>llmpipe quickstart</c>.</summary>
    public string[] QuickstartArguments =>
    [
        "--workers", _values["workers"],
        .. _values["text"].Length > 0 ? new[] { "--text", Path.GetFullPath(_values["text"]) } : [],
    ];

    /// <summary>Device of a worker, as its configuration wants it.</summary>
    public string DeviceOf(int rank) => _values["device"] == "cuda"
        ? string.Create(CultureInfo.InvariantCulture, $"cuda:{rank % Number("gpus")}")
        : _values["device"];

    /// <summary>Reads the command line; says on standard error what is wrong with it.</summary>
    public static bool TryRead(string[] args, [NotNullWhen(true)] out Options? options)
    {
        options = new Options();
        if (args.Any(argument => argument is "--help" or "-h"))
        {
            Console.WriteLine(Usage);
            Environment.Exit(0);
        }

        if (options.Read(args) is not { } error)
        {
            Console.WriteLine(Host);
            return true;
        }

        Console.Error.WriteLine(error);
        Console.Error.WriteLine(Usage);
        options = null;
        return false;
    }

#if ASPIRE
    private const bool PassesUnknownOptions = true; // the Aspire tools have options of their own

    private const string Host = "LlmPipeline under Aspire. (UseAspire=false chooses the built-in launcher, which needs the .NET SDK alone.)";
#else
    private const bool PassesUnknownOptions = false;

    private const string Host = "LlmPipeline on its built-in launcher. (For Aspire install its CLI, https://aspire.dev, or set UseAspire=true.)";
#endif

    /// <summary>What is wrong with a command line, or null.</summary>
    internal static string? Check(string[] args) => new Options().Read(args);

    private string? Read(string[] args)
    {
        for (var i = 0; i < args.Length; i++)
        {
            var argument = args[i];
            if (!argument.StartsWith("--", StringComparison.Ordinal))
            {
                return $"'{argument}' is not an option.";
            }

            var (key, value) = argument[2..].Split('=', 2) is [var left, var right] ? (left, right) : (argument[2..], null);
            if (Flags.Contains(key, StringComparer.OrdinalIgnoreCase))
            {
                value ??= "true";
            }
            else if (!PassesUnknownOptions && !key.Contains(':', StringComparison.Ordinal) && !_values.ContainsKey(key))
            {
                return $"There is no option --{key}.";
            }
            else if (value is null && i + 1 < args.Length)
            {
                value = args[++i];
            }

            if (value is null)
            {
                return $"--{key} wants a value.";
            }

            _values[key] = value;
            _arguments.Add($"--{key}={value}");
        }

        return Validate();
    }

    private string? Validate() =>
        !IsNumber("workers", 1, 64) ? $"--workers is '{_values["workers"]}': give a number from 1 to 64."
        : !IsNumber("preprocessors", 1, 64) ? $"--preprocessors is '{_values["preprocessors"]}': give a number from 1 to 64."
        : !IsNumber("gpus", 1, 64) ? $"--gpus is '{_values["gpus"]}': give a number from 1 to 64."
        : !IsNumber("http-port", 1, 65535) ? $"--http-port is '{_values["http-port"]}': give a port from 1 to 65535."
        : !IsNumber("grpc-port", 1, 65535) ? $"--grpc-port is '{_values["grpc-port"]}': give a port from 1 to 65535."
        : !Devices.Contains(_values["device"]) ? $"--device is '{_values["device"]}': give auto, cpu or cuda."
        : _values["text"].Length > 0 && !Quickstart ? "--text belongs to --quickstart."
        : null;

    private bool IsOn(string flag) => _values.TryGetValue(flag, out var value) && value is not ("false" or "0");

    private bool IsNumber(string key, int least, int most) =>
        int.TryParse(_values[key], NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number >= least && number <= most;

    private int Number(string key) => int.Parse(_values[key], CultureInfo.InvariantCulture);
}
