"""Search vectors in one column of a table, exactly or by an index; choose, build and measure that index.

Recall is measured with vectors of the table itself as queries (`samples`). Queries of another kind (a text against
pictures) can find less; this module does not know them.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart.core.vectors import unit
from coldstart.errors import ColdstartError
from coldstart.store.ground_truth import RecallSamples, Truth, Vectors, choose_condition, draw_rows, empty_lists

if TYPE_CHECKING:
    import lance
    import lancedb

IndexType = Literal["exact", "IVF_RQ", "IVF_PQ", "IVF_HNSW_SQ"]

CONFIGS = {"IVF_RQ": "IvfRq", "IVF_PQ": "IvfPq", "IVF_HNSW_SQ": "HnswSq"}
"""Type of index -> class of `lancedb.index`."""

TRAINABLE = 256
"""Vectors that product quantisation needs for its 256 centres; below it every search is exact."""

TOLERANCE = 1e-5
"""Two float32 cosine distances this close are a tie, and either item is a right answer."""

ORDER = [("query_index", "ascending"), ("_distance", "ascending"), ("item_id", "ascending")]
EMPTY = pa.schema([("query_index", pa.int32()), ("item_id", pa.string()), ("_distance", pa.float32())]).empty_table()


@dataclass(frozen=True)
class IndexSettings:
    """Settings of the indexes of vector columns.

    Attributes:
        exact_below: spaces with fewer vectors are searched exactly. At 20,000 x 384-d an index answers about three
            times as fast and misses under 1 %; at 50,000 thirteen times (`benchmarks/index_200k.py`).
        index_type: `auto`, or one type for every space.
        target_recall: recall of the `top_k` nearest that must hold, without and with a filter.
        top_k: see `target_recall`.
        sample: stored vectors used as queries when recall is measured.
    """

    exact_below: int = 20_000
    index_type: IndexType | Literal["auto"] = "auto"
    target_recall: float = 0.95
    top_k: int = 10
    sample: int = 200

    def __post_init__(self) -> None:
        if self.index_type not in ("auto", "exact", *CONFIGS):
            raise ColdstartError(
                f"index_type {self.index_type!r} is unknown: choose auto, exact or {', '.join(CONFIGS)}"
            )


@dataclass(frozen=True)
class Effort:
    """Search effort in an index.

    Attributes:
        nprobes: partitions that are read at least.
        refine: candidates a wanted result that are ranked again by their true distance.
        most: partitions that are read at most; 0 is no bound, and LanceDB 0.40 then reads all of them whatever it has
            found. A million vectors have 244, and to read all takes three times as long for one query as to read ten.
    """

    nprobes: int
    refine: int
    most: int = 0


EFFORTS = (
    *(Effort(n, 10, n) for n in (10, 20, 40, 80, 160)),
    *(Effort(80, refine) for refine in (10, 20, 50)),
)
"""In the order tried: more partitions first, more candidates after."""

UNMEASURED = 0.01
"""Share of the rows of an index that may change before its recall is measured again."""

FEW_QUERIES = 25
"""Queries of the sample that an index which was only added to is measured with. Its last figures count besides, as so
many queries as they were measured with; where both together, or the upper end of a 95 % interval of the few, fall below
the target, all of the sample is searched."""

DEPTH = 11
"""Results that `EFFORTS` are meant for, ten and the query itself: ten times as many are searched in twice the
partitions, a hundred times as many in three times. Among a million, 20 partitions hold 0.99 of the nearest 10 and 0.98
of the nearest 100, and 40 hold 0.97 of the nearest 1,000."""

NARROWER = 2
"""With a filter, so many times the partitions are read that reach the target under the filter of the measurement: the
nearest items that meet a narrower one lie farther apart."""


@dataclass(frozen=True)
class IndexReport:
    """Index and recall of one space.

    Attributes:
        rows: items that have a vector in this space.
        build_s: seconds to build, 0 for a search without index and for new rows folded into a present index.
        effort: of searches without a filter; None for exact search.
        recall: share of the true `top_k` nearest that are found, itself left out; 1 for exact search.
        recall_filtered: the same under `filter`; None where no filter keeps between 1 and 50 % of the items.
        ok: both reach the target.
        effort_filtered: of searches with any filter, `NARROWER` times what `recall_filtered` was measured with; None
            for exact search, and in reports of earlier versions, where `effort` is for both.
        unmeasured: rows that came, changed or went since recall was measured.
        queries: stored vectors that recall was measured with, those of `FEW_QUERIES` weighed with earlier ones; 0 in
            reports of earlier versions, and for exact search.
    """

    space: str
    index_type: IndexType
    rows: int
    dim: int
    build_s: float
    effort: Effort | None
    recall: float
    recall_filtered: float | None
    filter: str | None
    ok: bool
    effort_filtered: Effort | None = None
    unmeasured: int = 0
    queries: int = 0

    def holds(self, target: float) -> bool:
        """Tell whether the recall that was measured reaches a target, without and with a filter."""
        return self.ok and min(self.recall, 1.0 if self.recall_filtered is None else self.recall_filtered) >= target


def column_of(space: str) -> str:
    return f"vector_{space}"


def unit_rows(column: pa.FixedSizeListArray) -> Vectors:
    """Convert a column of vectors to unit vectors float32 `[N, D]`; rows of NaN where it is null."""
    out = np.full((len(column), column.type.list_size), np.nan, np.float32)
    present = np.asarray(column.is_valid())
    out[present] = np.asarray(column.drop_null().flatten(), np.float32).reshape(-1, column.type.list_size)
    return unit(out)


def nearest(
    dataset: lance.LanceDataset,
    column: str,
    queries: Vectors,
    top_k: int,
    *,
    effort: Effort | None = None,
    where: str | None = None,
) -> pa.Table:
    """Find the nearest rows of each query.

    Lance is called itself: a query through LanceDB takes three times as long, mostly in handing it to a thread.

    Args:
        queries: float32 `[Q, D]`.
        effort: how to search the index; None searches exactly.
        where: SQL that rows must meet; applied before the search.

    Returns:
        `query_index` int32, `item_id` and `_distance` float32 (1 - cosine); by query, then distance, then item_id.
    """
    if not len(queries):
        return EMPTY
    query = _query(column, queries, top_k)
    if effort is None:
        query["use_index"] = False
    else:
        query |= _probes(top_k, effort) | {"refine_factor": effort.refine}
    found = _search(dataset, query, ["item_id", "_distance"], where)
    return found.sort_by(ORDER).select(["query_index", "item_id", "_distance"]).cast(EMPTY.schema)


def candidates(
    dataset: lance.LanceDataset, column: str, queries: Vectors, top_k: int, effort: Effort, where: str | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Find the rows by whose true distances `nearest` ranks: the number of the query, and the row id, of each."""
    query = _query(column, queries, top_k * effort.refine) | _probes(top_k, effort)
    found = _search(dataset, query, ["_rowid", "_distance"], where)
    return found["query_index"].to_numpy(), found["_rowid"].to_numpy()


