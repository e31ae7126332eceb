"""Read a question by rules: its intent out of a fixed set, conditions of known values, prices and dates, and the words
that are left, which must stand in an item's texts.

No model reads the question. What the rules do not know, they do not guess: an unknown word narrows the answer to the
items whose texts hold it, so a question about something that is not there is refused.
"""

from __future__ import annotations

import re
from calendar import month_name
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from coldstart.core.language import UNKNOWN, detect_language
from coldstart.core.sanitize import strip_invisible
from coldstart.serve.ask.words import ASKING, FUNCTION_WORDS, LANGUAGES, NO_USER, OPENINGS, RULES, SPEECH, STOP
from coldstart.serve.vocabulary import Vocabulary, normal, parse_number, plain_number
from coldstart.store.sql import one_of, quote

MOST = 1000
"""Characters of a question."""


_NUMBER = (
    r"(?:[$€£]\s*)?(\d{1,3}(?:[, \u00a0\u202f]\d{3})+(?:\.\d+)?(?!\d)|\d+(?:[.,]\d+)?)"
    r"(?:\s*(?:(?:kr|sek|kronor|usd|eur|euros?|dollars?)\b|[$€£]))?"
)
_PRICES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (rf"\b(?:priced |costing |costs? )?(?:between|from) {_NUMBER} (?:and|to|-) {_NUMBER}", (">=", "<=")),
    (
        rf"\b(?:priced |costing |costs? )?(?:at most|up to|no more than|not more than|maximum(?: of)?|max) {_NUMBER}",
        ("<=",),
    ),
    (rf"\b(?:priced |costing |costs? |for )?(?:under|below|less than|cheaper than|beneath) {_NUMBER}", ("<",)),
    (
        rf"\b(?:priced |costing |costs? )?(?:at least|minimum(?: of)?|no less than|from) {_NUMBER}(?! days?| hours?)",
        (">=",),
    ),
    (rf"\b(?:priced |costing |costs? )?(?:over|above|more than|dearer than|upwards of|exceeding) {_NUMBER}", (">",)),
    (rf"\b(?:priced at|costing|costs?|for exactly|price of) {_NUMBER}", ("=",)),
)
_MONTHS = {name.lower(): number for number, name in enumerate(month_name) if name}
_KINDS = {"video": "video", "clip": "video", "film": "video", "product": "product", "article": "product"}
_GROUPS = {
    "category": "category",
    "brand": "creator",
    "creator": "creator",
    "maker": "creator",
    "kind": "kind",
    "colour": "attributes.colour",
    "color": "attributes.colour",
    "language": "language",
    "tag": "tags",
}
_FOLLOW = re.compile(
    r"[,;]?\s*\b(?:and )?whom? (?:should|would|might|could|will|may) "
    r"(?:(?:want|like|love) to )?(?:see|like|want|buy|watch|get|enjoy) (?:them|it|this|these|those)\b\W*$"
)
_NOT = (
    r"(?:not|never|without|except(?: for)?|excluding|other than|apart from|but no|neither|nor"
    r"|(?:any|every)(?:one|body|thing) but|all but"
    r"|(?:is|are|was|were|do|does|did)n['’]t|(?:with|have|has|of) no)"
)
_FILLING = (
    r"(?:the|an?|any|all|those|ones?|that|which|is|are|made|sold|created|by|from|of|in|come|comes|came|have|being"
    r"|colou?red|colou?r|brand|category|called|tagged|items?|products?)"
)
_NEGATED = re.compile(rf"\b{_NOT}\s+(?:{_FILLING}\s+)*$")
_NEGATED_PRICE = re.compile(rf"\b{_NOT}\s+(?:(?:be|is|are|cost|costs|costing|priced)\s+)*$")
_NEGATION = re.compile(rf"\b{_NOT}(?!\w)\s*(?P<what>(?:[\w'’-]+\s*){{0,3}})")
_JOINED = re.compile(r"[\s,]*(?:or|nor|and)?\s*(?:the|in|by|from)?\s*")
_WITHOUT = re.compile(r"(?:without|(?:with|have|has|of) no)\b")
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "=": "<>"}
_EMPTY = re.compile(
    r"\b(?:without|with no|(?:have|has) no|lack(?:s|ing)?|missing) (?:an? |any )?"
    r"(?P<name>price|category|brand|maker|creator|description|title|language)\b"
)
_EMPTIED = {"brand": "creator", "maker": "creator"}
_OF_TEXTS = re.compile(r"\b(?:items?|products?|articles?|things?|everything|texts?|descriptions?|titles?)\b")
QUOTED = re.compile(r"“([^”]+)”|\"([^\"]+)\"|‘([^’]+)’|(?<!\w)'([^']+)'(?!\w)")
_OF_MAKERS = re.compile(
    r"\bwho (?!should|would|might|will|could)"
    r"|\b(?:what|which) (?:brand|maker|creator|seller|manufacturer|producer|company|colou?r)\b"
    r"|\b(?:brand|maker|creator|seller|colou?r) of\b"
)
"""Questions for a maker or a colour, which words of the texts may narrow to few items."""
_IN_TEXTS = re.compile(r"\b(?:in (?:its|their|the) (?:texts?|descriptions?|titles?)|the words?)\b")
_OF_ITEMS = (
    "explain", "compare", "fact", "similar", "shown", "spoken", "screen", "copies", "liked", "audience", "recommend",
    "find",
)  # fmt: skip
"""Intents that read the items or the user that a question names."""
_PRIORITY = ("category", "attributes", "label", "tags", "creator", "language")


