"""Read the published catalog: one fixed version with its spaces and searches.

A publication is a version of the catalog that readers see, with the figures of its indexes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from difflib import get_close_matches
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.core.item_fields import read_attributes
from coldstart.core.items import Kind
from coldstart.core.settings import suggestion
from coldstart.errors import ColdstartError
from coldstart.store import ann, sql, word_search
from coldstart.store.ann import column_of, unit_rows
from coldstart.store.graph_file import graph_path
from coldstart.store.ground_truth import Vectors
from coldstart.store.held import HeldItems, Places, Scores
from coldstart.store.held_vectors import HeldVectors
from coldstart.store.publications import Publication

if TYPE_CHECKING:
    import lancedb

    from coldstart.store.memory_index import GraphReport

COPY_OF = "duplicate_of"
"""Column that names the original of an item that is linked to one."""

SID, SID_VERSION = "sid", "sid_version"
"""Columns of an item's semantic ID, and of the digest of the fit that gave it."""

TIMEOUT = timedelta(seconds=60)
"""Time in which a condition is evaluated over the catalog."""

_FEW = 20
"""Rows are looked up by id where they are fewer than one in so many; else the table is read."""
MAX_TOP_K = 10_000
"""Results of one query: more is a scan, not a search."""

MOST_HELD = 500_000
"""Items whose columns are held in memory, some 300 bytes each."""

MOST_ATTRIBUTES = 10_000
"""Items among which the names of attributes are looked up for a hint."""

KINDS = get_args(Kind)

_CONDITIONS = 256
"""Conditions of which it is remembered that they are right."""

BATCH = 256
"""Queries in one call of the store: they share one scan, and their results fit in memory."""


