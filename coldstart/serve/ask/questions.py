"""Make questions about a catalogue whose answers are known by plain predicates over its rows, never by a judge.

Each intent has several phrasings. The rules of the router were written with the first half of them in sight; those of
the second half are `held_out`.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from coldstart import sample
from coldstart.core.item_fields import read_attributes
from coldstart.serve.ask.words import FUNCTION_WORDS
from coldstart.serve.readers import Reader
from coldstart.serve.vocabulary import normal, rows_of

REFUSED = 0.25
"""Share of questions that the catalogue does not answer."""
MOST_ITEMS = 10
"""Items of an answer: as many as an answer names one by one."""
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
        items: ids of the answer; None: the answer is a number. value: that number.
        refused: nothing in the catalogue answers it. now: time at which it is asked.
    """

    intent: str
    text: str
    items: frozenset[str] | None = None
    value: float | None = None
    refused: bool = False
    held_out: bool = False
    now: datetime | None = None


Row = dict[str, Any]
Made = tuple[str, dict[str, str], frozenset[str] | None, float | None, datetime | None]

PHRASINGS: dict[str, tuple[str, ...]] = {
    "filter": (
        "Which {what} do we have{cond}?",
        "Show me {what}{cond}",
        "List all the {what}{cond}, please",
        "I'm looking for {what}{cond}",
        "Are there any {what}{cond}?",
        "Find {what}{cond}",
    ),
    "count": (
        "How many {what}{cond} are there?",
        "What is the number of {what}{cond}?",
        "Count the {what}{cond}",
        "How many {what}{cond} do you sell?",
    ),
    "average": (
        "What is the average price of {what}?",
        "How much do {what} cost on average?",
        "What's the mean price of {what}?",
        "Average price of all {what}?",
    ),
    "cheapest": (
        "What is the cheapest of the {what}?",
        "Which {what} have the lowest price?",
        "Which of the {what} costs the least?",
        "Tell me the least expensive of our {what}",
    ),
    "dearest": (
        "What is the most expensive of the {what}?",
        "Which {what} have the highest price?",
        "Which of the {what} costs the most?",
        "What's the priciest one among {what}?",
    ),
    "newest": (
        "What is the newest of the {what}?",
        "Which of the {what} was added last?",
        "Show the latest from {what}",
        "What is the most recent of the {what}?",
    ),
    "dated": (
        "Which {what} were added yesterday?",
        "List yesterday's {what}",
        "What {what} came in on {day}?",
        "Show me the {what} from {day}",
    ),
    "compare": (
        "Which is cheaper, {a} or {b}?",
        "Compare {a} and {b}: which one is less expensive?",
        "Is {a} or {b} cheaper?",
        "Between {a} and {b}, which costs less?",
    ),
    "differ": (
        "Compare {a} and {b}",
        "What is the difference between {a} and {b}?",
        "How do {a} and {b} differ?",
        "{a} versus {b}",
    ),
    "price": (
        "What does {a} cost?",
        "How much is {a}?",
        "What is the price of {a}?",
        "Price of {a}, please?",
    ),
    "maker": (
        "Who makes {a}?",
        "What brand is {a}?",
        "Who is the maker of {a}?",
        "Which brand of product is {a}?",
    ),
    "spoken": (
        "In which videos is {word} mentioned?",
        "Which videos talk about {word}?",
        "Where does somebody say {word}?",
        "Which clips mention {word}?",
    ),
    "screen": (
        "Which video has {word} on screen?",
        "In which clips is {word} written?",
        "Which clips have a caption with {word}?",
        "Where can I read {word} on the screen?",
    ),
    "shown": (
        "Which products does {a} show?",
        "What products are shown in {a}?",
        "Which products appear in {a}?",
        "What can be seen in {a}?",
    ),
    "worded": (
        "Which items mention {word} in their text?",
        "Show items with {word}",
        "List everything with the word {word}",
        "Find items that contain {word}",
    ),
    "absent": (
        "Do we sell {absent}?",
        "Which {absent} do we have?",
        "What is the cheapest of the {absent}?",
        "Show me videos about {absent}",
        "What do {absent} cost?",
        "How many {absent} are in stock?",
    ),
    "empty": (
        "Which {what} by {maker} do we have?",
        "Show me {what} from {maker}",
        "List the {what} of brand {maker}",
        "Any {what} made by {maker}?",
    ),
    "off_topic": ("{off}",),
}
"""Intent -> phrasings; the first half was in sight when the rules were written."""