def _query(column: str, queries: Vectors, top_k: int) -> dict[str, Any]:
    return {"column": column, "q": queries[0] if len(queries) == 1 else queries, "k": top_k, "metric": "cosine"}


def _probes(top_k: int, effort: Effort) -> dict[str, Any]:
    """Convert an effort into the partitions that are read for so many results."""
    deeper = 1 + max(0.0, math.log10(top_k / DEPTH))
    found = {"minimum_nprobes": math.ceil(deeper * effort.nprobes)}
    return found | ({"maximum_nprobes": math.ceil(deeper * effort.most)} if effort.most else {})


def _search(dataset: lance.LanceDataset, query: dict[str, Any], columns: list[str], where: str | None) -> pa.Table:
    found = dataset.scanner(columns, nearest=query, filter=where, prefilter=True).to_table()
    if "query_index" not in found.column_names:  # Lance leaves it out for a single query
        found = found.add_column(0, "query_index", pa.array(np.zeros(found.num_rows, np.int32)))
    return found


def choose_effort(rows: int, dim: int, settings: IndexSettings) -> IndexType:
    """Choose the index type, or exact search, for a space of `rows` vectors of `dim` numbers."""
    if rows < TRAINABLE:
        return "exact"
    if settings.index_type != "auto":
        return settings.index_type
    if rows < settings.exact_below:
        return "exact"
    # RaBitQ is built 25 to 40 times as fast as the others, and answers as fast and as well; it needs whole bytes.
    return "IVF_RQ" if dim % 8 == 0 else "IVF_HNSW_SQ"


