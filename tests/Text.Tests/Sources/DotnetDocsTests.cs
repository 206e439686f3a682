using LlmPipeline.Fakes;
using LlmPipeline.Text.Sources;

namespace LlmPipeline.Text.Tests.Sources;

public sealed class DotnetDocsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void TypeBecomesReadableText()
    {
        _folder.Write("packs/A.Ref/1.0.0/ref/a.xml", """
            <?xml version="1.0" encoding="utf-8"?>
            <doc><assembly><name>A</name></assembly><members>
              <member name="T:N.Map`2">
                <summary>A map of <typeparamref name="TKey" /> to values;
                   see <see cref="T:System.Collections.Generic.List`1" />, <see langword="null" /> and <see href="https://x">a link</see>.</summary>
                <typeparam name="TKey">The key.</typeparam>
              </member>
              <member name="M:N.Map`2.#ctor(System.Int32)"><summary>Makes it.</summary><param name="n"><paramref name="n" /> entries.</param></member>
              <member name="M:N.Map`2.TryGet(`0,System.Collections.Generic.IDictionary{System.String,``0[]}@)">
                <summary>Gets.</summary>
                <returns><see langword="true" /> if found.</returns>
                <exception cref="T:System.ArgumentNullException"><paramref name="key" /> is <see langword="null" />.</exception>
                <remarks><para>First.</para><para>Second: <see cref="P:N.Map`2.Count" />.</para><code>
            var a = 1;
              b();
            </code></remarks>
              </member>
              <member name="P:N.Map`2.Count"><inheritdoc /></member>
            </members></doc>
            """);
        Assert.Equal(
            """
            # N.Map
            A map of TKey to values; see List, null and a link.
            TKey: The key.

            ## Map(Int32)
            Makes it.
            n: n entries.

            ## TryGet(T, IDictionary<String, T[]>)
            Gets.
            Returns: true if found.
            First.
            Second: Map.Count.
            var a = 1;
              b();

            """.ReplaceLineEndings("\n"), Assert.Single(Documents()));
    }

    [Fact]
    public void OnlyTheNewestVersionOfAPackIsRead()
    {
        foreach (var version in new[] { "9.0.1", "10.0.2", "10.0.10" })
        {
            _folder.Write($"packs/A.Ref/{version}/ref/a.xml", "<doc/>");
        }

        _folder.Write("packs/Other/1.0.0/a.xml", "<doc/>");
        Assert.EndsWith("10.0.10/ref/a.xml", Assert.Single(DotnetDocs.FindFiles([_folder.Path])).Path.Replace('\\', '/'), StringComparison.Ordinal);
    }

    [Fact]
    public void InstallationWithoutTheFilesNamesTheRemedy()
    {
        var exception = Assert.Throws<TextSourceException>(() => DotnetDocs.FindFiles([_folder.Path]));
        Assert.Equal(TextSourceProblem.NotFound, exception.Problem);
        Assert.Contains("--text FOLDER", exception.Message, StringComparison.Ordinal);
        Assert.Contains(_folder.Path, exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void BrokenXmlIsNamed()
    {
        var path = _folder.Write("packs/A.Ref/1.0.0/a.xml", "<doc><members><member name='T:A'>");
        Assert.Contains(path, Assert.Throws<TextSourceException>(Documents).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task SdkThatRunsThisTestHasText()
    {
        var file = DotnetDocs.FindFiles().Single(f => f.Path.Contains("NETCore.App", StringComparison.Ordinal) && Path.GetFileName(f.Path) == "System.Collections.xml");
        var documents = (await SourceReading.ReadAsync([file])).Documents;
        Assert.Contains(documents, d => d.StartsWith("# System.Collections.Generic.List\n", StringComparison.Ordinal) && d.Length > 3000);
    }

    private List<string> Documents() => SourceReading.ReadAsync(DotnetDocs.FindFiles([_folder.Path])).GetAwaiter().GetResult().Documents;
}
