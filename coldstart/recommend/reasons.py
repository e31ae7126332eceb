"""Explain why an item is on a list: the liked item most similar to it, and the facts that both share.

Only facts of records and checked descriptions are called shared, and they are quoted: texts of items are data, and
never part of the sentence's own claims. Where no fact is shared, the space in which both are nearest is named. Knows no
tables and no users.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.vectors import unit
from coldstart.recommend.users import most_similar

Vectors = NDArray[np.float32]
Record = Mapping[str, Any]
KIND_WORDS = {"video": "watched", "product": "chose"}
EVENT_WORDS = {
    "add_to_cart": "put in your cart",
    "buy": "bought",
    "cart": "put in your cart",
    "click": "looked at",
    "favorite": "liked",
    "favourite": "liked",
    "like": "liked",
    "order": "bought",
    "play": "watched",
    "purchase": "bought",
    "rate": "rated",
    "rating": "rated",
    "save": "saved",
    "share": "shared",
    "view": "looked at",
    "watch": "watched",
}
"""Event -> verb of the sentence; for other events the kind of the item decides."""
OTHER = "liked"
LONGEST = 60
_MOST = 3
_NO_REASON = frozenset({"currency", "category_path"})
"""Attributes that ingest adds to a price and to a category: true of whole shops, or said by the category already."""
_LEAST_COSINE = 0.2  # a lower one is not given as a reason
SCORES = "scores"
"""Name of the space of the scores among the cosines of chance."""
NOTHING_ALIKE = "nothing of your history is much like it"
_PEOPLE = "the same people like both"
CHANCE = 0.95
"""Share of pairs of any two items that are less alike than what is given as a reason."""


@dataclass(frozen=True)
class Fact:
    """One fact that the records of two items share.

    Attributes:
        field: `category`, `tags`, `creator`, or the name of an attribute or of a described claim.
        source: `record` or `description`.
    """

    field: str
    value: str
    source: str


@dataclass(frozen=True)
class Reason:
    """Explanation of one recommended item.

    Attributes:
        text: one sentence, for people.
        because: item of the history; None where there is no history.
        shared: facts of both items.
        cosines: space -> cosine of both there.
    """

    text: str
    because: str | None
    shared: tuple[Fact, ...]
    cosines: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values: `reason` and `evidence`."""
        return {
            "reason": self.text,
            "evidence": {
                "because": self.because,
                "shared": [{"field": fact.field, "value": fact.value, "source": fact.source} for fact in self.shared],
                "cosines": {space: round(value, 4) for space, value in self.cosines.items()},
            },
        }


def explain(
    item: Record,
    history: Sequence[Record],
    vector: Vectors,
    vectors: Vectors,
    spaces: Mapping[str, tuple[Vectors, Vectors]],
    events: Mapping[str, str] | None = None,
    cold: bool = False,
    chance: Mapping[str, float] | None = None,
    is_fitted: bool = True,
    taken_with: str | None = None,
    alike_to: str | None = None,
) -> Reason:
    """Explain an item to a user by the most similar item of their history, or by the one that a ranker names.

    Args:
        item, history: records, with `item_id`, `title`, `kind` and the manifest's other fields; `claims` are name and
            value of a checked description.
        vector, vectors: of the item [D] and of the history [H, D] in the space of the scores; zero where missing.
        spaces: content space -> the same two vectors there.
        events: item_id -> event of the user with it.
        cold: whether the item is cold, so that no shared audience may be claimed.
        chance: space -> cosine that any two items reach by chance; `SCORES`: that of the scores.
        is_fitted: whether the scores come from people's behaviour, so that people may be named as the reason.
        taken_with: item of the history that a ranker counts as taken by the same users: it is the reason.
        alike_to: item of the history that a ranker counts as nearest by content: the reason, where it is alike.
    """
    chance = chance or {}
    places = {str(one["item_id"]): place for place, one in enumerate(history)}

    def compared(place: int) -> tuple[tuple[Fact, ...], dict[str, float]]:
        """Find facts that both share, and the cosine of both by space."""
        cosines = {
            space: float(unit(own[None])[0] @ unit(past[place][None])[0])
            for space, (own, past) in spaces.items()
            if own.any() and past[place].any()
        }
        return tuple(shared_facts(item, history[place])), cosines

    if taken_with in places:
        taken = history[places[taken_with]]
        return Reason(f"{_because(taken, events)}: {_PEOPLE}", taken_with, *compared(places[taken_with]))
    near, alike = most_similar(vector, vectors, 1) if len(history) else (np.empty(0, np.intp), np.empty(0))
    if not len(near):
        return Reason("many people like what is like it", None, (), {})
    if alike_to in places:
        place = places[alike_to]
        shared, cosines = compared(place)
        if shared or _is_near(cosines, chance):
            return _alike(history[place], events, shared, cosines, cold, chance)
    shared, cosines = compared(int(near[0]))
    if not shared and not _is_near(cosines, chance) and not (is_fitted and alike[0] >= chance.get(SCORES, -1.0)):
        return Reason(NOTHING_ALIKE, None, (), cosines)
    return _alike(history[int(near[0])], events, shared, cosines, cold, chance)


