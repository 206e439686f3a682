using LlmPipeline.Cli;

return await CommandLine.RunAsync(args, CliEnvironment.OfProcess());
