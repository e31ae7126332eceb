"""Make questions about a catalogue whose answers are known by plain predicates over its rows, never by a judge.

Each intent has several phrasings, in sets (`phrasings.yaml`): those of the first were in sight when the rules of the
router were written, those of the second and third were not.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from coldstart import sample
from coldstart.core.item_fields import read_attributes
from coldstart.errors import ColdstartError
from coldstart.serve.ask.words import FUNCTION_WORDS, STOP
from coldstart.serve.readers import Reader
from coldstart.serve.vocabulary import normal, rows_of

REFUSED = 0.25
"""Share of questions that the catalogue does not answer."""
MOST_ITEMS = 10
"""Items of an answer: as many as an answer names one by one."""
NAMED = 5
"""Users of an audience, and items of a list, that an answer names."""
_COLUMNS = ["kind", "title", "description", "category", "creator", "price", "created_at", "tags", "attributes", "label"]
_TEXTS = ["transcript", "screen_text"]
_ABSENT = (
    "garden hoses", "snowboards", "violins", "lawn mowers", "dog food", "spark plugs", "wedding cakes", "microscopes",
    "printer ink", "canoe paddles", "smoke detectors", "chess sets", "telescopes", "bicycle pumps", "piano stools",
    "drill bits", "aquariums", "roof tiles", "tennis rackets", "baby strollers",
)  # fmt: skip
_OFF_TOPIC = (
    "Who won the football world cup in 1998?",
    "What will the weather be tomorrow?",
    "Can you write a poem about the sea?",
    "How do I reset my password?",
    "What is the capital of Mongolia?",
    "Translate good morning into Finnish.",
)


@dataclass(frozen=True)
class Question:
    """Question with its known answer.

    Attributes:
        items: ids of the answer; None: the answer is a number, or users. value: that number; users: their ids.
        outcome: `none` where nothing in the catalogue answers it, `not_understood` where it is no question about one.
        phrasing: set of its phrasing. now: time at which it is asked.
    """

    intent: str
    text: str
    items: frozenset[str] | None = None
    value: float | None = None
    users: frozenset[str] | None = None
    outcome: str = "answered"
    phrasing: str = "first"
    now: datetime | None = None

    @property
    def refused(self) -> bool:
        """It has no answer."""
        return self.outcome != "answered"


Row = dict[str, Any]
SETS = ("first", "second", "third")
_NOT_ASKED = ("off_topic", "language")
"""Intents that are no question about a catalogue, or none in English."""


@dataclass(frozen=True)
class Made:
    """Words of a question and its answer, before it has a phrasing.

    Attributes:
        exact: its phrasing has these words and no fewer; has, lacks: what its phrasing holds, and does not.
    """

    words: dict[str, str]
    items: frozenset[str] | None = None
    value: float | None = None
    users: frozenset[str] | None = None
    now: datetime | None = None
    exact: bool = False
    has: str = ""
    lacks: str = "\n"


def read_phrasings() -> dict[str, dict[str, list[str]]]:
    """Read intent -> set -> phrasings."""
    known: dict[str, dict[str, list[str]]] = yaml.safe_load(
        (Path(__file__).parent / "phrasings.yaml").read_text("utf-8")
    )
    return known


@dataclass
class _Maker:
    rows: list[Row]
    chance: random.Random
    reader: Reader

    def group(self, least: int = 1, most: int = MOST_ITEMS, need: str = "") -> tuple[str, str, list[Row]] | None:
        """Draw one category, or a category with an attribute or a maker, whose items number `least` to `most`."""
        rows = [row for row in self.rows if row["category"] and (not need or row.get(need) is not None)]
        rows = [row for row in rows if normal(row["category"]) not in FUNCTION_WORDS]  # "other" is no name to ask by
        for _ in range(60):
            if not rows:
                return None
            row = self.chance.choice(rows)
            chosen = [one for one in self.rows if one["category"] == row["category"]]
            what, cond = row["category"], ""
            options = [(name, value) for name, value in row["attributes"].items() if name not in ("currency",)]
            draw = self.chance.random()
            if draw < 0.5 and options:
                name, value = self.chance.choice(options)
                if not re.fullmatch(r"[A-Za-z ]{2,30}", str(value)):
                    continue
                chosen = [one for one in chosen if one["attributes"].get(name) == value]
                what = f"{value} {row['category']}"
            elif draw < 0.8 and row["creator"]:
                chosen = [one for one in chosen if (one["creator"] or "").casefold() == row["creator"].casefold()]
                cond = f" by {row['creator']}"
            elif row["price"] is not None:
                bound = round(float(row["price"]) + self.chance.choice([1.5, 4.5]))
                chosen = [one for one in chosen if one["price"] is not None and one["price"] < bound]
                cond = f" under {bound}"
            if need:
                chosen = [one for one in chosen if one.get(need) is not None]
            if least <= len(chosen) <= most:
                return what, cond, chosen
        return None

    def two(self) -> tuple[Row, Row] | None:
        """Draw two items whose titles and prices differ, and whose titles no other item has."""
        named = [row for row in self._named() if row["price"] is not None]
        for _ in range(40):
            if len(named) < 2:
                return None
            first, second = self.chance.sample(named, 2)
            if first["price"] != second["price"]:
                return first, second
        return None

    def pair(self) -> tuple[Row, Row] | None:
        """Draw two items whose titles no other item has."""
        named = self._named()
        return tuple(self.chance.sample(named, 2)) if len(named) > 1 else None  # type: ignore[return-value]

    def _named(self) -> list[Row]:
        counts = Counter(normal(str(row["title"] or "")) for row in self.rows)
        return [
            row for row in self.rows if row["title"] and counts[normal(row["title"])] == 1 and len(row["title"]) < 70
        ]

    def name(self, row: Row) -> str:
        return str(self.chance.choice([row["item_id"], f"“{row['title']}”", row["title"]]))

    def single(self, name: str) -> Row | None:
        named = [row for row in self._named() if row.get(name) is not None]
        return self.chance.choice(named) if named else None

    def word(self, columns: Sequence[str], kind: str | None) -> tuple[str, frozenset[str]] | None:
        """Draw a word that stands in the texts of 1 to `MOST_ITEMS` items."""
        rows = [row for row in self.rows if kind is None or row["kind"] == kind]
        texts = {row["item_id"]: " ".join(_text(row.get(name)) for name in columns) for row in rows}
        held = [text for text in texts.values() if len(text) > 3]
        for _ in range(60):
            if not held:
                return None
            words = re.findall(r"[a-zåäö]{5,14}", self.chance.choice(held).lower())
            if not words:
                continue
            word = self.chance.choice(words)
            if word.endswith(("s", "e", "y", "ing", "ed")) or word in _DULL or normal(word) in STOP:
                continue
            found = frozenset(
                item for item, text in texts.items() if re.search(rf"\b{word}(?:e?s|'s)?\b", text.lower())
            )
            if 1 <= len(found) <= MOST_ITEMS:
                return word, found
        return None


_DULL = frozenset(
    {
        "about",
        "there",
        "their",
        "which",
        "would",
        "could",
        "should",
        "other",
        "under",
        "after",
        "first",
        "right",
        "great",
    }
)


def make_questions(reader: Reader, count: int, seed: int = 0, sets: Sequence[str] = SETS) -> list[Question]:
    """Make questions: three quarters with answers, of every intent that the rows allow, and a quarter without."""
    rows = [
        {**row, "attributes": read_attributes(row.get("attributes"))} for row in rows_of(reader, [*_COLUMNS, *_TEXTS])
    ]
    rows.sort(key=lambda row: row["item_id"])
    chance = random.Random(seed)
    maker = _Maker(rows, chance, reader)
    refused = round(REFUSED * count)
    answered = _spread({**_answerable(maker), **_behaviour(maker)}, count - refused, chance, sets)
    return answered + _spread(_unanswerable(maker), refused, chance, sets)


def _spread(
    makers: dict[str, Callable[[], Made | None]], count: int, chance: random.Random, sets: Sequence[str]
) -> list[Question]:
    """Make `count` questions, of each intent alike, of its phrasings in turn; none twice."""
    made: list[Question] = []
    seen: set[str] = set()
    turn: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    known = read_phrasings()
    of_sets = {name: [known[name].get(one, []) for one in sets] for name in makers}
    forms = {
        name: [  # of the sets in turn, so that few questions have some of each
            (one, phrasings[place])
            for place in range(max(map(len, lists), default=0))
            for one, phrasings in zip(sets, lists, strict=True)
            if place < len(phrasings)
        ]
        for name, lists in of_sets.items()
    }
    names = [name for name in makers if forms[name]]
    while names and len(made) < count:
        for name in list(names):
            if len(made) == count:
                break
            drawn = makers[name]()
            if drawn is not None:
                order = [forms[name][(turn[name] + step) % len(forms[name])] for step in range(len(forms[name]))]
                fitting = [one for one in order if _fits(drawn, one[1])]
                if fitting:
                    phrasing, form = fitting[0]
                    turn[name] += 1
                    text = form.format(**drawn.words)
                    if text not in seen:
                        seen.add(text)
                        outcome = "not_understood" if name in _NOT_ASKED else "none"
                        if drawn.items is not None or drawn.value is not None or drawn.users is not None:
                            outcome = "answered"
                        made.append(
                            Question(name, text, drawn.items, drawn.value, drawn.users, outcome, phrasing, drawn.now)
                        )
                        continue
            spent[name] += 1
            if spent[name] > 12:
                names.remove(name)
    return made


def _fits(drawn: Made, form: str) -> bool:
    slots = set(re.findall(r"{(\w+)}", form))
    enough = slots == set(drawn.words) if drawn.exact else slots <= set(drawn.words)
    return enough and drawn.has in form and drawn.lacks not in form


def _answerable(maker: _Maker) -> dict[str, Callable[[], Made | None]]:
    chance = maker.chance

    def of_group(intent: str, least: int, most: int, need: str, answer: Callable[[list[Row]], Any]) -> Any:
        def make() -> Made | None:
            drawn = maker.group(least, most, need)
            if drawn is None:
                return None
            what, cond, rows = drawn
            found = answer(rows)
            if found is None:
                return None
            words = {"what": f"{what}{cond}" if intent not in ("filter", "count") else what, "cond": cond}
            return Made(words, found) if isinstance(found, frozenset) else Made(words, value=float(found))

        return make

    def extreme(name: str, largest: bool) -> Callable[[list[Row]], frozenset[str]]:
        def choose(rows: list[Row]) -> frozenset[str]:
            best = (max if largest else min)(row[name] for row in rows)
            return frozenset(row["item_id"] for row in rows if row[name] == best)

        return choose

    def dated() -> Made | None:
        rows = [row for row in maker.rows if isinstance(row["created_at"], datetime) and row["kind"]]
        if not rows:
            return None
        row = chance.choice(rows)
        day = row["created_at"].astimezone(UTC).date()
        found = frozenset(
            one["item_id"]
            for one in rows
            if one["created_at"].astimezone(UTC).date() == day and one["kind"] == row["kind"]
        )
        if len(found) > MOST_ITEMS:
            return None
        now = datetime(day.year, day.month, day.day, 9, tzinfo=UTC) + timedelta(days=1)
        return Made({"what": f"{row['kind']}s", "day": f"{day:%-d %B %Y}"}, found, now=now)

    def compare() -> Made | None:
        drawn = maker.two()
        if drawn is None:
            return None
        less = min(drawn, key=lambda row: row["price"])
        words = dict(zip("ab", map(maker.name, drawn), strict=True))
        return Made(words, frozenset({less["item_id"]}))

    def differ() -> Made | None:
        drawn = maker.two() or maker.pair()
        if drawn is None:
            return None
        words = dict(zip("ab", map(maker.name, drawn), strict=True))
        return Made(words, frozenset(row["item_id"] for row in drawn))

    def fact(name: str) -> Callable[[], Made | None]:
        def make() -> Made | None:
            row = maker.single(name)
            if row is None:
                return None
            value = float(row["price"]) if name == "price" else None
            items = None if name == "price" else frozenset({row["item_id"]})
            return Made({"a": maker.name(row)}, items, value)

        return make

    def worded(columns: Sequence[str], kind: str | None) -> Callable[[], Made | None]:
        def make() -> Made | None:
            drawn = maker.word(columns, kind)
            if drawn is None:
                return None
            return Made({"word": drawn[0]}, drawn[1])

        return make

    def mentions() -> Made | None:
        drawn = maker.word(["transcript"], "video")
        return None if drawn is None else Made({"word": drawn[0]}, value=float(len(drawn[1])))

    def negated() -> Made | None:
        """Draw a category, and an attribute or a maker that some of its items have and others do not."""
        for _ in range(60):
            row = chance.choice(maker.rows)
            group = [one for one in maker.rows if one["category"] == row["category"]]
            values = [(name, str(value)) for name, value in row["attributes"].items() if name != "currency"]
            values = [pair for pair in values if re.fullmatch(r"[A-Za-z][A-Za-z ]{1,29}", pair[1])]
            by_maker = chance.random() < 0.5 or not values
            name, value = ("creator", row["creator"]) if by_maker else chance.choice(values)
            if (
                not row["category"]
                or normal(row["category"]) in FUNCTION_WORDS
                or not value
                or value == row["category"]
            ):
                continue
            own = [one["creator"] if by_maker else one["attributes"].get(name) for one in group]
            found = frozenset(
                one["item_id"]
                for one, has in zip(group, own, strict=True)
                if has not in (None, "") and str(has).casefold() != value.casefold()  # one maker in two spellings
            )
            if 1 <= len(found) <= MOST_ITEMS:
                words = {"what": row["category"], "maker" if by_maker else "value": value}
                return Made(words, found, exact=True)
        return None

    def shown() -> Made | None:
        known = _sample_truth(maker.rows)
        if not known:
            return None
        video = chance.choice(sorted(known))
        return Made({"a": video}, known[video])

    every = ["title", "tags", "category", "creator", "label", "description", "transcript", "screen_text"]
    return {
        "filter": of_group("filter", 1, MOST_ITEMS, "", lambda rows: frozenset(row["item_id"] for row in rows)),
        "count": of_group("count", 1, 10**9, "", len),
        "average": of_group("average", 2, 10**9, "price", lambda rows: sum(r["price"] for r in rows) / len(rows)),
        "cheapest": of_group("cheapest", 2, 10**9, "price", extreme("price", False)),
        "dearest": of_group("dearest", 2, 10**9, "price", extreme("price", True)),
        "newest": of_group("newest", 2, 10**9, "created_at", extreme("created_at", True)),
        "dated": dated,
        "compare": compare,
        "differ": differ,
        "price": fact("price"),
        "maker": fact("creator"),
        "spoken": worded(["transcript"], "video"),
        "screen": worded(["screen_text"], "video"),
        "shown": shown,
        "worded": worded(every, None),
        "mentions": mentions,
        "negated": negated,
    }


def _behaviour(maker: _Maker) -> dict[str, Callable[[], Made | None]]:
    """Make questions about copies and users, whose answers are those of the workspace's own methods."""
    chance, reader = maker.chance, maker.reader
    rows = {row["item_id"]: row for row in maker.rows}
    links = reader.copy_links()
    users: list[str] = []
    if reader.interaction_summary() is not None:
        users = sorted(set(reader.table("interactions", ["user_id"]).column("user_id").to_pylist()))

    def people(items: Sequence[str]) -> frozenset[str]:
        found: set[str] = set()
        for item in items:
            with suppress(ColdstartError):  # an item without a vector in the spaces that score has no audience
                found.update(one.user_id for one in reader.audience(item, top_k=NAMED).people)
        return frozenset(found)

    def listed(**given: Any) -> frozenset[str]:
        with suppress(ColdstartError):  # of a user, or a history, without an item that is known and has a vector
            return frozenset(one.item_id for one in reader.recommend(top_k=NAMED, **given).items)
        return frozenset()

    def copies() -> Made | None:
        if not links:
            return None
        copy = chance.choice(sorted(links))
        original = links[copy]
        draw = chance.random()
        if draw < 0.3:
            return Made({}, frozenset(links), exact=True) if len(links) <= MOST_ITEMS else None
        if draw < 0.6 and original in rows:
            found = frozenset(one for one, other in links.items() if other == original)
            return Made({"a": original}, found, exact=True)
        return Made({"copy": copy}, frozenset({original}), exact=True)

    def audience() -> Made | None:
        row = maker.single("title") if users else None
        found = people([row["item_id"]]) if row is not None else None
        return Made({"a": maker.name(row)}, users=found) if row is not None and found else None

    def recommend() -> Made | None:
        if not users:
            return None
        user = chance.choice(users)
        watched = chance.random() < 0.5 and any(row["kind"] == "video" for row in maker.rows)
        found = listed(user=user, kind="video" if watched else None)
        if not found:
            return None
        return Made({"user": user}, found, has="watch" if watched else "", lacks="\n" if watched else "watch")

    def liked() -> Made | None:
        row = maker.single("title") if users else None
        found = listed(history=[row["item_id"]]) if row is not None else None
        return Made({"a": maker.name(row)}, found) if row is not None and found else None

    def follow() -> Made | None:
        if not users:
            return None
        if chance.random() < 0.5:
            drawn = maker.word(["transcript"], "video")
            if drawn is None or len(drawn[1]) > 3:
                return None
            return Made({"word": drawn[0]}, drawn[1], users=people(sorted(drawn[1])), exact=True)
        made = _answerable(maker)["dated"]()
        if made is None or made.items is None or len(made.items) > 3:
            return None
        return Made(
            {"what": made.words["what"]}, made.items, users=people(sorted(made.items)), now=made.now, exact=True
        )

    return {"copies": copies, "audience": audience, "recommend": recommend, "liked": liked, "follow": follow}


