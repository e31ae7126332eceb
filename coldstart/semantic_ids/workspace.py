"""Answer from the semantic IDs of a workspace: tables of IDs, the tree of prefixes, the health card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from coldstart.core.interactions import Interactions
from coldstart.core.pipeline import Pipeline
from coldstart.core.settings import suggestion
from coldstart.embed.spaces import vectors_of
from coldstart.errors import ColdstartError
from coldstart.semantic_ids.codebooks import Codebooks
from coldstart.semantic_ids.fit_stage import is_usable, variance_left
from coldstart.semantic_ids.health import MOST_REFITTED, Churn, Health, Reach, health_of_codes, measure_new_items
from coldstart.semantic_ids.ids_stage import SidsStage, load_fit
from coldstart.semantic_ids.kmeans import Vectors
from coldstart.semantic_ids.read import TAG, SemanticIds, choose_version, ids_stage, load_ids, parse_prefix, text_of
from coldstart.semantic_ids.recall_settings import RECALL
from coldstart.store import ITEMS, Store
from coldstart.store.interactions import INTERACTIONS, InteractionTable

if TYPE_CHECKING:
    from coldstart.store.published import Published

_RECORD = ("title", "category", "kind")


@dataclass(frozen=True)
class Branch:
    """Items of one prefix of IDs.

    Attributes:
        prefix: its codes; items: number of items; children: of prefixes one level longer.
        places: rows of its items in `SemanticIds`, in the order of IDs.
    """

    prefix: tuple[int, ...]
    items: int
    children: int
    places: Sequence[int]


def branches(ids: SemanticIds, prefix: Sequence[int] = ()) -> list[Branch]:
    """List the prefixes one level below a prefix, the one of most items first."""
    trie, level = ids.trie, len(prefix)
    node = trie.find(prefix)
    if node is None or level >= len(trie.codes):
        return []
    found = []
    for code in trie.codes[level][trie.children(level, node)].tolist():
        own = (*prefix, code)
        places = ids.below(own)
        below = trie.find(own)
        children = 0
        if below is not None and level + 1 < len(trie.codes):
            span = trie.children(level + 1, below)
            children = span.stop - span.start
        found.append(Branch(own, len(places), children, places.tolist()))
    return sorted(found, key=lambda branch: (-branch.items, branch.prefix))


def ids_table(
    store: Store,
    pipeline: Pipeline,
    *,
    item: str | None = None,
    prefix: str | Sequence[int] | None = None,
    version: str | None = None,
    published: Published | None = None,
) -> pa.Table:
    """Build a table of IDs: item_id, sid, codes, title, category; in the order of IDs.

    Args:
        item: only this one; prefix: only items whose ID begins so.
        version, published: as for `load_ids`.

    Raises:
        NotFitted: there are no IDs yet.
        ColdstartError: the item has no ID, or the prefix is none.
    """
    ids = load_ids(store, pipeline, version, published)
    if item is not None:
        if item not in ids.places:
            raise ColdstartError(_no_id(store, ids, item))
        places = np.array([ids.places[item]])
    elif prefix is not None:
        places = ids.below(parse_prefix(prefix))
    else:
        places = ids.trie.items.astype(np.intp)
    chosen = [ids.item_ids[place] for place in places.tolist()]
    record = read_records(store, chosen)
    codes = ids.codes[places]
    return pa.table(
        {
            "item_id": pa.array(chosen, pa.string()),
            "sid": pa.array([text_of(row) for row in codes.tolist()], pa.string()),
            "codes": pa.array(codes.tolist(), pa.list_(pa.int32())),
            **{name: pa.array([record.get(one, {}).get(name) for one in chosen], pa.string()) for name in _RECORD[:2]},
        }
    )


def export_table(ids: SemanticIds) -> pa.Table:
    """Build the table of all IDs with a column a code: item_id, sid, code_1, code_2, …; in the order of items."""
    codes = {f"code_{level}": pa.array(own) for level, own in enumerate(np.ascontiguousarray(ids.codes.T), 1)}
    texts = pa.array([text_of(row) for row in ids.codes.tolist()], pa.string())
    return pa.table({"item_id": pa.array(ids.item_ids, pa.string()), "sid": texts, **codes})


def _no_id(store: Store, ids: SemanticIds, item: str) -> str:
    known = store.keys(ITEMS)
    if item not in known:
        return (
            f"no item {item!r}{suggestion(item, known)} in workspace {store.uri}: list ids with `coldstart export "
            f"items --workspace {store.uri}`"
        )
    return (
        f"item {item!r} has no semantic ID in version {ids.version}: see `coldstart show {item}`, or give new items "
        f"theirs with `coldstart run --workspace {store.uri}`"
    )


def read_records(store: Store, item_ids: Sequence[str], columns: Sequence[str] = _RECORD) -> dict[str, dict[str, Any]]:
    """Read columns of items: id -> values."""
    if not item_ids or not store.has(ITEMS):
        return {}
    few = len(item_ids) * 8 < store.count(ITEMS)
    rows = store.read(ITEMS, ["item_id", *columns], ids=list(item_ids) if few else None).to_pylist()
    return {row["item_id"]: row for row in rows}


def list_versions(store: Store, pipeline: Pipeline, published: Published | None = None) -> list[dict[str, Any]]:
    """List the stored versions of IDs, newest first: version, served, made_at, method, sizes, space, collisions.

    `served` is that of the publication; the newest one where it has none.
    """
    known = ids_stage(pipeline).versions(store)
    served = None if published is None else published.sid_version()
    if served is None and known:
        served = known[0].digest
    return [
        {
            "version": made.digest[:TAG],
            "served": made.digest == served,
            "made_at": made.made_at.isoformat(timespec="seconds"),
            **{name: made.report.get(name) for name in ("method", "sizes", "space", "collisions")},
        }
        for made in known
    ]


def read_health(
    store: Store, pipeline: Pipeline, version: str | None = None, published: Published | None = None
) -> Health:
    """Measure the IDs of one version; see `coldstart.semantic_ids.health`, and `load_ids` for which one.

    Raises:
        NotFitted: there are no IDs yet.
    """
    stage = ids_stage(pipeline)
    ids = load_ids(store, pipeline, version, published)
    made = choose_version(store, stage, ids.version)
    fit = load_fit(made.folder)
    records = read_records(store, ids.item_ids)
    categories = [records.get(item, {}).get("category") for item in ids.item_ids]
    met: Interactions | None = None
    if store.has(INTERACTIONS):
        met = InteractionTable(store).read().over(ids.item_ids)
    vectors, left = _vectors(store, stage, ids, fit.codebooks, str(made.report.get("passport")))
    new_items: tuple[Sequence[Reach], Churn | None, int] = ((), None, 0)
    if vectors is not None:
        chosen = _sample(ids.item_ids)
        usable = chosen[is_usable(vectors[chosen])]
        names = [ids.item_ids[place] for place in usable.tolist()]
        learns = stage.fit.learns(store, names)
        reach, churn = measure_new_items(names, vectors[usable], fit.rule, stage.fit.fit, learns)
        new_items = reach, churn, len(names)
    about: Mapping[str, str] = {
        "version": ids.version, "space": ids.space, "method": fit.codebooks.method, "rule": fit.rule
    }  # fmt: skip
    return health_of_codes(
        ids.item_ids, ids.codes, ids.nearest, ids.sizes,
        categories=categories, interactions=met, left=left, about=about, new_items=new_items,
        emitted=_emitted(store, pipeline, ids.version),
    )  # fmt: skip


def _emitted(store: Store, pipeline: Pipeline, version: str) -> float | None:
    """Read the share of new items in the lists of the newest sequence model of these IDs; None without one."""
    stages = pipeline.of_kind(RECALL)
    made = store.artifacts.newest(stages[-1].name) if stages else None
    if made is None or made.report.get("sids") != version:
        return None
    try:
        found = float(made.report["emitted"][made.report["auto"]]["0"])
    except (KeyError, TypeError, ValueError):  # too few to measure, or a report of a stranger
        return None
    return found if 0 <= found <= 1 else None


def _vectors(
    store: Store, stage: SidsStage, ids: SemanticIds, codebooks: Codebooks, passport: str
) -> tuple[Vectors | None, list[float] | None]:
    """Read the vectors that the IDs are of, and the variance left; None where the space has others by now."""
    space = stage.fit.space_stage
    try:
        if space.passport.digest != passport:
            return None, None
    except ColdstartError:
        return None, None
    vectors = vectors_of(store, space, ids.item_ids)
    usable = is_usable(vectors)
    projected = codebooks.project(vectors[usable])
    _, left = codebooks.encode(projected)
    return vectors, variance_left(projected, left) if len(projected) else None


def _sample(item_ids: Sequence[str]) -> Any:
    """Choose at most `MOST_REFITTED` items by a hash of their ids, in order."""
    import hashlib

    if len(item_ids) <= MOST_REFITTED:
        return np.arange(len(item_ids))
    hashes = [hashlib.sha1(f"health:{item}".encode()).digest() for item in item_ids]
    return np.sort(np.array(sorted(range(len(item_ids)), key=hashes.__getitem__)[:MOST_REFITTED]))
