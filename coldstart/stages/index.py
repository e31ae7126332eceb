"""index: joins items and spaces into the catalog, builds its indexes, measures their recall and publishes it.

An item that failed in one of the spaces is not served with the rest of its vectors: it is turned away with the reason,
and comes back by itself once the space has its row. An item that lacks the input of a space (a text without a picture)
is served without a vector there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from coldstart import stage as registry
from coldstart.errors import ColdstartError
from coldstart.freshness import Assessment, assess_map
from coldstart.items import CONTENT_FIELDS
from coldstart.keys import digest
from coldstart.pipeline import Pipeline, Section
from coldstart.stage import LedgerRow
from coldstart.workspace import ITEMS, Store
from coldstart.workspace.ann import IndexReport, IndexSettings, column_of
from coldstart.workspace.catalog import Catalog

VERSION = 1
_TEXT_FIELDS = ("title", "description", "category")
_CONTENT_NAMES = [field.name for field in CONTENT_FIELDS]


class Settings(Section):
    """How the catalog is indexed and kept."""

    spaces: tuple[str, ...] | None = None
    """Embed stages that go into the catalog; all of the pipeline by default."""
    index_type: Literal["auto", "exact", "IVF_RQ", "IVF_PQ", "IVF_HNSW_SQ"] = "auto"
    """`auto` chooses by the number and the width of the vectors."""
    exact_below: int = Field(default=IndexSettings.exact_below, ge=0)
    """Spaces with fewer vectors are searched exactly."""
    target_recall: float = Field(default=IndexSettings.target_recall, gt=0, le=1)
    """Recall of the 10 nearest against exact search that must hold, with and without a filter."""
    keep_publications: int = Field(default=3, ge=1)
    """Published versions that stay for `coldstart index --rollback`."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> IndexStage:
    """The stage over the pipeline's embed stages.

    Raises:
        ColdstartError: `spaces` names one that the pipeline does not have, or there is none.
    """
    known = {spec.name: spec for spec in pipeline.of_kind("embed")}
    wanted = known.keys() if settings.spaces is None else settings.spaces
    for space in wanted:
        if space not in known:
            raise ColdstartError(
                f"{name}.spaces: no embed stage {space!r}; the pipeline has {', '.join(known) or 'none'}"
            )
    if not wanted:
        raise ColdstartError(f"stage {name!r} has no space to index: add a stage of kind embed to {pipeline.source}")
    spaces = {space: registry.module("embed").build(space, known[space].settings, pipeline) for space in wanted}
    return IndexStage(name, settings, spaces)


@dataclass(frozen=True)
class _Inputs:
    """What the catalog should hold: item -> key, the verdict on every other item, and the state of each space."""

    keys: Mapping[str, str]
    verdicts: Mapping[str, LedgerRow]
    spaces: Mapping[str, Assessment]