def build_index(
    table: lancedb.table.Table,
    space: str,
    settings: IndexSettings,
    samples: RecallSamples | None = None,
    former: IndexReport | None = None,
    changed: int = 0,
) -> IndexReport:
    """Build or update the index of a space by the settings, and measure its recall.

    A present index of the wanted type, into which new rows were folded, is kept while its recall holds, and
    trained anew where it does not, or where the table has more than twice the vectors that it was trained for.

    Args:
        samples: of the last measurement, with what changed since; by default a sample is drawn anew.
        former: the last report, whose figures are kept while few rows changed since they were measured: to measure
            takes seconds, to add a row does not. After that its efforts are measured by a few queries, and raised
            where these no longer do. By default the least efforts are looked for.
        changed: rows that changed since `former`.
    """
    column = column_of(space)
    dim = table.schema.field(column).type.list_size
    if former is not None and (former.effort is None or former.dim != dim or not former.holds(settings.target_recall)):
        former = None
    if former is not None:
        rows = table.count_rows(f"{column} IS NOT NULL")
        unmeasured = former.unmeasured + changed
        kept = index_type(table, column) == former.index_type == choose_effort(rows, dim, settings)
        if kept and unmeasured <= UNMEASURED * rows and not needs_retraining(table, column):
            return replace(former, rows=rows, build_s=0.0, unmeasured=unmeasured)
    labels = table.search().where(f"{column} IS NOT NULL").select(["kind", "category"]).limit(None).to_arrow()
    wanted = choose_effort(labels.num_rows, dim, settings)
    present = index_type(table, column)
    if wanted == "exact":
        if present:
            table.drop_index(f"{column}_idx")
        return IndexReport(space, "exact", labels.num_rows, dim, 0.0, None, 1.0, None, None, True)
    samples = samples or RecallSamples()
    known = samples.known.get(space)
    condition = choose_condition(labels, known.condition if known else None)
    truth = samples.of(table, column, space, labels, condition, settings.sample, settings.top_k)
    probe = RecallProbe(table, column, truth, settings)
    build_s = 0.0
    figures = None
    if present == wanted and not needs_retraining(table, column):
        figures = (former and probe.confirm(former, seed=labels.num_rows)) or probe.tune(former)
    if figures is None or not figures.ok:
        from lancedb import index

        started = time.perf_counter()
        config = getattr(index, CONFIGS[wanted])(distance_type="cosine")
        table.create_index(column, config=config, replace=True)
        build_s = time.perf_counter() - started
        figures = probe.tune()
    return IndexReport(
        space=space,
        index_type=wanted,
        rows=labels.num_rows,
        dim=dim,
        build_s=build_s,
        effort=figures.effort,
        recall=figures.recall,
        recall_filtered=figures.recall_filtered,
        filter=probe.filter,
        ok=figures.ok,
        effort_filtered=figures.effort_filtered,
        queries=figures.queries,
    )