@dataclass
class Asked:
    """Question as the rules read it.

    Attributes:
        values: field -> values that an item must have, any of them.
        prices: comparison and number; since, until: times of `created_at`.
        excluded: field -> values that an item must not have; empty: fields that must be empty.
        words: words and phrases that must stand in an item's texts; words_in: in which of them.
        unread: what it excludes by words that are no value of a field.
        items: ids of items that it names; group: field of the groups; follow: who should see what is found.
        known: it has a part that the rules know; language: other than English that it is in.
    """

    question: str
    intent: str = "filter"
    kind: str | None = None
    values: dict[str, list[str]] = field(default_factory=dict)
    prices: list[tuple[str, float]] = field(default_factory=list)
    since: datetime | None = None
    until: datetime | None = None
    excluded: dict[str, list[str]] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    words_in: str = "all"
    items: list[str] = field(default_factory=list)
    user: str | None = None
    group: str | None = None
    unread: str = ""
    limit: int | None = None
    follow: bool = False
    known: bool = True
    language: str | None = None

    def where(self) -> str | None:
        """Write the conditions in SQL; values are quoted."""
        parts = []
        for name, values in self.values.items():
            if name == "tags":
                parts += [f"array_has(tags, {quote(value)})" for value in values]
            else:
                parts.append(one_of(name, values))
        for name, values in self.excluded.items():
            if name == "tags":
                parts += [f"NOT array_has(tags, {quote(value)})" for value in values]
            else:
                parts.append(one_of(f"{name} NOT", values))
        parts += [f"{name} IS NULL" for name in self.empty]
        parts += [f"price {sign} {plain_number(number)}" for sign, number in self.prices]
        if self.since is not None:
            parts.append(f"created_at >= '{self.since:%Y-%m-%dT%H:%M:%SZ}'")
        if self.until is not None:
            parts.append(f"created_at < '{self.until:%Y-%m-%dT%H:%M:%SZ}'")
        return " AND ".join(parts) or None

    def noun(self, count: float = 2, bare: bool = False) -> str:
        """Name what the conditions on fields are met by, such as `red casual shoes`; bare: without `red`."""
        named = dict.fromkeys(value.lower() for value in self.values.get("category", ()))
        kind = self.kind or "item"
        last = " ".join(named) if len(named) == 1 else kind
        if self.kind == "video" and named and "video" not in last:
            last = f"{last} video"
        leading = [
            value.lower()
            for name, values in self.values.items()
            if name.startswith("attributes.") and len({normal(value) for value in values}) == 1
            for value in values[:1]
        ]
        return " ".join([*(leading * (not bare)), _in_number(last, count)])

    def dates(self) -> str:
        """Write its times in words; empty where it has none."""
        if self.since is not None and self.until is not None and self.until - self.since == timedelta(days=1):
            return f"added on {self.since:%Y-%m-%d}"
        since = f"since {self.since:%Y-%m-%d}" if self.since is not None else ""
        until = f"before {self.until:%Y-%m-%d}" if self.until is not None else ""
        return " ".join(filter(None, ["added" * bool(since or until), since, until]))

    def conditions(self) -> str:
        """Write all that it asks for, in words."""
        parts = [self.noun()]
        if makers := self.values.get("creator"):
            parts.append(f"by {' or '.join(dict.fromkeys(makers))}")
        for name, values in self.values.items():
            if name in ("tags", "label", "language"):
                parts.append(f"with the {name.rstrip('s')} “{'” or “'.join(dict.fromkeys(values))}”")
        parts += [f"whose {name.rpartition('.')[2]} is not “{'” or “'.join(v)}”" for name, v in self.excluded.items()]
        parts += [f"without {name}" for name in self.empty]
        signs = {"<": "under", "<=": "at most", ">": "over", ">=": "at least", "=": "at", "<>": "not at"}
        parts += [f"{signs[sign]} {plain_number(number)}" for sign, number in self.prices]
        parts += [self.dates()] * bool(self.dates())
        if self.words:
            places = {"speech": "in what is said", "screen": "on the screen", "title": "in their titles"}
            where = places.get(self.words_in, "in their texts")
            parts.append(f"with “{'”, “'.join(self.words)}” {where}")
        return " ".join(parts)