class IndexStage:
    """Whole stage; see `coldstart.stage.WholeStage`."""

    kind = "index"

    def __init__(self, name: str, settings: Settings, spaces: Mapping[str, Any]) -> None:
        self.name = name
        self._settings = settings
        self._spaces = spaces

    def expected(self, store: Store) -> tuple[dict[str, str], dict[str, LedgerRow]]:
        inputs = self._inputs(store)
        return dict(inputs.keys), dict(inputs.verdicts)

    def present(self, store: Store) -> dict[str, str]:
        published = Catalog(store.db).published()
        return {} if published is None else published.keys()

    def run(self, store: Store) -> tuple[int, list[str]]:
        """Write, index, publish, clean up; `coldstart.workspace.catalog` has each step.

        Raises:
            ColdstartError: no item can be served.
        """
        inputs = self._inputs(store)
        if not inputs.keys:
            raise ColdstartError(
                f"no item of workspace {store.uri} has a vector: see `coldstart status --workspace {store.uri}`"
            )
        catalog = Catalog(store.db)
        passports = {space: stage.passport for space, stage in self._spaces.items()}
        written = catalog.write(self._rows(store, inputs), passports)
        reports = catalog.build_indexes(
            IndexSettings(self._settings.exact_below, self._settings.index_type, self._settings.target_recall)
        )
        publication = catalog.publish(reports)
        catalog.cleanup(self._settings.keep_publications, timedelta(hours=1))
        changes = f"{written.added} added, {written.changed} changed, {written.deleted} removed"
        first = f"published {publication.tag}: {publication.rows} items ({changes})"
        spaces = [_describe(report, self._settings.target_recall) for report in reports]
        return written.added + written.changed + written.deleted, [first, *spaces]

    def _inputs(self, store: Store) -> _Inputs:
        spaces = {name: assess_map(store, stage) for name, stage in self._spaces.items()}
        keys: dict[str, str] = {}
        verdicts: dict[str, LedgerRow] = {}
        for item, source_key in store.keys(ITEMS, "source_key").items():
            failed = {name: space.settled[item] for name, space in spaces.items() if _failed(space, item)}
            made = {name: space.expected[item] for name, space in spaces.items() if item in space.fresh}
            key = digest([VERSION, source_key, made])
            if failed:
                reason = "; ".join(f"{name}: {row.reason}" for name, row in failed.items())
                verdicts[item] = LedgerRow(self.name, item, key, "failed", "upstream_failed", reason)
            elif made:
                keys[item] = key
            elif all(item in space.settled for space in spaces.values()):
                verdicts[item] = LedgerRow(self.name, item, key, "filtered", "no_vector", "no space has a vector of it")
            else:
                keys[item] = ""  # not embedded yet: expected, and never equal to a key that was written
        return _Inputs(keys, verdicts, spaces)

    def _rows(self, store: Store, inputs: _Inputs) -> pa.Table:
        served = [item for item, key in inputs.keys.items() if key]
        items = store.read(ITEMS, ["item_id", *_CONTENT_NAMES, "row_key"])
        items = items.filter(pc.is_in(items["item_id"], pa.array(served, pa.string()))).combine_chunks()
        ids = items["item_id"].to_pylist()
        items = items.append_column("text", _searchable(items))
        items = items.append_column("index_key", pa.array([inputs.keys[item] for item in ids], pa.string()))
        for name, stage in self._spaces.items():
            fresh = inputs.spaces[name].fresh
            vector_type = stage.schema.field("vector").type
            if fresh:
                rows = store.read(stage.table, ["item_id", "vector"]).combine_chunks()
                place = {item: index for index, item in enumerate(rows["item_id"].to_pylist()) if item in fresh}
                picks = pa.array([place.get(item) for item in ids], pa.int64())
                vectors = rows["vector"].take(picks).combine_chunks()
            else:
                vectors = pa.nulls(len(ids), vector_type)
            items = items.append_column(pa.field(column_of(name), vector_type), vectors)
        return items


def _failed(space: Assessment, item: str) -> bool:
    return item in space.settled and space.settled[item].state == "failed"


def _searchable(items: pa.Table) -> pa.Array:
    """Title, description, category and tags of each item, a line each."""
    columns = [items[name] for name in _TEXT_FIELDS]
    tags = pc.binary_join(items["tags"], ", ")
    return pc.binary_join_element_wise(*columns, tags, "\n", null_handling="skip").combine_chunks()


def _describe(report: IndexReport, target: float) -> str:
    if report.effort is None:
        return f"{report.space}: {report.rows} vectors of {report.dim}, exact search"
    filtered = "" if report.recall_filtered is None else f", {report.recall_filtered:.3f} where {report.filter}"
    verdict = "" if report.ok else f": BELOW the target {target:g}"
    return (
        f"{report.space}: {report.rows} vectors of {report.dim}, {report.index_type} built in {report.build_s:.1f} s, "
        f"recall@10 {report.recall:.3f}{filtered} at nprobes {report.effort.nprobes}, refine {report.effort.refine}"
        f"{verdict}"
    )
