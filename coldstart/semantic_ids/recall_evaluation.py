"""Measure recall on one split: baselines, the sequence model by each of its heads, and codes that should mean nothing.

Every method is fitted on the training side alone, and codebooks are fitted anew there, on the content of its items, so
that nothing knows of the targets. All items are ranked but those of the history. Items that share an ID stand together
and take a slot each, in random order. Plain arrays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.device import choose_device
from coldstart.core.progress import Progress
from coldstart.errors import ColdstartError
from coldstart.metrics.intervals import FEWEST_COMPARED
from coldstart.metrics.ranking import bootstrap, paired
from coldstart.semantic_ids.channels import Channel, Mix, Recaller
from coldstart.semantic_ids.collisions import place_items
from coldstart.semantic_ids.decode import CodeDecoder, trie_tensors
from coldstart.semantic_ids.methods import fit_codebooks
from coldstart.semantic_ids.read import build_trie
from coldstart.semantic_ids.recall_baselines import (
    MOST_EASE,
    Scorer,
    choose_penalty,
    content_neighbours,
    ease,
    item_knn,
    popularity,
)
from coldstart.semantic_ids.recall_split import RecallSplit, as_counts, checks_of
from coldstart.semantic_ids.sequence_model import SequenceModel, Shape, item_tensors
from coldstart.semantic_ids.train_sequence import SequenceData, Training, gains_at, sasrec, train

METHODS: Mapping[str, str] = {
    "popularity": "popularity",
    "content": "content neighbours of the history, recent first",
    "itemknn": "ItemKNN, recent first",
    "ease": "EASE",
    "sasrec": "SASRec: ids alone, drawn negatives",
    "sasrec-full": "SASRec: ids alone, full softmax",
    "tower": "content tower alone, no ids",
    "dense": "dense head",
    "codes": "codes, decoded",
    "both": "both: dense, neighbours, content, codes",
    "both-new": "both, a tenth for new items",
    "llm": "language model, codes decoded",
    "shuffled": "codes shuffled among items",
    "category": "category path as ID",
}
"""Method -> its title, in the order of the table."""
SETS: Mapping[str, str] = {
    "all": "all targets, among all items",
    "warm": "targets in training, among all items",
    "new": "targets not in training, among all items",
    "new_among_new": "targets not in training, among such items",
}
CUTS = (5, 10, 20)
EMITTED = 50
_SEQUENCE = ("dense", "codes", "both", "both-new")
_BLOCK = 1 << 24


@dataclass(frozen=True)
class RecallContent:
    """Content of N items, in the order of the split: vectors float32 [N, D]; categories: paths such as `A > B`."""

    vectors: NDArray[np.float32]
    categories: Sequence[str | None]


@dataclass(frozen=True)
class RecallReport:
    """Result of an evaluation.

    Attributes:
        split: kind, digest, cut; counts; methods: title, sets of measures, emitted share, seconds of each.
        compared: `both` less the best other row; left_out: method -> reason; checked: against leaks; notes.
    """

    split: Mapping[str, Any]
    counts: Mapping[str, Any]
    methods: Mapping[str, Any]
    compared: Mapping[str, Any] | None
    left_out: Mapping[str, str] = field(default_factory=dict)
    checked: Sequence[str] = ()
    notes: Sequence[str] = ()

    def to_markdown(self) -> str:
        """Write tables as Markdown."""
        from coldstart.semantic_ids.recall_report import markdown

        return markdown(self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values."""
        names = ("split", "counts", "methods", "compared", "left_out", "checked", "notes")
        return {name: getattr(self, name) for name in names} | {"sets": dict(SETS)}


LearnLanguage = Callable[[Sequence[NDArray[np.int64]], NDArray[np.int32], int], CodeDecoder]
"""Fit a language model on histories of items with codes, int32 [N, L], by a seed: what IDs are decoded by."""
Lister = Callable[[NDArray[np.bool_] | None, int], NDArray[np.int64]]
"""Lists of all judged users among some items (None: all), so many places each."""