def _in_number(noun: str, count: float) -> str:
    one = normal(noun.rpartition(" ")[2])
    start = noun[: len(noun) - len(noun.rpartition(" ")[2])]
    if count == 1:
        return start + one
    if one.endswith("y") and one[-2:-1] not in "aeiou":
        return f"{start}{one[:-1]}ies"
    return f"{start}{one}{'es' if one.endswith(('s', 'x', 'ch', 'sh')) else 's'}"


def understand(question: str, known: Vocabulary, now: datetime | None = None) -> Asked:
    """Read a question.

    Args:
        now: for `yesterday` and the like; by default the present.
    """
    text = strip_invisible(question[:MOST])
    asked = Asked(text)
    rest = _Rest(text)
    follow = _FOLLOW.search(rest.lower)
    if follow and follow.start() > 12:
        asked.follow = True
        rest.take(follow.start(), follow.end())
    known_intent = _intent(rest, asked, known)
    if asked.intent == "compare" and (apart := re.search(r"\bapart from\b", rest.lower)):
        rest.take(*apart.span())  # it excludes nothing there
    asked.language = _language(text)
    for found in list(_EMPTY.finditer(rest.lower)):
        asked.empty.append(_EMPTIED.get(found["name"], found["name"]))
        rest.take(*found.span())
    _dates(rest, asked, now or datetime.now(UTC))
    _prices(rest, asked)
    _items(rest, asked, known)
    _values(rest, asked, known)
    _limits(rest, asked)
    if asked.group and asked.group not in known.values:
        spellings = (asked.group, asked.group.replace("ou", "o"))
        asked.group = next((name for name in known.values if name.lower() in spellings), None)
    unread = _NEGATION.search(rest.lower) if asked.intent != "explain" else None
    if unread and not asked.unread:
        asked.unread = unread["what"].strip() or unread[0].strip()
    asked.words = [*rest.quoted, *(word for word in normal(rest.text()).split() if word not in STOP and len(word) > 1)]
    asked.known = known_intent or _asks_for_items(asked)
    _settle(asked, known)
    return asked


def _intent(rest: _Rest, asked: Asked, known: Vocabulary) -> bool:
    """Find the intent, and take out the user or field that its pattern names; returns whether one fits.

    Ids and titles in quotes are no words of the question: `copy-1` asks for no copies.
    """
    lower = rest.lower
    for named in [*re.finditer(r"[\w][\w./:@-]*[\w]|\w", rest.text()), *QUOTED.finditer(rest.text())]:
        if named[0] in known.ids or QUOTED.fullmatch(named[0]):
            lower = f"{lower[: named.start()]}{'·' * len(named[0])}{lower[named.end() :]}"
    for intent, patterns in RULES:
        for pattern in patterns:
            found = re.search(pattern, lower)
            if found is None:
                continue
            groups = found.groupdict()
            if user := groups.get("user"):
                if user.rstrip(".?!,'’") in NO_USER:
                    continue
                asked.user = asked.question[found.start("user") : found.end("user")].rstrip(".?!,:")
                rest.take(found.start("user"), found.end("user"))
            if group := groups.get("group") or groups.get("by"):
                asked.group = _GROUPS.get(normal(group))
                if normal(group) == "brand" and "attributes.brand" in known.values:
                    asked.group = "attributes.brand"
                rest.take(found.start("group" if groups.get("group") else "by"), found.end())
            if groups.get("all"):
                asked.group = "kind"
            asked.intent = intent
            return True
    return False


