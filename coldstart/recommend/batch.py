"""Write lists for many users: user ids from a file, lists into one file, a batch of users at a time.

The file appears only once it is complete. Interactions and item vectors are read once and held in memory.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions
from coldstart.core.sanitize import check_text
from coldstart.core.spelling import existing_path, similar_path
from coldstart.core.values import are_whole_floats, parse_id
from coldstart.errors import ColdstartError
from coldstart.ingest.columns import encode_ids, parse_ids
from coldstart.ingest.files import KNOWN
from coldstart.ingest.tables import open_table
from coldstart.recommend.lists import Candidates, ListBuilder, Lists, Rules
from coldstart.recommend.service import Filters, QuerySettings, Recommender, Scored
from coldstart.recommend.table_files import check_out_path, table_writer
from coldstart.recommend.users import BATCH_USERS, History

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

USER_COLUMNS = ("user_id", "userId", "user", "uid")
SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("rank", pa.int32()),
        ("score", pa.float32()),
        ("cold", pa.bool_()),
        ("explored", pa.bool_()),
        ("propensity", pa.float64()),
    ]
)


SHOWN = pa.schema(
    [
        ("request_id", pa.string()),
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp", pa.timestamp("us", "UTC")),
        ("position", pa.int32()),
        ("propensity", pa.float64()),
    ]
)
"""Columns of a log of lists, as `coldstart ingest --impressions` reads them; each list is a request."""


class Meters(Protocol):
    """Makes meters of progress; see `coldstart.core.progress.Progress`."""

    def meter(self, stage: str, total: int | None) -> AbstractContextManager[Any]: ...


@dataclass(frozen=True)
class Written:
    """Summary of a batch of lists.

    Attributes:
        users: requested; without_history: those of them of whose history no model knows an item: they got the average
            user's list, popular items, or none where content alone scores.
        rows: written to `out`.
        ranked: whether a ranker ordered the lists, `on`, and why; None where none is fitted.
        rerank: what was `requested`, the `kind` that ordered the lists, `why` it is not another, and how often which
            `faults` left one as it was; None where nothing was requested.
    """

    out: str
    users: int
    without_history: int
    rows: int
    cold_share: float
    scored_by: str
    seconds: float
    ranked: Mapping[str, Any] | None = None
    rerank: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return asdict(self)


def write_lists(
    recommender: Recommender,
    user_ids: Sequence[str],
    out: Path,
    rules: Rules,
    filters: Filters,
    query: QuerySettings,
    meters: Meters,
    log: Path | None = None,
    scored: Callable[[Sequence[History]], Sequence[Scored | None]] | None = None,
    order: Callable[[Sequence[Sequence[str]], Sequence[History]], Sequence[NDArray[np.int64]]] | None = None,
) -> Written:
    """Write lists of users, in their order, with the columns of `SCHEMA`; the end of the file's name is its format.

    Args:
        log: a further file of them, with the columns of `SHOWN`.
        scored: scores candidates of histories; a user with None gets the list of the scoring model.
        order: orders lists of items for histories: the places of each, best first.

    Raises:
        ColdstartError: the name has another end, the file cannot be written, or as for `Recommender.recommend`.
    """
    began = time.perf_counter()
    builder, model = recommender.list_builder(rules, filters), recommender.scoring_model
    users = tuple(dict.fromkeys(user_ids))
    every = recommender.interactions()
    rows = every.over(every.item_ids, users)
    average, name = recommender.average_user, model.name
    has_average = bool(average.any())
    likes = model.likes(rows, query.half_life_s, recommender.min_weight)
    seen = recommender.seen(rows, builder.candidates) if filters.seen == "drop" else None
    read_histories = history_reader(rows) if scored is not None or order is not None else None

    def by_model(places: NDArray[np.intp]) -> tuple[Lists, NDArray[np.bool_]]:
        """Build lists by the scoring model; the average user's, where there is one, for those without a history."""
        queries = model.query_vectors(likes[places], query.interests)
        known: NDArray[np.bool_] = np.asarray(queries.any(axis=(1, 2)))
        own, names = None if seen is None else seen[places], tuple(users[place] for place in places)
        found = builder.lists(queries, own, names)
        if has_average and not known.all():
            others = np.flatnonzero(~known)
            left_out, some = None if own is None else own[others], tuple(names[place] for place in others)
            unknown = np.repeat(average[None], len(others), axis=0)
            found = found.replaced(others, recommender.builder_for_average(builder).lists(unknown, left_out, some))
        return found, known

    written = cold = without_history = 0
    with ExitStack() as opened:
        writer = opened.enter_context(table_writer(out, SCHEMA))
        meter = opened.enter_context(meters.meter("users", len(users)))
        logged = None if log is None else opened.enter_context(table_writer(log, SHOWN, "--log"))
        for start in range(0, len(users), BATCH_USERS):
            block = np.arange(start, min(start + BATCH_USERS, len(users)))
            names = tuple(users[place] for place in block)
            histories = [] if read_histories is None else read_histories(block)
            pools = [None] * len(block) if scored is None else list(scored(histories))
            is_scored = np.array([own is not None for own in pools], bool)
            known = np.array([own is not None and own.is_personal for own in pools], bool)
            name = next((own.name for own in pools if own is not None and own.is_personal), name)
            found = _scored_lists(builder, pools, names)
            if not is_scored.all():
                others = np.flatnonzero(~is_scored)
                by_scores, known[others] = by_model(block[others])
                found = found.replaced(others, by_scores)
            kept = known | is_scored | has_average
            if order is not None:
                _reorder(found, builder.candidates, kept, order, histories)
            table = _table(names, found, builder.candidates, kept)
            writer.write_table(table)
            if logged is not None:
                logged.write_table(_shown(table))
            written += table.num_rows
            cold += pc.sum(table["cold"]).as_py() or 0
            without_history += int((~known).sum())
            meter.advance(len(block), 0, 0.0)
    seconds = time.perf_counter() - began
    return Written(str(out), len(users), without_history, written, cold / max(written, 1), name, seconds)


