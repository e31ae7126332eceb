"""Evaluation of an alignment on seen and unseen groups and classes, in one gallery of all items.

A search meets what is new among what is known. So the queries of held-out groups, and of classes that were held out
whole, are ranked among all items, beside those of groups that the fit was trained on, by pictures that it was not
trained on where there are any; the harmonic mean of both is the figure to compare by (Xian et al. 2017). Over plain
arrays; an item counts with the mean of its pictures or frames, and equal texts of a group count once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.align.measures import SeenUnseen, harmonic_mean, pool, rank_seen_unseen, values_of
from coldstart.align.queries import SEEN, FeatureArrays, distinct_texts, query_items
from coldstart.metrics import ranking
from coldstart.metrics.intervals import FEWEST_COMPARED, widened

if TYPE_CHECKING:
    from coldstart.encoders._heads import AlignedHeads

MEASURES = ("recall_at_1", "recall_at_10", "mrr")
PARTS = ("seen", "unseen", "alone", "harmonic", "drawn")
"""Parts of a direction: seen groups among all; unseen groups among all; these among themselves; the harmonic mean of
the first two; share of the unseen queries whose first result is of a seen group."""

_QUERIES = 4096  # a side, at most: more make narrow intervals narrower, and cost minutes among 100,000 items
_RESAMPLES = 2000


@dataclass(frozen=True)
class _Roles:
    """Items by what the fit knows of them.

    Attributes:
        groups: int [I], from 0; unseen: bool by group; is_trained: bool [I].
        is_query: bool [I]: items that are queries, seen or unseen.
        seen_trained_on: True where the seen queries are items that the fit was trained on, as there are no others.
    """

    groups: NDArray[np.int64]
    unseen: NDArray[np.bool_]
    is_trained: NDArray[np.bool_]
    is_query: NDArray[np.bool_]
    seen_trained_on: bool


@dataclass(frozen=True)
class _Space:
    """Vectors of items and of distinct texts in one space."""

    pictures: NDArray[np.float32]
    texts: NDArray[np.float32]


def evaluate_unseen(
    features: FeatureArrays,
    aligned: AlignedHeads,
    before: AlignedHeads | None,
    *,
    view: str,
    labels: Mapping[str, Sequence[str]] | None = None,
    features_before: FeatureArrays | None = None,
    base: FeatureArrays | None = None,
    seed: int = 0,
) -> dict[str, Any] | None:
    """Rank seen and unseen queries among all items, both ways and from picture to picture.

    Args:
        aligned, before: heads after the fit, and before it; features_before: where other encoders are below these.
        base: whose pictures are compared from picture to picture; by default those below the heads before the fit.
        view: kind of the texts.
        labels: field of which classes were held out -> the class of each item, empty where it has none.

    Returns:
        None where nothing is held out, or nothing is trained on. Otherwise plain values:
        `directions`: way -> part of `PARTS` -> `n`, `groups`, and `before` (None without one), `after` and
        `difference`, each measure -> value with its interval;
        `images`: the same from picture to picture, `before` by the vectors below the heads;
        `classes`: field -> its held-out classes and their directions;
        `seen_trained_on`, `gallery`, and `fewest`: queries below which a difference says nothing.
    """
    has_picture = np.bincount(features.image_items, minlength=len(features.item_ids)) > 0
    rows = np.flatnonzero(np.asarray(features.text_views, dtype=np.str_) == view)
    has_text = np.bincount(np.asarray(features.text_items)[rows], minlength=len(features.item_ids)) > 0
    roles = _roles(features, has_picture & has_text, seed)
    if roles is None:
        return None
    items = np.flatnonzero(has_picture)
    texts, text_groups = distinct_texts(features, rows, roles.groups)
    was = features_before or features

    def space(heads: AlignedHeads, own: FeatureArrays) -> _Space:
        pictures, _ = pool(heads.heads.image.project(own.images), own.image_items, len(own.item_ids))
        return _Space(pictures[items], heads.heads.text.project(own.texts[texts]))

    spaces = {"after": space(aligned, features), **({} if before is None else {"before": space(before, was)})}
    is_query, groups = roles.is_query[items], roles.groups[items]
    queried_groups = np.unique(roles.groups[roles.is_query])
    sides = {
        "image_to_text": (np.flatnonzero(is_query), groups, text_groups, None),
        "text_to_image": (
            _sample(np.flatnonzero(np.isin(text_groups, queried_groups)), roles.unseen[text_groups], seed),
            text_groups,
            groups,
            None if roles.seen_trained_on else roles.is_trained[items],
        ),
    }
    held = {field: _held_classes(own, roles) for field, own in (labels or {}).items()}
    directions: dict[str, Any] = {}
    classes: dict[str, Any] = {field: {"values": sorted(own), "directions": {}} for field, own in held.items() if own}
    for way, (queries, query_groups, gallery_groups, trained) in sides.items():
        own_groups = query_groups[queries]
        found = {}
        for name, one in spaces.items():
            one_side, among = (one.pictures, one.texts) if way == "image_to_text" else (one.texts, one.pictures)
            found[name] = rank_seen_unseen(
                one_side[queries], own_groups, among, gallery_groups, roles.unseen, trained=trained
            )
        directions[way] = _figures(found, own_groups, None, seed)
        for field, own in classes.items():
            is_held = np.isin(own_groups, np.concatenate(list(held[field].values())))
            own["directions"][way] = _figures(found, own_groups, is_held, seed)
    return {
        "seen_trained_on": roles.seen_trained_on,
        "view": view,
        "fewest": FEWEST_COMPARED,
        "gallery": {"pictures": len(items), "texts": len(texts)},
        "directions": directions,
        "images": _between_pictures(features, base or was, spaces, items, roles, seed),
        "classes": classes,
    }


def _roles(features: FeatureArrays, usable: NDArray[np.bool_], seed: int) -> _Roles | None:
    raw = np.asarray(features.groups)
    _, groups = np.unique(np.where(raw >= 0, raw, -1 - np.arange(len(raw))), return_inverse=True)
    split = np.asarray(features.split, dtype=np.str_)
    is_new = query_items(features, "test")[0]
    unseen = np.zeros(int(groups.max()) + 1, bool)
    unseen[groups[is_new]] = True
    is_trained = split == "train"
    other = (split == SEEN) & usable
    seen_trained_on = int(other.sum()) < FEWEST_COMPARED
    seen = np.flatnonzero(is_trained & usable if seen_trained_on else other)
    new = np.flatnonzero(is_new & usable)
    if not len(seen) or not len(new):
        return None
    is_query = np.zeros(len(groups), bool)
    both = np.concatenate([seen, new])
    is_query[_sample(both, is_new, seed)] = True
    return _Roles(groups.astype(np.int64), unseen, is_trained, is_query, seen_trained_on)


def _sample(places: NDArray[np.intp], is_new: NDArray[np.bool_], seed: int) -> NDArray[np.intp]:
    """Draw at most `_QUERIES` of the new and of the other places, in order."""
    rng = np.random.default_rng(seed)
    sides = [places[is_new[places] == side] for side in (False, True)]
    drawn = [own if len(own) <= _QUERIES else rng.choice(own, _QUERIES, replace=False) for own in sides]
    return np.sort(np.concatenate(drawn))


def _held_classes(labels: Sequence[str], roles: _Roles) -> dict[str, NDArray[np.int64]]:
    """List the classes of which every item is unseen, with their groups."""
    own = np.asarray(labels, dtype=np.str_)
    is_unseen = roles.unseen[roles.groups]
    known = set(own[~is_unseen].tolist()) | {""}
    return {
        label: np.unique(roles.groups[own == label])
        for label in dict.fromkeys(own[is_unseen & roles.is_query].tolist())
        if label not in known
    }


def _figures(
    found: Mapping[str, SeenUnseen], groups: NDArray[np.int64], only: NDArray[np.bool_] | None, seed: int
) -> dict[str, Any]:
    """Compute the parts of a direction, with intervals over groups, before and after alike.

    Args:
        found: `after`, perhaps `before`: of the same queries.
        groups: of the queries; only: bool [Q], the unseen queries to take.
    """
    after = found["after"]
    new = np.arange(len(after.unseen_rows)) if only is None else np.flatnonzero(only[after.unseen_rows])
    seen_groups, new_groups = groups[after.seen_rows], groups[after.unseen_rows[new]]
    parts: dict[str, Any] = {}
    for part in PARTS:
        own = seen_groups if part == "seen" else new_groups
        parts[part] = {"n": len(own), "groups": len(np.unique(own)), "before": None, "difference": None}
        for name in ("before", "after", "difference"):
            parts[part][name] = {} if name == "after" or len(found) > 1 else None
    if not len(new) or not len(seen_groups):
        return parts
    for measure in MEASURES:
        columns = {
            "seen": [values_of(measure, one.seen) for one in found.values()],
            "unseen": [values_of(measure, one.unseen[new]) for one in found.values()],
            "alone": [values_of(measure, one.alone[new]) for one in found.values()],
        }
        if measure == "recall_at_1":
            columns["drawn"] = [one.drawn[new].astype(np.float64) for one in found.values()]
        values = {part: np.array([column.mean() for column in own]) for part, own in columns.items()}
        draws = {
            part: _draws(own, seen_groups if part == "seen" else new_groups, seed + (part != "seen"))
            for part, own in columns.items()
        }
        values["harmonic"] = harmonic_mean(values["seen"], values["unseen"])
        draws["harmonic"] = harmonic_mean(draws["seen"], draws["unseen"])
        for part, value in values.items():
            _put(parts[part], "share" if part == "drawn" else measure, list(found), value, draws[part])
    return parts


def _draws(columns: Sequence[NDArray[np.float64]], groups: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    return ranking.resampled(columns, groups=groups.tolist(), resamples=_RESAMPLES, seed=seed)


def _put(
    part: dict[str, Any], measure: str, names: Sequence[str], values: NDArray[np.float64], draws: NDArray[np.float64]
) -> None:
    for place, name in enumerate(names):
        part[name][measure] = _interval(values[place], draws[place], part["groups"])
    if len(names) > 1:
        new, old = names.index("after"), names.index("before")
        spread = draws[new] - draws[old]
        part["difference"][measure] = _interval(values[new] - values[old], spread, part["groups"], paired=True)


def _interval(value: float, draws: NDArray[np.float64], groups: int, *, paired: bool = False) -> dict[str, float]:
    low, high = map(float, np.quantile(draws, [0.025, 0.975]))
    low, high = widened(float(value), low, high, groups, paired=paired)
    return {"value": float(value), "low": low, "high": high}


def _between_pictures(
    features: FeatureArrays,
    base: FeatureArrays,
    spaces: Mapping[str, _Space],
    items: NDArray[np.intp],
    roles: _Roles,
    seed: int,
) -> dict[str, Any] | None:
    """Rank other pictures of the same group among all pictures, by the vectors below the heads and in the space.

    None where no unseen group has two different pictures. Copies of the query's own picture do not count.
    """
    groups = roles.groups[items]
    copies = np.asarray(getattr(features, "copies", np.arange(len(features.item_ids))))[items]
    by_group = ranking.right_places(groups.tolist(), groups.tolist())
    by_copy = ranking.right_places(copies.tolist(), copies.tolist())
    own = {
        place: np.setdiff1d(by_group[place], by_copy[place]) for place in np.flatnonzero(roles.is_query[items]).tolist()
    }
    queries = np.array([place for place, right in own.items() if len(right)], np.intp)
    is_new = roles.unseen[groups[queries]]
    if not is_new.any():
        return None
    below, _ = pool(np.asarray(base.images, np.float32), base.image_items, len(base.item_ids))
    vectors = {"before": below[items], "after": spaces["after"].pictures}
    parts: dict[str, Any] = {}
    for part, chosen in (("seen", queries[~is_new]), ("unseen", queries[is_new])):
        if not len(chosen):
            continue
        right, ignored = [own[place] for place in chosen.tolist()], [by_copy[place] for place in chosen.tolist()]
        ranks = {name: ranking.ranks(one[chosen], one, right, ignored=ignored) for name, one in vectors.items()}
        parts[part] = {"n": len(chosen), "groups": len(np.unique(groups[chosen]))}
        parts[part] |= {name: {} for name in ("before", "after", "difference")}
        for measure in MEASURES:
            columns = [values_of(measure, one) for one in ranks.values()]
            draws = _draws(columns, groups[chosen], seed)
            _put(parts[part], measure, list(ranks), np.array([column.mean() for column in columns]), draws)
    return parts