def evaluate_recall(
    split: RecallSplit,
    content: RecallContent,
    training: Training,
    progress: Progress,
    *,
    methods: Sequence[str] | None = None,
    seeds: int = 1,
    code: Callable[[NDArray[np.float32]], Any] = fit_codebooks,
    language: LearnLanguage | None = None,
) -> RecallReport:
    """Measure every method on a split.

    Args:
        methods: names, by default all but `llm`; seeds: fits of each trained method, whose measures are averaged by
            user.
        code: fits codebooks on vectors; language: fits what `llm` decodes by.

    Raises:
        ColdstartError: a method is unknown.
    """
    wanted = [name for name in METHODS if name != "llm"] if methods is None else list(methods)
    if unknown := [name for name in wanted if name not in METHODS]:
        raise ColdstartError(f"method {unknown[0]!r} is unknown: use {', '.join(METHODS)}")
    work = _Evaluation(split, content, training, seeds, code, language)
    found: dict[str, Any] = {}
    gains: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    with progress.meter("methods", len(wanted)) as meter:
        for name in [one for one in METHODS if one in wanted]:
            began = time.process_time()
            listers, reason = work.listers(name)
            if listers:
                found[name], gains[name] = work.measure(listers)
                found[name] |= {"title": METHODS[name], "seconds": round(time.process_time() - began, 1)}
            else:
                left_out[name] = reason
            meter.advance(1, 0, 0.0)
    notes = [f"codes: {work.coded}"] if work.coded else []
    if work.mixes:
        terms = "; ".join(
            f"{one.neighbours:g} x neighbours, {one.content:g} x content, {one.codes:g} x codes, of new items "
            f"{one.new:g} x their order"
            for one in work.mixes
        )
        notes.append(f"both: dense score and, in standard deviations, {terms}; chosen inside the training side")
    notes.append("seconds: processor time; the four rows of the sequence model share one fit, counted with the first")
    if split.is_new.any() and any(name in _SEQUENCE for name in found):
        notes.append("among new items alone, codes and both are the order among new items: no ID of theirs is decoded")
    about = {"kind": split.kind, "digest": split.digest(), "cut": split.cut, "seeds": seeds, "epochs": work.epochs}
    compared = compare_both(gains)
    return RecallReport(about, as_counts(split), found, compared, left_out, checks_of(split), notes)


