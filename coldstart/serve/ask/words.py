"""List the words by which the rules read a question: patterns of intents, of prices, names of months, plain words."""

from __future__ import annotations

import re

from coldstart.serve.vocabulary import normal

RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "recommend",
        (
            r"\buser\s+(?P<user>[\w.@:-]+)",
            r"\bwhat (?:should|would|could|can|might|will|may|does) (?P<user>[\w.@:-]+)"
            r" (?:watch|see|buy|like|get|want|enjoy|try)\b",
            r"\b(?:recommend|suggest)\b.*\b(?:to|for) (?P<user>[\w.@:-]*\d[\w.@:-]*)\W*$",
        ),
    ),
    (
        "liked",
        (
            r"\b(?:recommend|suggest)\w*\b.*\b(?:liked?|likes|loved?|bought|watched|enjoy(?:ed|s)?)\b",
            r"\bif (?:i|you|we|they|he|she|someone|somebody|people) "
            r"(?:liked?|likes|loved?|bought|watched|enjoy(?:ed|s)?)\b",
            r"\bfans? of\b",
            r"\b(?:i|we) (?:have |really )?(?:liked?|loved?|bought|watched|enjoyed)\b.*\b(?:what|which|more|else)\b",
            r"\balso (?:liked?|bought|watched|enjoy(?:ed)?)\b",
            r"\b(?:someone|somebody|anyone|people|those|users?|customers?|viewers?) (?:who|that) (?:have |has |had )?"
            r"(?:liked?|likes|loved?|bought|watched|enjoy(?:ed|s)?)\b",
        ),
    ),
    (
        "explain",
        (r"^why\b",),
    ),
    (
        "copies",
        (r"\bcop(?:y|ies)\b", r"\bduplicate[sd]?\b", r"\b(?:uploaded|added|listed) twice\b", r"\bre-?uploads?\b"),
    ),
    (
        "audience",
        (
            r"\bwho (?:should|would|might|will|could|is likely to|may)\b",
            r"\baudience\b",
            r"(?<!by )\bwhom\b",
            r"\bwhich (?:users|people|customers|viewers)\b",
            r"\bwho(?: is|'s|’s) .* (?:for|meant for|made for)\W*$",
        ),
    ),
    (
        "compare",
        (
            r"\bcompar\w+",
            r"(?<!how many )(?<!number of )(?<!count of )(?<!count the )\bdiffer\w*",
            r"\bversus\b",
            r"\bvs\b",
            r"\bside by side\b",
            r"\bsets? .* apart\b",
            r"\b(?:save money|should (?:i|we) (?:take|buy|get|choose|pick))\b.* or\b",
            r"\b(?:cheaper|dearer|pricier|newer|older|(?:more|less) expensive|costs? (?:more|less)"
            r"|more recent)\b(?! than [\d$€£])",
        ),
    ),
    (
        "similar",
        (
            r"\bsimilar\b",
            r"\bresembl\w+",
            r"\balike\b",
            r"\blooks? like\b",
            r"\bmore like\b",
            r"\balternatives? (?:to|for)\b",
            r"\bclosest to\b",
            r"\b(?:something|anything|items?|products?|videos?|ones?|others?) like\b",
            r"\bneighbou?rs? of\b",
            r"\bnear(?:est)? to\b",
        ),
    ),
    (
        "groups",
        (
            r"^what (?:do|have) you (?P<all>have|got|sell)\W*$",
            r"^what(?:'s|’s| is) in (?:the|your|our|this) (?P<all>catalogue|catalog|shop|store)\W*$",
            r"\b(?:which|what) (?P<group>categories|brands|creators|makers|colou?rs|kinds|languages"
            r"|tags)\b(?! (?:is|are|does|do) (?:it|the )\b)",
            r"\b(?:per|by each|for each|in each|by) (?P<by>category|brand|creator|maker|colou?r|kind|language"
            r"|tag)\b(?=\s*(?:[?.!,]|$|(?:and|for|of|in|among)\b))",
        ),
    ),
    (
        "distinct",
        (
            r"\b(?:how many|number of|count of|count the) (?:(?:different|distinct|unique) )?"
            r"(?P<group>categories|brands|creators|makers|colou?rs|languages|tags)\b",
        ),
    ),
    (
        "count",
        (
            r"\bhow many\b",
            r"\bnumber of\b",
            r"\bcount\b",
            r"\btally\b",
            r"\bhow often\b",
        ),
    ),
    (
        "average",
        (
            r"\baverage\b",
            r"\bmean price\b",
            r"\bon average\b",
            r"\btypical(?:ly)? (?:price|cost|costs|pay)\b",
            r"\bnormally (?:cost|costs|pay)\b",
        ),
    ),
    (
        "total",
        (
            r"\btotal (?:price|cost|value)\b",
            r"\bsum of\b",
            r"\baltogether\b",
            r"\bin total\b",
        ),
    ),
    (
        "cheapest",
        (
            r"\bcheapest\b",
            r"\bleast expensive\b",
            r"\blowest[- ]priced?\b",
            r"\blowest price\b",
            r"\bmost affordable\b",
            r"\bcosts? (?:the )?least\b",
            r"\blowest in price\b",
            r"\bleast costly\b",
            r"\beasiest on the (?:wallet|purse)\b",
            r"\b(?:best|smallest|lowest) (?:price|cost)\b",
        ),
    ),
    (
        "dearest",
        (
            r"\bdearest\b",
            r"\bmost expensive\b",
            r"\bpriciest\b",
            r"\bhighest[- ]priced?\b",
            r"\bhighest price\b",
            r"\bcostliest\b",
            r"\bcosts? (?:the )?most\b",
            r"\bhighest in price\b",
            r"\bmost costly\b",
            r"\bset (?:me|us|you|one) back (?:the )?most\b",
            r"\b(?:largest|biggest) (?:price|cost)\b",
        ),
    ),
    (
        "newest",
        (
            r"\bnewest\b",
            r"\blatest\b",
            r"\bmost recent(?:ly)?\b",
            r"\bjust (?:in|arrived)\b",
            r"\blast added\b",
            r"\badded last\b",
            r"\b(?:add|upload|post|publish|make|get)(?:ed|d)? last\b",
        ),
    ),
    (
        "oldest",
        (
            r"\boldest\b",
            r"\bearliest\b",
            r"\bfirst added\b",
            r"\badded first\b",
            r"\blongest in\b",
        ),
    ),
    (
        "screen",
        (
            r"\bon[- ]screen\b",
            r"\bon the screen\b",
            r"\bwritten\b",
            r"\bcaptions?\b",
            r"\bcaptioned\b",
            r"\btext reads?\b",
            r"\bsubtitle\w*\b",
            r"\bas text\b",
        ),
    ),
    (
        "spoken",
        (
            r"\b(?:say|says|said|saying|mention|mentions|mentioned|mentioning|talk|talks|talked|talking|speak|speaks"
            r"|spoken|speaking|hear|heard|hears|tell|tells|name|names|voice)\b",
        ),
    ),
    (
        "shown",
        (
            r"\bwhat(?:'s|’s| is| are) in\b(?! (?:the|your|our|this) (?:catalogue|catalog|shop|store))",
            r"\b(?:(?<!^)show(?! me| us)|shows|shown|showing|appear|appears|appearing|seen|see|visible|feature|features"
            r"|featured|featuring|turns? up|show(?:s|ed)? up)\b",
        ),
    ),
    (
        "fact",
        (
            r"\b(?:price of|how much|cost|costs|(?:what|which) colou?r"
            r"|who (?:makes?|made|sells?|sold|produced?|produces|manufactures?|is the (?:maker|creator|seller|brand))"
            r"|who (?:posts|posted|uploads|uploaded|publishe[sd]|created|filmed|(?:is|are|was|were) behind)"
            r"|(?:what|which) (?:brand|maker|creator|seller|manufacturer|producer|company)"
            r"|brand of|what category|which category|category of|colou?r of"
            r"|when (?:was|did)|how old|how new|maker of|creator of|by whom|made by who)\b",
        ),
    ),
    (
        "find",
        (
            r"\b(?:something|anything) (?:\w+ )?(?:for|to|that|with)\b",
            r"\bideas? for\b",
            r"\bgoes (?:well )?with\b",
            r"\binspiration\b",
        ),
    ),
)
"""Intent -> patterns of a question that has it; the first intent of which one fits is taken."""

