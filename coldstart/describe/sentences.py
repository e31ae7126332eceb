"""Write two or three plain sentences about an item from its facts: a surface realiser without a model.

Each attribute has a role (`core.attributes.Role`), and a plan says where roles stand: the noun with its adjectives,
buyer and brand; then use, material and season; then remarks. Every value in the text is a fact, `spoken` by fixed
rules; nothing known gives an empty text. English frames; values of another language are listed without a frame.
Workers import this module, so it loads neither torch nor Arrow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from coldstart.core.attributes import Attribute, Role
from coldstart.describe.english import Noun, article, capitalised, listed, noun, singular, small_letters, words_of
from coldstart.describe.quotes import first_facts, names_of, quotable, with_pronoun, with_subject

NOT_KNOWN = words_of(
    "na n/a none nan null unknown other others misc miscellaneous various general default all any default unspecified "
    "not-applicable not-specified uncategorized uncategorised tbd todo - -- ? . 0 no nil keine sonstige sonstiges "
    "unbekannt andere"
)
"""Values that state nothing."""
_AUDIENCES = {
    "men": "men",
    "man": "men",
    "male": "men",
    "mens": "men",
    "men's": "men",
    "women": "women",
    "woman": "women",
    "female": "women",
    "womens": "women",
    "women's": "women",
    "ladies": "women",
    "boy": "boys",
    "girl": "girls",
    "kid": "kids",
    "child": "children",
    "baby": "babies",
    "everyone": "everyone",
}
_WORN = words_of(
    "shirt t-shirt top kurta kurti sweater sweatshirt jacket dress skirt tunic vest cap tie belt scarf muffler saree "
    "sari dupatta stole trunk bra hat coat blazer suit tracksuit jumper hoodie blouse gown cardigan pullover polo "
    "camisole bodysuit bikini swimsuit waistcoat poncho shawl beanie headband churidar salwar lehenga bracelet "
    "necklace ring anklet chain chains"
)
_WEAR_USES = words_of("casual formal ethnic party smart-casual festive business everyday evening bridal")
_FOR_USES = {"sports": "sport", "sport": "sport", "sporting": "sport"}
_NAMED_USES = frozenset({*_WEAR_USES, *_FOR_USES})
_PLANS = 4
MOST_REMARKS = 3

SLOTS = ("kind", "colour", "material", "audience", "brand", "use", "season", "section")
"""Slots of templates."""
_PLACES: tuple[Role, ...] = ("colour", "material", "audience", "use", "season", "section")
PRODUCT = Noun("product", False, True)
PLANS = range(_PLANS)
"""Numbers of the plans, each another order of the same facts."""


def is_fact(value: str | None) -> bool:
    """Tell whether a value states something: not blank, not `NA`, not `other`."""
    return bool(value and value.strip()) and "-".join(str(value).casefold().split()) not in NOT_KNOWN


def spoken(value: str, role: Role) -> str:
    """Return a value in the words of a sentence: `Female` women, `Watches` watch, `Black/Red` black and
    red."""
    tidy = " ".join(value.split())
    if role == "kind":
        return noun(tidy).text
    if role == "audience":
        parts = [part.strip() for part in re.split(r"[,/&+]|\band\b", tidy) if part.strip()]
        return listed(list(dict.fromkeys(_AUDIENCES.get(part.casefold(), small_letters(part)) for part in parts)))
    if role in ("colour", "material"):
        return listed([small_letters(part) for part in re.split(r"\s*[,/&|+;]\s*|\s+and\s+", tidy) if part]) or tidy
    if role == "use":
        return small_letters(tidy)
    return tidy if role in ("brand", "other") else small_letters(tidy)


def plain_sentences(
    facts: Mapping[str, str],
    attributes: Mapping[str, Attribute],
    *,
    title: str | None = None,
    creator: str | None = None,
    description: str | None = None,
    category: str | None = None,
    tags: Sequence[str] = (),
    evidence: Mapping[str, Any] | None = None,
    kind: str = "product",
    language: str = "en",
    plan: int = 0,
    templates: Mapping[str, str] | None = None,
) -> str:
    """Write what is known of an item as up to four sentences; "" where nothing is.

    Args:
        facts: attribute -> value, of the record or predicted.
        attributes: those of the item's category, for their roles; a fact without one has the role of its name.
        title, creator, description, category, tags: of the item as the view shows them.
        evidence: `transcript` and `screen_text` of its media.
        kind: `product` or `video`.
        language: code of the values; other than `en` and `und` are listed without a frame.
        plan: which order of the same facts, one of `PLANS`.
        templates: pattern of facts (`Parts.pattern`) -> sentences with slots, in place of the plan's.
    """
    parts = Parts.of(facts, attributes, creator=creator, title=title, video=kind == "video")
    if language not in ("en", "und"):
        found = [_bare(facts, attributes, parts.by)]
    elif kind == "video":
        found = _video(parts, attributes, category, tags, evidence or {}, plan)
    else:
        found = _product(parts, title, plan, templates or {}) or _shelf(title, category, parts.by)
    own = first_facts(description or "", _other_values(facts, attributes, title or "") if description else ())
    if own and kind != "video" and parts.noun and _names_it(own[0], title, parts.noun.text):
        # The seller's own sentence says what it is; one of ours beside it, for a copy is no description.
        rest = [sentence for sentence in found[1:] or _rest(Parts(section=parts.section), parts.noun, 0) if sentence]
        if rest:
            return " ".join([*own, *rest])
    if own and found:
        own[0] = with_pronoun(own[0], title)
        if parts.noun is None or not parts.noun.plural:
            own = [with_subject(one) for one in own]
    return " ".join(sentence for sentence in (*found[:2], *own, *found[2:]) if sentence)


def _other_values(facts: Mapping[str, str], attributes: Mapping[str, Attribute], title: str) -> frozenset[str]:
    """Collect listed values that the item does not have: a sentence with one compares it with others."""
    own = names_of(" ".join([title, *facts.values()]))
    listed_values = {value.casefold() for one in attributes.values() for value in one.values}
    return frozenset(value for value in listed_values if value not in own)


@dataclass(frozen=True)
class Parts:
    """Spoken facts by their role.

    Attributes:
        noun: of the kind, or None.
        by: the brand, or "".
        remarks: name and value of attributes without another role.
    """

    noun: Noun | None = None
    colour: str = ""
    material: str = ""
    audience: str = ""
    use: str = ""
    season: str = ""
    section: str = ""
    by: str = ""
    remarks: Sequence[tuple[str, str]] = field(default_factory=tuple)

    def __bool__(self) -> bool:
        """True where anything besides the brand is known."""
        return bool(
            self.noun or self.colour or self.material or self.audience or self.use or self.season or self.section
        ) or bool(self.remarks)

    @property
    def slots(self) -> dict[str, str]:
        """Values by the name of their slot, `use` as a phrase such as `casual wear`."""
        found = {"kind": self.noun.text if self.noun else "", "brand": self.by, "use": _use(self, self.noun or PRODUCT)}
        found |= {name: getattr(self, name) for name in ("colour", "material", "audience", "season", "section")}
        return {name: value for name, value in found.items() if value}

    @property
    def pattern(self) -> str:
        """Names of the known slots, and the noun's number: `kind:one colour audience brand`."""
        own = self.noun or PRODUCT
        number = "many" if own.plural else "one" if own.counted else "mass"
        known = [name for name in SLOTS if name in self.slots]
        return " ".join(f"kind:{number}" if name == "kind" else name for name in known)

    @classmethod
    def of_pattern(cls, pattern: str) -> Parts:
        """Return parts whose values are the slots of a pattern."""
        words = dict(word.partition(":")[::2] for word in pattern.split())
        number = words.get("kind", "one")
        own = Noun("[kind]", number == "many", number == "one") if "kind" in words else None
        held = {name: f"[{name}]" if name in words else "" for name in SLOTS}
        return cls._filled(own, held, held["brand"], ())

    @classmethod
    def of(
        cls,
        facts: Mapping[str, str],
        attributes: Mapping[str, Attribute],
        *,
        creator: str | None,
        title: str | None,
        video: bool = False,
    ) -> Parts:
        """Sort facts by role. Of two with one role the second is a remark; a value that the noun says is left out."""
        said: dict[Role, str] = {}
        remarks: list[tuple[str, str]] = []
        for name, value in facts.items():
            if not is_fact(value):
                continue
            role = attributes.get(name, Attribute()).role_as(name)
            if role == "other" or role in said:
                if value.casefold() not in (one.casefold() for one in said.values()):
                    remarks.append((small_letters(name.replace("_", " ")), " ".join(value.split())))
            else:
                said[role] = value
        spoken_of = {role: spoken(value, role) for role, value in said.items()}
        own = noun(said["kind"]) if "kind" in said else None
        if own is not None:
            words = set(re.findall(r"[\w-]+", own.text.casefold()))
            for role in ("colour", "material", "audience", "use"):
                if role in spoken_of and set(spoken_of[role].casefold().split()) <= words:
                    del spoken_of[role]
            if spoken_of.get("section", "").casefold() in (own.text.casefold(), said["kind"].casefold()):
                del spoken_of["section"]
        if spoken_of.get("audience", "").startswith("unisex"):  # an adjective, where others are buyers
            adjective = spoken_of.pop("audience")
            own = Noun(f"{adjective} {(own or PRODUCT).text}", (own or PRODUCT).plural, (own or PRODUCT).counted)
        by = spoken_of.get("brand", "") or (creator or "").strip()
        if "brand" not in spoken_of and title and not video and not _holds(title, by):
            by = ""  # a seller: brands stand in titles
        known = " ".join(by.split()) if is_fact(by) or video else ""
        return cls._filled(own, spoken_of, known, tuple(remarks[:MOST_REMARKS]))

    @classmethod
    def _filled(cls, own: Noun | None, values: Mapping[Any, str], by: str, remarks: Sequence[tuple[str, str]]) -> Parts:
        colour, material, audience, use, season, section = (values.get(name, "") for name in _PLACES)
        return cls(own, colour, material, audience, use, season, section, by, remarks)


