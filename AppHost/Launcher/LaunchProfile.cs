using System.Text.Json;

namespace LlmPipeline.AppHost.Launcher;

/// <summary>The environment that a project's first launch profile gives it, as under <c>dotnet run</c>.</summary>
internal static class LaunchProfile
{
    public static Dictionary<string, string> Read(string projectDirectory)
    {
        var path = Path.Combine(projectDirectory, "Properties", "launchSettings.json");
        if (!File.Exists(path))
        {
            return [];
        }

        using var settings = JsonDocument.Parse(File.ReadAllText(path));
        foreach (var profile in settings.RootElement.GetProperty("profiles").EnumerateObject())
        {
            if (profile.Value.GetProperty("commandName").GetString() == "Project")
            {
                var variables = profile.Value.TryGetProperty("environmentVariables", out var environment)
                    ? environment.EnumerateObject().ToDictionary(variable => variable.Name, variable => variable.Value.GetString() ?? "")
                    : [];
                variables["DOTNET_LAUNCH_PROFILE"] = profile.Name;
                return variables;
            }
        }

        return [];
    }
}
