"""Measure semantic IDs: uniqueness, use of the codes, new items within reach, churn, agreement with behaviour.

Each measure of meaning stands beside the same for prefixes of categories and for codes that are shuffled among the
items: IDs that are no better than these carry nothing. Held-out new items are the tenth of the items whose hash says
so; the codebooks are fitted once more without them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.interactions import Interactions
from coldstart.metrics.intervals import FEWEST_COMPARED, Measure, share, wilson
from coldstart.semantic_ids.codebooks import Codebooks
from coldstart.semantic_ids.collisions import Rule, place_items
from coldstart.semantic_ids.fit_stage import perplexities
from coldstart.semantic_ids.kmeans import Codes, Vectors, squared_distances

UNIQUE, PERPLEXITY, EMITTED = 0.98, 0.5, 0.5
"""Least share of unique IDs after reassignment, least perplexity as a share of the codes, least share of new items in
any list: below these the card warns."""
MOST_REFITTED = 20_000
"""Items that the fits without new items take; of more those of the least hashes."""
_PAIRS_A_USER = 200


def is_held_out(item: str) -> bool:
    """Tell whether an item plays a new one: a tenth, by the hash that all cold splits share."""
    return int(hashlib.sha1(f"cold:{item}".encode()).hexdigest(), 16) % 10 == 0


@dataclass(frozen=True)
class LevelHealth:
    """Use of the codes of one level, over the nearest codes.

    Attributes:
        codes: of the codebook; used: that some item has.
        perplexity: exp(entropy): codes, if all were used alike; largest: items of the commonest code.
        variance_left: share of the vectors' variance that this and the levels before do not explain.
        prefixes: different prefixes of the IDs that end here.
    """

    codes: int
    used: int
    perplexity: float
    largest: int
    variance_left: float | None
    prefixes: int


@dataclass(frozen=True)
class Reach:
    """Share of new items whose prefix of nearest codes an item of the fit has: one that a decoder was trained on."""

    level: int
    measure: Measure


@dataclass(frozen=True)
class Churn:
    """Change of the IDs of old items when a tenth new ones come.

    Attributes:
        items: old items; moved: those whose ID a new one got under the same codebooks, none unless IDs are shared.
        refit: a level: share of old items whose prefix of nearest codes changed by a new fit that begins with the
            codebooks of before, where the method can (`rqkmeans`); fresh: by one that begins anew, after its first
            codes are matched to those of before (first level alone; codes of later levels have no counterpart).
    """

    items: int
    moved: int
    refit: Sequence[float] = ()
    fresh: float | None = None


@dataclass(frozen=True)
class Agreement:
    """Meaning of one grouping of items.

    Attributes:
        name: `L1`, `L2`, … for prefixes of IDs, `category …` for those of categories; shuffled: groups dealt out anew.
        groups: number of groups.
        pairs: share of pairs of items that follow each other in a history and are of one group.
        lift: that share over the one of any two different items of those that were met, weighed by how often; None
            where no two of those share a group.
        purity: share of items of the commonest category of their group; None without categories.
        nmi: normalised mutual information with clusters of items of like users.
    """

    name: str
    shuffled: bool
    groups: int
    pairs: Measure | None
    lift: float | None
    purity: float | None
    nmi: float | None


@dataclass(frozen=True)
class Health:
    """Health card of semantic IDs.

    Attributes:
        unique_share: different IDs over items; colliding_share: items that share one; largest_bucket: most items of an
            ID; the same before collisions were resolved with `nearest_`.
        reach, churn: of held-out items; refitted: items that these were measured on.
        agreement: groupings beside baselines; users: whose histories they were compared with.
        emitted: share of new items in some list of a decoder; None until one is fitted.
        warnings: what to look at, a line each.
    """

    version: str
    space: str
    method: str
    rule: str
    items: int
    unique_share: float
    colliding_share: float
    largest_bucket: int
    nearest_unique_share: float
    nearest_colliding_share: float
    nearest_largest_bucket: int
    levels: Sequence[LevelHealth]
    refitted: int = 0
    reach: Sequence[Reach] = ()
    churn: Churn | None = None
    users: int = 0
    agreement: Sequence[Agreement] = ()
    emitted: float | None = None
    warnings: Sequence[str] = field(default_factory=tuple)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values."""
        return asdict(self)


