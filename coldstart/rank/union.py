"""Candidates of several channels for requests, and the features that a ranker reads of them. Plain arrays.

New items come by the channels that know them, those of content, among such items alone, so that a quota of each
request's candidates is theirs; what no channel can know of them is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.candidates import CandidateChannel, Candidates, ChannelLists, Histories, fused_ranks, join
from coldstart.core.neighbours import RECENCY, histories_matrix
from coldstart.core.vectors import unit
from coldstart.rank.model import Features

DEPTH = 100
"""Candidates of each channel."""
NEW_DEPTH = 30
"""New items among the candidates of each request."""
NEW = "new"
"""Name of the quota of new items among channels."""
BINS = (0.1, 0.25, 0.4, 0.55, 0.7)
"""Bounds of the cosines that are counted by bin."""
LOOKED_AT = 50
"""Latest items of a history that candidates are compared with one by one."""


@dataclass(frozen=True)
class Items:
    """Facts of N items, known at the time of a fit.

    Attributes:
        content: float32 [N, D], of no columns for none; counts: users of each, int64 [N].
        cold: items that no row of the fit has, bool [N].
        attributes: code of the category, of the creator, … int64 [N, A], -1 for none; attribute_names: A of them.
    """

    content: NDArray[np.float32]
    counts: NDArray[np.int64]
    cold: NDArray[np.bool_]
    attributes: NDArray[np.int64]
    attribute_names: tuple[str, ...] = ()


def gather(
    channels: Mapping[str, CandidateChannel],
    histories: Histories,
    items: Items,
    before: NDArray[np.int64] | None = None,
    *,
    depth: int = DEPTH,
    new_depth: int = NEW_DEPTH,
    among: NDArray[np.bool_] | None = None,
) -> Candidates:
    """Join the lists of channels; `among`: the only items listed, bool [N], or of each request, bool [R, N]."""
    lists: dict[str, ChannelLists] = {}
    for name, channel in channels.items():
        lists[name] = channel.candidates(histories, depth, before, among)
    if new_depth and items.cold.any():
        allowed = items.cold if among is None else items.cold & among
        knowing = next((one for name, one in channels.items() if name == "content"), None)
        if knowing is not None:
            lists[NEW] = knowing.candidates(histories, new_depth, before, allowed)
    return join(lists, items.cold)


def union_features(
    candidates: Candidates,
    channels: Mapping[str, CandidateChannel],
    histories: Histories,
    items: Items,
    before: NDArray[np.int64] | None = None,
) -> Features:
    """Compute the features of candidates.

    Args:
        channels: those of the fit; candidates may have come by more.
    """
    rows, slots = candidates.requests, np.arange(len(candidates)) - candidates.starts[candidates.requests]
    names: list[str] = []
    columns: list[NDArray[Any]] = []
    places = np.full((len(histories), int(slots.max(initial=-1)) + 1), -1, np.int64)
    places[rows, slots] = candidates.places
    for name, channel in channels.items():
        own = channel.scores(histories, places, before)[rows, slots]
        names += [f"{name}_z", f"{name}_score", f"{name}_rank"]
        ranks = candidates.ranks[:, candidates.channels.index(name)]
        columns += [_standard(own, candidates.starts), own, np.log(ranks)]
    # a further channel of a request, which the fit did not have, counts in no feature
    own_ranks = candidates.ranks[:, [name in channels or name == NEW for name in candidates.channels]]
    names += ["channels", "fused", "users", "history", "cold"]
    columns += [
        np.isfinite(own_ranks).sum(1),
        fused_ranks(own_ranks),
        np.log1p(items.counts[candidates.places]),
        np.log1p(np.array([len(own) for own in histories]))[candidates.requests],
        candidates.cold,
    ]
    if items.content.shape[1]:
        tiers = _similarity(candidates, histories, unit(items.content))
        names += [*(f"similar_{bin}" for bin in range(len(BINS) + 1)), "similar_most", "similar_last"]
        columns += list(tiers.T)
    for number, name in enumerate(items.attribute_names):
        names.append(f"same_{name}")
        columns.append(_affinity(candidates, histories, items.attributes[:, number]))
    return Features(tuple(names), np.stack(columns, axis=1).astype(np.float32))


def _standard(values: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Centre the known values of each request, in its standard deviations."""
    known = np.isfinite(values)
    kept = np.where(known, values, 0).astype(np.float64)
    lengths = np.diff(starts)

    def totals(own: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.concatenate([[0.0], np.cumsum(own)])
        return np.repeat(sums[starts[1:]] - sums[starts[:-1]], lengths)

    counts = np.maximum(totals(known.astype(np.float64)), 1)
    centred = np.where(known, kept - totals(kept) / counts, 0)
    deviation = np.sqrt(totals(centred**2) / counts)
    return np.where(known, centred / np.where(deviation > 1e-9, deviation, 1), np.nan)


def _similarity(candidates: Candidates, histories: Histories, content: NDArray[np.float32]) -> NDArray[np.float64]:
    """Count the cosines with the history by bin (log1p), and find the greatest, and that with the last item."""
    found = np.full((len(candidates), len(BINS) + 3), np.nan)
    present = np.any(content != 0, axis=1)
    for row, history in enumerate(histories):
        own = slice(candidates.starts[row], candidates.starts[row + 1])
        past = history[-LOOKED_AT:]
        past = past[present[past]]
        if not len(past) or own.start == own.stop:
            continue
        cosines = content[candidates.places[own]] @ content[past].T
        bins = np.digitize(cosines, BINS)
        for number in range(len(BINS) + 1):
            found[own, number] = np.log1p((bins == number).sum(1))
        found[own, -2], found[own, -1] = cosines.max(1), cosines[:, -1]
    found[~present[candidates.places]] = np.nan
    return found


def _affinity(candidates: Candidates, histories: Histories, codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the share of the history, recent items first, whose attribute is that of the candidate."""
    count = int(codes.max(initial=-1)) + 1
    if not count:
        return np.full(len(candidates), np.nan)
    coded = [codes[own[-LOOKED_AT:]] for own in histories]
    weights = histories_matrix([np.where(own < 0, count, own) for own in coded], count + 1, RECENCY)
    totals = np.maximum(np.asarray(weights.sum(1)).ravel(), 1e-9)
    own = codes[candidates.places]
    found = np.asarray(weights[candidates.requests, np.maximum(own, 0)]).ravel() / totals[candidates.requests]
    return np.where(own < 0, np.nan, found)