def _product(parts: Parts, title: str | None, plan: int, templates: Mapping[str, str]) -> list[str]:
    if not parts:
        return []
    name = _name(title, parts)
    if name is not None:
        return _named(parts, name)
    if (template := templates.get(parts.pattern)) and (filled := fill(template, parts.slots)):
        return [filled, *_remarks(parts)]
    if parts.noun is None and not (parts.colour or parts.material or parts.audience or parts.by):
        return _rest(parts, PRODUCT, plan)
    if (
        not (parts.colour or parts.material or parts.audience or parts.by or parts.use or parts.season)
        and parts.section
    ):
        first = _first(parts, plan).rstrip(".") + f" from {section_phrase(parts.section)}."
        return [first, *_rest(Parts(parts.noun, remarks=parts.remarks), parts.noun or PRODUCT, plan)]
    return [_first(parts, plan), *_rest(parts, parts.noun or PRODUCT, plan)]


_LONGEST_TITLE = 120
_CLAUSES = re.compile(r"[;=<>{}|]|[!?:]\s|(?<=\w{4})\.\s")


def _shelf(title: str | None, category: str | None, by: str) -> list[str]:
    """Write the one sentence of an item of which only title and category are known."""
    name = " ".join((title or "").split()).rstrip(" .!?,;:")
    if not is_fact(category) or not is_fact(name) or name.casefold() == str(category).strip().casefold():
        return []
    if len(name) > _LONGEST_TITLE or _CLAUSES.search(name):  # sentences, or words that are no name
        return []
    by = f" by {by}" if by and not _holds(name, by) else ""
    return [_ended(f"{name}{by} from {section_phrase(spoken(str(category), 'section'))}")]