def _asks_for_items(asked: Asked) -> bool:
    """Tell whether a question without an intent of its own asks for items: by a condition, a verb, or a bare name."""
    lower = asked.question.lower().strip()
    if asked.values or asked.excluded or asked.prices or asked.items or asked.empty or asked.since or asked.until:
        return True
    if OPENINGS.search(lower):
        return False
    return bool(ASKING.search(lower)) or len(lower.split()) <= 4


def _language(text: str) -> str | None:
    """Find the language of a question that is not in English; None where it is, or does not show."""
    words = re.findall(r"[^\W\d_]+", text.casefold())
    if not words or normal(words[0]) in STOP:
        return None
    for code, openings in LANGUAGES.items():
        if words[0] in openings or " ".join(words[:2]) in openings:
            return code
    found = detect_language(text)
    return found if found not in (UNKNOWN, "en") else None


def _settle(asked: Asked, known: Vocabulary) -> None:
    """Choose the intent that the parts allow."""
    products = [one for one in asked.items if one in known.ids]
    if asked.intent == "compare" and len(products) == 1 and (asked.values or asked.words):
        asked.known = False  # the other item is not found, and the price of one compares nothing
    if asked.intent == "compare" and len(products) < 2:
        asked.intent = "filter" if not products else "fact"
    if asked.intent in ("cheapest", "dearest", "newest", "oldest") and len(products) >= 2:
        asked.intent = "compare"
    if asked.intent == "similar" and not products:
        asked.intent = "find"
    if asked.intent == "fact" and not products and not _OF_MAKERS.search(asked.question.lower()):
        asked.intent = "filter"
    if asked.intent == "spoken" and asked.kind != "video" and _OF_TEXTS.search(asked.question.lower()):
        asked.intent = "filter"
    if asked.intent in ("spoken", "screen") and not (asked.words or asked.values or asked.items):
        asked.intent = "filter"
    if asked.intent in ("filter", "count") and _IN_TEXTS.search(asked.question.lower()):
        asked.words += [value for values in asked.values.values() for value in values[:1]]
        asked.values = {}
        asked.words_in = "title" if re.search(r"\bin (?:its|their|the) titles?\b", asked.question.lower()) else "all"
    if asked.intent == "recommend" and asked.kind is None and known.values["kind"]["video"]:
        asked.kind = "video" if re.search(r"\bwatch\b", asked.question.lower()) else None
    if asked.intent not in _OF_ITEMS and (asked.items or asked.user):
        asked.known = False  # a part that would be left out changes what is asked
    if asked.intent == "count" and asked.kind == "video" and re.search(SPEECH, asked.question.lower()):
        asked.words_in = "speech"
        asked.words += [value for values in asked.values.values() for value in values[:1]]
        asked.values = {}
    if asked.intent == "shown" and not products and asked.kind != "video":
        asked.intent = "filter"
    if asked.intent == "filter" and products and not (asked.values or asked.prices or asked.words or asked.excluded):
        asked.intent = "fact"


class _Rest:
    """Text of a question whose understood parts are taken out."""

    def __init__(self, text: str) -> None:
        self.original = text
        self._left = [True] * len(text)
        self.quoted: list[str] = []

    @property
    def lower(self) -> str:
        folded = self.text().lower()
        return folded if len(folded) == len(self.original) else self.text()

    def text(self) -> str:
        return "".join(sign if left else " " for sign, left in zip(self.original, self._left, strict=True))

    def take(self, start: int, end: int) -> None:
        self._left[start:end] = [False] * (end - start)


