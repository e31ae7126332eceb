"""index: joins items and spaces into the catalog, builds its indexes, measures their recall and publishes it.

An item that failed in one of the spaces is not served with the rest of its vectors: it is turned away with the reason,
and comes back by itself once the space has its row. An item that lacks the input of a space (a text without a picture)
is served without a vector there. A copy that is linked to its original is served with the original's vectors and
evidence and its own words; searches show it with the original, not beside it, and what is stated of it is what its
media show: the original's creator and record are not its own. A label is a column beside the category, and what was
written of an item columns beside its own words, and none is part of the text: the model's word is not the seller's.
Semantic IDs are columns too, so that a publication has those of one fit, and a rollback brings them back.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from coldstart.core import stage as registry
from coldstart.core.items import CONTENT_FIELDS, LANGUAGE
from coldstart.core.keys import digest
from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.progress import Progress
from coldstart.core.stage import CatalogStage, LedgerRow, MapStage, Reject
from coldstart.embed.spaces import spaces_of
from coldstart.encoders import Passport
from coldstart.errors import ColdstartError, NotFitted, NothingToLearn
from coldstart.search.calibrate_catalog import Calibrator
from coldstart.store import ITEMS, Store
from coldstart.store.ann import IndexReport, IndexSettings, column_of
from coldstart.store.catalog import Catalog
from coldstart.store.freshness import Assessment, PipelineState
from coldstart.store.items_view import ItemsView
from coldstart.store.publications import Publication
from coldstart.store.published import SID, SID_VERSION, Published

VERSION = 3
_CLEANED_EVERY = 16
"""Publications of a few items from one clean-up to the next, which takes longer than to add one; older ones stay till
then."""
_MEASURED_FROM = 100
"""Vectors from which on recall@10 says something: of a few dozen any index finds the 10 nearest."""
_EVIDENCE = {"transcript": "transcript", "screen_text": "screen_text", "language": "spoken_language"}
"""Column of the evidence -> that of the catalog."""
_DESCRIBED = {
    "summary": pa.string(),
    "attributes": pa.list_(
        pa.struct([("name", pa.string()), ("value", pa.string()), ("ground", pa.string()), ("detail", pa.string())])
    ),
}
"""Columns of the checked description; its attributes are `claims` in the catalog."""
_OF_MEDIA = ("transcript", "screen_text")
"""Grounds of claims that hold for a copy as well; others rest on the record or the words of the original."""
_TEXT_FIELDS = ("title", "description", "category")
_CONTENT_NAMES = [field.name for field in CONTENT_FIELDS]


class Settings(Section):
    """Settings of the catalog and its indexes."""

    spaces: tuple[str, ...] | None = None
    """Spaces that go into the catalog; all of the pipeline by default."""
    index_type: Literal["auto", "exact", "IVF_RQ", "IVF_PQ", "IVF_HNSW_SQ"] = "auto"
    """`auto` chooses by the number and the width of the vectors."""
    exact_below: int = Field(default=IndexSettings.exact_below, ge=0)
    """Spaces with fewer vectors are searched exactly."""
    target_recall: float = Field(default=IndexSettings.target_recall, gt=0, le=1)
    """Recall of the 10 nearest against exact search that must hold, with and without a filter."""
    keep_publications: int = Field(default=3, ge=1)
    """Published versions that stay for `coldstart index --rollback`."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> IndexStage:
    """Build the stage over the pipeline's spaces.

    Raises:
        ColdstartError: `spaces` names one that the pipeline does not have, or there is none.
    """
    known = {spec.name: spec for spec in spaces_of(pipeline)}
    wanted = known.keys() if settings.spaces is None else settings.spaces
    for space in wanted:
        if space not in known:
            raise ColdstartError(f"{name}.spaces: no space {space!r}; the pipeline has {', '.join(known) or 'none'}")
    if not wanted:
        raise ColdstartError(f"stage {name!r} has no space to index: add a stage of kind embed to {pipeline.source}")
    spaces = {
        space: registry.stage_module(known[space].kind).build(space, known[space].settings, pipeline)
        for space in wanted
    }
    return IndexStage(name, settings, spaces, pipeline)