def _unfiltered(filtered: Effort) -> Effort:
    """Return the effort that was measured under the filter of the measurement, from the one kept for any filter."""
    return Effort(filtered.nprobes // NARROWER, filtered.refine, filtered.most // NARROWER)


@dataclass(frozen=True)
class RecallFigures:
    """Recall of the chosen efforts; fields as in `IndexReport`."""

    effort: Effort
    effort_filtered: Effort
    recall: float
    recall_filtered: float | None
    ok: bool
    queries: int


class RecallProbe:
    """A sample of stored vectors and their true neighbours, without and with a filter, against one index."""

    def __init__(self, table: lancedb.table.Table, column: str, truth: Truth, settings: IndexSettings) -> None:
        self._table, self._column, self._settings = table, column, settings
        self.filter = truth.condition.sql if truth.condition else None
        self._ids, self._queries = truth.ids, truth.vectors
        self._radii = truth.near.distances[:, : settings.top_k]
        self._radii_filtered = None if truth.filtered is None else truth.filtered.distances[:, : settings.top_k]

    def tune(self, former: IndexReport | None = None) -> RecallFigures:
        """Find the least efforts that reach the target, without and with a filter; the greatest where none does.

        Args:
            former: efforts below those of this report are left out.
        """
        start = None if former is None else former.effort
        effort, recall = self._least(None, self._radii, start)
        if self._radii_filtered is None:
            filtered, recall_filtered = replace(effort, most=0), None
        else:
            kept = None if former is None else former.effort_filtered
            start = None if kept is None else _unfiltered(kept)
            least, recall_filtered = self._least(self.filter, self._radii_filtered, start)
            filtered = Effort(NARROWER * least.nprobes, least.refine, NARROWER * least.most)
        ok = min(recall, 1.0 if recall_filtered is None else recall_filtered) >= self._settings.target_recall
        return RecallFigures(effort, filtered, recall, recall_filtered, ok, len(self._ids))

    def confirm(self, former: IndexReport, seed: int) -> RecallFigures | None:
        """Measure the efforts of the last report by a few queries; None where recall does not hold any more.

        Args:
            seed: of the draw of these queries from the sample.
        """
        effort, filtered = former.effort, former.effort_filtered
        if effort is None or filtered is None or former.filter != self.filter:
            return None
        some = min(FEW_QUERIES, len(self._ids))
        places = np.sort(np.random.default_rng(seed).choice(len(self._ids), some, replace=False))
        weight, target = some / (some + former.queries), self._settings.target_recall

        def measure(own: Effort, where: str | None, truth: Vectors, before: float) -> float | None:
            hits, wanted = _hits(self.distances(own, where, places), truth[places])
            shares = hits[wanted > 0] / wanted[wanted > 0]
            if len(shares) < 2 or shares.mean() + 1.96 * shares.std(ddof=1) / math.sqrt(len(shares)) < target:
                return None
            both = weight * float(hits.sum() / wanted.sum()) + (1 - weight) * before
            return both if both >= target else None

        recall = measure(effort, None, self._radii, former.recall)
        recall_filtered = None
        if recall is not None and self._radii_filtered is not None and former.recall_filtered is not None:
            recall_filtered = measure(_unfiltered(filtered), self.filter, self._radii_filtered, former.recall_filtered)
        if recall is None or (recall_filtered is None) != (self._radii_filtered is None):
            return None
        queries = min(some + former.queries, self._settings.sample)
        return RecallFigures(effort, filtered, recall, recall_filtered, True, queries)

    def _least(self, where: str | None, truth: Vectors, start: Effort | None) -> tuple[Effort, float]:
        for effort in EFFORTS[EFFORTS.index(start) if start in EFFORTS else 0 :]:
            recall = _recall(self.distances(effort, where), truth)
            if recall >= self._settings.target_recall:
                break
        return effort, recall

    def distances(self, effort: Effort | None, where: str | None, places: NDArray[Any] | None = None) -> Vectors:
        """Search the distances of the nearest, float32 `[Q, top_k]`, rising; inf where fewer were found.

        The query's own item is left out, so that finding itself counts for nothing.

        Args:
            places: of the queries in the sample; by default all.
        """
        top_k = self._settings.top_k
        sample, ids = (self._queries, self._ids) if places is None else (self._queries[places], self._ids[places])
        found = nearest(self._table.to_lance(), self._column, sample, top_k + 1, effort=effort, where=where)
        owners = found["query_index"].to_numpy()
        distances = np.full((len(sample), top_k), np.inf, dtype=np.float32)
        others = found["item_id"].to_numpy() != ids[owners]
        for index in range(len(sample)):
            near = found["_distance"].to_numpy()[others & (owners == index)][:top_k]
            distances[index, : len(near)] = near
        return distances


def _recall(found: Vectors, truth: Vectors) -> float:
    """Compute the share of true neighbours found; see `_hits`."""
    hits, wanted = _hits(found, truth)
    return float(hits.sum() / max(1, wanted.sum()))


def _hits(found: Vectors, truth: Vectors) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the true neighbours of each query that are found, and all of them, int64 [Q].

    One is found no farther than the farthest true one, so that a tie is no loss.
    """
    wanted = np.isfinite(truth)
    radius = np.where(wanted, truth, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    count = wanted.sum(axis=1)
    return np.minimum((found <= radius + TOLERANCE).sum(axis=1), count), count


def recall_of_queries(
    table: lancedb.table.Table, report: IndexReport, *, queries: int, top_k: int = 10, seed: int = 1
) -> NDArray[np.float64]:
    """Measure an index on stored vectors drawn anew: the share of each one's true nearest found, float64 [Q].

    The sample by which the effort was chosen would make it look a little better.
    """
    column = column_of(report.space)
    ids, vectors = draw_rows(table, column, report.rows, queries, seed=seed)
    probe = RecallProbe(
        table, column, Truth(ids, vectors, None, empty_lists(len(ids), top_k), None), IndexSettings(top_k=top_k)
    )
    hits, wanted = _hits(probe.distances(report.effort, None), probe.distances(None, None))
    return hits[wanted > 0] / wanted[wanted > 0]


def index_type(table: lancedb.table.Table, column: str) -> str | None:
    """Read the type of the index on a column, such as `IVF_RQ`; None without an index."""
    stats = table.index_stats(f"{column}_idx")
    return None if stats is None else str(stats.index_type)


def needs_retraining(table: lancedb.table.Table, column: str) -> bool:
    """Tell whether less than half of an index's rows are those it was trained for; the rest was folded in since."""
    sizes: list[int] = table.to_lance().stats.index_stats(f"{column}_idx").get("num_indexed_rows_per_delta") or [1]
    return 2 * sizes[0] < sum(sizes)
