"""The stage `understand.duplicates`: find items that show what an earlier one has shown.

Items are matched in the order in which they first came, each against the originals so far; the first match is its
original. A verdict that holds is never undone by a newcomer, so an item that is served stays served. An original is
never itself a copy: an item that resembles nothing but copies is an original too, and no chain leads from copy to copy.
An item is matched again when its own media or the settings change, or when its original has gone, has changed, or has
itself become a copy; it keeps its place in the order, but is matched against the originals that remain.

What is stated of two items can rule out a copy (`coldstart.understand.item_facts`). A copy holds only as long as no
fact differs from those of its original; an item that is no copy of one that looks alike because of their facts is
matched again when its own change, and has them in the key of its row. Facts that ruled nothing out are in no key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from coldstart.core.extras import install_command
from coldstart.core.keys import chain, stage_key
from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.progress import Progress
from coldstart.core.stage import LedgerRow, Reject, Row
from coldstart.errors import ColdstartError
from coldstart.store import ITEMS, Store
from coldstart.store.freshness import PipelineState
from coldstart.store.freshness import build as build_stage
from coldstart.understand.candidates import CANDIDATE_RULES, stored_frames
from coldstart.understand.fingerprint import Fingerprints, Words
from coldstart.understand.item_facts import COMMON_TITLES, Facts, read_facts
from coldstart.understand.local_features import LocalFeatures, opencv_version
from coldstart.understand.near_duplicates import DuplicateRules, Sequence
from coldstart.understand.originals import Arrival, Originals, Verdict, differing_fact
from coldstart.understand.placement import describe_changes
from coldstart.understand.second_look import MOST_ORIGINALS, MOST_PICTURES, Pictures, SecondLook

_COMMIT_ROWS = 500
_PICTURES_AT_ONCE = 64  # items whose local features are read together
_LAST_S = 1e6  # seconds of a stored frame
_Decoded = TypeVar("_Decoded")
_WITHOUT_OPENCV = "without OpenCV, copies that are turned, cut by much or set into another picture are not looked for"
_FEW_SAME = 20  # items with the same files, of which one is named
_FEW = 2000  # items that are looked up by id; for more the table is read whole
_FACTS = ["item_id", "title", "category", "price", "attributes", "media"]
_MATCHES = pa.list_(pa.struct([(name, pa.float64()) for name in ("start_s", "end_s", "other_start_s", "other_end_s")]))
_SHARES = ("angle", "left", "top", "right", "bottom", "seen", "filled", "score")
PLACEMENT = pa.struct([*((name, pa.float32()) for name in _SHARES), ("plain", pa.bool_())])
SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("row_key", pa.string()),
        ("arrived", pa.int64()),
        ("duplicate_of", pa.string()),
        ("score", pa.float32()),
        ("mirrored", pa.bool_()),
        ("speed", pa.float32()),
        ("matches", _MATCHES),
        ("found_by", pa.string()),  # null in rows of earlier versions, which compared whole pictures alone
        ("placement", PLACEMENT),  # of the original within the copy, where details told it
    ]
)


class Settings(Section):
    """Settings of near-duplicate detection."""

    policy: Literal["link", "drop", "keep"] = "link"
    """Treatment of copies: `link` serves one through its original; `drop` leaves it out; `keep` only records it."""
    fingerprint: str | None = None
    """Stage whose fingerprints are compared; the last one before this stage by default."""
    min_share: float = Field(default=0.6, gt=0, le=1)
    """Share of the shorter video, or of the pictures of the item with fewer, that must be the same."""
    max_bits: int = Field(default=20, ge=0, le=64)
    """Bits of 256 that may differ between two frames that look alike; unrelated ones differ in 95 and more."""
    picture_bits: int = Field(default=12, ge=0, le=64)
    """Bits of 256 that may differ between pictures, which have no second frame to tell like products apart."""
    max_colour: float = Field(default=24.0, ge=0)
    """Levels of 255 that the colour of no part may differ by: more, and a red shirt is the blue one."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> DuplicatesStage:
    """Build the stage over the pipeline's fingerprints.

    Raises:
        ColdstartError: there is no stage of kind `understand.fingerprint` before it, or none of the name it gives.
    """
    known = [spec.name for spec in pipeline.of_kind("understand.fingerprint")]
    wanted = settings.fingerprint or pipeline.before(name, "understand.fingerprint")
    if wanted is None:
        raise ColdstartError(
            f"{name}: no stage of kind understand.fingerprint stands before it: turn fingerprint on, or this one off"
        )
    if wanted not in known:
        raise ColdstartError(
            f"{name}.fingerprint={wanted!r}: no such stage of kind understand.fingerprint; the pipeline has "
            f"{', '.join(known) or 'none'}"
        )
    return DuplicatesStage(name, settings, build_stage(pipeline.stage(wanted), pipeline), pipeline)