class Published:
    """Catalog at its published version; later writes do not show.

    Attributes:
        publication: its number, version, passports and index figures.
        passports: space -> passport as JSON.
    """

    def __init__(self, table: lancedb.table.Table, publication: Publication) -> None:
        self._table = table
        self.publication = publication
        self.passports = publication.passports
        self._indexes = {report.space: report for report in publication.indexes}
        self._held: HeldItems | None = None
        self._copies: dict[str, list[str]] | None = None
        self._samples: dict[tuple[str, int], Vectors] = {}
        self._conditions: dict[str, str] = {}

    def __len__(self) -> int:
        return self.publication.rows

    @cached_property
    def _dataset(self) -> Any:
        """The version as Lance has it, for searches."""
        return self._table.to_lance()

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of the catalog, with a vector column a space."""
        return self._table.schema

    def load_rows(self, columns: Sequence[str], most: int = MOST_HELD) -> None:
        """Hold columns of all items in memory, which `items` and `copies` then answer from, and scores of words as
        they are asked for; nothing where there are more than `most` items."""
        if len(self) > most:
            return
        linked = [COPY_OF] if self._has_copies else []
        query = self._table.search().select(["item_id", *columns, *linked]).with_row_id(True)
        rows = query.limit(None).to_arrow()
        self._copies = {}
        for item_id, original in (
            zip(*(rows[name].to_pylist() for name in ("item_id", *linked)), strict=True) if linked else ()
        ):
            if original is not None:
                self._copies.setdefault(original, []).append(item_id)
        for own in self._copies.values():
            own.sort()
        self._held = HeldItems(self._dataset, rows)

    def load_vectors(self, spaces: Iterable[str], most_bytes: int) -> None:
        """Hold the unit vectors of spaces in memory, which searches then answer from: those that fit, the first first;
        after `load_rows`."""
        held = self._held
        if held is None:
            return
        for space in spaces:
            size = 4 * len(held) * self._dim(space)
            if not size or size > most_bytes:
                continue
            most_bytes -= size
            units = np.empty((len(held), self._dim(space)), np.float32)
            places: list[int] = []
            for block in self.blocks([column_of(space)], where=f"{column_of(space)} IS NOT NULL"):
                units[len(places) : len(places) + len(block)] = unit_rows(block[column_of(space)])
                places += [held.places[item_id] for item_id in block["item_id"].to_pylist()]
            held.spaces[space] = HeldVectors(units[: len(places)], np.array(places, np.int64), len(held))

    @property
    def indexed_spaces(self) -> list[str]:
        """List the spaces that are searched by an index; in the others all vectors are compared."""
        return [space for space, report in self._indexes.items() if report.effort is not None and report.rows]

    def has_graph(self, space: str) -> bool:
        """Tell whether searches of a space go by a graph in memory."""
        return self._held is not None and space in self._held.spaces and self._held.spaces[space].graph is not None

    def load_graph(self, space: str, **options: Any) -> GraphReport | None:
        """Hold the vectors of an indexed space in memory with an HNSW graph, which searches then answer from; after
        `load_rows`. Options and errors as for `coldstart.store.memory_index.open_graph`.

        Returns:
            Figures; None where the graph was not made: the index of the store answers on.
        """
        from coldstart.store.memory_index import open_graph

        held = self._held
        if held is None:
            return None
        passport = self.passports[space]
        where = f"{column_of(space)} IS NOT NULL"
        found, report = open_graph(
            graph_path(self._table.uri, space, passport),
            held.places,
            self._dim(space),
            min(self._indexes[space].rows, len(held)),  # memory is taken for so many
            partial(self.blocks, ["index_key"], where=where),
            partial(self.blocks, ["index_key", column_of(space)], where=where),
            column_of(space),
            **options,
        )
        if found is not None:
            held.spaces[space] = found
        return report

    def keys(self) -> dict[str, str]:
        """Read item_id -> the `index_key` it was written with."""
        rows = self._table.search().select(["item_id", "index_key"]).limit(None).to_arrow()
        return dict(zip(rows["item_id"].to_pylist(), rows["index_key"].to_pylist(), strict=True))

    def condition(
        self,
        *,
        where: str | None = None,
        kind: str | None = None,
        exclude: Iterable[str] = (),
        copies: bool = False,
    ) -> str | None:
        """Build one SQL condition from the operator's `where`, a kind, and ids to leave out; None for no condition.

        The `where` is evaluated once over the catalog, within `TIMEOUT`: searches under it take as long.

        Args:
            copies: let items that are linked to an original be found beside it.

        Raises:
            ColdstartError: `where` is no condition over the columns of the catalog, names an attribute that no item
                has, or takes too long; or there is no such kind.
        """
        parts = []
        if where is not None:
            parts.append(self._checked(where))
        if kind is not None:
            check_kind(kind)
            parts.append(sql.equals("kind", kind))
        if excluded := sorted(set(exclude)):
            parts.append(f"NOT {sql.one_of('item_id', excluded)}")
        if not copies and self._has_copies:
            parts.append(f"{COPY_OF} IS NULL")
        return " AND ".join(parts) or None

    def _checked(self, where: str) -> str:
        """Parse and evaluate a condition, once: the version stays as it is."""
        from coldstart.store.conditions import parse_condition  # few calls need the parser

        if (known := self._conditions.get(where)) is not None:
            return known
        condition = parse_condition(where, self.schema)
        with _explained(where):
            self._check_attributes(where, condition.attributes)
            self._table.search().where(condition.sql).select(["_rowid"]).to_arrow(timeout=TIMEOUT)
        if len(self._conditions) >= _CONDITIONS:
            self._conditions.clear()
        self._conditions[where] = condition.sql
        return condition.sql

    def _check_attributes(self, where: str, attributes: Mapping[str, str]) -> None:
        """Refuse an attribute that no item has: the condition could not be met, and it is most often a slip."""
        for name, has in attributes.items():
            rows = self._table.search().select(["attributes"])
            if rows.where(has).limit(1).to_arrow(timeout=TIMEOUT).num_rows:
                continue
            some = self._table.search().select(["attributes"]).limit(MOST_ATTRIBUTES).to_arrow()["attributes"]
            known = sorted({key for text in some.to_pylist() for key in read_attributes(text)})
            close = get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known[:20]) or 'none'}"
            raise ColdstartError(f"where {where!r}: no item has an attribute {name!r}: {hint}", kind="usage")

    @cached_property
    def _has_copies(self) -> bool:
        known = COPY_OF in self.schema.names  # catalogs of earlier versions have no such column
        return known and self._table.count_rows(f"{COPY_OF} IS NOT NULL") > 0

    def copies(self, item_ids: Iterable[str]) -> dict[str, list[str]]:
        """Read item_id -> the items that are linked to it as copies, for those that have any."""
        found: dict[str, list[str]] = {}
        wanted = sorted(set(item_ids))
        if self._copies is not None:
            return {item_id: self._copies[item_id] for item_id in wanted if item_id in self._copies}
        if wanted and self._has_copies:
            query = self._table.search().where(sql.one_of(COPY_OF, wanted)).select(["item_id", COPY_OF])
            for row in query.limit(None).to_arrow().sort_by("item_id").to_pylist():
                found.setdefault(row[COPY_OF], []).append(row["item_id"])
        return found

    def vector_search(
        self, space: str, queries: Vectors, top_k: int, *, where: str | None = None, exact: bool = False
    ) -> pa.Table:
        """Find the nearest items of each query, by cosine. Items without a vector in the space are never found.

        With a condition, `top_k` items come back if so many meet it: where the index finds fewer, the search is
        exact.

        Args:
            queries: float32 `[Q, D]`.
            where: an SQL condition, see `condition`.
            exact: compare each query with all items, whatever index there is.

        Returns:
            `query_index` int32, `item_id`, `_distance` float32 (1 - cosine); by query, then distance, then item_id.

        Raises:
            ColdstartError: unknown space, queries of another length, or `top_k` below 1.
        """
        dim = self._dim(space)
        if queries.ndim != 2 or queries.shape[1] != dim:
            raise ColdstartError(
                f"query of {queries.shape[-1]} numbers for space {space!r} of {dim}: encode it with the encoder of "
                "that space"
            )
        _check_depth(top_k)
        if 0 < len(queries) <= BATCH:
            return self._nearest(space, queries, top_k, where, exact=exact)
        parts = [ann.EMPTY]
        for start in range(0, len(queries), BATCH):
            part = self._nearest(space, queries[start : start + BATCH], top_k, where, exact=exact)
            parts.append(_renumbered(part, part["query_index"].to_numpy() + start))
        return pa.concat_tables(parts)

    def text_search(self, text: str, top_k: int, *, where: str | None = None) -> pa.Table:
        """Find the items whose text matches any word best (BM25). The text is plain words, never a query language.

        Titles in Chinese and Japanese are matched by their characters as well, see `coldstart.store.word_search`.

        Returns:
            `item_id`, `_score` float32; by falling score, then item_id. Empty where no word is left to look for.

        Raises:
            ColdstartError: `top_k` below 1.
        """
        _check_depth(top_k)
        held = self._held_words([text])[0]
        if held is not None and self._held is not None:
            return self._held.best_words(held, top_k, where)
        words = word_search.word_query(text, by_characters=self._has_character_index)
        scanner = self._dataset.scanner(
            ["item_id", "_score"], full_text_query=words, limit=top_k, filter=where, prefilter=True
        )
        found = scanner.to_table()
        return found.sort_by([("_score", "descending"), ("item_id", "ascending")])

    def prepare_words(self, texts: Sequence[str]) -> None:
        """Read the scores of the words of texts together, where words are held; their searches then find them."""
        self._held_words(texts)

    def _held_words(self, texts: Sequence[str]) -> list[tuple[Places, Scores] | None]:
        if self._held is None or self._held.words is None:
            return [None] * len(texts)
        alone = [not (self._has_character_index and word_search.has_characters(text)) for text in texts]
        found = iter(self._held.words.of([text for text, own in zip(texts, alone, strict=True) if own]))
        return [next(found) if own else None for own in alone]

    @cached_property
    def _has_character_index(self) -> bool:
        return any(index.name == word_search.CHARACTER_INDEX for index in self._table.list_indices())

    def items(self, item_ids: Iterable[str], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Read item_id -> the wanted columns, for the ids that the catalog has."""
        wanted = sorted(set(item_ids))
        if not wanted:
            return {}
        held = None if self._held is None else self._held.read(wanted, columns)
        if held is not None:
            return held
        query = self._table.search().where(sql.one_of("item_id", wanted)).select(["item_id", *columns])
        return {row.pop("item_id"): row for row in query.limit(None).to_arrow().to_pylist()}

    def vectors(self, space: str, item_ids: Iterable[str]) -> dict[str, Vectors]:
        """Read item_id -> its vector in the space, float32 `[D]`; leaves out ids that are unknown or have none."""
        self._dim(space)
        column = column_of(space)
        found = self.items(item_ids, [column])
        return {item_id: np.array(row[column], np.float32) for item_id, row in found.items() if row[column] is not None}

    def vector_column(self, space: str, item_ids: Sequence[str]) -> pa.Array:
        """Read the vectors of items in their order; null for those that are unknown or have none."""
        self._dim(space)
        column = column_of(space)
        query = self._table.search().select(["item_id", column])
        if len(item_ids) * _FEW < len(self):
            query = query.where(sql.one_of("item_id", item_ids) if item_ids else "false")
        rows = query.limit(None).to_arrow()
        places = pc.index_in(pa.array(item_ids, pa.string()), value_set=rows["item_id"].combine_chunks())
        return rows[column].combine_chunks().take(places)

    def unit_vectors(self, spaces: Sequence[str], item_ids: Sequence[str]) -> dict[str, Vectors]:
        """Read the vectors of items in several spaces at once, scaled to length one.

        Returns:
            space -> float32 `[N, D]` in the order of the ids; NaN for one that is unknown or has none.
        """
        held = self._held
        if held is not None and any(space in held.spaces for space in spaces):
            units = {space: held.vectors(space, item_ids) for space in spaces if space in held.spaces}
            rest = [space for space in spaces if space not in units]
            return units | (self.unit_vectors(rest, item_ids) if rest else {})
        columns = {space: column_of(space) for space in spaces}
        found = {space: np.full((len(item_ids), self._dim(space)), np.nan, np.float32) for space in spaces}
        places = {item_id: place for place, item_id in enumerate(item_ids)}
        for block in self.blocks(list(columns.values()), where=sql.one_of("item_id", list(places))) if places else ():
            rows = np.array([places[item_id] for item_id in block["item_id"].to_pylist()], np.intp)
            for space, column in columns.items():
                found[space][rows] = unit_rows(block[column])
        if len(places) < len(item_ids):  # an id that is given twice was read once
            own = np.array([places[item_id] for item_id in item_ids], np.intp)
            return {space: units[own] for space, units in found.items()}
        return found

    def sample_vectors(self, spaces: Sequence[str], rows: int) -> dict[str, Vectors]:
        """Read the vectors of about `rows` items from all over the catalog, once: space -> unit float32 `[M, D]`."""
        new = [space for space in spaces if (space, rows) not in self._samples]
        parts: dict[str, list[Vectors]] = {space: [np.empty((0, self._dim(space)), np.float32)] for space in new}
        for block in self.spread([column_of(space) for space in new], rows) if new else ():
            for space, own in parts.items():
                dense = unit_rows(block[column_of(space)])
                own.append(dense[np.isfinite(dense).all(1)])
        self._samples |= {(space, rows): np.concatenate(own) for space, own in parts.items()}
        return {space: self._samples[space, rows] for space in spaces}

    def word_scores(self, text: str, item_ids: Sequence[str]) -> dict[str, float]:
        """Compute BM25 of a text for some items, as `text_search` does; those that match no word are left out."""
        held = self._held_words([text])[0]
        if held is not None and self._held is not None:
            return self._held.word_scores(held, item_ids)
        found = self.text_search(text, len(item_ids), where=sql.one_of("item_id", item_ids)) if item_ids else None
        return {} if found is None else dict(zip(*(column.to_pylist() for column in found.columns), strict=True))

    def sid_version(self) -> str | None:
        """Read the digest of the fit whose semantic IDs it has; None where no item has one."""
        if SID_VERSION not in self.schema.names:
            return None
        rows = self._table.search().where(f"{SID_VERSION} IS NOT NULL").select([SID_VERSION]).limit(1).to_arrow()
        return str(rows[SID_VERSION][0].as_py()) if rows.num_rows else None

    def sids(self) -> pa.Table:
        """Read the semantic IDs as texts, such as `12-7-201`: item_id, sid; in the order of items."""
        query = self._table.search().where(f"{SID} IS NOT NULL").select(["item_id", SID])
        return query.limit(None).to_arrow().sort_by("item_id")

    def count(self, where: str | None = None) -> int:
        """Count the items that meet an SQL condition, see `condition`."""
        return int(self._table.count_rows(where))

    def blocks(self, columns: Sequence[str], *, where: str | None = None, rows: int = 8192) -> Iterator[pa.RecordBatch]:
        """Read all items that meet a condition, in no fixed order, `rows` or fewer at a time; never all in memory."""
        query = self._table.search()
        if where:
            query = query.where(where)
        yield from query.select(["item_id", *columns]).limit(None).to_batches(batch_size=rows)

    def spread(self, columns: Sequence[str], rows: int, *, where: str | None = None) -> Iterator[pa.RecordBatch]:
        """Read about `rows` items that meet a condition, at even distances over the whole catalog; see `blocks`."""
        present, meeting = len(self), self.count(where)
        if meeting <= rows:
            yield from self.blocks(columns, where=where)
            return
        if meeting * _FEW < present:  # even distances over all rows would name nearly all of them
            every = sorted(item for block in self.blocks([], where=where) for item in block["item_id"].to_pylist())
            ids = [every[place] for place in np.linspace(0, len(every) - 1, rows).astype(int)]
        else:
            offsets = np.unique(np.linspace(0, present - 1, min(present, rows * present // meeting)).astype(int))
            ids = self._table.take_offsets(offsets.tolist()).select(["item_id"]).to_arrow()["item_id"].to_pylist()
        chosen = sql.one_of("item_id", ids)
        yield from self.blocks(columns, where=f"{where} AND {chosen}" if where else chosen)

    def _nearest(self, space: str, queries: Vectors, top_k: int, where: str | None, *, exact: bool) -> pa.Table:
        column = column_of(space)
        report = self._indexes[space]
        effort = report.effort_filtered if where and report.effort_filtered else report.effort
        exact = exact or effort is None
        held = self._held if self._held is not None and space in self._held.spaces else None
        if held is not None and (exact or held.spaces[space].graph is not None):
            return held.nearest(space, queries, top_k, where, exact=exact)

        def search(some: Vectors, effort: ann.Effort | None) -> pa.Table:
            if held is None:
                return ann.nearest(self._dataset, column, some, top_k, effort=effort, where=where)
            if effort is None:
                return held.nearest(space, some, top_k, where, exact=True)
            owner, row_ids = ann.candidates(self._dataset, column, some, top_k, effort, where)
            places = held.places_of(row_ids)
            return held.ranked(space, some, [places[owner == one] for one in range(len(some))], top_k)

        effort = None if exact else effort
        found = search(queries, effort)
        counts = np.bincount(found["query_index"].to_numpy(), minlength=len(queries))
        if effort is None or counts.min(initial=top_k) >= top_k:
            return found
        present = f"{column} IS NOT NULL"
        available = min(top_k, self._table.count_rows(f"({where}) AND {present}" if where else present))
        short = np.flatnonzero(counts < available)
        if not len(short):
            return found
        rest = search(queries[short], None)
        rest = _renumbered(rest, short[rest["query_index"].to_numpy()])
        kept = found.filter(pa.array(~np.isin(found["query_index"].to_numpy(), short)))
        return pa.concat_tables([kept, rest]).sort_by(ann.ORDER)

    def recall_of_queries(self, space: str, queries: int) -> NDArray[Any]:
        """Measure the index of a space on stored vectors; see `coldstart.store.ann.recall_of_queries`."""
        return ann.recall_of_queries(self._table, self._indexes[space], queries=queries)

    def no_space(self, space: str) -> ColdstartError:
        """Describe a space that the catalog does not have."""
        names = ", ".join(sorted(self.passports)) or "none"
        hint = suggestion(space, self.passports)
        return ColdstartError(f"space {space!r} is not in the published catalog{hint}: it has {names}")

    def _dim(self, space: str) -> int:
        if space not in self.passports:
            raise self.no_space(space)
        return int(self.schema.field(column_of(space)).type.list_size)


def _renumbered(found: pa.Table, query_index: NDArray[Any]) -> pa.Table:
    return found.set_column(0, "query_index", pa.array(query_index, pa.int32()))


def _check_depth(top_k: int) -> None:
    """Check the length of one ranking: a fusion takes deeper ones than the results that it gives."""
    if top_k < 1:
        raise ColdstartError(f"top_k {top_k}: ask for 1 or more")


def check_top_k(top_k: int) -> None:
    """Check the number of results of one query.

    Raises:
        ColdstartError: it is below 1 or above `MAX_TOP_K`.
    """
    if not 1 <= top_k <= MAX_TOP_K:
        raise ColdstartError(f"top_k {top_k}: give 1 to {MAX_TOP_K:,}")


def check_kind(kind: str) -> None:
    """Check the kind by which items are filtered.

    Raises:
        ColdstartError: no item can be of that kind.
    """
    if kind not in KINDS:
        close = get_close_matches(kind.strip().lower(), KINDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {' and '.join(KINDS)}"
        raise ColdstartError(f"no kind {kind!r}: {hint}")


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Turn the store's error about a condition into one line."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        if "Query timeout" in str(error):
            reason = f"takes longer than {TIMEOUT.total_seconds():g} s over this catalog; ask for less at a time"
        else:
            reason = re.sub(r", /\S+\.rs:\d+:\d+.*", "", str(error).splitlines()[0])
        raise ColdstartError(f"where {where!r}: {reason}", kind="usage") from error
