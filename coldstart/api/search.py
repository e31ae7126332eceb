"""Methods that find items: search, match videos with products, and read single items."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart.api.opened import OpenedStore
from coldstart.errors import ColdstartError
from coldstart.store import ITEMS

if TYPE_CHECKING:
    from coldstart.embed.label_items import Labelled
    from coldstart.encoders import Encoder, Passport
    from coldstart.search.item_report import Dossier
    from coldstart.search.match import Answer
    from coldstart.search.match_service import Matcher
    from coldstart.search.notebook import Hits, ItemView
    from coldstart.search.queries import FaultyQuery, Query


class SearchMethods(OpenedStore):
    """Methods of a workspace that find and show items."""

    def search(
        self,
        *,
        text: str | None = None,
        image: str | Path | None = None,
        video: str | Path | None = None,
        item: str | None = None,
        top_k: int = 10,
        kind: str | None = None,
        where: str | None = None,
        spaces: Iterable[str] | None = None,
        hybrid: bool = True,
        copies: bool = False,
        exact: bool = False,
    ) -> Hits:
        """Find the items nearest to one text, picture, video or item.

        Args:
            text, image, video, item: exactly one of them.
            kind: `video` or `product`.
            where: an SQL condition over the catalog's columns, such as `price < 20`.
            spaces: the spaces to search; by default those that the query fits and that find something, as the stored
                calibration has it. Those whose pipeline sets `text_queries: false` a text query searches only if they
                are named here.
            hybrid: let a text query match words as well as vectors.
            copies: also return items that are linked to an original.
            exact: compare the query with all vectors, whatever index there is; slower, and finds what an index misses.

        Raises:
            ColdstartError: nothing is published, no space fits the query, or a fault in it.
        """
        from coldstart.search.queries import SINGLE, Query

        given = {"text": text, "image": image, "video": video, "item": item}
        query = Query(SINGLE, **{name: None if value is None else str(value) for name, value in given.items()})
        options = {"top_k": top_k, "kind": kind, "where": where, "spaces": spaces, "hybrid": hybrid, "copies": copies}
        return next(self.search_many([query], exact=exact, **options))[1]

    def search_many(self, queries: Iterable[Query | FaultyQuery], **options: Any) -> Iterator[tuple[str, Hits]]:
        """Answer many queries in their order, encoders loaded once.

        Args:
            queries: `coldstart.search.queries.read_queries` reads them from a file.
            options: as for `search`; and `on_error`, which takes the id of a query that has no answer and the reason,
                in place of raising.

        Raises:
            ColdstartError: as `search`.
        """
        from coldstart.search.calibrate_catalog import apart_of
        from coldstart.search.notebook import Hits
        from coldstart.search.search import search_many
        from coldstart.store.empty import why_empty

        pipeline = self._reading_pipeline()
        specs = pipeline.of_kind("embed")
        calibration, unreadable = self._read_calibration()
        ways: dict[str, Any] = {
            "apart": apart_of(pipeline),
            "pictures": [spec.name for spec in specs if spec.settings.input == "image"],
            "always": [spec.name for spec in specs if spec.settings.text_queries],
            "calibration": calibration,
        }
        limits = self.media_limits()
        notes = list(unreadable)
        answers = search_many(
            self.published(), self.encoder_for, queries, frames_of=self._frames_of, notes=notes, **ways, **options
        )
        empty = ""
        for query_id, hits in answers:
            if not hits and not empty:
                filters = {name: options[name] for name in ("kind", "where", "copies") if name in options}
                empty = why_empty(self.published(), **filters)
            yield query_id, Hits(hits, limits, (*notes, *([] if hits else [empty])))

    def nearest(
        self,
        space: str,
        vectors: NDArray[np.float32],
        *,
        top_k: int = 10,
        kind: str | None = None,
        where: str | None = None,
        copies: bool = False,
        exact: bool = False,
    ) -> pa.Table:
        """Find the items whose vectors in one space are nearest to given ones, many at a time.

        Args:
            vectors: float32 `[Q, D]`, by the encoder of the space; any length.
            top_k, kind, where, copies, exact: as for `search`.

        Returns:
            `query_index` int32, from 0; `item_id`; `_distance` float32 (1 - cosine); by query, then distance.

        Raises:
            ColdstartError: nothing is published, there is no such space, vectors of another length or with a number
                that is not finite, `top_k` out of bounds, or a fault in the condition.
        """
        from coldstart.store.published import check_top_k

        check_top_k(top_k)
        queries = np.asarray(vectors, np.float32)
        if queries.ndim != 2 or not np.isfinite(queries).all():
            raise ColdstartError(
                f"vectors of shape {queries.shape}: give finite numbers [Q, D], a row a query", kind="usage"
            )
        published = self.published()
        condition = published.condition(where=where, kind=kind, copies=copies)
        return published.vector_search(space, queries, top_k, where=condition, exact=exact)

    @property
    def max_failed(self) -> float:
        """Share of queries that may have no answer, as of items that may fail, before a command exits with 1."""
        return self._reading_pipeline().max_failed

    def match(
        self,
        *,
        item: str | None = None,
        video: str | Path | None = None,
        title: str | None = None,
        listen: bool = False,
        spaces: Iterable[str] | None = None,
        **options: Any,
    ) -> Answer:
        """Find the products that a video shows or names, each with the frame and the words as evidence.

        Args:
            item: an item of the catalog; video: or a file, with `title` for its words, and its speech and text on
                screen where `listen` is true.
            spaces: the spaces to compare in; by default all.
            options: `top_k`, `kind`, `where`, `exclude`, `copies` as for `search`; `exact` to compare all products,
                which is done anyway up to 100,000.

        Raises:
            ColdstartError: nothing is published, there is no such item or file, or nothing of it can be compared.
        """
        return self._matcher().match(item, video, title, listen, spaces, **options)

    def fit_match(
        self,
        pairs: Mapping[str, Iterable[str]],
        *,
        spaces: Iterable[str] | None = None,
        kind: str | None = "product",
        where: str | None = None,
    ) -> dict[str, Any]:
        """Fit the weights of `match` on videos whose products are known, evaluate them on a part that is held out, and
        save them where the held-out videos find more products with them, or as many and no later.

        Args:
            pairs: item_id of a video -> ids of the products that it shows.

        Returns:
            The report: `channels` with weights, `before` and `after` of the held-out videos, `gain`, `kept`, …

        Raises:
            ColdstartError: nothing is published, or too few of the videos are in the catalog.
        """
        return self._matcher().fit(pairs, spaces, kind, where)

    def label(
        self,
        classes: Sequence[str] | Mapping[str, Sequence[str]],
        *,
        items: Sequence[str] | None = None,
        where: str | None = None,
        kind: str | None = None,
        spaces: Sequence[str] | None = None,
        threshold: float | None = None,
        limit: int = 1000,
    ) -> Labelled:
        """Label published items with classes that are given now, by zero-shot classification; stores nothing.

        Args:
            classes: two names at least, or names with the words that say what each looks like or is called.
            items: ids; by default those that meet `where` and `kind`, by rising id.
            spaces: to compare in; by default all whose encoder reads words into the same space.
            threshold: score that a label needs, by default 0.8.
            limit: items at most.

        Raises:
            ColdstartError: nothing is published, an item is not in the catalogue, no space holds words, or a fault in
                the arguments.
        """
        from coldstart.embed.label_items import label_items, read_classes
        from coldstart.embed.zero_shot import THRESHOLD

        checked = read_classes(classes)
        if items is not None and (where is not None or kind is not None):
            raise ColdstartError("label: give items, or a condition (where, kind), not both", kind="usage")
        if threshold is not None and not 0 < threshold <= 1:
            raise ColdstartError(f"threshold {threshold}: give one above 0, and 1 at most", kind="usage")
        published = self.published()
        if items is None:
            condition = published.condition(where=where, kind=kind, copies=True)
            blocks = published.blocks([], where=condition)
            chosen = sorted(one for block in blocks for one in block["item_id"].to_pylist())[:limit]
        else:
            chosen = list(dict.fromkeys(items))
            if len(chosen) > limit:
                raise ColdstartError(f"items: {len(chosen):,} ids: give {limit:,} at most", kind="usage")
            present = published.items(chosen, ["kind"])
            if unknown := [one for one in chosen if one not in present]:
                raise ColdstartError(f"item {unknown[0]!r} is not in the published catalog", kind="not_found")
        return label_items(
            published,
            self.encoder_for,
            checked,
            chosen,
            spaces=spaces,
            threshold=THRESHOLD if threshold is None else threshold,
        )

    def media_of(self, item_ids: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        """Read the media of items, published or not; leaves out ids that the workspace does not have."""
        wanted = sorted(set(item_ids))
        if not wanted or not self._store.has(ITEMS):
            return {}
        rows = self._store.read(ITEMS, ["item_id", "media"], ids=wanted).to_pylist()
        return {row["item_id"]: row["media"] or [] for row in rows}

    def _matcher(self) -> Matcher:
        from coldstart.search.match_service import Matcher

        return Matcher(self._store, self._reading_pipeline, self.published, self.encoder_for)

    def encoder_for(self, passport: Passport) -> Encoder:
        """Load an encoder of queries in a space, once; if none has that passport any more, the one of its name, whose
        queries the search refuses.

        Raises:
            ColdstartError: its weights are not on this machine.
        """
        from coldstart.embed.spaces import encoder_of
        from coldstart.encoders import for_queries

        if passport.digest not in self._encoders:
            encoder = encoder_of(passport, self._reading_pipeline(), self._store)
            self._encoders[passport.digest] = for_queries(encoder)
        return self._encoders[passport.digest]

    def _frames_of(self, space: str, item_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Unit vectors [T, D] of the frames of those items that are videos."""
        from coldstart.embed.spaces import table_of
        from coldstart.encoders import Passport

        table = table_of(space, Passport.from_json(self.published().passports[space]))
        if not self._store.has(table) or "frame_vectors" not in self._store.columns(table):
            return {}
        rows = self._store.read(table, ["item_id", "frame_vectors"], ids=item_ids).to_pylist()
        frames = {row["item_id"]: np.asarray(row["frame_vectors"], np.float32) for row in rows if row["frame_vectors"]}
        return {item: vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for item, vectors in frames.items()}

    def vectors(self, space: str) -> pa.Table:
        """Read the vectors of a space: `item_id`, `vector` and, for pictures, the frames' seconds and vectors; in a
        space of behaviour also `norm`, the length that scores need, and whether the item was `warm`.

        Raises:
            ColdstartError: the pipeline has no such space, or it has no rows yet.
        """
        from coldstart.embed.spaces import spaces_of
        from coldstart.store.freshness import build

        pipeline = self._reading_pipeline()
        for spec in spaces_of(pipeline):
            if spec.name == space:
                stage: Any = build(spec, pipeline)
                return self._store.read(stage.table)
        raise ColdstartError(f"no space {space!r}: the pipeline has {', '.join(s.name for s in spaces_of(pipeline))}")

    def items(self, limit: int | None = None) -> list[ItemView]:
        """List the items, in table order; each shows as a card in a notebook."""
        from coldstart.search.notebook import ItemView

        rows = self._store.read(ITEMS)
        limits = self.media_limits()
        return [ItemView(row, limits) for row in rows.slice(0, limit).to_pylist()]

    def item(self, item_id: str) -> ItemView:
        """Read one item.

        Raises:
            ColdstartError: the workspace has no such item.
        """
        from coldstart.search.notebook import ItemView

        rows = self._store.read(ITEMS, ids=[item_id]).to_pylist() if self._store.has(ITEMS) else []
        if not rows:
            raise self._no_item(item_id)
        return ItemView(rows[0], self.media_limits())

    def dossier(self, item_id: str) -> Dossier:
        """Collect all that is known of one item: timeline, copies, quality, findings, and its state in every stage.

        Raises:
            ColdstartError: the workspace has no such item, not even one that ingest skipped.
        """
        from coldstart.search.item_report import collect_dossier

        report = collect_dossier(self._store, self._reading_pipeline(), item_id)
        if report is None:
            raise self._no_item(item_id)
        return replace(report, limits=self.media_limits())

    def _no_item(self, item_id: str) -> ColdstartError:
        from coldstart.store.similar import similar_ids

        hint = similar_ids(item_id, self._store.batches(ITEMS, ["item_id"]))
        return ColdstartError(
            f"no item {item_id!r} in workspace {self.uri}{hint}: `coldstart status --failed --workspace {self.uri}` "
            "lists those that were skipped"
        )