@dataclass
class _Maker:
    rows: list[Row]
    chance: random.Random
    kinds: dict[str, Callable[[], Made | None]] = field(default_factory=dict)

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
                chosen = [one for one in chosen if one["creator"] == row["creator"]]
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
        counts = Counter(_plain(row["title"]) for row in self.rows)
        return [
            row for row in self.rows if row["title"] and counts[_plain(row["title"])] == 1 and len(row["title"]) < 70
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
            if word.endswith(("s", "e", "y", "ing", "ed")) or word in _DULL:
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


def make_questions(reader: Reader, count: int, seed: int = 0) -> list[Question]:
    """Make questions: three quarters with answers, of every intent that the rows allow, and a quarter without."""
    rows = [
        {**row, "attributes": read_attributes(row.get("attributes"))} for row in rows_of(reader, [*_COLUMNS, *_TEXTS])
    ]
    rows.sort(key=lambda row: row["item_id"])
    chance = random.Random(seed)
    maker = _Maker(rows, chance)
    refused = round(REFUSED * count)
    answered = _spread(_answerable(maker), count - refused, chance)
    return answered + _spread(_unanswerable(maker), refused, chance)


def _spread(makers: dict[str, Callable[[], Made | None]], count: int, chance: random.Random) -> list[Question]:
    """Make `count` questions, of each intent alike, of its phrasings in turn; none twice."""
    made: list[Question] = []
    seen: set[str] = set()
    turn: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    names = list(makers)
    while names and len(made) < count:
        for name in list(names):
            if len(made) == count:
                break
            drawn = makers[name]()
            forms = PHRASINGS[name]
            place = (turn[name] * (len(forms) // 2 or 1) + turn[name] // 2) % len(forms)
            if drawn is not None:
                intent, words, items, value, now = drawn
                text = forms[place].format(**words)
                if text not in seen:
                    seen.add(text)
                    turn[name] += 1
                    made.append(
                        Question(
                            intent,
                            text,
                            items,
                            value,
                            refused=items is None and value is None,
                            held_out=2 * place >= len(forms) and len(forms) > 1,
                            now=now,
                        )
                    )
                    continue
            spent[name] += 1
            if spent[name] > 5:
                names.remove(name)
    return made


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
            if isinstance(found, frozenset):
                return intent, words, found, None, None
            return intent, words, None, float(found), None

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
        return "dated", {"what": f"{row['kind']}s", "day": f"{day:%-d %B %Y}"}, found, None, now

    def compare() -> Made | None:
        drawn = maker.two()
        if drawn is None:
            return None
        less = min(drawn, key=lambda row: row["price"])
        words = dict(zip("ab", map(maker.name, drawn), strict=True))
        return "compare", words, frozenset({less["item_id"]}), None, None

    def differ() -> Made | None:
        drawn = maker.two() or maker.pair()
        if drawn is None:
            return None
        words = dict(zip("ab", map(maker.name, drawn), strict=True))
        return "differ", words, frozenset(row["item_id"] for row in drawn), None, None

    def fact(intent: str, name: str) -> Callable[[], Made | None]:
        def make() -> Made | None:
            row = maker.single(name)
            if row is None:
                return None
            value = float(row["price"]) if name == "price" else None
            items = None if name == "price" else frozenset({row["item_id"]})
            return intent, {"a": maker.name(row)}, items, value, None

        return make

    def worded(intent: str, columns: Sequence[str], kind: str | None) -> Callable[[], Made | None]:
        def make() -> Made | None:
            drawn = maker.word(columns, kind)
            if drawn is None:
                return None
            return intent, {"word": drawn[0]}, drawn[1], None, None

        return make

    def shown() -> Made | None:
        known = _sample_truth(maker.rows)
        if not known:
            return None
        video = chance.choice(sorted(known))
        return "shown", {"a": video}, known[video], None, None

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
        "price": fact("price", "price"),
        "maker": fact("maker", "creator"),
        "spoken": worded("spoken", ["transcript"], "video"),
        "screen": worded("screen", ["screen_text"], "video"),
        "shown": shown,
        "worded": worded("worded", every, None),
    }


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
        return ("absent", {"absent": chance.choice(absent)}, None, None, None) if absent else None

    def empty() -> Made | None:
        for _ in range(40):
            what, name = chance.choice(sorted(categories)), chance.choice(sorted(makers))
            if (what, name) not in pairs:
                return "empty", {"what": what, "maker": name}, None, None, None
        return None

    def off_topic() -> Made | None:
        return "off_topic", {"off": chance.choice(_OFF_TOPIC)}, None, None, None

    return {"absent": missing, "empty": empty, "off_topic": off_topic}


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


def _plain(title: Any) -> str:
    return re.sub(r"\W+", " ", str(title or "")).strip().lower()