def buckets(codes: Codes) -> tuple[float, float, int]:
    """Measure collisions: share of different IDs, share of items that share one, most items of one."""
    if not len(codes):
        return 0.0, 0.0, 0
    _, counts = np.unique(codes, axis=0, return_counts=True)
    return len(counts) / len(codes), float(counts[counts > 1].sum()) / len(codes), int(counts.max())


def level_health(codes: Codes, nearest: Codes, sizes: Sequence[int], left: Sequence[float] | None) -> list[LevelHealth]:
    """Measure the use of each level; `left`: its share of variance, where vectors are known."""
    used = perplexities(nearest, tuple(sizes))
    found = []
    for level, size in enumerate(sizes):
        counts = np.bincount(nearest[:, level], minlength=size)
        found.append(
            LevelHealth(
                int(size),
                int((counts > 0).sum()),
                used[level],
                int(counts.max()),
                None if left is None else left[level],
                len(np.unique(codes[:, : level + 1], axis=0)),
            )
        )
    return found


# -- new items


def measure_new_items(
    item_ids: Sequence[str],
    vectors: Vectors,
    rule: Rule,
    fit: Callable[[Vectors, Codebooks | None], Codebooks],
    learns: NDArray[np.bool_] | None = None,
) -> tuple[list[Reach], Churn | None]:
    """Fit codebooks without the held-out items, and measure what happens when these come.

    Args:
        vectors: float32 [N, D], finite, in the order of the ids.
        learns: items that a fit learns from, bool [N], such as warm ones; None: all.
        fit: fits codebooks on vectors, perhaps beginning with others.
    """
    new = np.array([is_held_out(item) for item in item_ids], bool)
    learns = np.ones(len(new), bool) if learns is None else learns
    if not new.any() or (~new & learns).sum() < FEWEST_COMPARED:
        return [], None
    before = fit(vectors[~new & learns], None)
    projected = before.project(vectors)
    codes, _ = before.encode(projected)
    reach = []
    for level in range(codes.shape[1]):
        known = {tuple(row) for row in codes[~new, : level + 1].tolist()}
        hits = sum(tuple(row) in known for row in codes[new, : level + 1].tolist())
        reach.append(Reach(level + 1, Measure(hits / int(new.sum()), *wilson(hits, int(new.sum())), int(new.sum()))))
    width = codes.shape[1] + (rule == "suffix")
    old = place_items(before, projected[~new], codes[~new], rule, np.empty((0, width), np.int32))
    placed = old[old[:, 0] >= 0]
    arrived = place_items(before, projected[new], codes[new], rule, placed)
    together = np.concatenate([placed, arrived[arrived[:, 0] >= 0]])
    moved = 0 if rule == "keep" else len(together) - len(np.unique(together, axis=0))
    again = fit(vectors[learns], before)
    changed = []
    codes_again, _ = again.encode(again.project(vectors[~new]))
    if again.sizes == before.sizes:
        same = np.ones(int((~new).sum()), bool)
        for level in range(codes.shape[1]):
            same &= codes_again[:, level] == codes[~new, level]
            changed.append(float((~same).mean()))
    anew = fit(vectors[learns], None)
    codes_anew, _ = anew.encode(anew.project(vectors[~new]))
    fresh = _unmatched(codes[~new, 0], codes_anew[:, 0])
    return reach, Churn(int((~new).sum()), moved, changed, fresh)


def _unmatched(before: Codes, after: Codes) -> float:
    """Share of items whose code changed, after codes are renamed so that the fewest do."""
    from scipy.optimize import linear_sum_assignment

    table = np.zeros((int(before.max()) + 1, int(after.max()) + 1))
    np.add.at(table, (before, after), 1)
    rows, columns = linear_sum_assignment(-table)
    return 1 - float(table[rows, columns].sum()) / len(before)


# -- meaning


