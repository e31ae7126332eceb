"""List the words by which the rules read a question: patterns of intents, of prices, names of months, plain words."""

from __future__ import annotations

from coldstart.serve.vocabulary import normal

RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "recommend",
        (r"\buser\s+(?P<user>[\w.@:-]+)",),
    ),
    (
        "audience",
        (
            r"\bwho (?:should|would|might|will|could|is likely to|may)\b",
            r"\baudience\b",
            r"\bwhom\b",
            r"\bwhich (?:users|people)\b",
        ),
    ),
    (
        "compare",
        (
            r"\bcompar\w+",
            r"\bdiffer\w*",
            r"\bversus\b",
            r"\bvs\b",
            r"\bside by side\b",
            r"\b(?:cheaper|dearer|pricier|newer|older|(?:more|less) expensive|costs (?:more|less)"
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
            r"\b(?:which|what) (?P<group>categories|brands|creators|makers|colou?rs|kinds|languages"
            r"|tags)\b(?! (?:is|are|does|do) (?:it|the )\b)",
            r"\b(?:per|by each|for each|in each|by) (?P<by>category|brand|creator|maker|colou?r|kind|language"
            r"|tag)\b(?=\s*(?:[?.!,]|$|(?:and|for|of|in|among)\b))",
        ),
    ),
    (
        "count",
        (
            r"\bhow many\b",
            r"\bnumber of\b",
            r"\bcount\b",
        ),
    ),
    (
        "average",
        (
            r"\baverage\b",
            r"\bmean price\b",
            r"\bon average\b",
            r"\btypical price\b",
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
        ),
    ),
    (
        "spoken",
        (
            r"\b(?:say|says|said|saying|mention|mentions|mentioned|mentioning|talk|talks|talking|speak|speaks"
            r"|spoken|speaking|hear|heard|hears|tell|tells|name|names|voice)\b",
        ),
    ),
    (
        "shown",
        (
            r"\b(?:show|shows|shown|showing|appear|appears|appearing|seen|see|visible|feature|features"
            r"|featured|featuring)\b",
        ),
    ),
    (
        "fact",
        (
            r"\b(?:price of|how much|cost|costs|what colou?r|who (?:makes?|made|sells|is the (?:maker"
            r"|creator))|what brand|which brand|brand of|what category|which category|category of|colou?r of"
            r"|when was|maker of|creator of)\b",
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
        " matching match"
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