def compare_both(gains: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> dict[str, Any] | None:
    """Compare `both` with the best other row by recall@10 and NDCG@10 over all targets, paired by user."""
    others = [name for name in gains if name not in ("both", "both-new")]
    if "both" not in gains or not others:
        return None
    found: dict[str, Any] = {}
    for metric in ("recall@10", "ndcg@10"):
        best = max(others, key=lambda name: float(gains[name][metric].mean()))
        change = paired(gains[best][metric], gains["both"][metric])
        found[metric] = {"than": best, "value": change.value, "low": change.low, "high": change.high}
    return found


class _Evaluation:
    def __init__(
        self,
        split: RecallSplit,
        content: RecallContent,
        training: Training,
        seeds: int,
        code: Callable[[NDArray[np.float32]], Any],
        language: LearnLanguage | None,
    ) -> None:
        self.split, self.content, self.training, self.seeds, self._code = split, content, training, seeds, code
        self._language = language
        self.count = len(split.item_ids)
        self.coded = ""
        self.epochs: dict[str, list[int]] = {}
        self.mixes: list[Mix] = []
        self._codes: NDArray[np.int32] | None = None
        self._models: list[Recaller] | None = None

    # -- methods

    def listers(self, name: str) -> tuple[list[Lister], str]:
        """Fit a method: its lists, one a seed; or none, and the reason."""
        train, count = self.split.train, self.count
        if name == "popularity":
            return [self._by_scores(popularity(train, count))], ""
        if name == "content":
            return [self._by_scores(content_neighbours(self.content.vectors))], ""
        if name == "itemknn":
            return [self._by_scores(item_knn(train, count))], ""
        if name == "ease":
            if count > MOST_EASE:
                return [], f"it inverts a matrix of all pairs of {count:,} items, and at most {MOST_EASE:,} are tried"
            return [self._by_scores(ease(train, count, choose_penalty(train, count, self._gain)))], ""
        if name in ("sasrec", "sasrec-full"):
            return [self._by_model(one, "dense") for one in self._fit(name, None, None)], ""
        if name == "tower":
            return [self._by_model(one, "dense") for one in self._fit(name, self.content.vectors, None)], ""
        if name == "llm":
            if self._language is None:
                return [], "no language model is given"
            return [self._by_language(one) for one in self._decoded(self._language)], ""
        if name in _SEQUENCE:
            if self._models is None:
                self._models = self._fit("model", self.content.vectors, self._own_codes())
            channel: Channel = (
                "both"
                if name == "both-new"
                else "dense"
                if name == "dense"
                else ("codes" if name == "codes" else "both")
            )
            share = 0.1 if name == "both-new" else 0.0
            return [self._by_model(one, channel, share) for one in self._models], ""
        if name == "shuffled":
            codes = np.random.default_rng(self.training.seed).permutation(self._own_codes())
        else:
            paths = category_codes(self.content.categories)
            if paths is None:
                return [], "no item has a category"
            codes = paths
        return [self._by_model(one, "codes") for one in self._fit(name, self.content.vectors, codes)], ""

    def _own_codes(self) -> NDArray[np.int32]:
        """Fit codebooks on the items of training rows, and give all items codes, those in training first."""
        if self._codes is None:
            vectors, warm = self.content.vectors, ~self.split.is_new
            usable = np.linalg.norm(vectors, axis=1) > 0
            books = self._code(vectors[warm & usable])
            codes = np.full((self.count, len(books.sizes)), -1, np.int32)
            for own in (warm & usable, ~warm & usable):
                projected = books.project(vectors[own])
                placed = codes[codes[:, 0] >= 0]
                codes[own] = place_items(books, projected, books.encode(projected)[0], "reassign", placed)
            self._codes = codes
            sizes = " x ".join(map(str, books.sizes))
            self.coded = f"{books.method} {sizes}, fitted on the content of {int((warm & usable).sum()):,} items"
        return self._codes

    def _fit(self, name: str, vectors: NDArray[np.float32] | None, codes: NDArray[np.int32] | None) -> list[Recaller]:
        sizes = () if codes is None else tuple(int(size) for size in codes.max(0) + 1)
        data = SequenceData(self.split.item_ids, self.split.train, vectors, codes, sizes, ids=name != "tower")
        found = []
        for seed in range(self.seeds):
            own = {**self.training.__dict__, "seed": self.training.seed + seed}
            own |= {"negatives": 0} if name == "sasrec-full" else {}
            trained = train(sasrec(data) if vectors is None else data, Training(**own))
            self.epochs.setdefault(name, []).append(int(trained.report["epochs"]))
            rows = np.where(self.split.is_new | (name == "tower"), -1, np.arange(self.count))
            device = next(trained.model.parameters()).device
            trie = None
            if codes is not None:
                there = np.flatnonzero((codes[:, 0] >= 0) & ~self.split.is_new)
                trie = trie_tensors(build_trie(codes[there]), there, self.count, device)
            items = item_tensors(trained.model.shape, rows, vectors, codes, device)
            found.append(
                Recaller(
                    trained.model,
                    items,
                    self.split.is_new,
                    trie,
                    trained.new,
                    tie_seed=seed,
                    neighbours=trained.neighbours,
                    mix=trained.mix,
                )
            )
            if name == "model":
                self.mixes.append(trained.mix)
        return found

    def _decoded(self, language: LearnLanguage) -> list[Recaller]:
        """Fit a language model for each seed; the sequence model beside it orders nothing, items of one ID stand in
        random order."""
        codes, count = self._own_codes(), self.count
        device = choose_device(self.training.device)
        rows = np.where(self.split.is_new, -1, np.arange(count))
        there = np.flatnonzero((codes[:, 0] >= 0) & ~self.split.is_new)
        trie = trie_tensors(build_trie(codes[there]), there, count, device)
        found = []
        for seed in range(self.seeds):
            decoder = language(self.split.train, codes, self.training.seed + seed)
            beside = SequenceModel(Shape(count, 0, (), 8, 1, 1)).to(device)
            items = item_tensors(beside.shape, rows, None, None, device)
            found.append(Recaller(beside, items, self.split.is_new, trie, tie_seed=seed, decoder=decoder))
        return found

    def _by_scores(self, scorer: Scorer) -> Lister:
        return lambda allowed, k: lists_of(scorer, self.split.histories, allowed, k)

    def _by_language(self, recaller: Recaller) -> Lister:
        """List decoded IDs alone: of new items it lists none."""

        def lists(allowed: NDArray[np.bool_] | None, k: int) -> NDArray[np.int64]:
            if allowed is not None and not (allowed & ~self.split.is_new).any():
                return np.full((len(self.split.histories), k), -1, np.int64)
            return recaller.lists(self.split.histories, "codes", k, allowed=allowed).places

        return lists

    def _by_model(self, recaller: Recaller, channel: Channel, share: float = 0.0) -> Lister:
        def lists(allowed: NDArray[np.bool_] | None, k: int) -> NDArray[np.int64]:
            if allowed is not None and not (allowed & ~self.split.is_new).any() and channel != "dense":
                # among new items alone no ID can be decoded: their order is that of the share
                return recaller.lists(self.split.histories, "dense", k, allowed=allowed, cold_share=1.0).places
            return recaller.lists(self.split.histories, channel, k, allowed=allowed, cold_share=share).places

        return lists

    def _gain(self, scorer: Scorer, histories: Sequence[NDArray[np.int64]], targets: NDArray[np.int64]) -> float:
        return float(gains_at(lists_of(scorer, histories, None, 10), targets, 10).mean())

    # -- measures

    def measure(self, listers: Sequence[Lister]) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
        """Measure the lists of a method on every set, and which share of new items is in any list of 50."""
        split, targets = self.split, self.split.targets
        is_new = split.is_new[targets]
        whole = [lister(None, EMITTED) for lister in listers]
        gains = _gains(whole, targets)
        sets = {"all": np.ones(len(targets), bool), "warm": ~is_new, "new": is_new}
        found: dict[str, Any] = {name: self._measures(gains, chosen) for name, chosen in sets.items()}
        found["new_among_new"] = None
        if is_new.any():
            among = _gains([lister(split.is_new, max(CUTS)) for lister in listers], targets)
            found["new_among_new"] = self._measures(among, is_new)
        emitted = None
        if split.is_new.any():
            shown = [np.unique(places[places >= 0]) for places in whole]
            emitted = float(np.mean([split.is_new[own].sum() / split.is_new.sum() for own in shown]))
        return {"sets": found, "emitted": emitted}, gains

    def _measures(self, gains: Mapping[str, NDArray[np.float64]], chosen: NDArray[np.bool_]) -> dict[str, Any] | None:
        """Average each metric over some users, with the wider of two intervals: over users, and over their targets."""
        count = int(chosen.sum())
        if not count:
            return None
        different = len(np.unique(self.split.targets[chosen]))
        found: dict[str, Any] = {"n": count, "items": different, "few": different < FEWEST_COMPARED}
        for metric, values in gains.items():
            own, items = values[chosen], self.split.targets[chosen].tolist()
            users, targets = bootstrap(own), bootstrap(own, groups=items)
            widest = max((users, targets), key=lambda one: one.high - one.low)
            found[metric] = {"value": float(own.mean()), "low": widest.low, "high": widest.high}
        return found


def _gains(seeds: Sequence[NDArray[np.int64]], targets: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Compute recall and NDCG at every cut of each user, averaged over seeds."""
    found: dict[str, NDArray[np.float64]] = {}
    for k in CUTS:
        hits = [(places[:, :k] == targets[:, None]).any(1) for places in seeds]
        found[f"recall@{k}"] = np.asarray(np.mean(hits, axis=0), np.float64)
        found[f"ndcg@{k}"] = np.asarray(np.mean([gains_at(places, targets, k) for places in seeds], axis=0), np.float64)
    return found


def lists_of(
    scorer: Scorer, histories: Sequence[NDArray[np.int64]], allowed: NDArray[np.bool_] | None, k: int
) -> NDArray[np.int64]:
    """List the best items for histories without those in them; equal scores in random order, the same in each list.

    Items that the scorer gives no score, 0, come in that order too: a list is as long as any other.
    """
    found = []
    step = 512
    for start in range(0, len(histories), step):
        own = histories[start : start + step]
        scores = scorer(own).astype(np.float64)
        order = np.random.default_rng(0).permutation(scores.shape[1])
        for row, history in enumerate(own):
            scores[row, history] = -np.inf
        if allowed is not None:
            scores[:, ~allowed] = -np.inf
        mixed = scores[:, order]
        width = min(k, mixed.shape[1])
        best = np.argpartition(-mixed, width - 1, axis=1)[:, :width]
        values = np.take_along_axis(mixed, best, 1)
        ranked = np.lexsort((best, -values), axis=1)
        places = order[np.take_along_axis(best, ranked, 1)]
        found.append(np.where(np.isneginf(np.take_along_axis(values, ranked, 1)), -1, places))
    return np.concatenate(found).astype(np.int64)


def category_codes(categories: Sequence[str | None]) -> NDArray[np.int32] | None:
    """Number the parts of category paths, three levels; None without categories. An item without one has no codes."""
    paths = [tuple(part.strip() for part in (one or "").replace(">", "/").split("/") if part.strip())[:3]
             for one in categories]  # fmt: skip
    if not any(paths):
        return None
    depth = max(map(len, paths))
    codes = np.full((len(paths), depth), -1, np.int32)
    known: list[dict[str, int]] = [{} for _ in range(depth)]
    for place, path in enumerate(paths):
        for level in range(depth if path else 0):
            name = path[level] if level < len(path) else ""
            codes[place, level] = known[level].setdefault(name, len(known[level]))
    return codes
