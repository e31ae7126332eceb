"""Read the semantic IDs of a workspace as arrays: codes with item ids, and their trie.

Later rooms (decoding, features of rankers) take `SemanticIds` and `Trie` and need no tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from coldstart.core.pipeline import Pipeline
from coldstart.errors import ColdstartError, NotFitted
from coldstart.semantic_ids.ids_stage import codes_array, load_fit, table_of
from coldstart.semantic_ids.kmeans import Codes
from coldstart.semantic_ids.settings import IDS
from coldstart.store import Store

if TYPE_CHECKING:
    from coldstart.store.artifacts import Artifact

TAG = 8
"""Digits of a fit's digest that name a version of IDs."""


@dataclass(frozen=True)
class Trie:
    """Tree of IDs as arrays, a node a different prefix, nodes of a level in the order of their prefixes.

    Attributes:
        codes: a level: the code of each node, int32 [nodes].
        parents: a level: its node in the level above, int32 [nodes]; zeros in the first.
        first: a level: where the children of each node of the level above begin, int32 [nodes above + 1]; in the first
            level 0 and the number of nodes.
        items: places of items (rows of `SemanticIds.codes`) ordered by ID, int32 [N]; `first_item`: where those of each
            last node begin, int32 [leaves + 1].
    """

    codes: tuple[Codes, ...]
    parents: tuple[Codes, ...]
    first: tuple[Codes, ...]
    items: Codes
    first_item: Codes

    def children(self, level: int, node: int) -> slice:
        """Return the nodes of a level below a node of the level above; of the first level below node 0."""
        return slice(int(self.first[level][node]), int(self.first[level][node + 1]))

    def find(self, prefix: Sequence[int]) -> int | None:
        """Find the node of a prefix in its level; None where no item has it, 0 for an empty one."""
        node = 0
        for level, code in enumerate(prefix):
            if level >= len(self.codes):
                return None
            own = self.children(level, node)
            place = own.start + int(np.searchsorted(self.codes[level][own], code))
            if place >= own.stop or self.codes[level][place] != code:
                return None
            node = place
        return node


def build_trie(codes: Codes) -> Trie:
    """Build the trie of IDs, int [N, L]."""
    count, depth = codes.shape
    order = np.lexsort(codes.T[::-1]).astype(np.int32) if count else np.empty(0, np.int32)
    ordered = codes[order]
    node = np.zeros(count, np.int64)  # of each item, in the level above
    nodes_above = 1
    own_codes, parents, first = [], [], []
    for level in range(depth):
        is_new = np.ones(count, bool)
        is_new[1:] = (node[1:] != node[:-1]) | (ordered[1:, level] != ordered[:-1, level])
        starts = np.flatnonzero(is_new)
        own_codes.append(ordered[starts, level].astype(np.int32))
        parents.append(node[starts].astype(np.int32))
        first.append(np.searchsorted(node[starts], np.arange(nodes_above + 1)).astype(np.int32))
        node = np.cumsum(is_new) - 1
        nodes_above = len(starts)
    leaves = np.searchsorted(node, np.arange(nodes_above + 1)).astype(np.int32)
    return Trie(tuple(own_codes), tuple(parents), tuple(first), order, leaves)


@dataclass(frozen=True)
class SemanticIds:
    """Semantic IDs by one fit.

    Attributes:
        item_ids: sorted; codes: int32 [N, L] in that order, with rule `suffix` the last one counts.
        nearest: codes before collisions were resolved, int32 [N, L] or [N, L - 1].
        sizes: codes of each level of the codebooks.
        rule: collision rule; space: coded space; version: first digits of the fit's digest.
    """

    item_ids: tuple[str, ...]
    codes: Codes
    nearest: Codes
    sizes: tuple[int, ...]
    rule: str
    space: str
    version: str

    @cached_property
    def trie(self) -> Trie:
        """Tree of the IDs as arrays."""
        return build_trie(self.codes)

    @cached_property
    def places(self) -> dict[str, int]:
        """Map each item to its row."""
        return {item: place for place, item in enumerate(self.item_ids)}

    def below(self, prefix: Sequence[int]) -> NDArray[np.intp]:
        """Find the rows of the items whose ID begins with a prefix, in the order of IDs."""
        node = self.trie.find(prefix)
        if node is None:
            return np.empty(0, np.intp)
        low, high = node, node + 1
        for level in range(len(prefix), self.codes.shape[1]):
            low, high = int(self.trie.first[level][low]), int(self.trie.first[level][high])
        return self.trie.items[self.trie.first_item[low] : self.trie.first_item[high]].astype(np.intp)