def _first(parts: Parts, plan: int) -> str:
    """Write the sentence with the noun, in the order of the plan."""
    own = parts.noun or PRODUCT
    use = parts.use if plan == 3 and _adjective(parts.use) else ""
    material = parts.material if " and " not in parts.material else ""
    if plan == 1 and parts.colour:
        phrase = " ".join(part for part in (use, material, own.text) if part)
    else:
        phrase = " ".join(part for part in (use, parts.colour, material, own.text) if part)
    if plan == 2 and parts.by:
        phrase = " ".join([parts.by, phrase])
    tail = [f" for {parts.audience}"] if parts.audience else []
    if parts.by and plan != 2:
        tail.append(f" by {parts.by}")
    if plan == 1 and parts.colour:
        tail.append(f" in {parts.colour}")
    if own.counted:
        phrase = f"{article(phrase)} {phrase}"
    return _ended(capitalised(phrase + "".join(tail)))


def _rest(parts: Parts, own: Noun, plan: int) -> list[str]:
    """Write sentences of use, season, section and remarks; the first of them with `it` or `they`."""
    material = parts.material if " and " in parts.material else ""
    use = "" if plan == 3 and _adjective(parts.use) and parts.noun else _use(parts, own)
    it, be, come = ("They", "are", "come") if own.plural else ("It", "is", "comes")
    made = " ".join(part for part in (f"of {material}" if material else "", f"for {use}" if use else "") if part)
    origin = [f"the {parts.season} collection"] if parts.season else []
    if parts.season and re.search(r"(?<![\w\[])(?:collection|season|year)", parts.season):
        origin = [f"the {parts.season}"]
    if parts.section:
        origin.append(section_phrase(parts.section))
    found = []
    if made and origin:
        found.append(f"{it} {be} made {made} and {come} from {listed(origin)}.")
    elif made:
        found.append(f"{it} {be} made {made}.")
    elif origin:
        found.append(f"{it} {come} from {listed(origin)}.")
    return [*found, *_remarks(parts)]


