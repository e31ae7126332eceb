"""Answer questions about the published catalogue, for every interface: requests in, results out.

Each answer comes from one publication. Media of items are named by links, never by their place on this machine.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from coldstart.core.item_fields import read_attributes
from coldstart.errors import ColdstartError
from coldstart.serve import results
from coldstart.serve.cursors import make_cursor, query_mark, read_cursor
from coldstart.serve.readers import Reader, Readers
from coldstart.serve.user_lists import UserLists
from coldstart.serve.workspace_state import MOST_PAGE, PAGE, check_limit
from coldstart.store.published import COPY_OF

MOST_HITS = 1000
"""Results of one search over all its pages."""
_SHOWN = ("kind", "title", "category", "price", "media", "creator")
_LISTS = 16


@dataclass(frozen=True)
class SearchQuery:
    """One search.

    Attributes:
        text, image, video, item: exactly one of them; image and video are files of this machine.
        kind, where, spaces, hybrid, copies, exact: as for `Workspace.search`.
        limit: hits a page; cursor: as an earlier answer gave it.
    """

    text: str | None = None
    image: Path | None = None
    video: Path | None = None
    item: str | None = None
    kind: str | None = None
    where: str | None = None
    spaces: tuple[str, ...] | None = None
    hybrid: bool = True
    copies: bool = False
    exact: bool = False
    limit: int = PAGE
    cursor: str | None = None


class Catalogue(UserLists):
    """Questions about a workspace, answered by its present publication; safe to call from many threads."""

    def __init__(self, readers: Readers) -> None:
        super().__init__(readers)
        self._listing = threading.Lock()
        self._lists: OrderedDict[tuple[Any, ...], list[str]] = OrderedDict()

    # -- items of the published catalogue

    def search(self, query: SearchQuery) -> results.SearchResult:
        """Search for one text, picture, video or item.

        Raises:
            ColdstartError: as `Workspace.search`; or a cursor of another query or publication.
        """
        check_limit(query.limit)
        options: dict[str, Any] = {
            "kind": query.kind,
            "where": query.where,
            "spaces": query.spaces,
            "hybrid": query.hybrid,
            "copies": query.copies,
            "exact": query.exact,
        }
        mark = query_mark([query.text, str(query.image), str(query.video), query.item, *options.values()])

        def ask(reader: Reader) -> results.SearchResult:
            start = read_cursor(query.cursor, reader.tag, mark)
            depth = min(start + query.limit + 1, MOST_HITS)
            if query.text is not None and not (query.image or query.video or query.item):
                found = reader.search_text(query.text, top_k=depth, **options)
            else:
                found = reader.search(
                    text=query.text, image=query.image, video=query.video, item=query.item, top_k=depth, **options
                )
            page = found[start : start + query.limit]
            more = len(found) > start + query.limit
            media = reader.published().items((hit.item_id for hit in page), ["media"])
            return results.SearchResult(
                publication=reader.tag,
                notes=list(found.notes),
                hits=[
                    results.search_hit(hit, media[hit.item_id]["media"], reader.is_cold(hit.item_id)) for hit in page
                ],
                next_cursor=make_cursor(start + query.limit, reader.tag, mark) if more else None,
            )

        return self.readers.answer(ask)

    def items(
        self, where: str | None = None, kind: str | None = None, limit: int = PAGE, cursor: str | None = None
    ) -> results.ItemList:
        """List items of the catalogue that meet conditions, by rising id."""
        check_limit(limit)
        mark = query_mark([where, kind])

        def ask(reader: Reader) -> results.ItemList:
            start = read_cursor(cursor, reader.tag, mark)
            ids = self._ids(reader, where, kind)
            page = ids[start : start + limit]
            more = len(ids) > start + limit
            return results.ItemList(
                publication=reader.tag,
                items=self._summaries(reader, page),
                total=len(ids),
                next_cursor=make_cursor(start + limit, reader.tag, mark) if more else None,
            )

        return self.readers.answer(ask)

    def item(self, item_id: str) -> results.Item:
        """Read one item as it is published.

        Raises:
            ColdstartError: it is not in the published catalogue.
        """

        def ask(reader: Reader) -> results.Item:
            published = reader.published()
            columns = [name for name in published.schema.names if not name.startswith("vector_") and name != "item_id"]
            row = published.items([item_id], columns).get(item_id)
            if row is None:
                raise self._no_item(reader, item_id)
            media = row.pop("media", None)
            for name in ("index_key", "row_key"):
                row.pop(name, None)
            if "attributes" in row:
                row["attributes"] = read_attributes(row["attributes"])
            original = row.get(COPY_OF)
            return results.Item(
                publication=reader.tag,
                notes=[f"a copy of {original}, which is found in its place: its own title and texts are not searched"]
                if original
                else [],
                item={"item_id": item_id, **row},
                media=results.media_links(item_id, media),
                cold=reader.is_cold(item_id),
                copies=published.copies([item_id]).get(item_id, []),
            )

        return self.readers.answer(ask)

    def report(self, item_id: str) -> results.ItemReport:
        """Collect all that is known of one item, published or not, as the workspace has it at this moment.

        Raises:
            ColdstartError: the workspace has no such item.
        """

        def ask(reader: Reader) -> results.ItemReport:
            known = results.hide_folders(reader.dossier(item_id).to_dict())
            media = (known.get("item") or {}).pop("media", None)
            for link in [known.get("duplicate_of"), *(known.get("copies") or ())]:
                if link:
                    link.pop("medium", None)
            bad = known.get("item", {}).get("bad_media") or ()
            for entry in bad:
                entry["uri"] = Path(str(entry["uri"])).name
            return results.ItemReport(publication=reader.tag, report=known, media=results.media_links(item_id, media))

        return self.readers.answer(ask)

    def medium(self, item_id: str, place: int) -> tuple[Mapping[str, Any], Reader]:
        """Find one medium of an item, published or not: role and uri, and the reader that has its limits.

        Raises:
            ColdstartError: there is no such item or medium.
        """

        def ask(reader: Reader) -> tuple[Mapping[str, Any], Reader]:
            media = reader.item(item_id).fields.get("media") or ()
            if not 0 <= place < len(media):
                raise ColdstartError(
                    f"item {item_id!r} has no medium {place}: it has {len(media)}, from 0", kind="not_found"
                )
            return media[place], reader

        return self.readers.answer(ask)

    def similar(
        self,
        item_id: str,
        spaces: Sequence[str] | None = None,
        kind: str | None = None,
        where: str | None = None,
        limit: int = PAGE,
    ) -> results.SearchResult:
        """Find the items nearest to an item, in some spaces or in all."""
        chosen = None if spaces is None else tuple(spaces)
        return self.search(SearchQuery(item=item_id, spaces=chosen, kind=kind, where=where, limit=limit))

    def match(
        self,
        *,
        item: str | None = None,
        video: Path | None = None,
        title: str | None = None,
        listen: bool = False,
        kind: str | None = "product",
        where: str | None = None,
        limit: int = 5,
        exact: bool = False,
    ) -> results.MatchResult:
        """Find the products that a video shows or names.

        Raises:
            ColdstartError: as `Workspace.match`.
        """
        check_limit(limit)

        def ask(reader: Reader) -> results.MatchResult:
            found = reader.match(
                item=item, video=video, title=title, listen=listen, kind=kind, where=where, top_k=limit, exact=exact
            )
            media = reader.published().items((one.item_id for one in found.matches), ["media", "creator"])
            plain_result = found.to_dict()
            matches = []
            for one in plain_result["matches"]:
                one.pop("uri")
                row = media[one["item_id"]]
                matches.append(
                    results.MatchedProduct(
                        **one,
                        creator=row["creator"],
                        cold=reader.is_cold(one["item_id"]),
                        media=results.media_links(one["item_id"], row["media"]),
                    )
                )
            return results.MatchResult(
                publication=reader.tag,
                notes=list(found.notes),
                used=list(found.used),
                matches=matches,
                channels=[dict(channel) for channel in found.channels],
                weights=found.weights,
                candidates=found.candidates,
                exact=found.exact,
            )

        return self.readers.answer(ask)

    def label(
        self,
        classes: Sequence[str] | Mapping[str, Sequence[str]],
        *,
        items: Sequence[str] | None = None,
        limit: int = MOST_PAGE,
        **options: Any,
    ) -> results.LabelResult:
        """Label items by classes that are given now; options as for `Workspace.label`.

        Raises:
            ColdstartError: as `Workspace.label`.
        """

        def ask(reader: Reader) -> results.LabelResult:
            found = reader.label(classes, items=items, limit=limit, **options)
            rows = reader.published().items((one.item_id for one in found.labels), _SHOWN)
            counts = Counter(one.label for one in found.labels if one.label is not None)
            return results.LabelResult(
                publication=reader.tag,
                notes=list(found.notes),
                classes=list(found.classes),
                spaces=list(found.spaces),
                threshold=found.threshold,
                labels=[
                    results.LabelledItem(
                        **{name: rows[one.item_id][name] for name in ("kind", "title", "category")},
                        media=results.media_links(one.item_id, rows[one.item_id]["media"]),
                        **asdict(one),
                    )
                    for one in found.labels
                ],
                counts={name: counts[name] for name in found.classes},
            )

        return self.readers.answer(ask)

    # -- parts

    def _summaries(self, reader: Reader, item_ids: Sequence[str]) -> list[results.ItemSummary]:
        rows = reader.published().items(item_ids, _SHOWN)
        return [
            results.ItemSummary(
                item_id=item_id,
                media=results.media_links(item_id, rows[item_id].pop("media")),
                cold=reader.is_cold(item_id),
                **rows[item_id],
            )
            for item_id in item_ids
        ]

    def _ids(self, reader: Reader, where: str | None, kind: str | None) -> list[str]:
        key = (reader.tag, reader.version, where, kind)
        with self._listing:
            ids = self._lists.get(key)
        if ids is None:
            published = reader.published()
            condition = published.condition(where=where, kind=kind, copies=True)
            found = [item for block in published.blocks([], where=condition) for item in block["item_id"].to_pylist()]
            ids = sorted(found)
            with self._listing:  # other requests add and drop lists at the same time
                self._lists[key] = ids
                while len(self._lists) > _LISTS:
                    self._lists.popitem(last=False)
        return ids

    @staticmethod
    def _no_item(reader: Reader, item_id: str) -> ColdstartError:
        from coldstart.store.similar import similar_ids

        hint = similar_ids(item_id, reader.published().blocks([]))
        return ColdstartError(f"item {item_id!r} is not in the published catalog{hint}", kind="not_found")