def measure_agreement(
    groupings: Mapping[str, NDArray[np.int64]],
    interactions: Interactions | None,
    categories: Sequence[str | None],
    seed: int = 0,
) -> list[Agreement]:
    """Compare groupings of items with categories and with what users met one after the other; each also shuffled.

    Args:
        groupings: name -> group of each item, int64 [N].
        interactions: over the same items in their order; None: there are none.
        categories: of each item.
    """
    rng = np.random.default_rng(seed)
    named = np.array([category is not None for category in categories], bool)
    _, kinds = np.unique([category or "" for category in categories], return_inverse=True)
    users, left, right = _following(interactions) if interactions is not None else _NOBODY
    clusters = _like_users(interactions) if interactions is not None and len(left) else None
    met = np.bincount(np.concatenate([left, right]), minlength=len(named))
    found = []
    order = rng.permutation(len(named))
    for name, groups in groupings.items():
        for shuffled in (False, True):
            own = groups[order] if shuffled else groups
            pairs, lift, nmi = None, None, None
            if len(left):
                agree = (own[left] == own[right]).astype(np.float64)
                pairs = share(agree, groups=users.tolist(), resamples=500)
                chance = _by_chance(own, met)
                lift = float(agree.mean()) / chance if chance > 0 else None
            if clusters is not None:
                nmi = _nmi(own[clusters >= 0], clusters[clusters >= 0])
            purity = _purity(own[named], kinds[named]) if name.startswith("L") and named.any() else None
            found.append(Agreement(name, shuffled, len(np.unique(own)), pairs, lift, purity, nmi))
    return found


def _by_chance(groups: NDArray[np.int64], met: NDArray[np.intp]) -> float:
    """Compute the chance that two different items, drawn as often as they were met, are of one group."""
    shares = met / met.sum()
    same_item = float(np.square(shares).sum())
    same_group = float(np.square(np.bincount(groups, shares)).sum())
    return (same_group - same_item) / (1 - same_item) if same_group - same_item > 1e-12 else 0.0


_NOBODY = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))


