"""An opened workspace: its store, the settings of its last run, and what is loaded once for all methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from coldstart.core import pipeline as pipelines
from coldstart.core.pipeline import Pipeline
from coldstart.errors import ColdstartError
from coldstart.store import Store
from coldstart.store.catalog import Catalog
from coldstart.store.fits import with_fits

if TYPE_CHECKING:
    from coldstart.encoders import Encoder
    from coldstart.recommend.service import Recommender
    from coldstart.store.published import Publication, Published

DEFAULT_PIPELINE = "starter"

PipelineSource: TypeAlias = Pipeline | str | Path | Mapping[str, Any] | None


class OpenedStore:
    """One open store with its settings, its tables and the publication that is served."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._encoders: dict[str, Encoder] = {}
        self._published: Published | None = None
        self._recommender: Recommender | None = None

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

        Raises:
            ColdstartError: with every fault of the settings.
        """
        if source is None:
            source = self._store.pipeline() or DEFAULT_PIPELINE
        loaded = pipelines.load(source, overrides, manifest=manifest, media_roots=media_roots, spaces=spaces)
        return with_fits(loaded, self._store)

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
        if self._published is None:
            raise ColdstartError(
                f"nothing is published in workspace {self.uri}: run `coldstart run --workspace {self.uri}`"
            )
        return self._published

    def publications(self) -> list[Publication]:
        """List the published versions that are stored, newest first."""
        return Catalog(self._store.db).publications()

    def rollback(self) -> Publication:
        """Serve the publication before the current one again."""
        with self._store.lock():
            publication = Catalog(self._store.db).rollback()
        self._published = None
        return publication