@dataclass(frozen=True)
class _Inputs:
    """Keys that rows should have ("" while the fingerprint or a new verdict is missing), and verdicts on the others.

    Attributes:
        plain: keys of rows by fingerprints alone; facts: of the same items.
    """

    keys: Mapping[str, str]
    verdicts: Mapping[str, LedgerRow]
    plain: Mapping[str, str]
    facts: Mapping[str, Facts]


class DuplicatesStage:
    """Catalog stage and gate; see `coldstart.core.stage.CatalogStage` and `coldstart.core.stage.Gate`."""

    kind = "understand.duplicates"
    version = 2  # 2: colours are also compared after a change of brightness

    def __init__(self, name: str, settings: Settings, source: Any, pipeline: Pipeline) -> None:
        self.name = name
        self.table = f"stage.{name}"
        self._settings = settings
        self._source = source
        self._pipeline = pipeline
        matching = settings.model_dump(include={"min_share", "max_bits", "picture_bits", "max_colour"})
        self._rules = DuplicateRules(**matching)
        self._key = stage_key(self.kind, self.version, matching)
        self._facts: tuple[Mapping[str, str], Mapping[str, Facts]] = {}, {}  # keys of items, and their facts

    @property
    def rules(self) -> DuplicateRules:
        """Thresholds by which an item is a copy."""
        return self._rules

    def picture_originals(self, store: Store) -> list[Arrival]:
        """Read the items that are compared by pictures and are no copies, in order of arrival."""
        if not store.has(self.table):
            return []
        rows = store.read(self.table, ["item_id", "arrived"], where="duplicate_of IS NULL").to_pylist()
        arrived = {row["item_id"]: row["arrived"] for row in rows}
        found = self._load_arrivals(store, arrived.keys(), self._read_facts(store)).values()
        return sorted((one for one in found if one.media == "image"), key=lambda one: arrived[one.item])

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what its rows rest on besides other rows; see `coldstart.engine.increment.Fingerprinted`."""
        return {"key": self._key}

    def expected(self, store: Store) -> tuple[dict[str, str], dict[str, LedgerRow]]:
        inputs = self._inputs(store)
        return dict(inputs.keys), dict(inputs.verdicts)

    def present(self, store: Store) -> dict[str, str]:
        return store.keys(self.table)

    def blocked(self, store: Store) -> dict[str, Reject]:
        """List copies, none under policy `keep`: item -> `near_duplicate` with original, share and seconds."""
        if self._settings.policy == "keep":
            return {}
        return {row["item_id"]: _reject(row) for row in self._copies(store)}

    def originals(self, store: Store) -> dict[str, str]:
        """Map each copy to its original, whatever the policy."""
        return {row["item_id"]: row["duplicate_of"] for row in self._copies(store)}

    def why_no_copy(self, store: Store, item: str) -> str:
        """Explain why an item that looks like another one is linked to none; empty where none looks like it."""
        rows = store.read(self.table, ["item_id", "row_key", "duplicate_of"], ids=[item]).to_pylist()
        facts = self._read_facts(store)
        if not rows or rows[0]["duplicate_of"] or item not in facts:
            return ""
        if not rows[0]["row_key"].endswith(f"-{facts[item].key()}"):
            return ""
        own = facts[item].digests
        same = sorted(other for other, known in facts.items() if own and known.digests == own and other != item)
        known = self._load_arrivals(store, {item, *same[:_FEW_SAME]}, facts)
        for other in same[:_FEW_SAME]:
            if item in known and other in known and (fact := differing_fact(known[item], known[other])):
                return f"the same files as those of {other}, and no copy of it, since they differ by: {fact}"
        return "looks like another item, and is no copy of it, since title, category, price or another fact differ"

    def _copies(self, store: Store) -> list[Row]:
        """Read rows of copies whose verdict holds: neither they nor their originals changed since."""
        if not store.has(self.table):
            return []
        made = store.keys(self._source.table)
        matched = store.keys(self.table)
        rows = store.read(self.table, where="duplicate_of IS NOT NULL").to_pylist()
        ruled_out = self._ruled_out(store, rows, self._read_facts(store) if rows else {})

        def holds(item: str) -> bool:
            return item in made and self._is_row_of(matched.get(item, ""), made[item])

        return [
            row
            for row in rows
            if holds(row["item_id"]) and holds(row["duplicate_of"]) and row["item_id"] not in ruled_out
        ]

    def _is_row_of(self, key: str, made: str) -> bool:
        """Tell whether a row was made of a fingerprint, whatever the facts."""
        plain = chain(self._key, made)
        return key == plain or key.startswith(f"{plain}-")

    def _read_facts(self, store: Store) -> Mapping[str, Facts]:
        """Read the facts of all items, once for the same items: a run asks before each of its stages."""
        keys = store.keys(ITEMS)
        if self._facts[0] != keys:
            self._facts = keys, _read_facts(store)
        return self._facts[1]

    def _ruled_out(self, store: Store, copies: Iterable[Row], facts: Mapping[str, Facts]) -> set[str]:
        """Find the copies whose facts differ from those of their originals."""
        pairs = {row["item_id"]: row["duplicate_of"] for row in copies}
        if not pairs:
            return set()
        known = self._load_arrivals(store, pairs.keys() | set(pairs.values()), facts)
        return {
            item
            for item, original in pairs.items()
            if item in known and original in known and differing_fact(known[item], known[original])
        }

    def _inputs(self, store: Store) -> _Inputs:
        found = PipelineState(store, self._pipeline).of(self._source.name)
        keys, plain, verdicts = {}, {}, {}
        present = self.present(store)
        facts = self._read_facts(store)
        for item, made in found.expected.items():
            if item in found.fresh:
                plain[item] = chain(self._key, made)
                with_facts = _with_facts(plain[item], facts[item])
                keys[item] = with_facts if present.get(item) == with_facts else plain[item]
            elif item in found.settled:
                why = found.settled[item]
                key = chain(self._key, f"{made}\nnone")
                verdicts[item] = LedgerRow(
                    self.name, item, key, "filtered", "no_fingerprint", f"{self._source.name}: {why.reason}"
                )
            else:
                keys[item] = ""  # its fingerprint is to come: pending, and equal to no key that was written
        if store.has(self.table):
            rows = store.read(self.table, ["item_id", "duplicate_of"], where="duplicate_of IS NOT NULL").to_pylist()
            copies = [row for row in rows if keys.get(row["item_id"]) and keys.get(row["duplicate_of"])]
            keys |= dict.fromkeys(self._ruled_out(store, copies, facts), "")
        return _Inputs(keys, verdicts, plain, facts)

    def run(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Match items that are new, changed or without their original, in order of arrival, and commit in batches.

        Items matched before are first marked as open, in one write, and keep their place: a run that is killed leaves
        no verdict that depends on an outdated one, and the next run comes to the same end.
        """
        inputs = self._inputs(store)
        keys = inputs.plain
        rows = {row["item_id"]: row for row in store.read(self.table).to_pylist()} if store.has(self.table) else {}
        current = {item for item, key in inputs.keys.items() if item in rows and key and rows[item]["row_key"] == key}
        originals = {item for item in current if rows[item]["duplicate_of"] is None}
        copies = {item for item in current - originals if rows[item]["duplicate_of"] in originals}
        gone = rows.keys() - inputs.keys.keys()
        store.delete(self.table, gone)
        todo = keys.keys() - originals - copies
        self._write(store, [{**rows[item], "row_key": ""} for item in todo & rows.keys()])
        found = 0
        notes: list[str] = []
        matched = self._match(store, inputs, originals, todo, rows, notes) if todo else iter(())
        with progress.meter(self.name, len(todo)) as meter:
            while batch := list(islice(matched, _COMMIT_ROWS)):
                self._write(store, batch)
                found += sum(row["duplicate_of"] is not None for row in batch)
                meter.advance(len(batch), 0, 0.0)
        notes.insert(0, f"{len(copies) + found} of {len(keys)} items are copies, {found} of them new")
        if todo and opencv_version() is None:
            notes.append(f"{_WITHOUT_OPENCV}: {install_command('video')}")
        return len(todo) + len(gone), notes

    def _write(self, store: Store, rows: list[Row]) -> None:
        if rows:
            store.merge(self.table, pa.Table.from_pylist(rows, schema=SCHEMA))

    def _match(
        self,
        store: Store,
        inputs: _Inputs,
        originals: set[str],
        todo: set[str],
        rows: Mapping[str, Row],
        notes: list[str],
    ) -> Iterator[Row]:
        arrived = _arrivals(store, inputs.plain, rows)
        arrivals = self._load_arrivals(store, inputs.plain.keys(), inputs.facts)
        known = Originals(self._rules, arrived, lambda items: self.load_sequences(store, items))
        for item in originals:
            known.add(arrivals[item])
        second = SecondLook(self._rules.min_share, arrived, lambda items: self.load_pictures(store, items))
        self.add_pictures(store, second, {item: arrivals[item] for item in originals})
        order = sorted(todo, key=arrived.__getitem__)
        for chunk in (order[start : start + _PICTURES_AT_ONCE] for start in range(0, len(order), _PICTURES_AT_ONCE)):
            for item, pictures in zip(chunk, self.load_pictures(store, chunk), strict=True):
                verdict = known.find_original(arrivals[item])
                if verdict.copy is None and pictures.features:
                    again = second.find_original(arrivals[item], pictures)
                    verdict = replace(again, by_facts=verdict.by_facts or again.by_facts)
                if verdict.copy is None:
                    known.add(arrivals[item])
                    second.add(arrivals[item], pictures)
                key = inputs.plain[item]
                key = _with_facts(key, inputs.facts[item]) if verdict.by_facts else key
                yield _row(item, key, arrived[item], verdict)
        if second.left_out:
            notes.append(
                f"details are compared with those of the first {MOST_ORIGINALS:,} originals: copies of "
                f"{second.left_out:,} others that are turned, cut by much or set into another picture are not found"
            )

    def add_pictures(self, store: Store, second: SecondLook, originals: Mapping[str, Arrival]) -> None:
        """Index the pictures of originals, read piece by piece."""
        columns = ["item_id", "details", "details_s"]
        if not originals or opencv_version() is None or not set(columns) <= set(store.columns(self._source.table)):
            return
        chosen = second.first(originals)
        for batch in store.batches(self._source.table, columns):
            for row in batch.to_pylist():
                if row["item_id"] in chosen:
                    second.add(originals[row["item_id"]], _decoded(row["item_id"], partial(_pictures, row)))

    def load_pictures(self, store: Store, items: list[str]) -> list[Pictures]:
        """Read the local features of some items, in their order; none without OpenCV."""
        if opencv_version() is None:
            return [Pictures(None, ())] * len(items)
        table = self._read_prints(store, ["item_id", "details", "details_s"], items)
        rows = {row["item_id"]: row for row in table.to_pylist()}
        return [_decoded(item, partial(_pictures, rows[item])) for item in items]

    def _load_arrivals(self, store: Store, items: Collection[str], facts: Mapping[str, Facts]) -> dict[str, Arrival]:
        some = len(items) < _FEW
        table = self._read_prints(
            store, ["item_id", "media", "screen", "screen_boxes"], sorted(items) if some else None
        )
        found = {}
        for item, media, screen, boxes in zip(*(column.to_pylist() for column in table.columns), strict=True):
            if item in items and item in facts:
                words = _decoded(item, partial(_frames, media, screen, boxes))
                found[item] = Arrival(item, media, words, facts[item])
        return found

    def _read_prints(self, store: Store, columns: list[str], ids: list[str] | None) -> pa.Table:
        """Read fingerprints; the columns that the table of an earlier version lacks are null."""
        known = store.columns(self._source.table)
        table = store.read(self._source.table, [name for name in columns if name in known], ids=ids)
        for name in columns:
            if name not in known:
                table = table.append_column(name, pa.nulls(len(table), self._source.schema.field(name).type))
        return table.select(columns)

    def load_sequences(self, store: Store, items: list[str]) -> list[Sequence]:
        """Read the fingerprints of some items, in their order."""
        table = self._read_prints(store, ["item_id", "times_s", "hashes", "quality", "boxes"], items)
        rows = {row["item_id"]: row for row in table.to_pylist()}
        return [_decoded(item, partial(_sequence, rows[item])) for item in items]