_NO_USERS = (
    "i we you they he she it one people someone somebody anyone anybody everyone users customers viewers should would "
    "could can might will may who that which see like be this these those"
)
NO_USER = frozenset(_NO_USERS.split())
"""Words after which no id of a user stands in the patterns above."""

SPEECH = r"\b(?:say|says|said|mention\w*|talk\w*|speak\w*|spoken|hear\w*|heard)\b"
"""Verbs by which a question about videos asks for what is said in them."""

ASKING = re.compile(
    r"\b(?:which|show|list|find|any|have|has|got|sell|stock|there|looking for|need|want|give|get|search|everything"
    r"|all|display|see)\b"
)
"""Words of a question that asks for items."""

OPENINGS = re.compile(
    r"^(?:who|whom|why|how (?!many|much)|when|where(?! can i (?:find|get|buy))|can you|could you|will|would|should"
    r"|what (?:is|was|will|are|does|do you)|translate|write|tell me (?:a|about)|explain|please (?:write|translate)"
    r"|i (?!am looking|need|want|would like|look)|hello|hi)\b"
)
"""Beginnings of a question that, without a known value, asks for no item."""

LANGUAGES: dict[str, frozenset[str]] = {
    code: frozenset(words.split(","))
    for code, words in {
        "de": "welche,welcher,welches,welchen,wie viele,wieviele,wer,wo,zeige,zeig,gibt,kosten,finde,was",
        "fr": "quels,quel,quelle,quelles,combien,qui est,montre,montrez,trouve,y a,est ce,quoi",
        "es": "cuántos,cuántas,cuáles,cuál,cuánto,qué,quién,muestra,muéstrame,hay",
        "pt": "quais,quantos,quantas,quanto,mostre,existem,quem",
        "it": "quali,quanti,quante,quanto,mostra,mostrami,ci sono,chi,cosa",
        "nl": "welke,hoeveel,wie,toon,laat,zijn er",
        "sv": "vilka,vilken,vilket,hur många,hur mycket,visa,finns,vem",
        "da": "hvilke,hvilken,hvor mange,vis",
        "pl": "które,jakie,ile,pokaż,kto",
        "fi": "mitkä,mikä,kuinka monta,montako,näytä",
        "tr": "hangi,kaç,göster",
    }.items()
}
"""Language -> first words of a question in it."""