def _unanswerable(maker: _Maker) -> dict[str, Callable[[], Made | None]]:
    chance = maker.chance
    texts = " ".join(_text(row.get(name)) for row in maker.rows for name in (*_COLUMNS[1:5], *_TEXTS)).lower()
    absent = [one for one in _ABSENT if not re.search(rf"\b{one.split()[-1].rstrip('s')}", texts)]
    makers = Counter(row["creator"] for row in maker.rows if row["creator"])
    categories = {
        row["category"] for row in maker.rows if row["category"] and normal(row["category"]) not in FUNCTION_WORDS
    }
    pairs = {(row["category"], row["creator"]) for row in maker.rows}

    def missing() -> Made | None:
        return Made({"absent": chance.choice(absent)}) if absent else None

    def empty() -> Made | None:
        for _ in range(40 if categories and makers else 0):
            what, name = chance.choice(sorted(categories)), chance.choice(sorted(makers))
            if (what, name) not in pairs:
                return Made({"what": what, "maker": name})
        return None

    def off_topic() -> Made | None:
        return Made({"off": chance.choice(_OFF_TOPIC)})

    return {"absent": missing, "empty": empty, "off_topic": off_topic, "language": lambda: Made({})}


def _sample_truth(rows: list[Row]) -> dict[str, frozenset[str]]:
    """Products that the videos of the packaged sample show, where the workspace holds them."""
    ids = {row["item_id"] for row in rows}
    found = {}
    for line in (sample.path() / "truth.jsonl").read_text("utf-8").splitlines():
        entry = json.loads(line)
        products = frozenset(entry["product_ids"])
        if entry["item_id"] in ids and products and products <= ids:
            found[entry["item_id"]] = products
    return found


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value or "")