def history_reader(rows: Interactions) -> Callable[[Iterable[int]], list[History]]:
    """Build a reader of the rows of users, by their places: without events."""
    order = np.argsort(rows.users, kind="stable")
    starts = np.searchsorted(rows.users[order], np.arange(len(rows.user_ids) + 1))

    def read(users: Iterable[int]) -> list[History]:
        found = []
        for user in users:
            own = order[starts[user] : starts[user + 1]]
            items = tuple(rows.item_ids[item] for item in rows.items[own].tolist())
            found.append(History(items, rows.times[own], rows.weights[own], ("",) * len(own)))
        return found

    return read


def _scored_lists(builder: ListBuilder, pools: Sequence[Scored | None], names: Sequence[str]) -> Lists:
    """Build lists of candidates that were scored elsewhere, without what users have seen; empty ones for None."""
    shape = len(pools), builder.rules.top_k
    found = Lists(
        np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32), np.zeros(shape, bool), np.zeros(shape)
    )
    for row, (own, name) in enumerate(zip(pools, names, strict=True)):
        if own is not None:
            chosen = own.builder(builder)
            lists = chosen.lists(np.ones((1, 1, 1), np.float32), None, (name,))
            columns = builder.candidates.columns
            places = np.array([columns[item] for item in chosen.candidates.item_ids], np.int64)
            found.places[row] = np.where(lists.places[0] < 0, -1, places[lists.places[0]]) if len(places) else -1
            found.scores[row], found.explored[row] = lists.scores[0], lists.explored[0]
            found.propensity[row] = lists.propensity[0]
    return found


def _reorder(
    found: Lists,
    candidates: Candidates,
    kept: NDArray[np.bool_],
    order: Callable[[Sequence[Sequence[str]], Sequence[History]], Sequence[NDArray[np.int64]]],
    histories: Sequence[History],
) -> None:
    """Order lists anew, in place."""
    rows = np.flatnonzero(kept & (found.places[:, 0] >= 0)).tolist()
    items = [[candidates.item_ids[place] for place in found.places[row] if place >= 0] for row in rows]
    for row, own in zip(rows, order(items, [histories[row] for row in rows]), strict=True):
        for array in (found.places, found.scores, found.explored, found.propensity):
            array[row, : len(own)] = array[row, own]