def _arrivals(store: Store, keys: Mapping[str, str], rows: Mapping[str, Row]) -> dict[str, int]:
    """Number items in the order of arrival; those that came together in the order of their dates."""
    known = {item: int(row["arrived"]) for item, row in rows.items()}
    new = keys.keys() - known.keys()
    table = store.read(ITEMS, ["item_id", "created_at"])
    dates = dict(zip(table["item_id"].to_pylist(), table["created_at"].to_pylist(), strict=True))
    last = datetime.max.replace(tzinfo=UTC)
    first = max(known.values(), default=-1) + 1
    order = sorted(new, key=lambda item: (dates[item] or last, item))
    return known | {item: first + place for place, item in enumerate(order)}


def _decoded(item: str, decode: Callable[[], _Decoded]) -> _Decoded:
    """Decode a stored fingerprint.

    Raises:
        ColdstartError: it is none; the workspace of a stranger may hold anything.
    """
    try:
        return decode()
    except (KeyError, TypeError, ValueError) as error:
        raise ColdstartError(
            f"the stored fingerprint of item {item!r} cannot be read ({error}): make the workspace anew from its "
            "manifest",
            kind="damaged",
        ) from error


def _frames(media: str, screen: bytes, boxes: bytes | None) -> Words:
    return stored_frames(screen, boxes, CANDIDATE_RULES[media])


