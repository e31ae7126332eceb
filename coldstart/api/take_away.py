"""Methods that take out of a workspace: remove items or users, and export what is published."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.api.opened import OpenedStore
from coldstart.core.progress import Progress, SilentProgress
from coldstart.errors import ColdstartError
from coldstart.store import ITEMS

if TYPE_CHECKING:
    from coldstart.store.ann import IndexSettings
    from coldstart.store.export import Exported
    from coldstart.store.removal import Removal


class TakeAwayMethods(OpenedStore):
    """Methods of a workspace that remove and export."""

    def remove(
        self,
        items: Iterable[str] = (),
        *,
        manifest: str | Path | None = None,
        where: str | None = None,
        kind: str | None = None,
        interactions: bool = False,
        dry_run: bool = False,
    ) -> Removal:
        """Remove items from every table, from the served catalog and from the publications before it.

        A run whose manifest still names a removed item turns it away (`removed`) until `undo_removal`. Copies that were
        linked to one are matched anew by the next run. Removed are the union of what the arguments name.

        Args:
            manifest: a file as for `run`: the items that it names.
            where: an SQL condition as for `search`; with `kind`, both must hold.
            interactions: also drop the interactions with them and their impressions, which otherwise stay as histories
                of users.
            dry_run: count, and remove nothing.

        Raises:
            ColdstartError: nothing is named, none of it is in the workspace, or another process writes to it.
        """
        from coldstart.store import removal

        named = [*items]
        if manifest is not None:
            named += self._ids_of(Path(manifest))
        if where is not None or kind is not None:
            named += self._ids_where(where, kind)
        elif not named:
            raise ColdstartError("remove: name items, a manifest or a condition")
        options: dict[str, Any] = {"interactions": interactions, "index": self._index_settings()}
        if dry_run:
            return self._checked_removal(removal.remove_items(self._store, named, dry_run=True, **options))
        from coldstart.store.uploads import sweep_uploads

        with self._store.lock():
            self._published = None
            removed = self._checked_removal(removal.remove_items(self._store, named, **options))
            sweep_uploads(self._store)
            return removed

    def remove_users(self, users: Iterable[str] | Path, *, dry_run: bool = False) -> Removal:
        """Remove all interactions and impressions of users, in all versions of every table; refuse them from now on.

        Args:
            users: their ids, or a CSV, JSONL, Parquet or text file of them.
            dry_run: count, and remove nothing.

        Raises:
            ColdstartError: the workspace has none of them, or another process writes to it.
        """
        from coldstart.store import removal

        named = self._user_ids(users)
        if dry_run:
            return self._checked_removal(removal.remove_users(self._store, named, dry_run=True))
        with self._store.lock():
            return self._checked_removal(removal.remove_users(self._store, named))

    def undo_removal(
        self,
        items: Iterable[str] = (),
        *,
        manifest: str | Path | None = None,
        users: Iterable[str] | Path = (),
    ) -> list[str]:
        """Let removed items or users come back with the next run or ingest that names them; returns those.

        Args:
            manifest: a file as for `remove`: the items that it names.

        Raises:
            ColdstartError: none of them was removed, or another process writes to the workspace.
        """
        from coldstart.store import removal
        from coldstart.store.tombstones import ITEM, USER

        back, unknown = [], []
        named = [*items, *(self._ids_of(Path(manifest)) if manifest is not None else ())]
        with self._store.lock():
            for what, ids in ((ITEM, named), (USER, self._user_ids(users))):
                found, others = removal.undo(self._store, what, ids)
                back += found
                unknown += others
        if not back:
            raise ColdstartError(
                f"workspace {self.uri}: nothing of that was removed ({', '.join(map(repr, unknown[:5])) or 'no name'})"
            )
        return back

    def removal_notes(self) -> list[str]:
        """List removals that were interrupted, and fits that learnt from what was removed since; a line each."""
        from coldstart.store.removal import removal_notes

        return removal_notes(self._store)

    def export(
        self,
        what: str,
        out: str | Path,
        *,
        format: str = "parquet",
        where: str | None = None,
        kind: str | None = None,
        space: str | None = None,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> list[Exported]:
        """Write what is published to files that other programs read.

        Args:
            what: `items`, `vectors`, `descriptions`, `impressions`, `ledger`, or `all`, which writes a file or folder
                of each but impressions.
            out: a file for `parquet` and `jsonl`, a folder for `huggingface`, `faiss` and `all`.
            where: an SQL condition as for `search`; kind: only items of this kind.
            space: of `vectors`; by default the only one, or with `all` and `huggingface` every one.
            overwrite: replace what is at `out`.

        Raises:
            ColdstartError: nothing is published, `out` exists, or a fault in the arguments.
        """
        from coldstart.store.export import ExportRequest, export

        request = ExportRequest(what, Path(out), format, where, kind, space, overwrite)
        return export(self._store, self.published, request, progress or SilentProgress())

    def _ids_of(self, manifest: Path) -> list[str]:
        """Read the ids that a manifest names: in item_id, in the column that the last pipeline maps to it, or in one
        with a usual name; ids that were made are made again."""
        from coldstart.ingest.manifest import Manifest
        from coldstart.ingest.recognition import SURE

        stored = self._stored_ingest()
        own = stored.get("map")
        mapped = {name: one for name, one in (own if isinstance(own, Mapping) else {}).items() if name == "item_id"}
        made_from = stored.get("id_from") or ()
        table = Manifest(manifest, clean=False)
        if not table.is_media_folder:
            columns = table.columns()
            if "item_id" in mapped and mapped["item_id"] in columns:
                table = Manifest(manifest, mapped, clean=False)
            elif made_from and {*made_from} <= {*columns}:
                table = Manifest(manifest, clean=True, id_from=made_from)
            elif "item_id" not in columns:
                match = table.recognise().of("item_id")
                if match is None or match.confidence < SURE:
                    also = "".join(f" or {column}" for column in mapped.values())
                    raise ColdstartError(
                        f"{manifest} has no column of ids: it has {', '.join(columns[:10])}; name one item_id{also}"
                    )
        ids = [str(item) for entry in table.entries() if (item := entry.fields.get("item_id")) is not None]
        if not ids:
            raise ColdstartError(f"{manifest} names no item: its column of ids is empty")
        return ids

    def _stored_ingest(self) -> Mapping[str, Any]:
        """Return the settings of the stage ingest of the last pipeline."""
        stages = (self._store.pipeline() or {}).get("stages")
        for name, stage in (stages if isinstance(stages, Mapping) else {}).items():
            if isinstance(stage, Mapping) and stage.get("stage", name) == "ingest":
                return stage
        return {}

    def _index_settings(self) -> IndexSettings | None:
        """Read the settings of the index from the last pipeline; None where that does not load."""
        from coldstart.store.ann import IndexSettings

        try:
            specs = self._reading_pipeline().of_kind("index")
        except ColdstartError:
            return None
        if not specs:
            return None
        own = specs[-1].settings
        return IndexSettings(own.exact_below, own.index_type, own.target_recall)

    def _user_ids(self, users: Iterable[str] | Path) -> list[str]:
        from coldstart.recommend.batch import read_user_ids

        return read_user_ids(users) if isinstance(users, Path) else list(users)

    def _checked_removal(self, report: Removal) -> Removal:
        """Refuse a removal that found nothing, with the ids that are nearest to those given."""
        if report.removed or report.already:
            return report
        from coldstart.store.similar import similar_ids

        first = list(report.unknown[:3])
        if not first:
            raise ColdstartError(f"workspace {self.uri}: no {report.what} meets the condition; nothing was removed")
        of_items = report.what == "item"  # which users there are is not shown
        near = [similar_ids(one, self._store.batches(ITEMS, ["item_id"])) if of_items else "" for one in first]
        named = ", ".join(f"{one!r}{hint}" for one, hint in zip(first, near, strict=True))
        more = f" and {len(report.unknown) - len(first)} more" if len(report.unknown) > len(first) else ""
        raise ColdstartError(f"workspace {self.uri} has no {report.what} {named}{more}; nothing was removed")
