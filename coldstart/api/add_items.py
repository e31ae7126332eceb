"""Methods that take items in as they arrive: rows and their files, searchable when the call ends."""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.api.work import WorkMethods
from coldstart.core.progress import Progress, SilentProgress
from coldstart.core.trust import UPLOADS
from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from coldstart.core.pipeline import Pipeline
    from coldstart.engine.arrivals import ArrivalsReport, Outcome, WarmEngine
    from coldstart.ingest.load_interactions import InteractionReport


@dataclass(frozen=True)
class AddedItem:
    """State of one row of a batch.

    Attributes:
        row: its place among the rows, from 0.
        item_id: id of the item; None for a row without one.
        state: `searchable`; `duplicate`: served with the item that it is a copy of; `failed` or `filtered`: turned
            away; `pending`: waits for a fit, which the next run makes.
        change: `added`, `updated`, `unchanged`; `none`: turned away, and an item of this id stays as it was.
        stage, reason, detail: where and why, in the words of the ledger; empty for one that is searchable.
        bad_media: media that it does without, since they cannot be read: `role`, `uri`, `reason`, `detail` each.
    """

    row: int
    item_id: str | None
    state: str
    change: str
    stage: str = ""
    reason: str = ""
    detail: str = ""
    bad_media: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class AddReport:
    """Result of `Workspace.add_items`.

    Attributes:
        items: one for each row, in their order.
        publication: tag of the publication that is served now; None where nothing is.
        seconds: wall time; stages: the seconds of each stage.
        notes: what stages noted, such as fits that are still to come.
    """

    items: Sequence[AddedItem]
    publication: str | None
    seconds: float
    stages: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def states(self) -> dict[str, int]:
        """Number of rows by state."""
        return dict(Counter(item.state for item in self.items))

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain data for JSON."""
        return asdict(self)


INTERACTION_FIELDS = ("user_id", "item_id", "timestamp", "event", "weight")


def log_row(row: Mapping[str, Any], times: Sequence[str] = ("timestamp",)) -> dict[str, Any]:
    """Write the times of a row of a log as ISO 8601, whatever their form; one that is none is left for the checks."""
    from coldstart.core.values import parse_time

    found = dict(row) if isinstance(row, Mapping) else {}
    for name in times:
        with suppress(KeyError, TypeError, ValueError):
            found[name] = parse_time(found[name]).isoformat()
    return found


class AddMethods(WorkMethods):
    """Methods of a workspace that take items in one by one."""

    _warm: WarmEngine | None = None

    def add_items(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        files: Mapping[str, str | Path] | None = None,
        progress: Progress | None = None,
    ) -> AddReport:
        """Add items to the workspace, or change those of the same ids, and publish them.

        The stored pipeline runs from ingest to index, for these items alone and with its fits as they are. Settings and
        manifest of the workspace stay; a later run keeps the items, and a manifest that names one of them counts again.
        A row that is given again as it was costs nothing. A row that is turned away leaves an item of its id as it was.

        Args:
            rows: as a manifest has them, under our names: `item_id`, `title`, `media`, … Web addresses count by the
                pipeline's hosts, paths below its media roots.
            files: the name by which rows refer to a file -> the file here, which is copied into the workspace.

        Raises:
            ColdstartError: the workspace has no pipeline yet, another process writes to it, or a fault of the machine
                or of the settings; what was finished before is stored.
        """
        return self.add_item_batches([(list(rows), files or {})], progress=progress)[0]

    def add_item_batches(
        self,
        batches: Iterable[tuple[Sequence[Mapping[str, Any]], Mapping[str, str | Path]]],
        *,
        progress: Progress | None = None,
    ) -> list[AddReport]:
        """Add several batches at once, each of rows and its own files, as `add_items`; a report each.

        Ids that stand in two batches count once, as the first one has them.
        """
        from coldstart.engine.arrivals import run_arrivals, warm_engine
        from coldstart.ingest.arrivals import ArrivalStage, UploadedFiles
        from coldstart.media.limits import Limits

        began = time.monotonic()
        pipeline = self._pipeline_of_arrivals()
        folder = self._uploads_folder()
        spec = pipeline.of_kind("ingest")[0]
        limits = Limits(**pipeline.media.limits())
        rows: list[tuple[Mapping[str, Any], UploadedFiles]] = []
        ends = [0]
        for own, files in batches:
            uploads = UploadedFiles(folder, {name: Path(path) for name, path in files.items()}, limits)
            rows += [(row, uploads) for row in own]
            ends.append(len(rows))
        with self._store.lock(), warm_engine(self._warm) as warm:
            self._published = None
            source = ArrivalStage(spec.name, pipeline, rows, folder)
            ids = [item for place, item in enumerate(source.ids) if item is not None and place not in source.faults]
            done = run_arrivals(self._store, pipeline, source, ids, warm, progress or SilentProgress())
            self._published = None
        report = self._add_report(source, done, time.monotonic() - began)
        return [
            replace(report, items=[replace(one, row=one.row - start) for one in report.items[start:end]])
            for start, end in itertools.pairwise(ends)
        ]

    def add_interactions(
        self, rows: Iterable[Mapping[str, Any]], *, max_failed: float = 1.0, progress: Progress | None = None
    ) -> InteractionReport:
        """Add rows to the user-item interaction log; rows that it already has are not added again.

        Args:
            rows: `user_id`, `item_id`, `timestamp` (ISO 8601, or a number since 1970), and where there are such things
                `event` and `weight`. Rows are the same where user, item, time and event are; the last weight counts.
            max_failed: share of rows that may be rejected before the report is `over_budget`.

        Raises:
            ColdstartError: there are no rows, or another process writes to the workspace.
        """
        from coldstart.core.scratch import scratch_folder
        from coldstart.ingest.load_interactions import import_interactions

        plain = [log_row(row) for row in rows]
        names = [name for name in INTERACTION_FIELDS if any(row.get(name) is not None for row in plain)]
        if not {"user_id", "item_id"} <= {*names}:
            raise ColdstartError("no interactions: give rows with user_id and item_id", kind="input")
        with scratch_folder("run") as folder:
            path = folder / "interactions.jsonl"
            lines = [json.dumps({name: row.get(name) for name in names}, default=str) for row in plain]
            path.write_text("\n".join(lines) + "\n", "utf-8")
            return import_interactions(
                self._store,
                path,
                columns={name: name if name in names else "" for name in INTERACTION_FIELDS},
                time_unit="iso",
                max_failed=max_failed,
                keep_rejected=False,
                progress=progress,
            )

    @contextmanager
    def keep_warm(self, *, load: bool = False) -> Iterator[None]:
        """Keep models and worker processes from one `add_items` to the next, for the length of the block.

        Args:
            load: load them now, by doing an item of each kind again without storing it, and not with the first row.
        """
        from coldstart.engine.arrivals import load_models, warm_engine

        with warm_engine() as self._warm:
            try:
                if load and self._store.pipeline() is not None:
                    load_models(self._store, self.pipeline(), self._warm)
                yield
            finally:
                self._warm = None

    def _pipeline_of_arrivals(self) -> Pipeline:
        stored = self._store.pipeline()
        if stored is None:
            raise ColdstartError(
                f"workspace {self.uri} has no pipeline to add items by: run one once, `coldstart run PIPELINE "
                f"--manifest FILE --workspace {self.uri}`, or make one from your table with `coldstart init`",
                kind="not_ready",
            )
        pipeline = self.pipeline()
        if not pipeline.of_kind("ingest"):
            raise ColdstartError(
                f"the pipeline of workspace {self.uri} has no stage of kind ingest: add `ingest: {{}}` to its stages",
                kind="settings",
            )
        return pipeline

    def _uploads_folder(self) -> Path:
        if self._store.folder is None:
            raise ColdstartError(
                f"workspace {self.uri} is no folder of this machine, and files of items are kept beside its tables: "
                "add items where it is one"
            )
        return self._store.folder.resolve() / UPLOADS

    def _add_report(self, source: Any, done: ArrivalsReport, seconds: float) -> AddReport:
        from coldstart.store import ITEMS
        from coldstart.store.catalog import Catalog

        outcomes: dict[str, Outcome] = {one.item_id: one for one in done.items}
        bad: dict[str, Any] = {}
        if outcomes and "bad_media" in self._store.columns(ITEMS):
            rows = self._store.read(ITEMS, ["item_id", "bad_media"], ids=sorted(outcomes)).to_pylist()
            bad = {row["item_id"]: row["bad_media"] or () for row in rows}
        items = []
        for place, item_id in enumerate(source.ids):
            if (fault := source.faults.get(place)) is not None:
                own = (fault.state, "none", source.name, fault.reason, fault.detail)
                items.append(AddedItem(place, item_id, *own))
            else:
                one = outcomes[item_id]
                media = () if one.change == "none" else tuple(bad.get(item_id, ()))
                own = (one.state, one.change, one.stage, one.reason, one.detail)
                items.append(AddedItem(place, item_id, *own, bad_media=media))
        published = Catalog(self._store.reader).published()
        tag = None if published is None else published.publication.tag
        return AddReport(items, tag, seconds, done.seconds, done.notes)