def _alike(
    before: Record,
    events: Mapping[str, str] | None,
    shared: tuple[Fact, ...],
    cosines: Mapping[str, float],
    cold: bool,
    chance: Mapping[str, float],
) -> Reason:
    common = _common(shared, cosines, cold, chance)
    return Reason(f"{_because(before, events)}: {common}", str(before["item_id"]), shared, cosines)


def _is_near(cosines: Mapping[str, float], chance: Mapping[str, float]) -> bool:
    return any(cosine >= _least(space, chance) for space, cosine in cosines.items())


def _because(before: Record, events: Mapping[str, str] | None) -> str:
    return f"because you {_done(before, events)} {quoted(before.get('title') or before['item_id'])}"


def explain_user(
    item: Record, history: Sequence[Record], vector: Vectors, vectors: Vectors, cold: bool = False
) -> Reason:
    """Explain a user of an item's audience by the most similar item of their history."""
    found = explain(item, history, vector, vectors, {})
    if found.because is None:
        return Reason("no history", None, (), {})
    before = next(one for one in history if one["item_id"] == found.because)
    common = _common(found.shared, {}, cold, {})
    return Reason(
        f"liked {quoted(before.get('title') or before['item_id'])}: {common}", found.because, found.shared, {}
    )


def shared_facts(first: Record, second: Record) -> Iterator[Fact]:
    """Find facts of both records: category, tags, creator, attributes, then checked claims that add a value."""
    known: set[str] = set()
    for fact in _shared_of_records(first, second):
        known.add(fact.value.casefold())
        yield fact
    claims = [
        {(str(claim["name"]), str(claim["value"])): None for claim in record.get("claims") or ()}
        for record in (first, second)
    ]
    for field, value in claims[0]:
        if (field, value) in claims[1] and value.casefold() not in known:
            yield Fact(field, value, "description")


def _shared_of_records(first: Record, second: Record) -> Iterator[Fact]:
    for field in ("category", "tags", "creator"):
        for value in _both(first.get(field), second.get(field)):
            yield Fact(field, value, "record")
    own, other = (_mapping(record.get("attributes")) for record in (first, second))
    for field in own:
        for value in () if field in _NO_REASON else _both(own[field], other.get(field)):
            yield Fact(str(field), value, "record")


def quoted(text: Any) -> str:
    """Quote text of an item: one line, without control characters, cut to `LONGEST` characters."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split()).replace('"', "'")
    return f'"{plain if len(plain) <= LONGEST else plain[: LONGEST - 1].rstrip() + "…"}"'


def chance_cosine(vectors: Vectors) -> float:
    """Compute the cosine that few pairs of these vectors [N, D] reach; -1 of fewer than two."""
    known = unit(vectors[vectors.any(axis=1)])
    pairs = (known @ known.T)[np.triu_indices(len(known), 1)]
    return float(np.quantile(pairs, CHANCE)) if len(pairs) else -1.0


def _least(space: str, chance: Mapping[str, float]) -> float:
    return max(_LEAST_COSINE, chance.get(space, -1.0))


def _common(shared: Sequence[Fact], cosines: Mapping[str, float], cold: bool, chance: Mapping[str, float]) -> str:
    if shared:
        tags = [quoted(fact.value) for fact in shared[:_MOST] if fact.field == "tags"]
        texts = [_tags_text(tags) if fact.field == "tags" else _fact_text(fact) for fact in shared[:_MOST]]
        return f"both {_listed(list(dict.fromkeys(texts)))}"
    near = {
        space: cosine - chance.get(space, 0.0) for space, cosine in cosines.items() if cosine >= _least(space, chance)
    }
    if near:
        return f"similar by {max(near, key=near.__getitem__)}"
    return "likely to please the same people" if cold else _PEOPLE


def _fact_text(fact: Fact) -> str:
    if fact.field == "category":
        return f"are in {quoted(fact.value)}"
    if fact.field == "creator":
        return f"are by {quoted(fact.value)}"
    verb = "show" if fact.source == "description" else "have"
    return f"{verb} {quoted(fact.field.replace('_', ' '))} {quoted(fact.value)}"


def _tags_text(tags: Sequence[str]) -> str:
    return f"have the {'tag' if len(tags) == 1 else 'tags'} {_listed(tags)}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _done(record: Record, events: Mapping[str, str] | None) -> str:
    event = (events or {}).get(str(record["item_id"]), "").strip().lower()
    return EVENT_WORDS.get(event) or KIND_WORDS.get(str(record.get("kind")), OTHER)


def _both(first: Any, second: Any) -> list[str]:
    """Find the values that both have, in the order of the first."""
    other = {_plain(value) for value in _values(second)}
    return [value for value in dict.fromkeys(map(_plain, _values(first))) if value and value in other]


def _values(value: Any) -> list[Any]:
    if isinstance(value, str | int | float):
        return [value]
    if isinstance(value, list | tuple):
        return [one for one in value if isinstance(one, str | int | float)]
    return []


def _plain(value: Any) -> str:
    return str(value).strip()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