def text_of(codes: Sequence[int]) -> str:
    """Write codes as text, such as `12-7-201`."""
    return "-".join(map(str, codes))


def parse_prefix(prefix: str | Sequence[int]) -> tuple[int, ...]:
    """Read a prefix, such as `12-7`.

    Raises:
        ColdstartError: a part is no code.
    """
    parts = prefix.split("-") if isinstance(prefix, str) else list(prefix)
    texts = [str(part) for part in parts]
    if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in texts):
        raise ColdstartError(f"prefix {str(prefix)[:80]!r}: give codes joined by -, such as 12-7")
    return tuple(map(int, texts))


def ids_stage(pipeline: Pipeline) -> Any:
    """Build the last stage of a pipeline that gives IDs.

    Raises:
        NotFitted: it has none.
    """
    from coldstart.store.freshness import build

    stages = pipeline.of_kind(IDS)
    if not stages:
        raise NotFitted(f"{pipeline.source} has no stage of kind {IDS}: `coldstart finetune sids` adds one")
    return build(stages[-1], pipeline)


def versions(store: Store, stage: Any) -> list[Artifact]:
    """List the stored fits whose IDs are in the workspace, newest first."""
    made = store.artifacts.all(stage.fit.name)
    return [one for one in made if store.count(table_of(stage.name, one.digest))]


def load_ids(store: Store, pipeline: Pipeline, version: str | None = None) -> SemanticIds:
    """Load the IDs of one version: by default of the newest fit that has given any.

    A new fit takes the place of the last one when its IDs are stored, by one write; until then the last one answers.

    Raises:
        NotFitted: there are no IDs yet.
        ColdstartError: no such version, or its fit or table is damaged.
    """
    stage = ids_stage(pipeline)
    known = versions(store, stage)
    if not known:
        raise NotFitted(
            f"no item has a semantic ID yet: run `coldstart finetune sids --workspace {store.uri}`"
            if store.artifacts.newest(stage.fit.name) is None
            else f"no item has a semantic ID by the last fit yet: run `coldstart run --workspace {store.uri}`"
        )
    chosen = [one for one in known if version is None or (version and one.digest.startswith(version))]
    if not chosen or (version is not None and len(chosen) > 1):
        what = "several versions" if chosen else "no version"
        raise ColdstartError(
            f"{what} {version!r} of semantic IDs: there is {', '.join(one.digest[:TAG] for one in known)}"
        )
    fit = load_fit(chosen[0].folder)
    table = table_of(stage.name, chosen[0].digest)
    rows = store.read(table, ["item_id", "codes", "nearest"], where="codes IS NOT NULL").combine_chunks()
    turned_away = store.verdicts(stage.name)
    if turned_away:  # by a gate or a review since they got their ID, which stays theirs
        rows = rows.filter(pc.invert(pc.is_in(rows["item_id"], pa.array(sorted(turned_away), pa.string()))))
    rows = rows.sort_by("item_id").combine_chunks()
    depth = len(fit.codebooks.sizes)
    codes = codes_array(rows["codes"], depth + (fit.rule == "suffix"))
    nearest = codes_array(rows["nearest"], depth)
    sizes = np.array(fit.codebooks.sizes)
    if len(codes) and (
        min(codes.min(), nearest.min()) < 0 or (codes[:, :depth] >= sizes).any() or (nearest >= sizes).any()
    ):
        raise ColdstartError(f"table {table!r} has codes that its codebooks do not have: `coldstart finetune sids`")
    space = str(chosen[0].report.get("space", ""))
    ids = tuple(rows["item_id"].to_pylist())
    return SemanticIds(ids, codes, nearest, fit.codebooks.sizes, fit.rule, space, chosen[0].digest[:TAG])
