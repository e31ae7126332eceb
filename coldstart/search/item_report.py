"""Report on one item: frames, speech and text on screen, copies, and its state in every stage, in one record.

It reads rows and keys and decides nothing. A row that was made under other settings is shown as well; the state of its
stage shows that it is not fresh. The manifest is not read again: a change there shows after the next run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from html import escape
from typing import Any

from coldstart.core.item_fields import read_attributes
from coldstart.core.pipeline import Pipeline, StageSpec
from coldstart.core.stage import CatalogStage, LedgerRow, is_map, is_source
from coldstart.errors import ColdstartError, NotFitted
from coldstart.media.limits import Limits
from coldstart.store import ITEMS, Store
from coldstart.store.decisions import read_decisions
from coldstart.store.fits import with_fits
from coldstart.store.freshness import PipelineState, assess
from coldstart.store.sql import equals
from coldstart.understand.placement import describe_changes
from coldstart.understand.stages.duplicates import DuplicatesStage
from coldstart.understand.timeline import Evidence, fuse, screen_text, transcript, with_unread

_COVERAGE = ("watched_s", "heard_s", "voiced_s", "frames_read", "frames_skipped")


@dataclass(frozen=True)
class StageState:
    """State of the item in one stage.

    Attributes:
        state: `fresh`, `failed`, `filtered`, `duplicate` or `pending`; `unknown` where the stage cannot be built now.
        reason, detail: of the verdict on the item; empty for a fresh row.
        has_row: whether the stage has a row of the item, fresh or not.
        keeps_out: why this stage keeps the item from all stages after it; empty where it does not.
    """

    stage: str
    kind: str
    state: str
    reason: str = ""
    detail: str = ""
    has_row: bool = False
    keeps_out: str = ""


@dataclass(frozen=True)
class Link:
    """Another item with the same media, or a part of them.

    Attributes:
        medium: its first picture or video, as ingest wrote it; None where it has none, or has left the workspace.
        score: share of the shorter of the two that is the same.
        mirrored, speed: how the copy differs from its original; changes: the same and more in words.
        found_by: `whole` pictures, what a `border` encloses, or `details` of parts; None in rows of earlier versions.
        placement: place of the original within the copy, where details told it: see `coldstart.understand.local_match`.
        matches: `start_s`, `end_s` here and `other_start_s`, `other_end_s` there, in seconds.
    """

    item_id: str
    title: str | None
    medium: Mapping[str, Any] | None
    score: float | None
    mirrored: bool | None
    speed: float | None
    matches: Sequence[Mapping[str, float]]
    changes: str = ""
    found_by: str | None = None
    placement: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Dossier:
    """One item with all that its workspace has on it; `Workspace.dossier` builds it.

    Rows of stages come as their tables hold them.

    Attributes:
        item: all fields of its row, `attributes` as an object; of an item that ingest turned away the id alone.
        duration_s: length of its first video, else of its first sound.
        timeline: shots, speech and text on screen in order of time; what has no time comes first.
        transcript, screen_text, spoken_language: as the evidence has them, else joined from the parts.
        shots, frame_times_s: the shots, and the seconds of the frames that stand for them.
        lines: text on screen with its place; unread: lines in a script that the reader cannot write, with its name.
        dropped: speech that was discarded, and why.
        quality: measure -> value, those that have one.
        safety: `findings`, `scores` and `policy`; empty where the item was not checked.
        described: `summary`, `attributes` with the ground of each, `keywords`, `queries`, `status` and what was `cut`;
            empty where nothing was written of the item.
        coverage: seconds watched, heard and voiced, frames read.
        duplicate_of: its original; copies: items whose original it is.
        stages: in the order of the pipeline.
        decisions: of people, those in force.
        limits: where its media may be read from in a notebook; None: from nowhere.
    """

    item: Mapping[str, Any]
    duration_s: float | None
    timeline: Sequence[Evidence]
    transcript: str
    screen_text: str
    spoken_language: str | None
    spoken_language_confidence: float | None
    shots: Sequence[Mapping[str, Any]]
    frame_times_s: Sequence[float]
    lines: Sequence[Mapping[str, Any]]
    unread: Sequence[Mapping[str, Any]]
    dropped: Sequence[Mapping[str, Any]]
    quality: Mapping[str, float | bool | str]
    safety: Mapping[str, Any]
    described: Mapping[str, Any]
    coverage: Mapping[str, float]
    duplicate_of: Link | None
    copies: Sequence[Link]
    stages: Sequence[StageState]
    decisions: Sequence[Mapping[str, Any]] = ()
    limits: Limits | None = field(default=None, repr=False, compare=False)

    @property
    def item_id(self) -> str:
        """Id of the item."""
        return str(self.item["item_id"])

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON-serialisable values: times in ISO 8601, numbers to six decimals, null for NaN."""
        known = {name: value for name, value in asdict(self).items() if name != "limits"}
        return {"item_id": self.item_id, **_plain(known)}

    def _repr_html_(self) -> str:
        from coldstart.pages.item import item_html

        page = escape(item_html(self.to_dict(), limits=self.limits or Limits(roots=())))
        return f"<iframe sandbox srcdoc='{page}' style='width:100%;height:800px;border:0'></iframe>"


