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
from coldstart.semantic_ids.ids_stage import SidsStage, codes_array, load_fit, table_of
from coldstart.semantic_ids.kmeans import Codes
from coldstart.semantic_ids.settings import IDS
from coldstart.store import Store
from coldstart.store.published import SID

if TYPE_CHECKING:
    from coldstart.store.artifacts import Artifact
    from coldstart.store.published import Published

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


def ids_stage(pipeline: Pipeline) -> SidsStage:
    """Build the last stage of a pipeline that gives IDs.

    Raises:
        NotFitted: it has none.
    """
    from coldstart.store.freshness import build

    stage = build(pipeline.last(IDS, "coldstart finetune sids"), pipeline)
    assert isinstance(stage, SidsStage)
    return stage


def load_ids(
    store: Store, pipeline: Pipeline, version: str | None = None, published: Published | None = None
) -> SemanticIds:
    """Load the IDs of one version.

    Args:
        version: first digits of a stored version; by default that of the publication, else the newest fit that has
            given any: its IDs are stored by one write, and until then the last one answers.
        published: the publication whose IDs are asked for; one without any counts as none.

    Raises:
        NotFitted: there are no IDs yet.
        ColdstartError: no such version, or its fit, table or publication is damaged.
    """
    stage = ids_stage(pipeline)
    served = None if version is not None or published is None else published.sid_version()
    if served is not None and all(one.digest != served for one in stage.versions(store)):
        raise ColdstartError(
            f"the fit {served[:TAG]!r}, whose semantic IDs are served, is no longer stored: serve those of the newest "
            f"with `coldstart index --workspace {store.uri}`"
        )
    made = choose_version(store, stage, version if served is None else served)
    fit, table = load_fit(made.folder), table_of(stage.name, made.digest)
    depth = len(fit.codebooks.sizes)
    width = depth + (fit.rule == "suffix")
    rows = store.read(table, ["item_id", "codes", "nearest"], where="codes IS NOT NULL").combine_chunks()
    if served is None:
        turned_away = store.verdicts(stage.name)
        if turned_away:  # by a gate or a review since they got their ID, which stays theirs
            rows = rows.filter(pc.invert(pc.is_in(rows["item_id"], pa.array(sorted(turned_away), pa.string()))))
        rows = rows.sort_by("item_id").combine_chunks()
    ids, source = rows["item_id"].combine_chunks(), f"table {table!r}"
    codes, nearest = codes_array(rows["codes"], width), codes_array(rows["nearest"], depth)
    if served is not None and published is not None:
        source = f"publication {published.publication.tag}"
        found = published.sids().combine_chunks()
        places = pc.index_in(found["item_id"].combine_chunks(), value_set=ids).fill_null(-1).to_numpy()
        ids, codes = found["item_id"].combine_chunks(), _codes_of_texts(found[SID], width)
        kept, nearest = nearest, codes[:, :depth].copy()
        nearest[places >= 0] = kept[places[places >= 0]]
    sizes = np.array(fit.codebooks.sizes)
    if len(codes) and (
        min(codes.min(), nearest.min()) < 0 or (codes[:, :depth] >= sizes).any() or (nearest >= sizes).any()
    ):
        raise ColdstartError(f"{source} has codes that its codebooks do not have: `coldstart finetune sids`")
    space = str(made.report.get("space", ""))
    return SemanticIds(tuple(ids.to_pylist()), codes, nearest, fit.codebooks.sizes, fit.rule, space, made.digest[:TAG])


def choose_version(store: Store, stage: SidsStage, version: str | None) -> Artifact:
    """Find the stored fit of a version, by its first digits; by default the newest that has given IDs.

    Raises:
        NotFitted: there are no IDs yet.
        ColdstartError: there is no such version, or several.
    """
    known = stage.versions(store)
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
    return chosen[0]


def _codes_of_texts(column: Any, width: int) -> Codes:
    """Read IDs such as `12-7-201` as int32 [N, width].

    Raises:
        ColdstartError: they are none, as in a stranger's workspace.
    """
    try:
        parts = pc.split_pattern(column, "-")
        return codes_array(parts.cast(pa.list_(pa.int32())), width)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ColdstartError(f"the publication has semantic IDs that are none ({error}): `coldstart run`") from None
