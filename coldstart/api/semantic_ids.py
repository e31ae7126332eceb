"""Methods for semantic IDs: fit codebooks, read IDs, measure their health, write the page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.api.work import WorkMethods
from coldstart.core.progress import Progress
from coldstart.engine.report import RunReport
from coldstart.store.catalog import Catalog

if TYPE_CHECKING:
    import pyarrow as pa

    from coldstart.semantic_ids.health import Health
    from coldstart.semantic_ids.read import SemanticIds
    from coldstart.semantic_ids.workspace import Branch
    from coldstart.store.published import Published


class SidMethods(WorkMethods):
    """Methods of a workspace about the semantic IDs of its items."""

    def finetune_sids(
        self,
        source: str | Path | Mapping[str, Any] | None = None,
        *,
        space: str | None = None,
        method: str | None = None,
        levels: Sequence[int] | None = None,
        collisions: str | None = None,
        overrides: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> RunReport:
        """Fit `align.sids` on the present items, where any came, changed or went since the last fit, and give all IDs.

        Args:
            source: the pipeline, as for `pipeline()`; one without such stages gets them before its index.
            space: the space to code; by default the stage's own, for a new one `behaviour` where that is fitted, else
                the first space of texts.
            method: `rqkmeans`, `opq`, `fsq` or `rqvae`; levels: codes of each level.
            collisions: `reassign`, `suffix` or `keep`.

        Raises:
            ColdstartError: a fault that you can mend, such as too few items.
        """
        from coldstart.semantic_ids.settings import FIT, IDS, with_sids

        raw, changes = with_sids(
            self.pipeline(source), space=space, method=method, levels=levels, collisions=collisions
        )
        return self.run(raw, overrides=[*changes, *overrides], only=[FIT, IDS], refit=True, progress=progress)

    def finetune_recall(
        self,
        source: str | Path | Mapping[str, Any] | None = None,
        *,
        space: str | None = None,
        model: str | None = None,
        generator: str | None = None,
        overrides: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> RunReport:
        """Fit `finetune.recall`, a sequence model of the users' histories, where items, IDs or interactions came,
        changed or went since the last fit.

        Items get semantic IDs first where they have none. IDs that are there stay.

        Args:
            source: the pipeline, as for `pipeline()`; one without such a stage gets it, and those of semantic IDs.
            space: the space of content to read; by default the stage's own, for a new one the first of texts.
            model: what decodes semantic IDs: `transformer`, the sequence model's own head, or `llm`, a language model
                that is taught them beside it; by default the stage's own.
            generator: the language model of `llm`: `starter` or `hf:NAME_OR_PATH`.

        Raises:
            ColdstartError: a fault that you can mend, such as too few histories.
        """
        from coldstart.semantic_ids.recall_service import recall_stage
        from coldstart.semantic_ids.recall_settings import RECALL, with_recall
        from coldstart.semantic_ids.settings import FIT, IDS

        given = self.pipeline(source)
        raw, changes = with_recall(given, space=space, model=model, generator=generator)
        pipeline = self.pipeline(raw, overrides=[*changes, *overrides])
        if not given.of_kind(RECALL):  # or a fit that is refused would leave its stages in the pipeline
            recall_stage(pipeline).check_enough(self._store)
        self.run(pipeline, only=[FIT, IDS], progress=progress)
        return self.run(pipeline, only=[RECALL], refit=True, progress=progress)

    def sids(
        self, item: str | None = None, *, prefix: str | Sequence[int] | None = None, version: str | None = None
    ) -> pa.Table:
        """Read semantic IDs as Arrow, in their order: item_id, sid, codes, title, category.

        Args:
            item: only this item; prefix: only items whose ID begins so, such as `12-7` or `(12, 7)`.
            version: first digits of a stored version, as `sid_versions` lists them; by default that of the publication.

        Raises:
            ColdstartError: there are no IDs yet, or no such item, prefix or version.
        """
        from coldstart.semantic_ids.workspace import ids_table

        pipeline, published = self._reading_pipeline(), self._served_catalog()
        return ids_table(self._store, pipeline, item=item, prefix=prefix, version=version, published=published)

    def sid_arrays(self, version: str | None = None) -> SemanticIds:
        """Load semantic IDs as arrays: item ids, codes int32 [N, L], and their trie.

        Raises:
            ColdstartError: there are no IDs yet, or no such version.
        """
        from coldstart.semantic_ids.read import load_ids

        return load_ids(self._store, self._reading_pipeline(), version, self._served_catalog())

    def sid_branches(self, prefix: str | Sequence[int] = (), version: str | None = None) -> list[Branch]:
        """List the prefixes one level below a prefix, the one of most items first.

        Raises:
            ColdstartError: there are no IDs yet, or no such version.
        """
        from coldstart.semantic_ids.read import parse_prefix
        from coldstart.semantic_ids.workspace import branches

        chosen = parse_prefix(prefix) if prefix else ()
        return branches(self.sid_arrays(version), chosen)

    def export_sids(self, out: str | Path, version: str | None = None) -> int:
        """Write all semantic IDs as .csv, .tsv, .jsonl, .json or .parquet; returns the number of rows.

        Columns: item_id, sid, and code_1, code_2, … as integers.

        Raises:
            ColdstartError: there are no IDs yet, no such version, or the file cannot be written.
        """
        from coldstart.recommend.table_files import check_out_path, table_writer
        from coldstart.semantic_ids.workspace import export_table

        check_out_path(Path(out))
        rows = export_table(self.sid_arrays(version))
        with table_writer(Path(out), rows.schema) as writer:
            writer.write_table(rows)
        return int(rows.num_rows)

    def sid_versions(self) -> list[dict[str, Any]]:
        """List the stored versions of semantic IDs, newest first; `served` is that of the publication.

        A new fit is `served` from the next publication on, by `run` or `index`; a rollback brings the last one back.
        """
        from coldstart.semantic_ids.workspace import list_versions

        return list_versions(self._store, self._reading_pipeline(), self._served_catalog())

    def sid_health(self, version: str | None = None) -> Health:
        """Measure semantic IDs: uniqueness, use of codes, reach of new items, churn, agreement with behaviour.

        Fits codebooks three times on at most 20,000 of the items.

        Raises:
            ColdstartError: there are no IDs yet, or no such version.
        """
        from coldstart.semantic_ids.workspace import read_health

        return read_health(self._store, self._reading_pipeline(), version, self._served_catalog())

    def sid_page(self, out: str | Path, health: Health | None = None, version: str | None = None) -> None:
        """Write a page with the tree of codes, example pictures and, where given, the health card.

        Raises:
            ColdstartError: there are no IDs yet, or the file cannot be written.
        """
        from coldstart.semantic_ids.page import write_page

        write_page(self._store, self.sid_arrays(version), Path(out), health=health, limits=self.media_limits())

    def _served_catalog(self) -> Published | None:
        """Open the catalog that is served, or is held here since it was first asked for; None where there is none."""
        if self._published is not None:
            return self._published
        return Catalog(self._store.reader).published()  # which needs no import of LanceDB