def collect_dossier(store: Store, pipeline: Pipeline, item_id: str) -> Dossier | None:
    """Collect the dossier of an item; None where neither the items nor the verdicts of ingest have it."""
    pipeline_state = PipelineState(store, with_fits(pipeline, store))
    row = _Rows(store, pipeline, pipeline_state, item_id)
    item = _first(store, ITEMS, equals("item_id", item_id))
    stages = _stages(store, pipeline, pipeline_state, item_id, known=item is not None)
    if item is None and not stages:
        return None
    item = {"item_id": item_id} if item is None else {**item, "attributes": read_attributes(item.get("attributes"))}
    shots, speech, screen = (row.of(f"understand.{part}") for part in ("shots", "speech", "screen"))
    evidence = row.of("understand.evidence")
    if evidence:
        timeline = [Evidence(**entry) for entry in evidence["timeline"] or []]
    else:
        timeline = fuse(shots.get("shots") or (), speech.get("segments") or (), screen.get("lines") or ())
    parts = {**shots, **speech, **screen}
    policy = row.of("understand.safety")
    return Dossier(
        item=item,
        duration_s=_duration(item.get("media") or ()),
        timeline=with_unread(timeline, screen.get("unread") or ()),
        transcript=evidence.get("transcript") or transcript(timeline),
        screen_text=evidence.get("screen_text") or screen_text(timeline),
        spoken_language=evidence.get("language") or speech.get("language"),
        spoken_language_confidence=speech.get("language_confidence"),
        shots=shots.get("shots") or [],
        frame_times_s=shots.get("frame_times_s") or [],
        lines=screen.get("lines") or [],
        unread=screen.get("unread") or [],
        dropped=speech.get("dropped") or [],
        quality={name: value for name, value in row.of("understand.quality").items() if _is_measure(value)},
        safety={name: policy[name] for name in ("findings", "scores", "policy") if name in policy},
        described=row.of("describe.check"),
        coverage={name: parts[name] for name in _COVERAGE if parts.get(name) is not None},
        duplicate_of=row.original(),
        copies=row.copies(),
        stages=stages,
        decisions=[one.to_dict() for one in read_decisions(store, item_id).holding],
    )


