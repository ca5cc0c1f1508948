//! Words that tell how hard a request is, in the languages most prompts are written in. A table;
//! how words are found and weighed is not here.
//!
//! Words are parted by `|`. A word stands for itself, in lower case; `word*` for every word that
//! begins so. Words of scripts without spaces are found anywhere.

/// Meaning of a word as a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Thinking in steps: proving, designing, weighing.
    Reasoning,
    /// Mathematics and logic.
    Math,
    /// Programming and systems.
    Code,
    /// Bounds on the answer or on what it is about.
    Constraint,
    /// A task that asks for something to be made or done.
    Instruction,
    /// A long or structured answer.
    Output,
    /// Conditions and cases: the small words of problems told in plain language.
    Logic,
    /// A task that any model does well.
    Simple,
    /// Working a given text over: translating, shortening, correcting, sorting into classes.
    Rework,
}

impl Sign {
    pub(super) const COUNT: usize = 9;
}

/// The table: a sign, languages, words.
pub(super) const WORDS: [(Sign, &str, &str); 68] = [
    (
        Sign::Reasoning,
        "en",
        "prove|proof*|disprove|proving|derive|deriv*|deduce*|deduction*|analyz*|analys*|\
         justif*|evaluate|critique|critically|compare|contrast|trade-off*|tradeoff*|diagnos*|\
         reason|reasoning|argue|argument*|design|architect*|optimiz*|optimis*|step by step|\
         step-by-step|every step|each step|why|explain why|hypothes*|counterexample*|\
         generaliz*|generalis*|root cause*|assumption*|implication*|infer|formulate|\
         reconstruct|weigh|determine|work out|interpret|strateg*|consequence*|necessary|\
         sufficient|debug*|refactor*|reverse-engineer*|migrat*|plan the|estimate|quantif*|\
         rigorous*|in depth|scenario*|worst case|edge case*|roll back|race|races|investigate|\
         synthesi*|state your|loophole*",
    ),
    (
        Sign::Reasoning,
        "zh",
        "证明|推导|分析|比较|设计|论证|评估|权衡|逐步|一步一步|为什么|推理|优化|排查|诊断|\
         假设|反例|利弊|论述|推广|讨论|求解|架构|方案|依据|逐条|建模|模型|策略|因果",
    ),
    (
        Sign::Reasoning,
        "ja",
        "証明|導出|分析|比較|設計|論じ|評価|最適化|なぜ|理由|仮定|反例|考察|段階的|\
         トレードオフ|検証|推論|正しさ|本質",
    ),
    (
        Sign::Reasoning,
        "ko",
        "증명|유도|분석|비교|설계|평가|최적화|단계별|이유|가정|반례|추론|장단점|정확성|논증",
    ),
    (
        Sign::Reasoning,
        "de",
        "beweis*|zeige, dass|leite|herleit*|analysier*|vergleich*|begründe*|entwirf|\
         entwerfe*|bewerte*|abwäg*|schritt für schritt|warum|widerleg*|gegenbeispiel*|\
         optimier*|annahme*|strategie*|diagnos*|untersuch*|vor- und nachteile|notwendig*|\
         erörter*",
    ),
    (
        Sign::Reasoning,
        "es",
        "demuestr*|demostr*|deriva|deduc*|analiz*|compar*|justific*|diseñ*|evalú*|\
         paso a paso|por qué|contraejemplo*|optimiz*|supuesto*|ventajas y desventajas|razon*|\
         resuelve|generaliz*",
    ),
    (
        Sign::Reasoning,
        "fr",
        "démontre*|montre que|prouve*|déduis*|analyse*|compare*|justifi*|conçois|concevoir|\
         évalue*|étape par étape|pourquoi|contre-exemple*|optimis*|hypothèse*|\
         avantages et inconvénients|raisonne*|diagnostic*|implique",
    ),
    (
        Sign::Reasoning,
        "pt",
        "prove|demonstre*|deduza*|analise*|analis*|compare*|justifique*|projete|avalie*|\
         passo a passo|por que|contraexemplo*|otimiz*|vantagens e desvantagens|hipótese*|\
         argumento*",
    ),
    (
        Sign::Reasoning,
        "it",
        "dimostr*|deduci*|analizz*|confront*|giustific*|progett*|valuta|passo dopo passo|\
         perché|controesempio*|ottimizz*|ipotesi",
    ),
    (
        Sign::Reasoning,
        "ru",
        "докаж*|доказ*|выведи*|проанализируй*|анализ*|сравни*|обоснуй*|спроектируй*|оцени*|\
         шаг за шагом|пошагово|почему|контрпример*|оптимиз*|предположен*|обобщи*|рассужд*|\
         гипотез*",
    ),
    (
        Sign::Math,
        "en",
        "theorem*|lemma*|integral*|derivative*|equation*|matrix|matrices|eigenvalue*|\
         eigenvector*|probabilit*|variance|expected|converge*|diverge*|series|sequence*|\
         polynomial*|prime|primes|modulo|integer*|rational|irrational|continuous|\
         differentia*|recurrence*|induction|contradiction|asymptotic*|bound|bounded|\
         confidence interval*|maximize*|minimize*|isomorphi*|subgroup*|finite|infinite*|\
         infinitely|closed form|logarithm*|np-complete*|heuristic*|combinator*|geometr*|\
         linear algebra|calculate|compute|solve|graph|sum of|square root*",
    ),
    (
        Sign::Math,
        "zh",
        "定理|引理|积分|导数|方程|矩阵|特征值|概率|方差|期望|收敛|发散|数列|级数|多项式|素数|\
         质数|整数|连续|可导|递归|归纳|反证|渐近|极限|均衡|函数|子群|有限群|梯度|凸|估算|\
         偶数|奇数",
    ),
    (
        Sign::Math,
        "ja",
        "定理|積分|微分|方程式|行列|固有値|確率|分散|収束|数列|多項式|素数|整数|連続|帰納法|\
         漸化式|極限|関数|計算量",
    ),
    (
        Sign::Math,
        "ko",
        "정리|적분|미분|방정식|행렬|확률|수열|소수|귀납|극한|복잡도",
    ),
    (
        Sign::Math,
        "de",
        "satz|integral*|ableitung*|gleichung*|matri*|eigenwert*|wahrscheinlichkeit*|konverg*|\
         folge|reihe*|primzahl*|stetig*|kompakt*|induktion|widerspruch*|grenzwert*|\
         überabzählbar*|abzählbar*|menge|reellen|rationalen|intervall*|fehlerschranke*",
    ),
    (
        Sign::Math,
        "es",
        "teorema*|integral*|derivada*|ecuaci*|matriz|matrices|probabilidad*|converge*|\
         sucesi*|primo|primos|inducción|límite|grafo*|fórmula|números|calcula",
    ),
    (
        Sign::Math,
        "fr",
        "théorème*|intégrale*|dérivée*|équation*|matrice*|probabilité*|converge*|suite|\
         récurrence*|limite|dénombrable*|ensemble|bornée*|nombres|espace|dimension*",
    ),
    (
        Sign::Math,
        "pt",
        "teorema*|integral|derivada*|equaç*|matriz*|probabilidade*|converge*|indução|limite|\
         grafo*|log n",
    ),
    (
        Sign::Math,
        "it",
        "teorema*|integrale*|derivata*|equazion*|matric*|numero primo|irrazional*|\
         radice quadrata|limite",
    ),
    (
        Sign::Math,
        "ru",
        "теорем*|интеграл*|производн*|уравнен*|матриц*|вероятност*|сходи*|последовательност*|\
         прост* чис*|целых|индукц*|предел*|функци*|делится|непрерывн*|сумма",
    ),
    (
        Sign::Code,
        "en",
        "algorithm*|function*|class|compile*|runtime|thread*|mutex|deadlock*|concurren*|\
         async|asynchronous*|await|api|apis|database*|schema*|sql|query|queries|index|\
         indexes|cache*|latency|throughput|server*|client*|kubernetes|docker|regex|\
         unit test*|stack trace*|exception*|segfault*|memory|pointer*|rust|python|java|\
         javascript|typescript|c++|golang|haskell|postgres*|mysql|redis|nginx|http|tcp|udp|\
         microservice*|distributed|consensus|raft|paxos|crdt*|parser*|ast|lock-free|\
         backpressure|idempoten*|repository|git|bug|bash|script|data structure*|queue|hash*|\
         vector clock*|load balanc*",
    ),
    (
        Sign::Code,
        "zh",
        "算法|代码|函数|编译|线程|并发|死锁|数据库|缓存|分布式|微服务|接口|架构|集群|超时|\
         分片|一致性|复杂度|编程|脑裂|容量|持久化|系统",
    ),
    (
        Sign::Code,
        "ja",
        "アルゴリズム|コード|関数|データベース|並行|分散システム|キャッシュ|計画法|システム|\
         再帰|障害|ログ",
    ),
    (
        Sign::Code,
        "ko",
        "알고리즘|코드|함수|데이터베이스|동시성|분산|캐시|배열|반복문|락|네트워크",
    ),
    (
        Sign::Code,
        "de",
        "algorithm*|funktion*|datenbank*|nebenläufig*|verteilt*|datenstr*|anwendung*|\
         speicher*|code",
    ),
    (
        Sign::Code,
        "es",
        "algoritmo*|función|funciones|base de datos|concurren*|distribuid*|memoria|código|\
         arquitectura*|sistema*",
    ),
    (
        Sign::Code,
        "fr",
        "algorithme*|fonction*|base de données|concurren*|distribué*|mémoire|code|serveur*|\
         protocole*|production",
    ),
    (
        Sign::Code,
        "pt",
        "algoritmo*|função|banco de dados|concorr*|distribuíd*|memória|código|sistema*|\
         modelos",
    ),
    (
        Sign::Code,
        "it",
        "algoritm*|funzion*|base di dati|distribuit*|memoria|codice",
    ),
    (
        Sign::Code,
        "ru",
        "алгоритм*|функци*|баз* данных|поток*|распределённ*|кэш*|памят*|код|систем*|\
         транзакц*|отказ*",
    ),
    (
        Sign::Constraint,
        "en",
        "must|without|at least|at most|exactly|only if|unless|except|given that|assume|\
         assuming|suppose|such that|subject to|under which|for every|for each|\
         taking into account|provided that|less than|more than|constraint*|requirement*|\
         guarantee*|never",
    ),
    (
        Sign::Constraint,
        "zh",
        "必须|要求|不能|至少|至多|假设|满足|保证|支持|任意|条件|已知|不停机",
    ),
    (
        Sign::Constraint,
        "ja",
        "必ず|要件|満たす|少なくとも|制約|ただし|場合|以下の",
    ),
    (
        Sign::Constraint,
        "de",
        "muss|müssen|ohne|mindestens|höchstens|sofern|unter der annahme|bedingung*|begrenzt*|\
         jede|garantie*",
    ),
    (
        Sign::Constraint,
        "es",
        "debe|deben|sin|al menos|como máximo|suponga*|restricci*|garantía|garantiz*",
    ),
    (
        Sign::Constraint,
        "fr",
        "doit|doivent|sans|au moins|au plus|supposons|contrainte*|garantit|toute",
    ),
    (
        Sign::Constraint,
        "ru",
        "должен|должн*|без|не менее|не более|условие|ограничен*|гарант*|любых",
    ),
    (
        Sign::Instruction,
        "en",
        "write|create|implement|build|draft|explain|describe|list|show|find|propose|define|\
         discuss|outline|rewrite|recommend|identify|support each|include|construct|calculate|\
         rank|enumerate|state|defend|classify all|bound|suggest|give",
    ),
    (
        Sign::Instruction,
        "zh",
        "写|给出|说明|解释|列出|描述|实现|总结|介绍|求",
    ),
    (
        Sign::Instruction,
        "ja",
        "書いて|説明|作成|示して|挙げて|してください",
    ),
    (
        Sign::Instruction,
        "de",
        "schreib*|erkläre|erstelle*|beschreib*|nenne|finde*",
    ),
    (
        Sign::Instruction,
        "es",
        "escrib*|explica*|describ*|crea|enumera|propon*",
    ),
    (
        Sign::Instruction,
        "fr",
        "écris|rédige*|explique*|décris|propose*|crée*",
    ),
    (
        Sign::Instruction,
        "ru",
        "напиши*|объясни*|опиши*|составь|предложи*|найди*",
    ),
    (
        Sign::Output,
        "en",
        "essay|report|table|bullet point*|sections|unit tests|json|markdown|month-by-month|\
         detailed|comprehensive|thorough|in detail|words|pages|plan|roadmap|with examples|\
         benchmark*|include|each of|both sides|schedule",
    ),
    (
        Sign::Output,
        "zh",
        "详细|表格|报告|论文|逐一|完整|步骤|方案|字左右|举例",
    ),
    (
        Sign::Logic,
        "en",
        "if|but|only|both|same|different|until|whether|would|could|should|because|possible|\
         likely|likelihood|how far|how long|how likely|how would|what if|what happens|\
         what is wrong|what could|what do we|first|second|third|meet|overlap*|forbid*|\
         allowed|including|in a row|between|before|after|another|other|either|neither|\
         otherwise|even when|even if|already|per|given|whose|turn this|keep|make sure|\
         tells whether|how many ways|once",
    ),
    (
        Sign::Logic,
        "zh",
        "如果|但|只有|都|才能|该不该|怎样|可能|是否|原因|却|每隔|怎么查|那么|同时|分别|其中|\
         任何|应该|会不会|哪些|能否|怎么办",
    ),
    (
        Sign::Logic,
        "ja",
        "なら|とすると|だけ|べき|のに|場合|もし|起きて|同時|どのように|ても|可能",
    ),
    (
        Sign::Logic,
        "ko",
        "만약|경우|하지만|동시에|어떻게|가능|발생|각각|때",
    ),
    (
        Sign::Logic,
        "de",
        "wenn|aber|nur|beide*|müsste*|ob|sonst|welchen|wann|falls|jeweils|gleich*|\
         wahrscheinlich*|sollte*|könnte*|treffen|nachdem",
    ),
    (
        Sign::Logic,
        "es/pt",
        "si|pero|solo|sólo|ambos|otra|otro|cuándo|probabilidad|debería*|podría*|mismo|entre|\
         se|mas|quando|deveria*|cada|nunca",
    ),
    (
        Sign::Logic,
        "fr/it",
        "mais|seulement|jusqu*|combien de|en moyenne|lequel|laquelle|lorsque|faudrait|\
         pourrait|deux|même|se|solo|quando|dovrebbe|entrambi",
    ),
    (
        Sign::Logic,
        "ru",
        "если|но|только|можно ли|каждый|оба|среди|одинаков*|другой|следует|вероятн*|когда|\
         нет двух",
    ),
    (
        Sign::Simple,
        "en",
        "capital of|opposite|hello|hi|hey|thanks|thank you|good morning|good evening|joke|\
         name|what is|what's|who|when|where|how many|what does|stand for|what year|what day|\
         mean|called|plural|caption|title|is it|does|ok|please|recipe|suggest|recommend|\
         synonym*|pronounce*|how do you say|list|in words|birthday|is a|which is|postcode|\
         my name",
    ),
    (
        Sign::Simple,
        "zh",
        "你好|您好|谢谢|近义词|反义词|首都|名字|多少|哪里|哪一|哪个|几点|几个|星期几|祝福|\
         推荐|晚上好|礼貌|吗|怎么说|是什么",
    ),
    (
        Sign::Simple,
        "ja",
        "こんにちは|ありがとう|読み方|元気|一番|何ですか|メール|自己紹介|何と言い|教えて",
    ),
    (Sign::Simple, "ko", "안녕|고맙|감사|기분|무엇인가요|뭐예요"),
    (
        Sign::Simple,
        "de",
        "hallo|danke|hauptstadt|gegenteil|wie heißt|wie viele|nenne|guten|bedeutet|wer|wo",
    ),
    (
        Sign::Simple,
        "ru",
        "привет*|спасибо|столица|сколько будет|доброе|добрый|кто|как зовут|что значит",
    ),
    (
        Sign::Simple,
        "es/pt/fr/it",
        "hola|gracias|obrigad*|bonjour|merci|ciao|grazie|capital|capitale|cuántos|cuántas|\
         quién|qual|combien|quel|quelle|quale|olá|cor|significa|qui est|quem|chi",
    ),
    (
        Sign::Rework,
        "en",
        "translat*|spell|spelling|rewrite|rephrase|reword|paraphras*|shorten|shorter|\
         summarize|summarise|summary|proofread|correct|fix the typo*|fix the spelling|\
         fix the grammar|typos|extract|pull out|classify|label|tag|sentiment|convert|polite|\
         more formal|third person|past tense|passive|reply to|capital letters|alphabetical*|\
         remove|round|yes or no|into french|into german|into spanish|bullet list|read this|\
         change|turn these|make this sentence|make this title|one sentence|one line",
    ),
    (
        Sign::Rework,
        "zh",
        "翻译|改写|改正|缩短|改得|英语怎么说|总结|润色|概括|提取|这句话|校对",
    ),
    (
        Sign::Rework,
        "ja",
        "訳して|翻訳|要約|英語に|英語で|書き換え|校正",
    ),
    (Sign::Rework, "ko", "번역|요약|고쳐|바꿔"),
    (
        Sign::Rework,
        "de",
        "übersetz*|korrigier*|kürze*|fasse|auf englisch|zusammenfass*|formuliere",
    ),
    (
        Sign::Rework,
        "ru",
        "переведи*|перевод*|исправь*|сократи*|кратко|перефраз*|резюм*",
    ),
    (
        Sign::Rework,
        "es/pt/fr/it",
        "traduce*|traduza|traduis|traduci*|traduire|traducir|ortografía|corrige*|resume*|\
         résume*|riassumi*|resuma|acorta|raccourcis|reformule*|correggi",
    ),
];