def _remarks(parts: Parts) -> list[str]:
    remarks = "; ".join(f"{name}: {value}" for name, value in parts.remarks)
    return [_ended(capitalised(remarks))] if remarks else []


def plan_template(pattern: str, plan: int) -> str:
    """Return the sentences of a plan with slots in place of values, for a pattern of facts."""
    parts = Parts.of_pattern(pattern)
    return " ".join([_first(parts, plan), *_rest(parts, parts.noun or PRODUCT, plan)])


_SLOT = re.compile(r"\[([a-z]+)\]")
_ARTICLE = re.compile(r"\b(an?) \[([a-z]+)\]", re.I)


def slots_of(template: str) -> list[str]:
    """List the slots of a template in their order."""
    return _SLOT.findall(template)


def fill(template: str, slots: Mapping[str, str]) -> str:
    """Fill each slot with its value, articles as their sound asks for; "" where a slot has no value."""
    if any(name not in slots for name in slots_of(template)):
        return ""
    chosen = _ARTICLE.sub(lambda found: f"{article(slots[found[2]])} [{found[2]}]", template)
    text = _SLOT.sub(lambda found: slots[found[1]], chosen)
    return " ".join(capitalised(one) for one in re.split(r"(?<=[.!?])\s+(?=\S)", text)) if text else ""


def _named(parts: Parts, name: str) -> list[str]:
    """Write sentences of an item with a name of its own: `Golden Delicious is an apple from the fruit section.`"""
    own = parts.noun
    tail = (f" for {parts.audience}" if parts.audience else "") + (f" by {parts.by}" if parts.by else "")
    section = f" from {section_phrase(parts.section)}" if parts.section else ""
    phrase = " ".join(part for part in (parts.colour, parts.material, own.text if own else "") if part)
    rest = Parts(own, use=parts.use, season=parts.season, remarks=parts.remarks)
    if own is None or _holds(name, own.text):
        adjectives = listed([part for part in (parts.colour, parts.material) if part])
        details = f"{f' in {adjectives}' if adjectives else ''}{tail}{section}"
        follow = _rest(rest, own or noun(name.rpartition(" ")[2]), 0)
        return [_ended(f"{name}{details}"), *follow] if details else follow
    be = "are" if own.plural else "is"
    phrase = f"{article(phrase)} {phrase}" if own.counted else phrase
    return [_ended(f"{name} {be} {phrase}{tail}{section}"), *_rest(rest, own, 0)]


def _name(title: str | None, parts: Parts) -> str | None:
    """Return a title that is a name, such as `Golden Delicious`; None for one of brand, buyer and colour words."""
    name = " ".join((title or "").split())
    if not name or len(name.split()) > 6 or not name[:1].isalpha() or name[-1] in ".!?":
        return None
    words = (parts.by, *(word for part in (parts.audience, parts.colour) for word in part.split()))
    return None if any(word and _holds(name, word) for word in words) else name


def section_phrase(value: str) -> str:
    """Name a section of a shop: `the fruit section`, `the home department`."""
    if value.casefold() in ("packages", "packaged"):
        return "the packaged goods section"  # nobody sells packages
    return (
        f"the {value}"
        if re.search(r"(?<![\w\[])(?:section|department|aisle|shelf|range)$", value)
        else f"the {value} section"
    )


def _adjective(use: str) -> bool:
    return use in ("casual", "formal", "ethnic", "smart casual")


