"""Methods that import a catalogue as a shop has it: plan the reading of its tables, then ingest by that plan."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.api.work import WorkMethods
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.core.scratch import scratch_folder
from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from coldstart.ingest.catalogue import CatalogueReport, SourcePlan, SourceReport

_NAMED = 5
_DOUBTFUL = "doubtful: "


class ImportMethods(WorkMethods):
    """Methods of a workspace that import catalogues."""

    def plan_import(
        self,
        sources: Iterable[str | Path],
        *,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        pipeline: str | Path | Mapping[str, Any] | None = None,
        overrides: Iterable[str] = (),
        downloads: str | Path | None = None,
    ) -> list[SourcePlan]:
        """Recognise the columns of tables, and read their rows once; stores nothing but what is fetched.

        Args:
            sources: table files, folders (of a table with its media, of a dataset, of media alone), https addresses.
            columns: our field, or `attributes.NAME` -> column, or several; others are recognised.
            pipeline, overrides: as for `pipeline()`; a mapping that an earlier import stored is used again where the
                columns are the same.
            downloads: folder that tables of the web are written to, by default `downloads` in the workspace.

        Raises:
            ColdstartError: a table cannot be read or fetched, or `columns` names no field or column.
        """
        from coldstart.ingest.catalogue import plan_table
        from coldstart.ingest.sources import fetch_table, find_tables, is_url

        given = {name: (one,) if isinstance(one, str) else tuple(one) for name, one in (columns or {}).items()}
        stored = self._ingest_settings(self._store.pipeline() or {})
        base = self.pipeline(pipeline, manifest=Path.cwd(), overrides=overrides)  # for its settings of media alone
        plans = []
        for source in map(str, sources):
            if is_url(source):
                folder = Path(downloads) if downloads is not None else self._own_folder("downloads", source)
                found = [fetch_table(source, folder)]
            else:
                found = find_tables(Path(source).expanduser().absolute())
            plans += [plan_table(source, path, given, stored, base.media.allowed_hosts) for path in found]
        if not plans:
            raise ColdstartError("nothing to import: give a file, a folder or an https address", kind="usage")
        return plans

    def import_catalogue(
        self,
        sources: Iterable[str | Path | SourcePlan],
        *,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        pipeline: str | Path | Mapping[str, Any] | None = None,
        media_roots: Iterable[str | Path] = (),
        overrides: Iterable[str] = (),
        strict: bool = False,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> CatalogueReport:
        """Ingest a catalogue as a shop has it, and store how its columns are read in the workspace's pipeline.

        Several sources make one catalogue; where two have the same id, the later one counts.

        Args:
            sources: as for `plan_import`, or plans that it made.
            media_roots: folders besides the table's own that media may come from.
            strict: refuse where anything is doubtful or rejected, before anything is stored.
            dry_run: read and check everything, store nothing.

        Raises:
            ColdstartError: as `plan_import`, another process writes to the workspace, or `strict` refuses.
        """
        from coldstart.ingest.catalogue import CatalogueReport, SourcePlan

        began = time.monotonic()
        overrides, media_roots, sources = tuple(overrides), tuple(media_roots), list(sources)
        plans = [one for one in sources if isinstance(one, SourcePlan)]
        if len(plans) < len(sources):
            plans = self.plan_import(
                [one for one in sources if not isinstance(one, SourcePlan)],
                columns=columns,
                pipeline=pipeline,
                overrides=overrides,
            )
        if strict or dry_run:
            checked = [self._checked(plan, pipeline, media_roots, overrides) for plan in plans]
            if strict:
                _refuse_doubts(checked)
            if dry_run:
                return CatalogueReport(checked, *_doubled(plans), time.monotonic() - began, dry_run=True)
        reports = []
        for plan in plans:
            prepared = self._import_pipeline(plan, pipeline, media_roots, overrides)
            name = prepared.of_kind("ingest")[0].name
            done = self.run(prepared, only=[name], progress=progress)
            pipeline = prepared.raw  # of the next source: the same settings, another table
            report = self._counted(plan, name)
            notes = [note for stage in done.stages for note in stage.notes]
            report.doubts = tuple(
                line
                for note in notes
                if note.startswith(_DOUBTFUL) and (line := note.removeprefix(_DOUBTFUL)) not in plan.doubts
            )
            report.over_budget = bool(done.over_budget)
            reports.append(report)
        return CatalogueReport(reports, *_doubled(plans), time.monotonic() - began)

    def keep_downloads(self, plans: Sequence[SourcePlan], folder: Path) -> list[SourcePlan]:
        """Move the tables that were fetched into a folder to the folder `downloads` of the workspace."""
        kept = []
        for plan in plans:
            if plan.path.is_relative_to(folder):
                target = self._own_folder("downloads", plan.source) / plan.path.parent.name / plan.path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(plan.path, target)
                plan = replace(plan, path=target)
            kept.append(plan)
        return kept

    def _import_pipeline(
        self,
        plan: SourcePlan,
        source: str | Path | Mapping[str, Any] | None,
        media_roots: Sequence[str | Path],
        overrides: Sequence[str],
        media_folder: Path | None = None,
    ) -> Pipeline:
        base = self.pipeline(source, manifest=plan.path, media_roots=media_roots, overrides=overrides)
        if not (stages := base.of_kind("ingest")):
            raise ColdstartError(f"{base.source} has no stage of kind ingest: add `ingest: {{}}` to its stages")
        settings = plan.settings()
        if plan.has_bytes:
            folder = media_folder or self._own_folder("media", str(plan.path))
            settings["media_folder"] = str(folder)
            if str(folder) not in base.media.roots:
                media_roots = (*media_roots, folder)
        given = [f"{stages[0].name}.{key}={json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
        return self.pipeline(source, manifest=plan.path, media_roots=media_roots, overrides=[*overrides, *given])

    def _checked(
        self,
        plan: SourcePlan,
        source: str | Path | Mapping[str, Any] | None,
        media_roots: Sequence[str | Path],
        overrides: Sequence[str],
    ) -> SourceReport:
        """Read and check all rows as the stage ingest does; stores nothing."""
        from coldstart.ingest.catalogue import SourceReport
        from coldstart.ingest.stage import IngestStage

        with scratch_folder("media") as folder:
            prepared = self._import_pipeline(plan, source, media_roots, overrides, folder)
            spec = prepared.of_kind("ingest")[0]
            stage = IngestStage(spec.name, spec.settings, prepared)
            report = SourceReport(plan)
            for work in stage.entries():
                if isinstance(work.row, Reject):
                    report.rejected[work.row.reason] += 1
                    report.examples.setdefault(work.row.reason, work.row.detail)
                else:
                    report.items += 1
            report.doubts = tuple(stage.doubts())
        report.rows = plan.survey.rows if plan.survey else report.items + sum(report.rejected.values())
        report.joined = plan.survey.joined if plan.survey else 0
        return report

    def _counted(self, plan: SourcePlan, stage: str) -> SourceReport:
        """Count what became of the rows of a source, by the ledger."""
        from coldstart.ingest.catalogue import SourceReport
        from coldstart.ingest.folder import read_folder

        ids = plan.survey.ids if plan.survey else {str(row["item_id"]): 1 for row in read_folder(plan.path)}
        mark = f"{plan.path.name}#"
        own = [row for item, row in self._store.verdicts(stage).items() if item in ids or item.startswith(mark)]
        report = SourceReport(plan)
        report.rejected = Counter(row.reason for row in own)
        for row in own:
            report.examples.setdefault(row.reason, row.detail)
        report.rows = plan.survey.rows if plan.survey else len(ids)
        report.joined = plan.survey.joined if plan.survey else 0
        report.items = len(ids) - sum(1 for row in own if row.item_id in ids)
        return report

    def _ingest_settings(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the stored settings of the stage ingest."""
        from coldstart.core.settings import kind_of

        stages = settings.get("stages")
        if isinstance(stages, Mapping):
            for name, given in stages.items():
                if kind_of(name, given) == "ingest" and isinstance(given, Mapping):
                    return given
        return {}

    def _own_folder(self, name: str, source: str) -> Path:
        if self._store.folder is None:
            raise ColdstartError(
                f"{source}: files have to be written, and workspace {self.uri} is no folder of this machine: fetch or "
                "unpack it first"
            )
        return self._store.folder / name


def _doubled(plans: Sequence[SourcePlan]) -> tuple[int, str]:
    """Count the ids that two sources have, with the first of them."""
    seen, doubled = set[str](), dict[str, None]()
    for plan in plans:
        ids = plan.survey.ids.keys() if plan.survey else ()
        doubled.update(dict.fromkeys(one for one in ids if one in seen))
        seen.update(ids)
    return len(doubled), next(iter(doubled), "")


def _refuse_doubts(reports: Sequence[SourceReport]) -> None:
    """Refuse a catalogue of which anything is doubtful or rejected; raises `ColdstartError`."""
    found = []
    for report in reports:
        found += [*report.plan.doubts, *report.doubts, *report.plan.changes]
        found += [
            f"{count:,} {'row' if count == 1 else 'rows'} rejected as {reason}, such as {report.examples[reason]}"
            for reason, count in report.rejected.items()
        ]
    if found:
        more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise ColdstartError(
            f"--strict: nothing was stored: {'; '.join(found[:_NAMED])}{more}: say what is meant with --map "
            "FIELD=COLUMN, mend the file, or leave --strict out",
            kind="input",
        )
