using LlmPipeline.Gateway.Catalogue;

namespace LlmPipeline.Gateway.Rest;

/// <summary><c>GET /v1/models</c> and <c>GET /v1/models/{id}</c>.</summary>
internal sealed class ModelsEndpoint(ModelCatalogue catalogue)
{
    public IResult List() => Results.Json(
        new ModelListBody("list", [.. catalogue.List().Select(BodyOf)]), OpenAiJson.Plain.ModelListBody);

    public async Task GetAsync(HttpContext context, string id)
    {
        if (catalogue.Find(id) is { } version)
        {
            await context.Response.WriteAsJsonAsync(BodyOf(version), OpenAiJson.Plain.ModelBody, contentType: null, context.RequestAborted);
        }
        else
        {
            await OpenAiErrors.WriteAsync(context, catalogue.NotFound(id));
        }
    }

    private static ModelBody BodyOf(ModelVersion version) => new(
        version.Model,
        "model",
        version.CreateTime.ToUnixTimeSeconds(),
        "llmpipeline",
        version.Name,
        version.Run.Length > 0 ? version.Run : null,
        version.Context,
        version.ParameterCount,
        version.Loss,
        version.Labels);
}
