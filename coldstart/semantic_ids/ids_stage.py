"""Give every item its semantic ID by the codebooks of `align.sids`: new items in the same run, and no old one moves.

It is a catalog stage, since the ID of a new item depends on those that are taken. Each fit has a table of its own, so
that the IDs of an earlier version stay as they were; one that is no longer stored loses its table's rows. An item whose
vector changed keeps its ID as long as its nearest codes are the same. One for which no ID was free gets one when others
were removed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.core.keys import chain, stage_key
from coldstart.core.pipeline import Pipeline, Section
from coldstart.core.progress import Progress
from coldstart.core.settings import suggestion
from coldstart.core.stage import CatalogStage, LedgerRow, MapStage, Reject
from coldstart.embed.spaces import vectors_of
from coldstart.errors import ColdstartError, NotFitted, NothingToLearn
from coldstart.semantic_ids.codebooks import Codebooks, load_card, load_codebooks
from coldstart.semantic_ids.collisions import RULES, Rule, place_items
from coldstart.semantic_ids.fit_stage import SidFitStage, is_usable
from coldstart.semantic_ids.kmeans import Codes
from coldstart.semantic_ids.settings import FIT, IDS
from coldstart.store import ITEMS, Store
from coldstart.store.freshness import PipelineState
from coldstart.store.freshness import build as build_stage
from coldstart.store.items_view import ItemsView

if TYPE_CHECKING:
    from coldstart.store.artifacts import Artifact

SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("row_key", pa.string()),
        ("codes", pa.list_(pa.int32())),  # null: the item has none, for `reason`
        ("nearest", pa.list_(pa.int32())),
        ("reason", pa.string()),
    ]
)
NO_VECTOR = "no_vector"
NO_FREE_ID = "no_free_id"


class Settings(Section):
    """Settings of semantic IDs."""

    fit: str | None = None
    """Name of an earlier stage of kind `align.sids`; by default the last one."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> SidsStage:
    """Build the stage over an earlier fit.

    Raises:
        ColdstartError: there is no earlier fit, or none of that name.
    """
    fits = {spec.name: spec for spec in pipeline.earlier(name) if spec.kind == FIT}
    wanted = settings.fit or next(reversed(fits), None)
    if wanted is None:
        raise ColdstartError(f"{name}: no stage of kind {FIT} stands before it: `coldstart finetune sids` adds one")
    if wanted not in fits:
        raise ColdstartError(
            f"{name}.fit={wanted!r}: no stage of kind {FIT} has that name before it{suggestion(wanted, fits)}; there "
            f"is {', '.join(fits) or 'none'}"
        )
    fit = build_stage(fits[wanted], pipeline)
    assert isinstance(fit, SidFitStage)
    return SidsStage(name, pipeline, fit)


def table_of(stage: str, digest: str) -> str:
    """Name the table of the IDs by one fit."""
    return f"stage.{stage}-{digest}"


@dataclass(frozen=True)
class LoadedFit:
    """Codebooks of an artifact and their collision rule."""

    codebooks: Codebooks
    rule: Rule


@lru_cache(maxsize=2)
def load_fit(folder: Path) -> LoadedFit:
    """Load the fit in an artifact's folder, which never changes: once a process.

    Raises:
        ColdstartError: it is broken.
    """
    rule = load_card(folder).get("collisions")
    if rule not in RULES:
        raise ColdstartError(f"{folder}: collisions={str(rule)[:40]!r} is none of {', '.join(RULES)}")
    return LoadedFit(load_codebooks(folder), rule)


@dataclass(frozen=True)
class _Inputs:
    """Keys of the rows to have ("" while a vector is still to come), and the verdicts on blocked and settled items."""

    keys: dict[str, str]
    verdicts: dict[str, LedgerRow]


