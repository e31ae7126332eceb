"""Train a sequence model on histories, and choose on held-out items what it is used for.

First on all but the last item of each history and without a tenth of the items, drawn by a hash of their ids: these
stand for new items. The epoch of the best NDCG@10 on the last items is kept; on them the weights of `both` and, by
other users where there are enough, the channel of `auto` are chosen, and on the items that were left out the order
among new items. Then training goes on for a quarter as many epochs on everything. Histories come as plain arrays; knows
no tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from coldstart.core.device import choose_device
from coldstart.core.neighbours import cosine_neighbours
from coldstart.core.optim import AdamW
from coldstart.metrics.intervals import FEWEST_COMPARED
from coldstart.metrics.ranking import bootstrap, paired
from coldstart.semantic_ids.channels import CHANNELS, NEIGHBOURS, Channel, Mix, NewItems, Recaller, mixed
from coldstart.semantic_ids.decode import CodeDecoder, trie_tensors
from coldstart.semantic_ids.read import build_trie
from coldstart.semantic_ids.sequence_model import ItemTensors, SequenceModel, Shape, item_tensors, pad

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

History = NDArray[np.int64]
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Weights that are tried: of the terms of `both`, of the first codes and of content for the order among new items."""
NEW_WEIGHTS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
"""Weights that are tried of the score among new items."""
POOL = 100
"""Best items by each term of `both` that its weights are chosen on."""
MOST_JUDGED = 3000
"""Users that an epoch, the weights of `both` and the channel of `auto` are each judged by, drawn at random."""
EVERY = 2
"""Epochs between two judgements."""
LEAST = 30
"""Epochs before which a training does not end early: the first lists may be those of popularity alone."""
EMITTED = 50
"""Length of the lists that new items are counted in."""
LearnDecoder = Callable[[Sequence[History]], tuple[CodeDecoder, int]]
"""Fit a decoder on histories; the number of users that it can be judged by beside it, since it may be slow."""
_BATCH = 128


@dataclass(frozen=True)
class SequenceData:
    """Training data.

    Attributes:
        item_ids: names of N items; histories: places of items, the latest last.
        content: float32 [N, D]; codes: int32 [N, L], -1 for none. Without both the model is SASRec.
        sizes: codes of each level; ids: each item has a vector of its own, else all are as new ones.
    """

    item_ids: Sequence[str]
    histories: Sequence[History]
    content: NDArray[np.float32] | None
    codes: NDArray[np.int32] | None
    sizes: tuple[int, ...] = ()
    ids: bool = True