def _table(names: Sequence[str], found: Lists, candidates: Candidates, kept: Any) -> pa.Table:
    """Build table rows of the filled slots, by user and rank."""
    users, slots = np.nonzero((found.places >= 0) & kept[:, None])
    places = found.places[users, slots]
    columns = [
        pa.array(names, pa.string()).take(pa.array(users)),
        pa.array([candidates.item_ids[place] for place in places], pa.string()),
        pa.array(slots + 1, pa.int32()),
        pa.array(found.scores[users, slots], pa.float32()),
        pa.array(candidates.cold[places], pa.bool_()),
        pa.array(found.explored[users, slots], pa.bool_()),
        pa.array(found.propensity[users, slots], pa.float64()),
    ]
    return pa.table(columns, SCHEMA)


def check_log_path(log: Path) -> None:
    """Check the name of a log of lists: what was shown is known only once, so that no log takes the place of another.

    Raises:
        ColdstartError: it is there, or its end states no format.
    """
    check_out_path(log, "--log")
    if log.exists():
        raise ColdstartError(f"--log {log} exists: name another file, such as one with the date")


def write_log(log: Path, user_id: str, items: Sequence[tuple[str, int, float]]) -> None:
    """Write the list of one user (item, rank and propensity) with the columns of `SHOWN`.

    Raises:
        ColdstartError: the file cannot be written.
    """
    named = [{"user_id": user_id, "item_id": item, "rank": rank, "propensity": at} for item, rank, at in items]
    columns = pa.schema([SCHEMA.field(name) for name in ("user_id", "item_id", "rank", "propensity")])
    with table_writer(log, SHOWN, "--log") as writer:
        writer.write_table(_shown(pa.Table.from_pylist(named, schema=columns)))


def _shown(lists: pa.Table) -> pa.Table:
    """Build rows of `SHOWN` from those of lists, as of now; the rows of a user are one request."""
    users = lists["user_id"].combine_chunks().dictionary_encode()
    requests = pa.array([uuid4().hex for _ in range(len(users.dictionary))], pa.string()).take(users.indices)
    now = pa.scalar(datetime.now(UTC), SHOWN.field("timestamp").type)
    times = pa.repeat(now, lists.num_rows)
    columns = [requests, lists["user_id"], lists["item_id"], times, lists["rank"], lists["propensity"]]
    return pa.table(columns, schema=SHOWN)


def read_user_ids(path: Path) -> list[str]:
    """Read user ids: a column `user_id` of a table (or its only column), or a text file with one a line.

    Ids are parsed as those of interactions: 101.0 is 101, and NULL is none.

    Raises:
        ColdstartError: there is no such file, or no such column, or a row holds no id that can be.
    """
    path = existing_path(path)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise ColdstartError(f"no file of users at {path}{similar_path(path)}: give {KNOWN}")
    try:
        if suffix in (".txt", ".jsonl"):
            lines = path.read_text("utf-8-sig").splitlines()
            read = [parse_id(line if suffix == ".txt" else _of(json.loads(line))) for line in lines if line.strip()]
        else:
            read = list(_column_ids(path))
    except (ValueError, KeyError, TypeError, pa.ArrowInvalid) as error:
        raise ColdstartError(f"{path} has no ids of users ({error}): give a column user_id") from None
    found = [user_id for user_id in read if user_id is not None]
    if not found:
        raise ColdstartError(f"{path} names no user")
    for user_id in found:
        try:
            check_text(user_id)
        except ColdstartError as error:
            raise ColdstartError(f"{path}: {error}") from None
    return [user_id.removesuffix(".0") for user_id in found] if are_whole_floats(found) else found


def _column_ids(path: Path) -> Iterator[str | None]:
    table = open_table(path)
    column = _column(table.columns)
    for block in table.blocks([column]):
        ids, undecoded, odd = parse_ids(encode_ids(block.columns[column]))
        faults = [
            *block.broken,
            *((row, "not UTF-8") for row in block.rows[undecoded].tolist()),
            *((row, "no id: it is too long, or has lost its last digits") for row in block.rows[odd].tolist()),
        ]
        for row, fault in faults:
            raise ValueError(f"row {row}: {fault}")
        yield from ids.to_pylist()


def _column(names: Sequence[str]) -> str:
    found = next((name for name in USER_COLUMNS if name in names), names[0] if len(names) == 1 else None)
    if found is None:
        raise ValueError(f"columns are {', '.join(names)}")
    return found


def _of(value: Any) -> Any:
    if isinstance(value, dict):
        value = value[_column(list(value))]
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise ValueError(f"{value!r} is no id")
    return value