class _Rows:
    """Rows of one item in the tables of map stages, by their kind; empty where one has none."""

    def __init__(self, store: Store, pipeline: Pipeline, pipeline_state: PipelineState, item_id: str) -> None:
        self._store = store
        self._pipeline = pipeline
        self._state = pipeline_state
        self._item_id = item_id

    def of(self, kind: str) -> dict[str, Any]:
        """Read the row of the last stage of the kind that has one, without its keys."""
        for name in self._names(kind):
            row = _first(self._store, f"stage.{name}", equals("item_id", self._item_id))
            if row is not None:
                return {name: value for name, value in row.items() if name not in ("item_id", "row_key")}
        return {}

    def original(self) -> Link | None:
        """Return the item that this one is a copy of; None where a person said that it is none."""
        row = self.of("understand.duplicates")
        if not row.get("duplicate_of") or any(
            self._state.approved(name, [self._item_id]) for name in self._names("understand.duplicates")
        ):
            return None
        return self._link(row["duplicate_of"], row, row["matches"] or [])

    def copies(self) -> list[Link]:
        """List items whose original this one is, the first to arrive first."""
        found = []
        for name in self._names("understand.duplicates"):
            rows = self._store.read(f"stage.{name}", where=equals("duplicate_of", self._item_id)).to_pylist()
            approved = self._state.approved(name, [row["item_id"] for row in rows])
            for row in sorted(rows, key=lambda row: (row["arrived"], row["item_id"])):
                if row["item_id"] in approved:
                    continue
                turned = [
                    {
                        "start_s": match["other_start_s"],
                        "end_s": match["other_end_s"],
                        "other_start_s": match["start_s"],
                        "other_end_s": match["end_s"],
                    }
                    for match in row["matches"] or []
                ]
                found.append(self._link(row["item_id"], row, turned))
        return found

    def _names(self, kind: str) -> list[str]:
        """List the stages of a kind that have rows, the last one first."""
        names = [spec.name for spec in self._pipeline.of_kind(kind)]
        return [name for name in reversed(names) if self._store.has(f"stage.{name}")]

    def _link(self, item_id: str, row: Mapping[str, Any], matches: Sequence[Mapping[str, float]]) -> Link:
        other = _first(self._store, ITEMS, equals("item_id", item_id)) or {}
        medium = next((one for one in other.get("media") or [] if one["role"] in ("image", "video")), None)
        return Link(
            item_id, other.get("title"), medium, row["score"], row["mirrored"], row["speed"], matches,
            changes=describe_changes(row), found_by=row.get("found_by"), placement=row.get("placement"),
        )  # fmt: skip


def _stages(
    store: Store, pipeline: Pipeline, pipeline_state: PipelineState, item_id: str, known: bool
) -> list[StageState]:
    """List the states of the item in each stage; of one that has no row in the items, the verdict of ingest alone."""
    found = []
    for spec in pipeline.stages:
        if spec.kind == "ingest":
            verdict = store.verdicts(spec.name).get(item_id)
            if known:
                found.append(StageState(spec.name, spec.kind, "fresh", has_row=True))
            elif verdict is not None:
                found.append(StageState(spec.name, spec.kind, verdict.state, verdict.reason, verdict.detail))
        elif known:
            try:
                found.append(_stage(store, pipeline_state, spec, item_id))
            except NotFitted as waiting:
                found.append(StageState(spec.name, spec.kind, "pending", "", str(waiting)))
            except ColdstartError as error:  # weights that are not on this machine, say: the rest is known all the same
                found.append(StageState(spec.name, spec.kind, "unknown", "cannot_be_built", str(error)))
    return found


def _stage(store: Store, pipeline_state: PipelineState, spec: StageSpec, item_id: str) -> StageState:
    stage = pipeline_state.stage(spec.name)
    verdict: LedgerRow | None
    waits = ""
    if isinstance(stage, CatalogStage):
        keys, verdicts = stage.expected(store)
        present = stage.present(store)
        fresh = item_id in assess(keys, present, {}).fresh
        verdict, has_row = verdicts.get(item_id), item_id in present
        waits = stage.why_no_copy(store, item_id) if fresh and isinstance(stage, DuplicatesStage) else ""
    else:
        assert is_map(stage) and not is_source(stage)
        found = pipeline_state.of(spec.name)
        fresh, verdict = item_id in found.fresh, found.settled.get(item_id)
        has_row = _first(store, stage.table, equals("item_id", item_id), ["item_id"]) is not None
        if item_id in found.waiting:
            waits = f"waits for {', '.join(sorted(stage.reads.values())) or 'a fit'}"
    reject = pipeline_state.blocked_by(spec.name).get(item_id)
    keeps_out = str(reject) if reject else ""
    if verdict is not None:
        return StageState(spec.name, spec.kind, verdict.state, verdict.reason, verdict.detail, has_row, keeps_out)
    return StageState(spec.name, spec.kind, "fresh" if fresh else "pending", "", waits, has_row, keeps_out)


def _first(store: Store, table: str, where: str, columns: Sequence[str] | None = None) -> dict[str, Any] | None:
    if not store.has(table):
        return None
    rows: list[dict[str, Any]] = store.read(table, columns, where=where).to_pylist()
    return rows[0] if rows else None


def _duration(media: Sequence[Mapping[str, Any]]) -> float | None:
    for role in ("video", "audio"):
        for entry in media:
            if entry["role"] == role:
                return entry["duration_s"]  # type: ignore[no-any-return]
    return None


def _is_measure(value: Any) -> bool:
    return isinstance(value, int | str) or (isinstance(value, float) and math.isfinite(value))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