def _use(parts: Parts, own: Noun) -> str:
    """Say what an item is for as a phrase; "" where its noun names a use, such as formal shoes."""
    use = parts.use
    if not use or use.startswith("["):
        return use
    if own.text.split()[0].casefold() in _NAMED_USES:
        return ""
    if use in _FOR_USES:
        return _FOR_USES[use]
    if use.endswith(("wear", "use", "ing")) or (" " in use and use not in ("smart casual",)):
        return use
    head = own.text.rpartition(" ")[2].casefold()
    worn = (own.plural and own.text.rpartition(" ")[2] not in ("glasses", "headphones")) or head in _WORN
    if use.replace(" ", "-") in _WEAR_USES:
        return f"{use} wear" if worn else f"{use} use"
    return f"{use} use" if len(use) < 12 else use


def _video(
    parts: Parts,
    attributes: Mapping[str, Attribute],
    category: str | None,
    tags: Sequence[str],
    evidence: Mapping[str, Any],
    plan: int,
) -> list[str]:
    """Write what is seen, said and written in a video, and its subject."""
    heard = mentions(evidence.get("transcript") or "", attributes)
    if parts.noun is not None and parts.noun.text in heard:  # said of it is not shown by it
        parts = replace(parts, noun=None, colour="", material="")
    shown = " ".join(part for part in (parts.colour, parts.material, parts.noun.text if parts.noun else "") if part)
    if parts.noun is not None and parts.noun.counted:
        shown = f"{article(shown)} {shown}"
    subject = small_letters(category or "") if is_fact(category) else ""
    words = [small_letters(tag.replace("_", " ")) for tag in tags if is_fact(tag)]
    topics = [one for one in dict.fromkeys(words) if singular(one) not in (singular(subject), shown)][:3]
    said, lines = quotable(evidence)
    mentioned = [] if said else [one for one in heard if one != shown]
    first = f"{article(subject)} {subject} video" if subject else "a video"
    if shown:
        first += f" of {shown}" if parts.noun else f" in {shown}"
    if parts.section:
        first += f" from {section_phrase(parts.section)}"
    if parts.by:
        first += f" by {parts.by}"
    if topics:
        first += f", tagged {listed(topics)}"
    known = shown or subject or topics or parts.section or (parts.by and (said or lines or mentioned))
    found = [_ended(capitalised(first))] if known else []  # "A video." says nothing
    it = "It" if found else "The video"
    quotes = [f"{it} says: “{said}”"] if said else []
    if mentioned:
        quotes.append(f"{it} mentions {listed(mentioned)}.")
    if lines:
        quotes.append(f"On screen: {listed([f'“{line}”' for line in lines])}.")
    if plan % 2:
        quotes.reverse()
    return [*found, *quotes, *_remarks(parts)]


def mentions(text: str, attributes: Mapping[str, Attribute]) -> list[str]:
    """List up to three listed kinds of goods that a text names, in the order of the text."""
    values = {value for name, one in attributes.items() if one.role_as(name) == "kind" for value in one.values}
    found: dict[int, str] = {}
    for value in sorted(values, key=len):
        own = noun(value).text
        if is_fact(value) and (match := re.search(rf"(?<!\w){re.escape(own)}(?:e?s)?(?!\w)", text, re.I)):
            inside = [start for start, other in found.items() if _holds(own, other) and start >= match.start()]
            for start in inside:  # `oat milk` says `milk`
                del found[start]
            found[match.start()] = own
    return [found[start] for start in sorted(found)][:MOST_REMARKS]


def _names_it(text: str, title: str | None, noun_text: str) -> bool:
    """Tell whether a sentence says by name what an item is, such as `Granny Smith is a green apple`."""
    name = " ".join((title or "").split())
    start, _, rest = text.partition(" is a") if " is a" in text else text.partition(" are ")
    return bool(name) and name.casefold() in start.casefold() and _holds(rest, noun_text)


def _bare(facts: Mapping[str, str], attributes: Mapping[str, Attribute], by: str) -> str:
    """List values as they are, the kind first, without words of a language."""
    kinds = [name for name in facts if attributes.get(name, Attribute()).role_as(name) == "kind"]
    order = [*kinds, *(name for name in facts if name not in kinds)]
    values = list(dict.fromkeys(" ".join(facts[name].split()) for name in order if is_fact(facts[name])))
    if not values:
        return ""
    return _ended(", ".join([*values, *([by] if by and by not in values else [])]))


def _holds(text: str, words: str) -> bool:
    return bool(words) and re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text, re.I) is not None


def _ended(text: str) -> str:
    return text if text[-1:] in (".", "!", "?", "…", "”") and not text.endswith("”") else f"{text}."