STOP = frozenset(
    normal(
        "a an the this that these those it its they them their there here is are was were be been am do does did done "
        "have has had having can could would will shall should may might must i you we me us my your our he she who "
        "whom whose which what when where why how of in on at for to from by with without within into onto about as "
        "and or but not no any all some each every both either one ones two other others else than then so such only "
        "just also too very much many more most less least few please tell give show list find get see look looking "
        "search name want need like item items thing things stuff product products video videos clip clips film "
        "article articles catalogue catalog shop store stock range selection assortment offer sell sells selling sold "
        "buy available present currently now made make makes maker creator brand category kind type sort colour color "
        "price priced cost costs costing value called named titled entitled title id put new everything anything "
        "something yes hey hi ok okay let lets know d s m re ve ll t up out over under seems anybody anyone people "
        "person there's i'd i'm what's come comes go goes contain contains containing include includes tagged "
        "labelled marked belong belongs group average mean total sum count number cheapest dearest expensive "
        "affordable lowest highest newest latest recent oldest earliest added first last arrived compare comparison "
        "difference differ different versus vs side similar alike resemble closest nearest near alternative neighbour "
        "say mention talk speak spoken hear voice word words written write screen caption text read appear shown "
        "feature visible seen watch recommend suggest user audience likely altogether better uploaded posted "
        "published created old between top best per mentioned mentioning said saying says talked talking heard "
        "hearing telling told naming spoke shows showing seeing featured featuring appearing appeared displayed "
        "cheaper dearer pricier newer older later earlier compared comparing recommended suggesting suggested watches "
        "watching liked likes belonging being during phrase reading reads spelled onscreen adding arrive got getting "
        "gives bought buys think using use used kinds right month week day date"
        " somebody someone anywhere somewhere came coming arrived priciest costliest among amongst gone got went"
        " fell fall currently instead overall exactly roughly about around within regarding concerning related"
        ""
        " matching match recently add adds turn turns show often really tally wallet purse easiest  typically "
        "typical pay pays paid set back save money take takes pick choose choosing chosen fan fans enjoy "
        "enjoys enjoyed loved  love loves twice costly upload uploads next more also else item lacking "
        "missing addition additions copy copies duplicate duplicates duplicated post posts posting publish publishes "
        "publishing upload uploading uploader produce produces produced producing producer manufacture manufactures "
        "manufactured manufacturer company seller sellers behind carry carries carried stocked supply supplies "
        "supplied distinct unique"
    ).split()
)
"""Words of a question that no item's text needs to hold."""

FUNCTION_WORDS = frozenset(
    normal(
        "a an the this that these those it its they them there here is are was were be been am do does did have "
        "has had can could would will shall should may might must i you we me us my your our who whose which what "
        "when where why how of in on at for to from by with into as and or but not no any all some each both one "
        "other others else than then so such only just also too very more most less least new best top please "
        "item items thing things product products video videos clip clips price prices cost costs kind kinds "
        "category categories brand brands"
    ).split()
)
"""Words that are no value of a field, even where one is spelt like them."""