def _sequence(row: Row) -> Sequence:
    prints = Fingerprints.from_bytes(row["hashes"], row["quality"], row["boxes"])
    if len(prints.quality) != len(prints.words):
        raise ValueError("it has another number of qualities than of pictures")
    return Sequence(None if row["times_s"] is None else _times(row["times_s"], len(prints.words)), prints)


def _pictures(row: Row) -> Pictures:
    stored = row["details"] or ()
    features = tuple(LocalFeatures.from_bytes(one) for one in stored[:MOST_PICTURES])
    times_s = None if row["details_s"] is None else tuple(_times(row["details_s"], len(stored)).tolist())
    return Pictures(None if times_s is None else times_s[:MOST_PICTURES], features)


def _times(seconds: list[float], frames: int) -> NDArray[np.float64]:
    """Check the seconds of frames: memory and time of a match grow with their span."""
    times_s = np.array(seconds, np.float64)
    if len(times_s) != frames or not ((times_s >= 0) & (times_s <= _LAST_S)).all():
        raise ValueError("the seconds of its frames are out of bounds")
    return times_s


def _read_facts(store: Store) -> dict[str, Facts]:
    """Read the facts of all items; pictures that more than `COMMON_TITLES` titles share are common."""
    if not store.has(ITEMS):
        return {}
    found = {row["item_id"]: read_facts(row) for row in store.read(ITEMS, _FACTS).to_pylist()}
    titles: dict[str, set[frozenset[str]]] = {}
    for facts in found.values():
        for picture in facts.digests if facts.title else ():
            titles.setdefault(picture, set()).add(facts.title)
    common = {picture for picture, own in titles.items() if len(own) > COMMON_TITLES}
    return {
        item: replace(facts, common=True) if facts.digests and facts.digests <= common else facts
        for item, facts in found.items()
    }


