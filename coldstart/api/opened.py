"""An opened workspace: its store, the settings of its last run, and what is loaded once for all methods."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from coldstart.core import pipeline as pipelines
from coldstart.core.pipeline import Pipeline, PipelineError
from coldstart.core.settings import show_value, suggestion
from coldstart.core.trust import MEDIA, Place, media_folders, places, remember, remembered, stage_of, uploads_folder
from coldstart.errors import ColdstartError
from coldstart.media.limits import Limits
from coldstart.store import ITEMS, PIPELINES, Store
from coldstart.store.artifacts import ARTIFACTS
from coldstart.store.catalog import Catalog
from coldstart.store.fits import with_fits

if TYPE_CHECKING:
    from coldstart.api.rerank_service import RerankService
    from coldstart.api.union import Verdict
    from coldstart.encoders import Encoder
    from coldstart.rank.service import RankService
    from coldstart.rank.union_service import UnionService
    from coldstart.recommend.service import Recommender
    from coldstart.search.calibration import Calibration
    from coldstart.semantic_ids.recall_service import RecallService
    from coldstart.store.memory_index import GraphReport
    from coldstart.store.publications import Publication
    from coldstart.store.published import Published

DEFAULT_PIPELINE = "starter"

INDEXES = ("disk", "memory")
"""Places of the index that a search reads: the workspace, or memory."""

HELD_BYTES = 1 << 30
"""Vectors that a frozen workspace holds in memory: 350,000 items in two spaces of 384 numbers."""

PipelineSource: TypeAlias = Pipeline | str | Path | Mapping[str, Any] | None


@dataclass(frozen=True)
class Snapshot:
    """Settings and calibration of a workspace as they were read once; what a search needs beside the catalog.

    Attributes:
        calibration: how the scores of spaces compare; None where there is none, or where it cannot be read.
        notes: why it cannot be read.
    """

    pipeline: Pipeline
    limits: Limits
    calibration: Calibration | None
    notes: tuple[str, ...]


class OpenedStore:
    """One open store with its settings, its tables and the publication that is served."""

    def __init__(self, store: Store, index: str = "disk") -> None:
        self._store = store
        self._in_memory = is_in_memory(index)
        self._encoders: dict[str, Encoder] = {}
        self._published: Published | None = None
        self._recommender: Recommender | None = None
        self._recall_service: tuple[Published, RecallService] | None = None
        self._rerank_service: tuple[Published, RerankService] | None = None
        self._union_service: tuple[Published, UnionService | None] | None = None
        self._union_verdict: tuple[UnionService, Verdict] | None = None
        self._shown_service: tuple[Published, RankService | None] | None = None
        self._snapshot: Snapshot | None = None

    def __repr__(self) -> str:
        return f"coldstart.open({self._store.uri!r})"

    @property
    def uri(self) -> str:
        """Folder or URI of the workspace."""
        return self._store.uri

    def size_bytes(self) -> int:
        """Count the bytes on disk; 0 for a remote store."""
        return self._store.size_bytes()

    def pipeline(
        self,
        source: str | Path | Mapping[str, Any] | None = None,
        *,
        manifest: str | Path | None = None,
        media_roots: Iterable[str | Path] = (),
        overrides: Iterable[str] = (),
        spaces: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Pipeline:
        """Load the settings that a command runs with.

        Args:
            source: a path, the name of a packaged pipeline, or settings as plain data; by default those that this
                workspace ran with last, or the packaged `starter`.
            manifest: takes the place of the pipeline's.
            media_roots: folders besides the manifest's own that media may come from, added to the pipeline's.
            overrides: `stage.key=value`, the value in YAML.
            spaces: settings of embed stages by name, changed in place or added before the index.

        Stored settings that name a place (`coldstart.core.trust`) count only if this user gave the same before.

        Raises:
            ColdstartError: with every fault of the settings, or with a stored one that has to be given.
        """
        overrides = tuple(overrides)
        if source is None and not (overrides or spaces):
            self._check_stored()
        label = "pipeline"
        if source is None:
            stored = self._store.pipeline()
            source, label = stored or DEFAULT_PIPELINE, f"the settings of workspace {self.uri}" if stored else label
            stated = {override.partition("=")[0].strip() for override in overrides}
            stated |= {f"{name}.{key}" for name, settings in (spaces or {}).items() for key in settings}  # others stay
            stated |= {"manifest"} if manifest is not None else set()
            given_now = [
                place
                for place in self._distrusted()
                if not any(place[0] == name or place[0].startswith(f"{name}.") for name in stated)
            ]
            if given_now:
                raise ColdstartError(self._trust_message(given_now))
        loaded = pipelines.load(
            source, overrides, manifest=manifest, media_roots=media_roots, spaces=spaces, label=label
        )
        return self._bound(loaded)

    def _bound(self, pipeline: Pipeline) -> Pipeline:
        """Bind a pipeline to the fits of this workspace, and to the folders of media that this user gave for it, with
        that of its own uploads."""
        own = [] if self._store.folder is None else uploads_folder(str(self._store.folder))
        folders = [*media_folders(sorted(remembered(self.uri))), *own]
        return with_fits(replace(pipeline, media=pipeline.media.with_folders(folders)), self._store)

    def _reading_pipeline(self) -> Pipeline:
        """Load the stored settings to read what is there.

        Left out are places that nobody gave, whose stages are refused when they are used, and stages whose settings
        have a fault (`Pipeline.unresolved`).
        """
        if self._snapshot is not None:
            return self._snapshot.pipeline
        stored = self._store.pipeline()
        if stored is None:
            return self.pipeline()
        left_out = self._distrusted()
        loaded = pipelines.load_readable(_without_media(stored, {value for name, value in left_out if name in MEDIA}))
        stages = [spec.name for spec in loaded.stages]
        distrusted: dict[str, str] = {}
        for name, value in left_out:
            if stage := stage_of(name, stages):
                distrusted.setdefault(stage, self._trust_message([(name, value)]))
        if any(name.startswith("engine.") for name, _ in left_out):
            loaded = replace(loaded, engine=pipelines.Engine())
        return self._bound(replace(loaded, distrusted=distrusted))

    def _read_calibration(self) -> tuple[Calibration | None, tuple[str, ...]]:
        """Load the calibration of searches; None, and why, where it cannot be read: the spaces then weigh alike."""
        if self._snapshot is not None:
            return self._snapshot.calibration, self._snapshot.notes
        from coldstart.search.calibrate_catalog import stored_calibration

        try:
            return stored_calibration(self._store), ()
        except ColdstartError as error:
            return None, (str(error),)

    def freeze(self) -> None:
        """Read settings, calibration and publication now, once for all later calls.

        For a process that answers many requests: each then reads items and vectors alone, and all see one version.
        What another process publishes later is seen by a workspace that is opened anew.

        Raises:
            ColdstartError: nothing is published.
        """
        from coldstart.search.search import DISPLAY

        self._snapshot = None
        self._published = Catalog(self._store.db).published()
        published = self.published()
        if self._in_memory:
            self._load_whole(published)
        else:
            published.load_rows((*DISPLAY, "creator"))
            published.load_vectors(published.passports, HELD_BYTES)
        pipeline = self._reading_pipeline()
        self._snapshot = Snapshot(pipeline, Limits(**pipeline.media.limits()), *self._read_calibration())

    def serving_version(self) -> tuple[str, int, int, int]:
        """Read what changes whenever answers may: tag and table version of the publication, and the versions of the
        tables of settings and of fits. All 0 before the first publication."""
        current = Catalog(self._store.db).current()
        tag, version = ("", 0) if current is None else (current.tag, current.version)
        return tag, version, self._store.table_version(PIPELINES), self._store.table_version(ARTIFACTS)

    def table_versions(self) -> dict[str, int]:
        """Read the versions of all tables, one of which every change of the workspace raises."""
        return {name: self._store.table_version(name) for name in self.tables()}

    def setting_faults(self) -> dict[str, str]:
        """Find the stages, or other sections, of the stored settings that do not resolve, and what is wrong with each.

        Such a workspace answers from what it holds; the next run needs settings that resolve.
        """
        from coldstart.engine.resolve import readable

        return dict(readable(self._reading_pipeline()).unresolved)

    def setting_notes(self) -> list[str]:
        """Say in a line each what does not resolve in the stored settings, and at last how to mend it."""
        faults = self.setting_faults()
        lines = [f"{name}: {why}" for name, why in faults.items()]
        mend = f"put in place what is missing, or run one that does: `coldstart run PIPELINE --workspace {self.uri}`"
        return [*lines, f"no run goes on until these settings resolve: {mend}"] if faults else []

    def _check_stored(self) -> None:
        """Refuse stored settings that are no pipeline, as those of another release or of a stranger may be."""
        stored = self._store.pipeline()
        if stored is None:
            return
        try:
            pipelines.load(_without_media(stored, {value for name, value in places(stored) if name in MEDIA}))
        except PipelineError as error:
            raise ColdstartError(
                f"the stored settings of workspace {self.uri} are no pipeline: {'; '.join(error.faults)}: name one "
                f"anew with `coldstart run PIPELINE --workspace {self.uri}`"
            ) from error

    def media_limits(self, *files: Path) -> Limits:
        """Return the limits of media, with the folders that this user gave for this workspace.

        Args:
            files: that are given now and may be read as well.
        """
        limits = self._snapshot.limits if self._snapshot else Limits(**self._reading_pipeline().media.limits())
        return replace(limits, roots=(*(limits.roots or ()), *map(str, files)))

    def _distrusted(self) -> list[Place]:
        """List the places of the stored settings that this user never gave for this workspace."""
        stored, known = self._store.pipeline(), remembered(self.uri)
        return [] if stored is None else [place for place in places(stored) if place not in known]

    def trust(self) -> list[Place]:
        """Let the places that the stored settings name count from now on, as if they were given; returns those that did
        not count before: names of settings, and values."""
        found = self._distrusted()
        remember(self.uri, found)
        return found

    def trust_note(self) -> str | None:
        """Say in a line which stored settings do not count, and how to give them; None where all do."""
        found = self._distrusted()
        return self._trust_message(found) if found else None

    def _trust_message(self, found: Sequence[Place]) -> str:
        name, value = found[0]
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        how = {"manifest": "--manifest", "media.roots": "--media-root"}.get(name)
        return (
            f"workspace {self.uri}: its stored settings name {name}={show_value(value)}{more}, which counts only when "
            f"given: name the pipeline{f', {how}' if how else ''}, or let all count with `coldstart status "
            f"--workspace {self.uri} --trust`"
        )

    def _loaded(self, pipeline: PipelineSource) -> Pipeline:
        """Load a pipeline, unless it is one already."""
        return pipeline if isinstance(pipeline, Pipeline) else self.pipeline(pipeline)

    def tables(self) -> list[str]:
        """List the names of the workspace's tables."""
        return self._store.tables()

    def table(self, name: str, columns: list[str] | None = None, where: str | None = None) -> pa.Table:
        """Read a table as Arrow; `.to_pandas()` turns it into a data frame.

        Args:
            where: an SQL condition over its columns, as for `search`.

        Raises:
            ColdstartError: there is no such table, or a fault in the condition.
        """
        if where is not None:
            from coldstart.store.conditions import parse_condition  # few calls need the parser

            where = parse_condition(where, self._store.read(name, where="false").schema).sql
        return self._store.read(name, columns, where=where)

    def published(self) -> Published:
        """Open the catalog that is served.

        Raises:
            ColdstartError: none is published yet.
        """
        if self._published is None:
            self._published = Catalog(self._store.db).published()
            if self._in_memory and self._published is not None:
                try:
                    self._load_whole(self._published)
                    self.load_graphs()
                except BaseException:  # the next call says so again, and does not go on from disk
                    self._published = None
                    raise
        if self._published is None:
            count = self._store.count(ITEMS)
            here = f"has {count:,} items and no index of them yet" if count else "has no items yet"
            run = f"coldstart run{'' if self._store.has(PIPELINES) else ' PIPELINE --manifest FILE'}"
            raise ColdstartError(
                f"nothing is published in workspace {self.uri}, which {here}: `{run} --workspace {self.uri}`",
                kind="not_ready",
            )
        return self._published

    @staticmethod
    def _load_whole(published: Published) -> None:
        """Hold the columns of hits, and the vectors of spaces that have no index, whatever their size."""
        from coldstart.search.search import DISPLAY

        published.load_rows((*DISPLAY, "creator"), most=len(published))
        unindexed = published.passports.keys() - set(published.indexed_spaces)
        published.load_vectors(sorted(unindexed), sys.maxsize)

    def load_graphs(self, **options: Any) -> dict[str, GraphReport]:
        """Hold the vectors of indexed spaces in memory with their graphs, where they are not yet; of a workspace that
        was opened with `index="memory"`.

        Args:
            options: `build`, `threads` and `stopped` as for `coldstart.store.memory_index.open_graph`.

        Returns:
            Figures by space.

        Raises:
            ColdstartError: nothing is published, or faiss is not installed.
        """
        published, found = self.published(), {}
        for space in published.indexed_spaces if self._in_memory else ():
            if not published.has_graph(space):
                report = published.load_graph(space, **options)
                if report is not None:
                    found[space] = report
        return found

    def publications(self) -> list[Publication]:
        """List the published versions that are stored, newest first."""
        return Catalog(self._store.db).publications()

    def published_at(self, publication: Publication) -> Published:
        """Open the catalog at one of `publications`.

        Raises:
            ColdstartError: it was dropped meanwhile, or cannot be read.
        """
        return Catalog(self._store.db).at(publication)

    def rollback(self) -> Publication:
        """Serve the publication before the current one again."""
        with self._store.lock():
            publication = Catalog(self._store.db).rollback()
        self._published = None
        return publication

    def _ids_where(self, where: str | None, kind: str | None) -> list[str]:
        """Find the items that meet a condition: of the served catalog, and of the items that are not served."""
        from coldstart.store.catalog import Catalog
        from coldstart.store.conditions import parse_condition
        from coldstart.store.published import check_kind
        from coldstart.store.sql import equals

        if kind is not None:
            check_kind(kind)
        found: list[str] = []
        published = Catalog(self._store.db).published()
        if published is not None:
            condition = published.condition(where=where, kind=kind, copies=True)
            for batch in published.blocks([], where=condition):
                found += batch.column("item_id").to_pylist()
        if self._store.has(ITEMS):
            parts = [equals("kind", kind)] if kind is not None else []
            try:
                if where is not None:
                    parts.append(parse_condition(where, self._store.read(ITEMS, where="false").schema).sql)
                found += self._store.read(ITEMS, ["item_id"], where=" AND ".join(parts))["item_id"].to_pylist()
            except ColdstartError:  # a condition on a column that the catalog alone has, such as label
                if published is None:
                    raise
        return found

    def _chosen_items(self, items: Iterable[str] | None, where: str | None) -> frozenset[str] | None:
        """Find the items that ids and a condition choose, those of both where both are given; None where neither is.

        Raises:
            ColdstartError: an id that the workspace does not have, or a condition that no item meets.
        """
        if items is None and where is None:
            return None
        known = frozenset(self._store.keys(ITEMS)) if self._store.has(ITEMS) else frozenset()
        chosen = known
        if items is not None:
            named = frozenset(items)
            if unknown := sorted(named - known):
                shown = ", ".join(f"{one!r}{suggestion(one, known)}" for one in unknown[:5])
                more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
                raise ColdstartError(
                    f"no item {shown}{more} in workspace {self.uri}: list ids with `coldstart export items`"
                )
            chosen = named
        if where is not None:
            chosen &= frozenset(self._ids_where(where, None))
        if not chosen:
            raise ColdstartError(
                f"no item of workspace {self.uri} meets {where!r}: widen the condition"
                if where
                else "no item is named: give --items ID,ID"
            )
        return chosen


def is_in_memory(index: str) -> bool:
    """Tell whether an index is to be in memory.

    Raises:
        ColdstartError: there is no such place.
    """
    if index not in INDEXES:
        raise ColdstartError(f"index {index!r}{suggestion(index, INDEXES)}: give one of {', '.join(INDEXES)}")
    return index == "memory"


def _without_media(settings: Mapping[str, Any], values: set[str]) -> dict[str, Any]:
    """Leave out values of where media may come from."""
    kept = {name: value for name, value in settings.items() if name != "manifest" or value not in values}
    media = settings.get("media")
    if isinstance(media, Mapping):
        kept["media"] = {
            name: [one for one in value if one not in values] if isinstance(value, list | tuple) else value
            for name, value in media.items()
        }
    return kept