@dataclass(frozen=True)
class Training:
    """Settings of the training; `sasrec` takes the same."""

    dim: int = 64
    layers: int = 1
    heads: int = 1
    length: int = 50
    dropout: float = 0.3
    id_dropout: float = 0.3
    negatives: int = 512
    epochs: int = 200
    patience: int = 5
    learning_rate: float = 1e-3
    decay: float = 1e-4
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, and what was measured on held-out items.

    Attributes:
        neighbours: of items by shared users, csr [N, N]; mix: weights of `both`.
        report: epochs; `held_out`: NDCG@10 and recall@10 of each channel; `auto`: the best one; `mix` and `new`:
            weights, and what they were chosen by; `emitted`: share of the items that stood for new ones in any list.
    """

    model: SequenceModel
    new: NewItems
    neighbours: csr_matrix
    mix: Mix
    report: dict[str, Any]


@dataclass
class _Phase:
    """Progress of a training: `choose` on held-out items, then `all`."""

    part: str = "choose"
    epoch: int = 0
    best_epoch: int = 0
    best: float = -1.0
    waited: int = 0


def stands_for_new(item: str) -> bool:
    """Draw a tenth of the items by a hash of their ids."""
    return int(sha1(f"recall:{item}".encode()).hexdigest(), 16) % 10 == 0


def train(
    data: SequenceData,
    training: Training,
    *,
    step: Callable[[], None] = lambda: None,
    checkpoint: Path | None = None,
    decoder: LearnDecoder | None = None,
) -> TrainedModel:
    """Train; with a `checkpoint` a killed call goes on where it was, to the same result.

    Args:
        decoder: fits what IDs are decoded by, in place of the model's head of codes, on the histories that the choice
            of `auto` may know; by default that head.
    """
    with torch.random.fork_rng(devices=[]):
        return _Trainer(data, training, step, checkpoint, decoder).train()


class _Trainer:
    def __init__(
        self,
        data: SequenceData,
        training: Training,
        step: Callable[[], None],
        checkpoint: Path | None,
        learn_decoder: LearnDecoder | None,
    ) -> None:
        self.data, self.training, self.step, self.checkpoint = data, training, step, checkpoint
        self.learn_decoder = learn_decoder
        self.decoder: CodeDecoder | None = None
        self.most_decoded: int | None = None
        self.neighbours: csr_matrix | None = None
        self.device = choose_device(training.device)
        self.shape = Shape(
            len(data.item_ids),
            0 if data.content is None else data.content.shape[1],
            data.sizes if data.codes is not None else (),
            training.dim,
            training.layers,
            training.heads,
            training.length,
            training.dropout,
            training.id_dropout,
        )
        torch.manual_seed(training.seed)
        self.model = SequenceModel(self.shape).to(self.device)
        self.weights = dict(self.model.named_parameters())
        self.optimizer = AdamW(self.weights, dict.fromkeys(self.weights), training.decay)
        self.best = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.phase = _Phase()
        met = np.zeros(len(data.item_ids), bool)
        for own in data.histories:
            met[own] = True
        self.met = met
        hidden = np.array([stands_for_new(item) for item in data.item_ids], bool) & met
        self.hidden = hidden if self.shape.content else np.zeros_like(met)
        self.everything = self._items(np.zeros_like(met))
        self.known = self._items(self.hidden)
        judged = [place for place, own in enumerate(data.histories) if len(own) >= 3]
        drawn = np.random.default_rng(training.seed).permutation(len(judged))
        self.judged = [judged[place] for place in drawn]
        if checkpoint is not None:
            self._resume(checkpoint)

    def _items(self, hidden: NDArray[np.bool_]) -> ItemTensors:
        """Build tensors in which some items are new."""
        rows = np.where(hidden | ~self.met | (not self.data.ids), -1, np.arange(len(hidden)))
        return item_tensors(self.shape, rows, self.data.content, self.data.codes, self.device)

    def train(self) -> TrainedModel:
        training = self.training
        inputs = [self._without_hidden(own[:-1] if len(own) >= 3 else own) for own in self.data.histories]
        while self.phase.part == "choose":
            if self.phase.epoch >= training.epochs or self.phase.waited >= training.patience:
                self._load(self.best)
                self.phase.part, self.phase.epoch = "all", 0
                self._save()
                break
            self._epoch(inputs, self.known, np.flatnonzero(self.met & ~self.hidden), self.phase.epoch)
            self.phase.epoch += 1
            if self.phase.epoch % EVERY == 0 or self.phase.epoch == training.epochs:
                self._judge()
            self._save()
        self._load(self.best)
        if self.learn_decoder is not None and self.shape.sizes:
            self.decoder, self.most_decoded = self.learn_decoder(inputs)
        self.neighbours = cosine_neighbours(inputs, len(self.met), NEIGHBOURS)
        new, mix, report = self._choose()
        more = max(1, round(self.phase.best_epoch / 4))
        if self.phase.part == "all" and self.phase.epoch:
            self._load(self.now)
        whole = list(self.data.histories)
        while self.phase.epoch < more:
            self._epoch(whole, self.everything, np.flatnonzero(self.met), 10_000 + self.phase.epoch)
            self.phase.epoch += 1
            self._save()
        report |= {"epochs": self.phase.best_epoch, "epochs_on_everything": more}
        return TrainedModel(self.model.eval(), new, cosine_neighbours(whole, len(self.met), NEIGHBOURS), mix, report)

    def _without_hidden(self, history: History) -> History:
        return history[~self.hidden[history]]

    # -- one epoch

    def _epoch(self, histories: Sequence[History], items: ItemTensors, learns: NDArray[np.intp], number: int) -> None:
        """Learn from every history once; the draws depend on the seed and the number of the epoch alone."""
        seed = (self.training.seed * 1_000_003 + number) % (1 << 31)
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        among = torch.from_numpy(learns).to(self.device)
        empty, self_length = len(items), self.shape.length
        windows = [part for own in histories for part in _windows(own, self_length)]
        jitter = rng.random(len(windows))
        order = np.argsort(np.array([len(own) for own in windows]) + jitter, kind="stable")
        batches = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
        self.model.train()
        for place in rng.permutation(len(batches)):
            padded, _ = pad([windows[row] for row in batches[place]], self_length + 1, empty)
            padded = padded.to(self.device)
            before, after = padded[:, :-1], padded[:, 1:]
            is_target = after != empty
            before = torch.where(is_target, before, empty)  # the last item of a shorter history is a target alone
            states, targets = self.model(items, before)[is_target], after[is_target]
            loss = self.model.dense_loss(items, states, targets, among, self.training.negatives)
            if self.shape.sizes:
                loss = loss + self.model.code_loss(items, states, targets)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step(self.training.learning_rate)
        self.step()

    # -- judgement on held-out items

    def _recaller(self, new: NewItems = NewItems(), mix: Mix = Mix()) -> Recaller:  # noqa: B008 - frozen
        trie = None
        if self.shape.sizes:
            assert self.data.codes is not None
            there = np.flatnonzero((self.data.codes >= 0).all(1))
            trie = trie_tensors(build_trie(self.data.codes[there]), there, len(self.known), self.device)
        is_new, near = self.hidden | ~self.met, self.neighbours
        return Recaller(self.model, self.known, is_new, trie, new, decoder=self.decoder, neighbours=near, mix=mix)

    def _judged(self, targets_hidden: bool, most: int | None) -> tuple[list[History], NDArray[np.int64]]:
        histories, targets = [], []
        for place in self.judged:
            own = self.data.histories[place]
            if self.hidden[own[-1]] == targets_hidden and len(before := self._without_hidden(own[:-1])):
                histories.append(before)
                targets.append(int(own[-1]))
            if most is not None and len(targets) >= most:
                break
        return histories, np.array(targets, np.int64)

    @property
    def _most(self) -> int:
        """Users that a choice is made by: fewer where each takes a decoding by a language model."""
        return min(MOST_JUDGED, self.most_decoded or MOST_JUDGED)

    def _unused(self) -> tuple[list[History], NDArray[np.int64]]:
        """Find users that neither epochs nor weights were chosen by, where there are enough of them, else those."""
        histories, targets = self._judged(False, 2 * MOST_JUDGED)
        if self.decoder is None and len(targets) == 2 * MOST_JUDGED:
            return histories[MOST_JUDGED:], targets[MOST_JUDGED:]
        return histories[: self._most], targets[: self._most]

    def _gains(
        self, channel: Channel, recaller: Recaller, histories: Sequence[History], targets: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Compute NDCG@10 of each user whose last item is known, [B]."""
        if not histories:
            return np.zeros(0)
        places = recaller.lists(histories, channel, 10, allowed=self.met & ~self.hidden).places
        return gains_at(places, targets, 10)

    def _judge(self) -> None:
        recaller = self._recaller()
        heads: tuple[Channel, ...] = ("dense", "codes") if self.shape.sizes else ("dense",)
        judged = self._judged(False, MOST_JUDGED)
        found = [self._gains(head, recaller, *judged) for head in heads]
        value = float(np.mean([own.mean() if len(own) else 0.0 for own in found]))
        if value > self.phase.best:
            self.phase.best, self.phase.best_epoch, self.phase.waited = value, self.phase.epoch, 0
            self.best = {name: weight.detach().clone() for name, weight in self.weights.items()}
        elif self.phase.epoch > LEAST:
            self.phase.waited += 1

    @property
    def _channels(self) -> tuple[Channel, ...]:
        return CHANNELS if self.shape.sizes else ("dense", "both")

    def _choose(self) -> tuple[NewItems, Mix, dict[str, Any]]:
        """Choose the weights of `both`, the channel of `auto` and the order among new items, and measure all."""
        new, order = self._choose_order()
        mix, chosen_on = self._choose_mix(self._recaller(new))
        recaller = self._recaller(new, mix)
        channels, judged = self._channels, self._unused()
        gains = {channel: self._gains(channel, recaller, *judged) for channel in channels}
        users = len(gains["dense"])
        held_out = {
            channel: {"ndcg@10": _interval(own), "recall@10": _interval(own > 0)} for channel, own in gains.items()
        }
        best = max(channels, key=lambda channel: gains[channel].mean()) if users else "dense"
        if users and self.decoder is not None and paired(gains["dense"], gains[best]).low <= 0:
            best = "dense"  # a decoder that is slow is worth having when the gain is more than chance
        report: dict[str, Any] = {"users": users, "held_out": held_out, "auto": best, "mix": asdict(mix) | chosen_on}
        report["new"] = order
        report["emitted"] = self._emitted(new, mix) if self.hidden.any() and users else None
        return new, mix, report

    def _choose_mix(self, recaller: Recaller) -> tuple[Mix, dict[str, Any]]:
        """Choose the weights of `both` one after the other, twice, by NDCG@10 of last items, new ones among them.

        As many of them are new as there are by chance, a tenth, so that `both` is chosen for lists of both kinds. By
        fewer than `FEWEST_COMPARED` nothing is chosen, and `users` is 0.
        """
        known, new = self._judged(False, self._most), self._judged(True, self._most // 10)
        histories, targets = [*known[0], *new[0]], np.concatenate([known[1], new[1]])
        if len(targets) < FEWEST_COMPARED:
            return Mix(), {"users": 0}
        places, terms, slots = recaller.pool(histories, targets, self.met, POOL)

        def gains(mix: Mix) -> NDArray[np.float64]:
            scores = mixed(list(terms.unbind(2)), mix).masked_fill(places < 0, -torch.inf)
            own = scores.gather(1, slots[:, None])
            ranks = (scores > own).sum(1).cpu().numpy()
            return np.asarray(np.where(ranks < 10, 1 / np.log2(ranks + 2), 0), np.float64)

        plain = best = gains(Mix())
        found = Mix()
        for name in ("neighbours", "content", "codes", "new") * 2:
            for tried in [replace(found, **{name: weight}) for weight in (NEW_WEIGHTS if name == "new" else WEIGHTS)]:
                if (own := gains(tried)).mean() > best.mean():
                    best, found = own, tried
        if found != Mix() and paired(plain, best).low <= 0:  # worth having when the gain is more than chance
            found = Mix()
        return found, {"users": len(targets)}

    def _choose_order(self) -> tuple[NewItems, dict[str, Any]]:
        histories, targets = self._judged(True, None)
        count = {"users": len(targets), "items": int(self.hidden.sum())}
        if len(targets) < FEWEST_COMPARED:
            return NewItems(), {**asdict(NewItems()), **count, "tried": []}
        gains: dict[NewItems, NDArray[np.float64]] = {}

        def best(tried: Sequence[NewItems]) -> NewItems:
            for one in tried:
                if one not in gains:
                    gains[one] = self._new_gains(one, histories, targets)
            return max(tried, key=lambda one: float(gains[one].mean()))

        found = best([NewItems(content=content) for content in WEIGHTS])
        if self.shape.sizes:
            depths = range(1, min(2, len(self.shape.sizes)) + 1)
            found = best([found, *(NewItems(w, depth, found.content) for depth in depths for w in WEIGHTS[1:])])
        plain = gains[NewItems()]
        # worth having when the gain is more than chance, over users and over the few items that stand for new ones
        if min(paired(plain, gains[found], groups=own).low for own in (None, targets.tolist())) <= 0:
            found = NewItems()
        listed = [{**asdict(one), "ndcg@20": float(own.mean())} for one, own in gains.items()]
        return found, {**asdict(found), **count, "ndcg@20": _interval(gains[found]), "tried": listed}

    def _new_gains(
        self, new: NewItems, histories: Sequence[History], targets: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Compute NDCG@20 of each user among the items that stand for new ones."""
        recaller = self._recaller(new)
        found = recaller.lists(histories, "dense", 20, allowed=self.hidden, cold_share=1.0)
        return gains_at(found.places, targets, 20)

    def _emitted(self, new: NewItems, mix: Mix) -> dict[str, dict[str, float]]:
        """Measure which share of the items that stand for new ones is in any list, without and with a share of 0.1."""
        histories, _ = self._judged(False, self._most)
        recaller = self._recaller(new, mix)
        found: dict[str, dict[str, float]] = {}
        for channel in self._channels:
            found[channel] = {}
            for share in (0.0, 0.1):
                places = recaller.lists(histories, channel, EMITTED, allowed=self.met, cold_share=share).places
                shown = np.unique(places[places >= 0])
                found[channel][f"{share:g}"] = float(self.hidden[shown].sum() / self.hidden.sum())
        return found

    # -- state

    def _load(self, weights: Mapping[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(weights[name])

    def _save(self) -> None:
        from safetensors.torch import save_file

        if self.checkpoint is None:
            return
        tensors = {f"now.{name}": weight.detach() for name, weight in self.weights.items()}
        tensors |= {f"best.{name}": weight for name, weight in self.best.items()}
        tensors |= {f"mean.{name}": value for name, value in self.optimizer.mean.items()}
        tensors |= {f"square.{name}": value for name, value in self.optimizer.square.items()}
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        about = {"state": json.dumps({**asdict(self.phase), "steps": self.optimizer.steps})}
        written = self.checkpoint.with_suffix(".part")
        save_file({name: value.contiguous().clone() for name, value in tensors.items()}, written, about)
        written.replace(self.checkpoint)

    def _resume(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, "pt") as file:
                state = json.loads(file.metadata()["state"])
                tensors = {name: file.get_tensor(name).to(self.device) for name in file.keys()}  # noqa: SIM118
            for name, weight in self.weights.items():
                if any(tensors[f"{kind}.{name}"].shape != weight.shape for kind in ("now", "best", "mean", "square")):
                    raise ValueError(name)
            steps = int(state["steps"])
            phase = _Phase(
                str(state["part"]),
                int(state["epoch"]),
                int(state["best_epoch"]),
                float(state["best"]),
                int(state["waited"]),
            )
        except (
            OSError,
            SafetensorError,
            LookupError,
            ValueError,
            TypeError,
        ):  # none, or of another fit: from the start
            return
        self.phase, self.optimizer.steps = phase, steps
        for name in self.weights:
            self.best[name] = tensors[f"best.{name}"]
            self.optimizer.mean[name], self.optimizer.square[name] = tensors[f"mean.{name}"], tensors[f"square.{name}"]
        self.now = {name: tensors[f"now.{name}"] for name in self.weights}
        self._load(self.now)


def _windows(history: History, length: int) -> list[History]:
    """Cut a history into parts of at most `length` targets, from its end."""
    found = []
    stop = len(history)
    while stop >= 2:
        start = max(0, stop - length - 1)
        found.append(history[start:stop])
        if not start:
            break
        stop = start + 1
    return found


def gains_at(places: NDArray[np.int64], targets: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """Compute NDCG@k of lists with one right item each, [B]."""
    hits = places[:, :k] == targets[:, None]
    return np.asarray(hits @ (1 / np.log2(np.arange(2, hits.shape[1] + 2))), np.float64)


def _interval(values: NDArray[Any]) -> dict[str, float | int] | None:
    """Compute a mean with its 95 % interval over users; None of nobody."""
    if not len(values):
        return None
    found = bootstrap(np.asarray(values, np.float64))
    return {"value": found.value, "low": found.low, "high": found.high, "n": len(values)}


def sasrec(data: SequenceData) -> SequenceData:
    """Leave out content and codes: the model of ids alone."""
    return replace(data, content=None, codes=None, sizes=())