def _with_facts(key: str, facts: Facts) -> str:
    return f"{key}-{facts.key()}"


def _row(item: str, key: str, arrived: int, verdict: Verdict) -> Row:
    row: Row = {"item_id": item, "row_key": key, "arrived": arrived, "duplicate_of": None, "score": 0.0}
    row |= {"mirrored": False, "speed": 1.0, "matches": [], "found_by": "whole", "placement": None}
    if verdict.copy is not None:
        match = verdict.copy.match
        stretches = [vars(stretch) for stretch in match.stretches]
        row |= {"duplicate_of": verdict.copy.original, "score": match.score, "matches": stretches}
        row |= {"mirrored": match.mirrored, "speed": match.speed, "found_by": match.found_by}
        row["placement"] = None if verdict.copy.placement is None else vars(verdict.copy.placement)
    return row


def _reject(row: Row) -> Reject:
    times = ", ".join(
        f"{at['start_s']:.1f}-{at['end_s']:.1f} s at {at['other_start_s']:.1f}-{at['other_end_s']:.1f} s"
        for at in row["matches"][:3]
    )
    parts = (f"{row['score']:.2f} of it", describe_changes(row), times)
    detail = f"of {row['duplicate_of']}: {', '.join(part for part in parts if part)}"
    return Reject("near_duplicate", detail, state="duplicate")