@dataclass(frozen=True)
class _Inputs:
    """Rows that the catalog should hold.

    Attributes:
        keys: item -> key; verdicts: the verdict on every other item.
        rows: stage -> state of each space, and of the evidence and the descriptions where there are any.
        originals: copies that are served by the rows of another item -> that item.
        labels: item -> its label and the score of it, of those that have one.
        sids: item -> its semantic ID, of those that have one; sid_version: digest of the fit that gave all of them.
    """

    keys: Mapping[str, str]
    verdicts: Mapping[str, LedgerRow]
    rows: Mapping[str, Assessment]
    originals: Mapping[str, str]
    labels: Mapping[str, tuple[str, float]]
    sids: Mapping[str, str]
    sid_version: str


@dataclass(frozen=True)
class _Scope:
    """Items that a run adds to what is published; `stages` and `blocked` as for `IndexStage.run_items`."""

    items: frozenset[str]
    stages: Mapping[str, MapStage | CatalogStage]
    blocked: Mapping[str, Mapping[str, Reject]]


@dataclass(frozen=True)
class _Kept:
    """Spaces that stay in the catalog though the pipeline no longer makes them: the publication that has their vectors,
    and their passports."""

    published: Published
    passports: Mapping[str, str]


class IndexStage:
    """Catalog stage that indexes and publishes; see `coldstart.core.stage.CatalogStage`."""

    kind = "index"

    def __init__(self, name: str, settings: Settings, spaces: Mapping[str, Any], pipeline: Pipeline) -> None:
        self.name = name
        self._settings = settings
        self._all_spaces = spaces
        self._pipeline = pipeline
        self._evidence = pipeline.before(name, "understand.evidence")
        self._duplicates = pipeline.before(name, "understand.duplicates")
        self._label = pipeline.before(name, "label")
        self._described = pipeline.before(name, "describe.check")
        self._coded = pipeline.before(name, "sids")
        self.drop_spaces = False
        """Take spaces out of the catalog that the pipeline no longer makes."""
        self._found: _Inputs | None = None
        """What the last run found: a stage is built for one run, and nothing that comes before it changes after."""

    @cached_property
    def _spaces(self) -> dict[str, Any]:
        """Spaces without those that wait until a fit has data: items are served without a vector there."""
        return {space: stage for space, stage in self._all_spaces.items() if not _waits(stage)}

    def expected(self, store: Store) -> tuple[dict[str, str], dict[str, LedgerRow]]:
        """Return the keys of the items to serve, and verdicts on the others."""
        inputs = self._found or self._inputs(store)
        return dict(inputs.keys), dict(inputs.verdicts)

    def present(self, store: Store) -> dict[str, str]:
        """Return the keys of the published items."""
        published = Catalog(store.reader).published()
        return {} if published is None else published.keys()

    def run(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Write, index, publish, clean up; `coldstart.store.catalog` has each step.

        Raises:
            ColdstartError: no item can be served.
        """
        inputs = self._found = self._inputs(store)
        if not inputs.keys:
            raise ColdstartError(
                f"no item of workspace {store.uri} has a vector: see `coldstart status --workspace {store.uri}`"
            )
        found = self._publish(store, inputs, None)
        assert found is not None, "all items are given"
        return found

    def run_items(
        self,
        store: Store,
        items: Collection[str],
        stages: Mapping[str, MapStage | CatalogStage],
        blocked: Mapping[str, Mapping[str, Reject]],
        progress: Progress,
    ) -> tuple[int, list[str]]:
        """Add some items to what is published, or take them out; see `coldstart.engine.arrivals.TakesItems`.

        Copies and originals of theirs are written with them; the rows of all others stay. Where the catalog has other
        columns or passports than the pipeline, all of it is written, as by `run`.
        """
        inputs = self._found = self._inputs(store, _Scope(frozenset(items), stages, blocked))
        if not any(inputs.keys.values()) and Catalog(store.reader).published() is None:
            return 0, []  # nothing to serve yet
        found = self._publish(store, inputs, inputs.keys.keys() | inputs.verdicts.keys() | set(items))
        return self.run(store, progress) if found is None else found

    def _publish(self, store: Store, inputs: _Inputs, among: Collection[str] | None) -> tuple[int, list[str]] | None:
        """Write, index and publish the items, or those `among` them; None where these alone cannot be written."""
        catalog = Catalog(store.db)
        if among is not None and self._moves_over(catalog, inputs):
            return None
        kept = self._kept(catalog)
        passports = {space: stage.passport for space, stage in self._spaces.items()} | {
            space: Passport.from_json(text) for space, text in (kept.passports if kept else {}).items()
        }
        served = {item: key for item, key in inputs.keys.items() if key}
        written = catalog.update(served, lambda ids: self._rows(store, inputs, ids, kept), passports, among)
        if written is None:
            return None
        changed = written.added + written.changed + written.deleted
        reports = catalog.build_indexes(
            IndexSettings(self._settings.exact_below, self._settings.index_type, self._settings.target_recall),
            few_changed=changed,
        )
        publication = catalog.publish(reports)
        if among is None or publication.number % _CLEANED_EVERY == 0:
            catalog.cleanup(self._settings.keep_publications, timedelta(hours=1))
        published = catalog.published()
        calibrated = [] if published is None else Calibrator(store, self._pipeline).run(published)
        changes = f"{written.added} added, {written.changed} changed, {written.deleted} removed"
        first = f"published {publication.tag}: {publication.rows} items ({changes})"
        spaces, left = self._describe_spaces(store, publication)
        return changed, [first, *spaces, *calibrated, *left]

    def describe(self, store: Store) -> list[str]:
        """Describe what is published, for a person, a line each."""
        publication = Catalog(store.db).current()
        if publication is None:
            return []
        spaces, left = self._describe_spaces(store, publication)
        return [f"published {publication.tag} before: {publication.rows} items, none changed", *spaces, *left]

    def _describe_spaces(self, store: Store, publication: Publication) -> tuple[list[str], list[str]]:
        """Describe the spaces of a publication, and which the pipeline no longer makes."""
        spaces = [_describe(report, self._settings.target_recall) for report in publication.indexes]
        left = [
            _describe_kept(report, publication.rows, store.uri)
            for report in publication.indexes
            if report.space not in self._spaces
        ]
        return spaces, left

    def _moves_over(self, catalog: Catalog, inputs: _Inputs) -> bool:
        """Tell whether the catalog has semantic IDs of another fit: those of two never stand in one publication."""
        published = catalog.published()
        return bool(self._coded) and published is not None and published.sid_version() != (inputs.sid_version or None)

    def _kept(self, catalog: Catalog) -> _Kept | None:
        """Find the spaces that are served and that the pipeline no longer makes: they stay as they are.

        None of them where they are to be dropped, or `spaces` names those that go into the catalog.
        """
        published = catalog.published()
        if published is None or self.drop_spaces or self._settings.spaces is not None:
            return None
        made = {spec.name for spec in spaces_of(self._pipeline)}
        passports = {space: text for space, text in published.passports.items() if space not in made}
        return _Kept(published, passports) if passports else None

    def _inputs(self, store: Store, scope: _Scope | None = None) -> _Inputs:
        pipeline_state, view = PipelineState(store, self._pipeline, self._spaces), store
        all_originals: Mapping[str, str] | None = None
        if scope is not None:
            all_originals = self._all_originals(store, scope)
            view = ItemsView(store, scope.items | _connected(scope.items, all_originals))
            stages = {**scope.stages, **self._spaces}
            pipeline_state = PipelineState(view, self._pipeline, stages, scope.blocked)
        names = [*self._spaces, *(name for name in (self._evidence, self._described) if name)]
        rows = {name: pipeline_state.of(name) for name in names}
        barred = pipeline_state.blocked(self.name, ignoring=("duplicate",))
        copies = {item: why for item, why in pipeline_state.blocked(self.name).items() if why.state == "duplicate"}
        originals = self._originals(store, pipeline_state, copies) if all_originals is None else all_originals
        labels = self._labels(store, pipeline_state) if scope is None else self._kept_labels(view, scope)
        sid_version, sids = self._sids(store, view, pipeline_state)
        keys: dict[str, str] = {}
        verdicts: dict[str, LedgerRow] = {}
        sources = view.keys(ITEMS, "source_key")
        for item, source_key in sources.items():
            if why := barred.get(item) or (copies.get(item) if item not in originals else None):
                verdicts[item] = self._verdict(item, source_key, why)
            elif item not in originals:
                own: list[tuple[Any, ...]] = [labels[item]] if item in labels else []
                own += [("sid", sid_version, sids[item])] if item in sids else []
                found = self._key_or_reject(item, source_key, rows, own)
                if isinstance(found, Reject):
                    verdicts[item] = self._verdict(item, source_key, found)
                else:
                    keys[item] = found
        linked: dict[str, str] = {}
        for item, original in originals.items():
            if item not in sources or item in verdicts:
                continue
            if original in keys:
                parts = [VERSION, sources[item], original, keys[original], *([_OF_MEDIA] if self._described else [])]
                linked[item] = keys[original] and digest(parts)
            else:
                why = Reject("original_not_served", f"a copy of {original!r}, which is not served", "filtered")
                verdicts[item] = self._verdict(item, sources[item], why)
        return _Inputs({**keys, **linked}, verdicts, rows, originals, labels, sids, sid_version)

    def _all_originals(self, store: Store, scope: _Scope) -> dict[str, str]:
        """Find the copies of the whole catalogue that are to be served with their original -> that item."""
        everything = PipelineState(store, self._pipeline, scope.stages, scope.blocked)
        blocked = {} if self._duplicates is None else scope.blocked.get(self._duplicates, {})
        return self._originals(store, everything, blocked)

    def _kept_labels(self, view: Store, scope: _Scope) -> dict[str, tuple[str, float]]:
        """Read the labels of items that did not come now: new ones are labelled by the next run of the stage."""
        if self._label is None or not view.has(f"stage.{self._label}"):
            return {}
        rows = view.read(f"stage.{self._label}", ["item_id", "label", "score"], where="label IS NOT NULL").to_pylist()
        return {
            row["item_id"]: (row["label"], round(row["score"], 2)) for row in rows if row["item_id"] not in scope.items
        }

    def _originals(self, store: Store, pipeline_state: PipelineState, copies: Mapping[str, Reject]) -> dict[str, str]:
        """Find copies that are to be served with their original -> that item."""
        linking = [s.name for s in self._pipeline.of_kind("understand.duplicates") if s.settings.policy == "link"]
        if self._duplicates is None or self._duplicates not in linking:
            return {}
        stage: Any = pipeline_state.stage(self._duplicates)
        return {item: original for item, original in stage.originals(store).items() if item in copies}

    def _labels(self, store: Store, pipeline_state: PipelineState) -> dict[str, tuple[str, float]]:
        if self._label is None:
            return {}
        stage: Any = pipeline_state.stage(self._label)
        labels: dict[str, tuple[str, float]] = stage.labels(store)
        return labels

    def _sids(self, store: Store, view: Store, pipeline_state: PipelineState) -> tuple[str, Mapping[str, str]]:
        """Read the semantic IDs of the newest fit that has given any, and its digest; empty where there are none."""
        if self._coded is None:
            return "", {}
        stage: Any = pipeline_state.stage(self._coded)
        found: tuple[str, Mapping[str, str]] = stage.newest_ids(store, view)
        return found

    def _key_or_reject(
        self, item: str, source_key: str, rows: Mapping[str, Assessment], own: Sequence[Any]
    ) -> str | Reject:
        """Compute the key of an item's row, empty while it waits for a stage, or the reason why it has none.

        Args:
            own: its label and its semantic ID, where it has them.
        """
        spaces = {name: rows[name] for name in self._spaces}
        failed = {name: space.settled[item] for name, space in spaces.items() if _failed(space, item)}
        if failed:
            return Reject("upstream_failed", "; ".join(f"{name}: {row.reason}" for name, row in failed.items()))
        made = {name: state.expected[item] for name, state in rows.items() if item in state.fresh}
        if made.keys() & self._spaces.keys():
            return digest([VERSION, source_key, made, *own])
        if all(item in space.settled for space in spaces.values()):
            return Reject("no_vector", "no space has a vector of it", "filtered")
        return ""  # not embedded yet: expected, and never equal to a key that was written

    def _verdict(self, item: str, source_key: str, why: Reject) -> LedgerRow:
        key = digest([VERSION, source_key, str(why)])
        return LedgerRow(self.name, item, key, why.state, why.reason, why.detail)

    def _rows(self, store: Store, inputs: _Inputs, chosen: Sequence[str], kept: _Kept | None) -> pa.Table:
        """Build the catalog rows of some of the items that are served."""
        items = _of(store, ITEMS, ["item_id", *_CONTENT_NAMES, LANGUAGE.name, "row_key"], chosen)
        ids = items["item_id"].to_pylist()
        originals = [inputs.originals.get(item) for item in ids]
        owners = [original or item for item, original in zip(ids, originals, strict=True)]
        evidence = self._columns(store, inputs, self._evidence, dict.fromkeys(_EVIDENCE, pa.string()), owners)
        items = items.append_column("duplicate_of", pa.array(originals, pa.string()))
        for name, column in evidence.items():
            items = items.append_column(_EVIDENCE[name], column)
        labels = [inputs.labels.get(owner, (None, None)) for owner in owners]
        items = items.append_column("label", pa.array([label for label, _ in labels], pa.string()))
        items = items.append_column("label_score", pa.array([score for _, score in labels], pa.float32()))
        if self._coded:
            sids = [inputs.sids.get(item) for item in ids]
            items = items.append_column(SID, pa.array(sids, pa.string()))
            versions = [sid and inputs.sid_version for sid in sids]
            items = items.append_column(SID_VERSION, pa.array(versions, pa.string()))
        if self._described:
            described = self._columns(store, inputs, self._described, _DESCRIBED, owners)
            for name, column in _of_media(described, originals).items():
                items = items.append_column(name, column)
        items = items.append_column("text", _searchable(items))
        items = items.append_column("index_key", pa.array([inputs.keys[item] for item in ids], pa.string()))
        for name, stage in self._spaces.items():
            wanted = {"vector": stage.schema.field("vector").type}
            items = items.append_column(column_of(name), self._columns(store, inputs, name, wanted, owners)["vector"])
        if kept is not None:
            for name in kept.passports:
                items = items.append_column(column_of(name), kept.published.vector_column(name, ids))
        return items

    def _columns(
        self, store: Store, inputs: _Inputs, name: str | None, wanted: Mapping[str, pa.DataType], owners: Sequence[str]
    ) -> dict[str, pa.Array]:
        """Read columns of the fresh rows of a stage, in the order of `owners`; null where one has no such row."""
        fresh = inputs.rows[name].fresh if name else frozenset()
        if name is None or not fresh:
            return {column: pa.nulls(len(owners), kind) for column, kind in wanted.items()}
        table = self._spaces[name].table if name in self._spaces else f"stage.{name}"
        rows = _of(store, table, ["item_id", *wanted], sorted({*owners}))
        place = {item: index for index, item in enumerate(rows["item_id"].to_pylist()) if item in fresh}
        picks = pa.array([place.get(item) for item in owners], pa.int64())
        return {column: rows[column].take(picks).combine_chunks() for column in wanted}


def _of(store: Store, table: str, columns: Sequence[str], ids: Sequence[str]) -> pa.Table:
    """Read columns of the rows of some items: looked up where those are few, else from the whole table.

    The language of items is null where the table is of an earlier release and no run has added it.
    """
    if LANGUAGE.name in columns and LANGUAGE.name not in store.columns(table):
        rows = _of(store, table, [name for name in columns if name != LANGUAGE.name], ids)
        return rows.append_column(LANGUAGE, pa.nulls(rows.num_rows, LANGUAGE.type))
    if len(ids) < store.count(table) / 20:
        return store.read(table, columns, ids=ids).combine_chunks()
    rows = store.read(table, columns)
    return rows.filter(pc.is_in(rows["item_id"], pa.array(ids, pa.string()))).combine_chunks()


def _of_media(described: Mapping[str, pa.Array], originals: Sequence[str | None]) -> dict[str, pa.Array]:
    """Take summary and claims of items; of copies, which have those of their originals, the claims of the media alone.

    Args:
        described: `summary` and `attributes` of each item, or of its original.
        originals: the original of each item, None for one that is no copy.
    """
    summaries, claims = described["summary"], described["attributes"]
    if any(originals):
        pairs = list(zip(originals, summaries.to_pylist(), claims.to_pylist(), strict=True))
        summaries = pa.array([None if original else summary for original, summary, _ in pairs], summaries.type)
        own = [
            [one for one in found if one["ground"] in _OF_MEDIA] if original and found else found
            for original, _, found in pairs
        ]
        claims = pa.array(own, claims.type)
    return {"summary": summaries, "claims": claims}


def _connected(items: Collection[str], linked: Mapping[str, str]) -> set[str]:
    """Find the originals of items, and the copies that are linked to them."""
    originals = {linked[item] for item in items if item in linked}
    return originals | {copy for copy, original in linked.items() if original in items}


def _waits(stage: Any) -> bool:
    try:
        _ = stage.passport
    except NothingToLearn:
        return True
    except NotFitted:  # a fit that a run makes: nothing is published before
        return False
    return False


def _failed(space: Assessment, item: str) -> bool:
    return item in space.settled and space.settled[item].state == "failed"


def _searchable(items: pa.Table) -> pa.Array:
    """Join title, description, category, tags, speech and text on screen of each item, a line each."""
    tags = pc.binary_join(items["tags"], ", ")
    columns = [*(items[name] for name in _TEXT_FIELDS), tags, items["transcript"], items["screen_text"]]
    return pc.binary_join_element_wise(*columns, "\n", null_handling="skip").combine_chunks()


def _describe_kept(report: IndexReport, items: int, uri: str) -> str:
    return (
        f"{report.space}: kept as it was, since the pipeline no longer makes this space: {report.rows:,} of {items:,} "
        f"items have a vector there, and new ones get none; `coldstart run --drop-spaces --workspace {uri}` takes it "
        "out"
    )


def _describe(report: IndexReport, target: float) -> str:
    if report.effort is None:
        return f"{report.space}: {report.rows} vectors of {report.dim}, exact search"
    if report.rows < _MEASURED_FROM:
        return (
            f"{report.space}: {report.rows} vectors of {report.dim}, {report.index_type} built in {report.build_s:.1f} "
            "s; too few for a recall to mean anything"
        )
    filtered = "" if report.recall_filtered is None else f", {report.recall_filtered:.3f} where {report.filter}"
    if report.unmeasured:
        filtered += f", measured {report.unmeasured:,} changes ago,"
    verdict = "" if report.ok else f": BELOW the target {target:g}"
    return (
        f"{report.space}: {report.rows} vectors of {report.dim}, {report.index_type} built in {report.build_s:.1f} s, "
        f"recall@10 {report.recall:.3f}{filtered} at nprobes {report.effort.nprobes}, refine {report.effort.refine}"
        f"{verdict}"
    )