class SidsStage:
    """Catalog stage; see `coldstart.core.stage.CatalogStage` and `coldstart.engine.arrivals.TakesItems`."""

    kind = IDS
    version = 1

    def __init__(self, name: str, pipeline: Pipeline, fit: SidFitStage) -> None:
        self.name = name
        self.fit = fit
        self._pipeline = pipeline
        self._found: _Inputs | None = None

    def folder(self) -> Path:
        """Find the folder of the fit in force, checked against the passport of the space.

        Raises:
            NothingToLearn: nothing is fitted yet, or the fit is on vectors of another passport.
        """
        folder = self._pipeline.fitted(self.fit.name)
        waits = f"{self.name} waits for stage {self.fit.name!r}, which "
        if folder is None:
            raise NothingToLearn(f"{waits}has fitted nothing: run `coldstart finetune sids`")
        try:
            passport = self.fit.space_stage.passport
        except NotFitted as waiting:
            raise NothingToLearn(str(waiting)) from None
        if load_card(folder).get("passport") != passport.digest:
            raise NothingToLearn(
                f"{waits}was fitted on other vectors than those of space {self.fit.space!r} ({passport.digest}): run "
                "`coldstart finetune sids`"
            )
        if load_fit(folder).codebooks.dim != passport.dim:
            raise NothingToLearn(
                f"{waits}takes vectors of {load_fit(folder).codebooks.dim} numbers, and those of space "
                f"{self.fit.space!r} have {passport.dim}: run `coldstart finetune sids`"
            )
        return folder

    @property
    def table(self) -> str:
        """Name of the table of the fit in force; raises `NothingToLearn`."""
        return table_of(self.name, self.folder().name)

    # -- state of the items

    def expected(self, store: Store) -> tuple[dict[str, str], dict[str, LedgerRow]]:
        """Compute the keys of the items to have an ID, and the ledger rows of the others."""
        if self._found is not None:
            return self._found.keys, self._found.verdicts
        try:
            folder = self.folder()
        except NotFitted:
            return dict.fromkeys(store.keys(ITEMS), ""), {}
        inputs = self._inputs(store, PipelineState(store, self._pipeline, self._stages()), folder)
        return self._with_refused(store, inputs, folder)

    def present(self, store: Store) -> dict[str, str]:
        """Read the keys of the items with a row by the fit in force."""
        try:
            return store.keys(self.table)
        except NotFitted:
            return {}

    def _stages(self) -> dict[str, MapStage | CatalogStage]:
        return {self.fit.space: self.fit.space_stage}

    def _inputs(self, store: Store, state: PipelineState, folder: Path) -> _Inputs:
        found = state.of(self.fit.space)
        blocked = state.blocked(self.name)
        key = stage_key(self.kind, self.version, {"fit": folder.name})
        keys: dict[str, str] = {}
        verdicts: dict[str, LedgerRow] = {}
        for item, made in found.expected.items():
            own = chain(key, made)
            why = blocked.get(item)
            if why is None and item in found.settled:
                why = Reject(NO_VECTOR, f"{self.fit.space}: {found.settled[item].reason}", found.settled[item].state)
            if why is not None:
                verdicts[item] = self._verdict(item, chain(own, str(why)), why)
            else:
                keys[item] = own if item in found.fresh else ""
        return _Inputs(keys, verdicts)

    def _verdict(self, item: str, key: str, why: Reject) -> LedgerRow:
        return LedgerRow(self.name, item, key, why.state, why.reason, why.detail)

    def _with_refused(self, store: Store, inputs: _Inputs, folder: Path) -> tuple[dict[str, str], dict[str, LedgerRow]]:
        """Turn the items whose row says why they have no ID into verdicts."""
        table = table_of(self.name, folder.name)
        if not store.has(table):
            return inputs.keys, inputs.verdicts
        keys, verdicts = dict(inputs.keys), dict(inputs.verdicts)
        for row in store.read(table, ["item_id", "row_key", "reason"], where="codes IS NULL").to_pylist():
            if row["row_key"] and keys.get(row["item_id"]) == row["row_key"]:
                del keys[row["item_id"]]
                why = self._refusal(str(row["reason"]))
                verdicts[row["item_id"]] = self._verdict(row["item_id"], row["row_key"], why)
        return keys, verdicts

    def _refusal(self, reason: str) -> Reject:
        if reason == NO_FREE_ID:
            return Reject(NO_FREE_ID, "all IDs of the codebooks are taken: fit with more levels or codes")
        return Reject(NO_VECTOR, f"{self.fit.space}: its vector is zero or not finite")

    # -- the IDs

    def versions(self, store: Store) -> list[Artifact]:
        """List the stored fits whose IDs are in the workspace, newest first."""
        return [one for one in store.artifacts.all(self.fit.name) if store.count(table_of(self.name, one.digest))]

    def newest_ids(self, store: Store, view: Store) -> tuple[str, dict[str, str]]:
        """Read what the next publication has: digest of the newest fit that has given IDs, and item -> ID as text.

        Args:
            view: `store`, or a view of it through some items, of which alone the IDs are read.

        Raises:
            ColdstartError: the table has other values, as in a stranger's workspace.
        """
        known = self.versions(store)
        if not known:
            return "", {}
        rows = view.read(table_of(self.name, known[0].digest), ["item_id", "codes"], where="codes IS NOT NULL")
        texts = pc.binary_join(_checked_lists(rows["codes"]).cast(pa.list_(pa.string())), "-")
        return known[0].digest, dict(zip(rows["item_id"].to_pylist(), texts.to_pylist(), strict=True))

    def run(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Give an ID to every item that has none by the fit in force, or whose vector changed."""
        try:
            folder = self.folder()
        except NotFitted as waits:
            return 0, [str(waits)]
        inputs = self._inputs(store, PipelineState(store, self._pipeline, self._stages()), folder)
        changed, notes = self._assign(store, inputs, folder, all_items=True)
        self._found = _Inputs(*self._with_refused(store, inputs, folder))
        self._empty_old(store)
        return changed, notes

    def run_items(
        self,
        store: Store,
        items: Collection[str],
        stages: Mapping[str, MapStage | CatalogStage],
        blocked: Mapping[str, Mapping[str, Reject]],
        progress: Progress,
    ) -> tuple[int, list[str]]:
        """Give IDs to some items; see `coldstart.engine.arrivals.TakesItems`."""
        folder = self.folder()
        view = ItemsView(store, items)
        state = PipelineState(view, self._pipeline, {**stages, **self._stages()}, blocked)
        inputs = self._inputs(view, state, folder)
        done = self._assign(store, inputs, folder, all_items=False)
        self._found = _Inputs(*self._with_refused(view, inputs, folder))
        return done

    def _assign(self, store: Store, inputs: _Inputs, folder: Path, *, all_items: bool) -> tuple[int, list[str]]:
        """Choose the IDs of the items without a row of their key, and store them in one write."""
        fit, table = load_fit(folder), table_of(self.name, folder.name)
        present = (store if all_items else ItemsView(store, inputs.keys)).keys(table)
        gone = present.keys() - inputs.keys.keys() - inputs.verdicts.keys() if all_items else set()
        store.delete(table, gone)
        again = self._may_have_an_id_now(store, table, fit)
        todo = sorted(item for item, key in inputs.keys.items() if key and (present.get(item) != key or item in again))
        if todo:
            self._write(store, table, fit, todo, inputs.keys)
        count, refused = store.count(table), 0
        if store.has(table):
            refused = store.read(table, ["item_id"], where="codes IS NULL").num_rows
        note = f"{count - refused:,} items have an ID, {len(todo):,} of them new or changed"
        return len(todo) + len(gone), [note + (f"; {refused:,} have none" if refused else "")]

    def _may_have_an_id_now(self, store: Store, table: str, fit: LoadedFit) -> set[str]:
        """List the items for which no ID was free, where removals have freed some since."""
        if not store.has(table) or fit.rule != "reassign":
            return set()
        without = store.read(table, ["item_id", "reason"], where="codes IS NULL").to_pylist()
        is_full = store.count(table) - len(without) >= prod(fit.codebooks.sizes)
        return set() if is_full else {row["item_id"] for row in without if row["reason"] == NO_FREE_ID}

    def _write(self, store: Store, table: str, fit: LoadedFit, todo: list[str], keys: Mapping[str, str]) -> None:
        width = len(fit.codebooks.sizes) + (fit.rule == "suffix")
        vectors = vectors_of(store, self.fit.space_stage, todo)
        usable = is_usable(vectors)
        projected = fit.codebooks.project(np.where(usable[:, None], vectors, 0).astype(np.float32))
        nearest, _ = fit.codebooks.encode(projected)
        codes = np.full((len(todo), width), -1, np.int32)
        moving = usable.copy()
        held = np.empty((0, width), np.int32)
        if store.has(table):
            places = {item: place for place, item in enumerate(todo)}
            rows = store.read(table, ["item_id", "codes", "nearest"], where="codes IS NOT NULL").combine_chunks()
            held = codes_array(rows["codes"], width)
            own = np.array([places.get(item, -1) for item in rows["item_id"].to_pylist()], np.int64)
            again = np.flatnonzero(own >= 0)
            before = codes_array(rows["nearest"].take(pa.array(again)), nearest.shape[1])
            same = usable[own[again]] & (before == nearest[own[again]]).all(1)
            codes[own[again[same]]] = held[again[same]]  # its vector changed, and not so far that its codes do
            moving[own[again[same]]] = False
            kept = own < 0
            kept[again[same]] = True
            held = held[kept]
        codes[moving] = place_items(fit.codebooks, projected[moving], nearest[moving], fit.rule, held)
        placed = codes[:, 0] >= 0
        reasons = [None if has else NO_FREE_ID if is_one else NO_VECTOR
                   for has, is_one in zip(placed.tolist(), usable.tolist(), strict=True)]  # fmt: skip
        columns = {
            "item_id": pa.array(todo, pa.string()),
            "row_key": pa.array([keys[item] for item in todo], pa.string()),
            "codes": _lists(codes, placed),
            "nearest": _lists(nearest, usable),
            "reason": pa.array(reasons, pa.string()),
        }
        store.merge(table, pa.table(columns, schema=SCHEMA))

    def _empty_old(self, store: Store) -> None:
        """Empty the tables of fits that are no longer stored."""
        stored = {table_of(self.name, made.digest) for made in store.artifacts.all(self.fit.name)}
        prefix = table_of(self.name, "")
        for table in store.tables():
            if table.startswith(prefix) and table not in stored:
                store.drop(table, "item_id IS NOT NULL")


def codes_array(column: Any, width: int) -> Codes:
    """Convert a column of lists of `width` codes, none of them null, to int32 [N, width].

    Raises:
        ColdstartError: they are no lists of int32, or one has another length, as in a stranger's workspace.
    """
    lists = _checked_lists(column)
    values = lists.flatten().to_numpy()
    if len(values) != len(lists) * width or (len(lists) and (np.diff(lists.offsets.to_numpy()) != width).any()):
        raise ColdstartError(f"a table of semantic IDs has lists of another length than {width}: fit it again")
    return np.asarray(values, np.int32).reshape(-1, width)


def _checked_lists(column: Any) -> Any:
    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not (pa.types.is_list(lists.type) and pa.types.is_int32(lists.type.value_type)) or lists.flatten().null_count:
        raise ColdstartError(f"a table of semantic IDs has {lists.type} in place of lists of codes: fit it again")
    return lists


def _lists(codes: Codes, present: NDArray[np.bool_]) -> pa.ListArray:
    """Build a column of lists, one a row, null where a row is not present."""
    offsets = pa.array(np.arange(len(codes) + 1, dtype=np.int32) * codes.shape[1])
    values = pa.array(np.ascontiguousarray(codes, np.int32).reshape(-1))
    return pa.ListArray.from_arrays(offsets, values, mask=pa.array(~present))
