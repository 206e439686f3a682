using System.Globalization;
using System.Net;
using LlmPipeline.Bench.Exchange;
using LlmPipeline.Bench.Measuring;
using LlmPipeline.Models;
using LlmPipeline.Trainer.Collectives;
using LlmPipeline.Trainer.Worker;
using TorchSharp;

namespace LlmPipeline.Bench.Diloco;

/// <summary>The hidden command that is one member: the trainer's loop, and its ring over gRPC.</summary>
internal static class DilocoRank
{
    public const string Command = "diloco-rank";

    public static async Task<int> RunAsync(string jobFile)
    {
        var (job, rank, addresses) = DilocoJob.Parse(await File.ReadAllTextAsync(jobFile));
        TorchRuntime.Initialize();
        torch.set_num_threads(1);
        var (train, validation, vocabulary) = job.Ids();
        if (job.Workers == 1)
        {
            return Train(job, train, validation, vocabulary, new RingPlace(null, 0, 1));
        }

        var registry = new RingRegistry();
        var own = new Uri(addresses[rank]);
        await using var app = await AllReduceRank.ServeAsync(IPAddress.Parse(own.Host), own.Port, registry);
        await using var ring = new GrpcRingTransport(1, rank, addresses);
        registry.Enter(1, ring);
        return await Task.Factory.StartNew(() => Train(job, train, validation, vocabulary, new RingPlace(ring, rank, job.Workers)), TaskCreationOptions.LongRunning);
    }

    private static int Train(DilocoJob job, int[] train, int[] validation, int vocabulary, RingPlace place)
    {
        var steps = LoneTraining.Run(job.Spec(), vocabulary, _ => { }, train, place: place, validation: validation);
        if (place.Rank == 0)
        {
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"loss={steps[^1].ValidationLoss:R}"));
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"bytes_sent={steps.Sum(s => s.ExchangeBytes)}"));
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"seconds={steps.Sum(s => s.StepSeconds - s.Phases.Validation):R}"));
        }

        return 0;
    }
}