def prefix_groups(codes: Codes, names: str = "L") -> dict[str, NDArray[np.int64]]:
    """Number the groups of each prefix of codes: `L1`, `L2`, … -> int64 [N]."""
    return {
        f"{names}{level}": np.unique(codes[:, :level], axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
        for level in range(1, codes.shape[1] + 1)
    }


def category_groups(categories: Sequence[str | None]) -> dict[str, NDArray[np.int64]]:
    """Number the groups of each prefix of category paths, `A > B` or `A/B`; items without one are alone."""
    paths = [[part.strip() for part in (one or "").replace(">", "/").split("/") if part.strip()] for one in categories]
    found = {}
    for depth in range(1, min(4, max(map(len, paths), default=0)) + 1):
        names = ["/".join(path[:depth]) or f"\0{place}" for place, path in enumerate(paths)]
        found[f"category {depth}"] = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return found


def _following(met: Interactions) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find pairs of different items that follow each other in a history: user, item, item."""
    order = np.lexsort((np.arange(len(met)), met.times, met.users))
    users, items = met.users[order].astype(np.int64), met.items[order].astype(np.int64)
    pairs = np.flatnonzero((users[1:] == users[:-1]) & (items[1:] != items[:-1]))
    place_in_user = np.arange(len(users)) - np.searchsorted(users, users)
    pairs = pairs[place_in_user[pairs] < _PAIRS_A_USER]
    return users[pairs], items[pairs], items[pairs + 1]


def _like_users(met: Interactions) -> NDArray[np.int64] | None:
    """Cluster items by who met them (truncated singular vectors, k-means): int64 [items], -1 where nobody did."""
    from scipy.sparse import diags
    from scipy.sparse.linalg import svds

    from coldstart.semantic_ids.kmeans import fit_clusters

    matrix = met.matrix().astype(np.float64).tocsr()
    counts = np.asarray(matrix.sum(0)).ravel()
    known = np.flatnonzero(counts >= 2)
    dim = min(32, len(known) - 2, matrix.shape[0] - 2)
    if dim < 2 or len(known) < 10 * FEWEST_COMPARED:
        return None
    rows = np.asarray(matrix.sum(1)).ravel()
    scaled = diags(1 / np.sqrt(np.maximum(rows, 1))) @ matrix[:, known] @ diags(1 / np.sqrt(counts[known]))
    _, values, directions = svds(scaled, k=dim, v0=np.ones(min(scaled.shape)))
    vectors = np.asarray((directions * values[:, None]).T, np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    size = max(8, min(256, len(known) // 20))
    clusters = fit_clusters(vectors, size, np.random.default_rng(0), crowding=None)
    found = np.full(len(counts), -1, np.int64)
    found[known] = squared_distances(vectors, clusters.centres).argmin(1)
    return found


def _purity(groups: NDArray[np.int64], kinds: NDArray[Any]) -> float:
    pairs, counts = np.unique(np.stack([groups, kinds], 1), axis=0, return_counts=True)
    best = np.zeros(int(pairs[:, 0].max()) + 1)
    np.maximum.at(best, pairs[:, 0], counts)
    return float(best.sum()) / len(groups)


def _nmi(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Compute mutual information over the mean of the entropies (Strehl & Ghosh 2002, arithmetic mean)."""
    pairs, joint = np.unique(np.stack([first, second], 1), axis=0, return_counts=True)
    shares = joint / joint.sum()
    one = np.bincount(first) / len(first)
    two = np.bincount(second) / len(second)
    mutual = float((shares * np.log(shares / (one[pairs[:, 0]] * two[pairs[:, 1]]))).sum())
    entropy = sum(float(-(own[own > 0] * np.log(own[own > 0])).sum()) for own in (one, two)) / 2
    return mutual / entropy if entropy > 0 else 0.0


def warnings_of(rule: str, unique: float, levels: Sequence[LevelHealth], emitted: float | None) -> tuple[str, ...]:
    """Say what is out of order, and the next step, a line each."""
    found = []
    if rule == "reassign" and unique < UNIQUE:
        found.append(
            f"{unique:.1%} of IDs are unique after reassignment, below {UNIQUE:.0%}: `coldstart finetune sids` with "
            "more levels"
        )
    for place, level in enumerate(levels, 1):
        if level.perplexity < PERPLEXITY * level.codes:
            found.append(
                f"level {place} uses {level.perplexity:.0f} of {level.codes} codes, below {PERPLEXITY:.0%}: set fewer "
                "codes there, or look for many items of the same vector"
            )
    if emitted is not None and emitted < EMITTED:
        found.append(f"{emitted:.0%} of new items are in any list, below {EMITTED:.0%}: raise --cold-share")
    return tuple(found)


def health_of_codes(
    item_ids: Sequence[str],
    codes: Codes,
    nearest: Codes,
    sizes: Sequence[int],
    *,
    categories: Sequence[str | None],
    interactions: Interactions | None = None,
    left: Sequence[float] | None = None,
    about: Mapping[str, str] | None = None,
    new_items: tuple[Sequence[Reach], Churn | None, int] = ((), None, 0),
    emitted: float | None = None,
) -> Health:
    """Measure the health of IDs given as arrays, such as those of another system.

    Args:
        codes, nearest: int32 [N, L], after and before collisions were resolved.
        interactions: over the same items in their order.
        left: share of variance left after each level.
        about: `version`, `space`, `method`, `rule`.
        new_items: reach and churn, and the items that they were measured on.
        emitted: share of new items in any list of a sequence model.
    """
    known = {"version": "", "space": "", "method": "", "rule": "keep", **(about or {})}
    levels = level_health(codes, nearest, sizes, left)
    met = interactions if interactions is not None and len(interactions) else None
    depth = len(sizes)
    groupings = {**prefix_groups(codes[:, :depth]), **category_groups(categories)}
    agreement = measure_agreement(groupings, met, categories)
    unique, colliding, largest = buckets(codes)
    warned = warnings_of(known["rule"], unique, levels, emitted)
    before = buckets(nearest)
    reach, churn, refitted = new_items
    users = 0 if met is None else len(np.unique(met.users))
    return Health(
        known["version"], known["space"], known["method"], known["rule"], len(item_ids), unique, colliding, largest,
        *before, levels, refitted, reach, churn, users, agreement, emitted, warned,
    )  # fmt: skip
