using System.Text;
using LlmPipeline.Text.Cleaning;

namespace LlmPipeline.Text.Reports;

/// <summary>Frequent words of the languages that share a script with others.</summary>
internal static class StopWords
{
    // Language (ISO 639), and words as they stand in lower case and form C.
    private static readonly (string Language, string Words)[] Lists =
    [
        ("en", "the of and to in is that it was for on are with as his they at be this from have or by one had not but what all were we when your can said there use an each which she do how their if will up other about out many then them these so some her would has he shall everyone no any you"),
        ("de", "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum haben nur oder aber vor zur bis mehr durch man jeder hat recht"),
        ("fr", "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont ou avec son cette aux comme mais être tout nous sa ses ont même elle leur on y toute droit il"),
        ("es", "de la que el en y a los del se las por un para con no una su al lo como más pero sus le ya o este sí porque esta entre cuando muy sin sobre también me hasta hay donde quien toda tiene derecho persona"),
        ("pt", "de a o que e do da em um para com não uma os no se na por mais as dos como mas ao ele das à seu sua ou quando muito nos já eu também só pelo pela até isso ela entre depois sem mesmo aos toda tem direito pessoa"),
        ("it", "di e il la che in a per un del è le si con i non da una al della sono dei nel alla più anche come ma gli delle ha lo se su nella o questo suo tra essere ogni individuo diritto sua dal"),
        ("nl", "de van het een en in is dat op te zijn met voor niet aan er om ook als dan maar bij uit nog door naar heeft hij ze wordt tot je worden deze of haar zich heeft recht ieder een der zijn"),
        ("sv", "och i att det som en på är av för med den till inte har de ett om var jag men så sig från vi kan när år under också efter eller nu sin där vid mot ska skulle rätt envar skall"),
        ("da", "og i at det er en til på som med for den de af ikke der har et var om jeg han men sig fra vi kan når også efter eller nu sin hvor ved mod skal hun blev være enhver ret"),
        ("no", "og i det er en til på som med for den de av ikke har et var om jeg han men seg fra vi kan når også etter eller nå sin hvor ved mot skal hun ble være enhver rett"),
        ("fi", "ja on ei se että oli hän mutta niin kuin myös ovat kun tai joka sen jos jo ole mukaan sekä hänen vain voi ollut olla vuoden mitä tämä tässä jokaisella oikeus jotka"),
        ("pl", "w i na z do się nie że o to jest jak po od za ale przez dla są co przy tym tak oraz być który ma czy jego lub które ich już tylko jako prawo każdy człowiek"),
        ("cs", "a v se na je že z o s do i to k ve pro za by ale jako po od jsou nebo které který jeho byl při co tak již jen má právo každý být aby podle"),
        ("hu", "a az és hogy nem is egy ez van meg de ha csak mint már még volt vagy el minden ki amely után szerint kell joga személynek fel azt sem lehet mert"),
        ("ro", "și de în a la cu pe care nu din că o se este un pentru mai sau al ale sunt fi prin după ca lui dar orice dreptul are persoană fie ei le"),
        ("tr", "ve bir bu da için ile de olarak çok daha olan gibi en var ne kadar sonra her veya ya ki o ise değil olduğu tarafından hakkı herkesin hakkına"),
        ("id", "yang dan di dengan untuk dari dalam ini pada tidak itu adalah akan ke oleh atau juga sebagai ada bahwa dapat karena telah mereka setiap orang berhak atas"),
        ("vi", "và của các là có được trong cho không một người với những khi đã này để từ về cũng như đến theo hay mọi quyền hoặc phải"),
        ("sw", "na ya wa kwa ni la za katika kama cha yake au kuwa hii hiyo kila mtu haki ana vya lakini yao watu"),
        ("ru", "и в не на что с он по как это но из к у от за его для мы так же все или был быть о бы до было она если каждый человек право имеет при"),
        ("uk", "і в не на що з та до у є як це але за від його для або про ми так все був має бути при по кожна людина право які під"),
        ("bg", "и на да се в не за от с е по че са как това до или му като към си при има всеки право човек които ще бъде"),
        ("sr", "и у да се на је за од са не су као што или који из по то али ко има право свако бити његов при"),
        ("ar", "في من على أن إلى أو لا كل التي عن هذا مع ما الذي لكل ذلك كان هذه بين حق شخص هو له وفي أي"),
        ("fa", "و در به از که این را با است برای آن یک هر حق باید شود دارد یا تا او کس خود می بر نمی"),
        ("ur", "اور کے میں کی کا سے کو ہے کہ اس پر نے ہیں یہ کسی جو ہر یا شخص حق بھی نہیں اپنے ہو"),
        ("hi", "के में की है और से का को पर यह कि किसी या जो हैं एक भी नहीं अधिकार प्रत्येक व्यक्ति इस तथा अपने"),
        ("mr", "आणि आहे या व हा ते की नाही किंवा त्या असे अधिकार प्रत्येक कोणत्याही आहेत करण्याचा मध्ये"),
        ("ne", "र छ को मा लाई हो छन् पनि यो गर्ने प्रत्येक अधिकार हुनेछ वा भएको तथा कुनै व्यक्तिलाई"),
    ];

    private static readonly Dictionary<ulong, List<int>> ByWord = Index();

    /// <summary>The languages told apart by their words.</summary>
    public static IReadOnlyList<string> Languages { get; } = [.. Lists.Select(l => l.Language)];

    /// <summary>Numbers of the languages that have a word; null when none has it.</summary>
    public static IReadOnlyList<int>? LanguagesOf(ulong word) => ByWord.GetValueOrDefault(word);

    private static Dictionary<ulong, List<int>> Index()
    {
        var index = new Dictionary<ulong, List<int>>();
        for (var language = 0; language < Lists.Length; language++)
        {
            foreach (var word in Lists[language].Words.Split(' ').Distinct())
            {
                var hashes = new WordHashes(Encoding.UTF8.GetBytes(word));
                hashes.MoveNext();
                if (!index.TryGetValue(hashes.Current, out var languages))
                {
                    index[hashes.Current] = languages = [];
                }

                languages.Add(language);
            }
        }

        return index;
    }
}