def _dates(rest: _Rest, asked: Asked, now: datetime) -> None:
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    week = day - timedelta(days=day.weekday())
    month = day.replace(day=1)
    before = (month - timedelta(days=1)).replace(day=1)
    spans = {
        r"\byesterday(?:['’]s)?\b": (day - timedelta(days=1), day),
        r"\btoday(?:['’]s)?\b": (day, day + timedelta(days=1)),
        r"\bthis week(?:['’]s)?\b": (week, week + timedelta(days=7)),
        r"\blast week(?:['’]s)?\b": (week - timedelta(days=7), week),
        r"\bthis month(?:['’]s)?\b": (month, _next_month(month)),
        r"\blast month(?:['’]s)?\b": (before, month),
    }
    for pattern, (since, until) in spans.items():
        if found := re.search(pattern, rest.lower):
            asked.since, asked.until = since, until
            rest.take(*found.span())
            return
    if found := re.search(
        r"\b(?:in |over |from |during )?(?:the )?(?:last|past) (\d{1,4}) (day|hour|week)s?\b", rest.lower
    ):
        size = {"day": timedelta(days=1), "hour": timedelta(hours=1), "week": timedelta(days=7)}[found[2]]
        asked.since = (now if found[2] == "hour" else day) - int(found[1]) * size
        rest.take(*found.span())
        return
    names = "|".join(_MONTHS)
    forms = (
        r"(?P<y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)",
        rf"(?P<d>\d{{1,2}})(?:st|nd|rd|th)?(?: of)? (?P<n>{names}),?(?: (?P<y>\d{{4}}))?",
        rf"(?P<n>{names}) (?P<d>\d{{1,2}})(?:st|nd|rd|th)?\b,?(?: (?P<y>\d{{4}}))?",
        rf"(?P<n>{names})(?: (?P<y>\d{{4}}))?",
    )
    lead = r"\b(?P<lead>since|after|before|until|from|on|in|during|by)?\s*\b"
    for form in forms:
        found = re.search(lead + form + r"(?:['’]s)?\b", rest.lower)
        if found is None or (found.groupdict().get("n") == "may" and not found["lead"]):
            continue
        parts = found.groupdict()
        number = int(parts["m"]) if parts.get("m") else _MONTHS[parts["n"]]
        year = int(parts["y"]) if parts.get("y") else now.year - (number > now.month)
        try:
            start = datetime(year, number, int(parts.get("d") or 1), tzinfo=UTC)
        except ValueError:
            continue
        end = start + timedelta(days=1) if parts.get("d") else _next_month(start)
        if parts["lead"] == "since":
            asked.since = start
        elif parts["lead"] == "after":
            asked.since = end
        elif parts["lead"] in ("before", "until"):
            asked.until = start
        else:
            asked.since, asked.until = start, end
        rest.take(*found.span())
        return


def _next_month(start: datetime) -> datetime:
    return (start.replace(day=1) + timedelta(days=32)).replace(day=1)


def _prices(rest: _Rest, asked: Asked) -> None:
    for pattern, signs in _PRICES:
        while found := re.search(pattern, rest.lower):
            negated = _NEGATED_PRICE.search(rest.lower[: found.start()]) if len(signs) == 1 else None
            for sign, number in zip(signs, found.groups(), strict=True):
                asked.prices.append((_OPPOSITE[sign] if negated else sign, parse_number(number)))
            rest.take(negated.start() if negated else found.start(), found.end())
        if len(signs) == 2 and asked.prices:
            return


def _limits(rest: _Rest, asked: Asked) -> None:
    words = {"two": 2, "three": 3, "four": 4, "five": 5, "ten": 10}
    ranked = "cheapest|dearest|newest|oldest|latest|earliest|most expensive|least expensive|most recent|priciest"
    number = rf"(\d{{1,2}}|{'|'.join(words)})"
    ordered = asked.intent in ("cheapest", "dearest", "newest", "oldest")
    forms = (rf"\b{number} (?={ranked})", rf"(?:{ranked}|top) {number}\b", *((rf"\b{number} (?=[a-z])",) * ordered))
    for pattern in forms:
        if found := re.search(pattern, rest.lower):
            asked.limit = words.get(found[1]) or int(found[1])
            rest.take(*found.span(1))
            return


def _items(rest: _Rest, asked: Asked, known: Vocabulary) -> None:
    """Take the items that are named by id, by title in quotes, or, where the intent is of items, by title."""
    for found in list(re.finditer(r"[\w][\w./:@-]*[\w]|\w", rest.text())):
        if found[0] in known.ids:
            negated = _NEGATED.search(rest.lower[: found.start()])
            if negated:
                asked.excluded.setdefault("item_id", []).append(found[0])
            else:
                asked.items.append(found[0])
            rest.take(negated.start() if negated else found.start(), found.end())
    titles = known.title_forms
    for found in list(QUOTED.finditer(rest.text())):
        quoted = next(filter(None, found.groups()))
        named = titles.get(normal(quoted))
        if quoted in known.ids:
            asked.items.append(quoted)
        elif named and asked.intent not in ("spoken", "screen"):
            asked.items.append(named[0])
        elif normal(quoted):
            rest.quoted.append(normal(quoted))
        rest.take(*found.span())
    if asked.intent not in (
        "compare",
        "fact",
        "similar",
        "shown",
        "copies",
        "liked",
        "explain",
        "audience",
        "cheapest",
        "dearest",
        "newest",
        "oldest",
    ):
        return
    spans = [(found.start(), found.end(), normal(found[0])) for found in re.finditer(r"[\w'’&]+", rest.text())]
    place = 0
    longest = max((len(title.split()) for title in titles), default=0)
    while place < len(spans):
        for size in range(min(longest, len(spans) - place), 0, -1):
            part = spans[place : place + size]
            named = titles.get(" ".join(form for *_, form in part if form))
            if named and (size > 1 or asked.intent not in ("cheapest", "dearest", "newest", "oldest")):
                asked.items.append(named[0])
                rest.take(part[0][0], part[-1][1])
                place += size - 1
                break
        place += 1


def _values(rest: _Rest, asked: Asked, known: Vocabulary) -> None:
    """Take known values out of the question, the longest first."""
    forms = known.value_forms
    never = STOP if asked.intent in ("recommend", "audience", "liked") else FUNCTION_WORDS
    longest = min(6, max((len(form.split()) for form in forms), default=0))
    taken: list[tuple[int, int, str, list[str]]] = []
    for size in range(longest, 0, -1):
        spans = [(found.start(), found.end(), normal(found[0])) for found in re.finditer(r"[\w'’&-]+", rest.text())]
        place = 0
        while place + size <= len(spans):
            part = spans[place : place + size]
            form = " ".join(form for *_, form in part)
            options = forms.get(form)
            if options and not (size == 1 and form in never):
                name = _choose(rest.original[: part[0][0]], options)
                same = [value for own, value in options if own == name]
                taken.append((part[0][0], part[-1][1], name, same))
                rest.take(part[0][0], part[-1][1])
                place += size
            else:
                place += 1
    for found in list(re.finditer(r"\w+", rest.text())):
        kind = _KINDS.get(normal(found[0]))
        if kind and kind in known.values["kind"]:
            taken.append((*found.span(), "kind", [kind]))
            rest.take(*found.span())
    end = -1  # of the value before, where that is excluded
    for start, stop, name, same in sorted(taken):
        before = rest.original[:start].lower()
        negated = _NEGATED.search(before)
        if negated and name == "kind" and _WITHOUT.match(negated[0]):
            asked.unread = before[negated.start() :] + rest.original[start:stop]
            return
        if negated:
            rest.take(negated.start(), start)
        elif end >= 0 and _JOINED.fullmatch(before[end:]) and before[end:].strip():
            rest.take(end, start)
        else:
            end = -1
            if name == "kind":
                asked.kind = asked.kind or same[0]
            else:
                asked.values.setdefault(name, []).extend(same)
            continue
        end = stop
        asked.excluded.setdefault(name, []).extend(same)


def _choose(before: str, options: Sequence[tuple[str, str]]) -> str:
    """Choose the field of a value that several have: of a maker after `by` or `from`, else in a fixed order."""
    names = [name for name, _ in options]
    if "creator" in names and re.search(r"\b(?:by|from|brand|maker|creator|made by|of brand)\s*$", before.lower()):
        return "creator"
    return min(names, key=lambda name: (_PRIORITY.index(name.partition(".")[0]), name))
