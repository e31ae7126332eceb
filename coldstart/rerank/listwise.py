"""Rerank by a model of whole lists: a set transformer over a list says what is clicked in it, and picks among lists.

The model gives p(click) of every item of a list, from the item's features, its slot in this list, and all other items:
how similar, of the same creator or category, above or below. A click takes a look at the slot, and appeal (the
examination hypothesis of click models: Richardson et al. 2007). It does not depend on the order in which items are
given: they are brought into one order, that of their ids, before anything is computed. Where an item stood in the base
it knows as a feature at most.

To order a request, lists are generated (beams that avoid what is like items above; draws of determinantal point
processes at four temperatures) and the one of the greatest expected clicks is taken, as in generator-evaluator methods
(Feng et al. 2021, PIER and NAR4Rec after it). Plain arrays and torch.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from coldstart.core.device import choose_device
from coldstart.core.diversity import dpp
from coldstart.core.keys import digest
from coldstart.core.vectors import unit
from coldstart.rerank import MOST_ITEMS, Places, RerankItems, RerankRequest, base_order

VERSION = 1
LISTS = 64
"""Lists that are generated for a request."""
TEMPERATURES = (0.25, 0.5, 1.0, 2.0)
PENALTIES = (0.0, 0.5, 1.0, 2.0)
"""Weights against items like those above, of the beams; in units of the spread of scores."""
_BEAMS = 8
_SWAPS, _LEAST_GAIN = 6, 1e-4
_PAIRS = 5
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Lists:
    """B shown lists of up to N items, in any order; what a request may have besides stays behind.

    Attributes:
        features: float32 [B, N, F], NaN where a value is missing.
        slots: place in the list from 1, int64 [B, N]; 0 where there is no item.
        vectors: unit or zero, float32 [B, N, D]; creators, categories: int64 [B, N], -1 where there is none.
        clicks: 0 or 1, float32 [B, N], NaN where it is not known.
    """

    features: Floats
    slots: Places
    vectors: Floats
    creators: Places
    categories: Places
    clicks: Floats

    def __len__(self) -> int:
        return len(self.slots)

    def take(self, rows: Any) -> Lists:
        """Take some lists."""
        return Lists(**{name: own[rows] for name, own in self.__dict__.items()})


@dataclass(frozen=True)
class ListwiseShape:
    """Shape of a model; `features`: number of them."""

    features: int
    dim: int = 32
    layers: int = 2
    heads: int = 2


@dataclass(frozen=True)
class ListwiseTraining:
    """Settings of training."""

    dim: int = 32
    layers: int = 2
    heads: int = 2
    loss: Literal["bce", "listmle"] = "bce"
    epochs: int = 20
    patience: int = 5
    batch: int = 128
    learning_rate: float = 3e-3
    decay: float = 1e-2
    dropout: float = 0.1
    seed: int = 0
    device: str = "auto"


class _Layer(nn.Module):
    def __init__(self, shape: ListwiseShape, dropout: float) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm, self.then = nn.LayerNorm(shape.dim), nn.LayerNorm(shape.dim)
        self.project, self.out = nn.Linear(shape.dim, 3 * shape.dim), nn.Linear(shape.dim, shape.dim)
        self.bias = nn.Linear(_PAIRS, shape.heads)
        self.inner = nn.Sequential(
            nn.Linear(shape.dim, 2 * shape.dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * shape.dim, shape.dim)
        )

    def forward(self, states: Tensor, pairs: Tensor, there: Tensor) -> Tensor:
        rows, count, dim = states.shape
        query, key, value = (
            part.view(rows, count, self.heads, -1).transpose(1, 2)
            for part in self.project(self.norm(states)).chunk(3, -1)
        )
        weights = query @ key.transpose(2, 3) / (dim // self.heads) ** 0.5 + self.bias(pairs).permute(0, 3, 1, 2)
        weights = weights.masked_fill(~there[:, None, None, :], -1e9).softmax(-1)
        states = states + self.out((weights @ value).transpose(1, 2).reshape(rows, count, dim))
        changed: Tensor = states + self.inner(self.then(states))
        return changed


class ListwiseModel(nn.Module):
    """Set transformer that gives a logit of a click for every item of a list."""

    def __init__(self, shape: ListwiseShape, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(shape.features))
        self.register_buffer("scale", torch.ones(shape.features))
        self.slot = nn.Embedding(MOST_ITEMS + 1, shape.dim)
        self.enter = nn.Linear(2 * shape.features + 6, shape.dim)
        self.layers = nn.ModuleList([_Layer(shape, dropout) for _ in range(shape.layers)])
        self.leave = nn.Sequential(nn.LayerNorm(shape.dim), nn.Linear(shape.dim, 1))
        self.direct = nn.Linear(2 * shape.features + 6, 1)  # what adds up is learnt first, the layers the rest
        self.at_slot = nn.Embedding(MOST_ITEMS + 1, 1)
        for weights in self.leave[1].parameters():
            nn.init.zeros_(weights)
        nn.init.constant_(self.at_slot.weight, 2.0)

    def forward(self, lists: dict[str, Tensor]) -> Tensor:
        slots, features = lists["slots"], lists["features"]
        there = slots > 0
        known = ~torch.isnan(features)
        mean, scale = self.get_buffer("mean"), self.get_buffer("scale")
        values = torch.where(known, (features - mean) / scale, torch.zeros_like(features)).clamp(-5, 5)
        pairs, summary = _pairs(lists, there)
        inputs = torch.cat([values, known.to(values.dtype), summary], -1)
        slots = slots.clamp(0, MOST_ITEMS)
        states = self.enter(inputs) + self.slot(slots)
        for layer in self.layers:
            states = layer(states, pairs, there)
        appeal = functional.logsigmoid((self.leave(states) + self.direct(inputs))[..., 0])
        chance = appeal + functional.logsigmoid(self.at_slot(slots)[..., 0])  # log p(looked at) + log p(click if so)
        logits: Tensor = chance - torch.log(-torch.expm1(chance.clamp(max=-1e-6)))
        return logits


def _pairs(lists: dict[str, Tensor], there: Tensor) -> tuple[Tensor, Tensor]:
    """Compare all pairs of a list, [B, N, N, 5], and sum up what stands above each item, [B, N, 6]."""
    vectors, slots = lists["vectors"], lists["slots"]
    similar = vectors @ vectors.transpose(1, 2)
    both = there[:, :, None] & there[:, None, :]
    same = [(own[:, :, None] == own[:, None, :]) & (own[:, :, None] >= 0) & both
            for own in (lists["creators"], lists["categories"])]  # fmt: skip
    above = (slots[:, None, :] < slots[:, :, None]) & both
    kind = similar.dtype
    pairs = torch.stack([similar, same[0].to(kind), same[1].to(kind), above.to(kind), similar * above], -1)
    over = above.to(kind)
    count = over.sum(-1)
    most = torch.where(above, similar, torch.full_like(similar, -1)).amax(-1)
    summary = torch.stack(
        [
            torch.where(count > 0, most, torch.zeros_like(most)),
            (similar * over).sum(-1) / count.clamp(min=1),
            (same[0] & above).sum(-1).to(kind),
            (same[1] & above).sum(-1).to(kind),
            1 / slots.clamp(min=1).to(kind),
            slots.to(kind).log1p(),
        ],
        -1,
    )
    return pairs, summary


def tensors(lists: Lists, device: Any = "cpu") -> dict[str, Tensor]:
    """Move lists to a device."""
    return {name: torch.as_tensor(own, device=device) for name, own in lists.__dict__.items()}


def click_probabilities(model: ListwiseModel, lists: Lists) -> NDArray[np.float64]:
    """Compute p(click) of every item of lists, float64 [B, N]; 0 where there is no item."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        found = torch.sigmoid(model(tensors(lists, device))).double().cpu().numpy()
    return np.where(lists.slots > 0, found, 0.0)


def train(
    lists: Lists, settings: ListwiseTraining, *, valid: Lists | None = None, step: Callable[[], None] = lambda: None
) -> tuple[ListwiseModel, dict[str, Any]]:
    """Fit a model on shown lists.

    Args:
        valid: later lists that stop training; None: all epochs.

    Returns:
        The model of the best epoch, and a report.
    """
    device = choose_device(settings.device)
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    shape = ListwiseShape(lists.features.shape[-1], settings.dim, settings.layers, settings.heads)
    model = ListwiseModel(shape, settings.dropout).to(device)
    _standardise(model, lists)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.decay)
    rounds = settings.epochs * max(1, -(-len(lists) // settings.batch))
    pace = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.learning_rate, total_steps=rounds, pct_start=0.1)
    best, since, losses = {}, 0, []
    for _ in range(settings.epochs):
        model.train()
        order = rng.permutation(len(lists))
        for start in range(0, len(order), settings.batch):
            batch = tensors(lists.take(order[start : start + settings.batch]), device)
            loss = _loss(model(batch), batch, settings.loss)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            pace.step()
        step()
        model.eval()
        if valid is None or not len(valid):
            continue
        with torch.inference_mode():
            own = tensors(valid, device)
            losses.append(float(_loss(model(own), own, settings.loss)))
        if losses[-1] <= min(losses):
            best, since = {name: weight.clone() for name, weight in model.state_dict().items()}, 0
        else:
            since += 1
            if since >= settings.patience:
                break
    if best:
        model.load_state_dict(best)
    model.eval()
    return model, {"epochs": len(losses) or settings.epochs, "held_out_loss": min(losses) if losses else None}


def _standardise(model: ListwiseModel, lists: Lists) -> None:
    there = lists.slots > 0
    values: NDArray[np.float32] = np.where(np.isfinite(lists.features), lists.features, np.float32(np.nan))[there]
    known: NDArray[np.bool_] = np.asarray(np.isfinite(values).any(axis=0), np.bool_)
    mean, scale = np.zeros(known.shape, np.float32), np.ones(known.shape, np.float32)
    mean[known], scale[known] = np.nanmean(values[:, known], 0), np.nanstd(values[:, known], 0)
    device = next(model.parameters()).device
    model.get_buffer("mean").copy_(torch.as_tensor(mean, device=device))
    model.get_buffer("scale").copy_(torch.as_tensor(np.where(scale > 1e-6, scale, 1.0), device=device))


def _loss(logits: Tensor, lists: dict[str, Tensor], kind: str) -> Tensor:
    known = (lists["slots"] > 0) & ~torch.isnan(lists["clicks"])
    clicks = torch.where(known, lists["clicks"], torch.zeros_like(lists["clicks"]))
    if kind == "bce":
        own = functional.binary_cross_entropy_with_logits(logits, clicks, reduction="none")
        return (own * known).sum() / known.sum().clamp(min=1)
    # ListMLE (Xia et al. 2008) over the clicked items, each against those that are left; ties in random order
    draws = torch.rand_like(clicks)
    order = (clicks + draws * 1e-3).masked_fill(~known, -1).argsort(1, descending=True)
    ranked, wanted, there = (one.gather(1, order) for one in (logits, clicks, known))
    ranked = ranked.masked_fill(~there, -1e9)
    left = ranked.flip(1).logcumsumexp(1).flip(1)
    some = (wanted > 0) & there
    return ((left - ranked) * some).sum() / some.sum().clamp(min=1)


class ListwiseReranker:
    """Reranker by a model of lists; see the module.

    Args:
        settings: key of what the model was fitted by, part of the digest.
        head: slots whose clicks count.
    """

    kind = "listwise"

    def __init__(self, model: ListwiseModel, settings: str = "", head: int = 10, lists: int = LISTS) -> None:
        self.model, self.head, self.lists = model.eval(), head, lists
        self.digest = method_digest(settings, head, lists)
        self.counts: Counter[str] = Counter()

    def order(self, request: RerankRequest, items: RerankItems, scores: NDArray[np.floating[Any]]) -> Sequence[int]:
        """Order items; see `coldstart.rerank.Reranker`."""
        canonical = np.argsort(np.asarray(items.item_ids), kind="stable")
        own, values = items.take(canonical), np.asarray(scores, np.float64)[canonical]
        found = best_list(self.model, own, values, head=self.head, lists=self.lists, seed=request.seed)
        return [int(canonical[place]) for place in found]


def method_digest(settings: str, head: int = 10, lists: int = LISTS) -> str:
    """Digest the method: settings of the fit, slots that count, lists that are generated."""
    return digest(["rerank", "listwise", VERSION, settings, head, lists])


def best_list(
    model: ListwiseModel,
    items: RerankItems,
    scores: NDArray[np.float64],
    *,
    head: int = 10,
    lists: int = LISTS,
    seed: int = 0,
) -> Places:
    """Generate lists of the items, the base among them, and take the one of most expected clicks in its head.

    Args:
        items: in the order of their ids; scores: of the base.
    """
    base = base_order(items.item_ids, scores)
    alone = click_probabilities(model, _each_alone(items))[:, 0]
    logit = np.log(np.clip(alone, 1e-6, 1 - 1e-6) / (1 - np.clip(alone, 1e-6, 1 - 1e-6)))
    drawn = generate_lists(items, logit, lists - 2, seed)
    found = np.unique(np.concatenate([base[None], np.lexsort((base, -logit))[None], drawn]), axis=0)
    values = click_probabilities(model, in_slots(items, found[:, :head])).sum(1)
    best = found[values >= values.max() - 1e-12]
    kept = _improved(model, items, best[np.lexsort(best.T[::-1])[0]], float(values.max()), head)
    chosen, rest = kept[:head], kept[head:]
    return np.concatenate([chosen, rest[np.lexsort((rest, -logit[rest]))]])


def _improved(model: ListwiseModel, items: RerankItems, order: Places, value: float, head: int) -> Places:
    """Swap two items of an order, one of them in its head, as long as the evaluator gains, a few times at most."""
    first, second = np.triu_indices(len(order), 1)
    first, second = first[first < head], second[first < head]
    rows = np.arange(len(first))
    for _ in range(_SWAPS if len(first) else 0):
        swapped = np.tile(order, (len(first), 1))
        swapped[rows, first], swapped[rows, second] = order[second], order[first]
        values = click_probabilities(model, in_slots(items, swapped[:, :head])).sum(1)
        best = int(values.argmax())
        if values[best] <= value + _LEAST_GAIN:
            break
        order, value = swapped[best], float(values[best])
    return order


def _each_alone(items: RerankItems) -> Lists:
    return in_slots(items, np.arange(len(items))[:, None])


def in_slots(items: RerankItems, orders: Places) -> Lists:
    """Build lists of the items in some orders, int64 [B, K]."""
    count = len(items)
    features = np.zeros((count, 0), np.float32) if items.features is None else items.features
    vectors = np.zeros((count, 1), np.float32) if items.vectors is None else unit(items.vectors)
    none = np.full(count, -1)
    creators, categories = (none if own is None else own for own in (items.creators, items.categories))
    slots = np.broadcast_to(np.arange(1, orders.shape[1] + 1), orders.shape).copy()
    return Lists(
        features[orders].astype(np.float32),
        slots,
        vectors[orders].astype(np.float32),
        creators[orders],
        categories[orders],
        np.zeros(orders.shape, np.float32),
    )


def generate_lists(items: RerankItems, scores: NDArray[np.float64], count: int, seed: int) -> Places:
    """Generate orders: one half beams under penalties, the other draws of determinantal point processes, [L, N]."""
    total = len(items)
    similar = _likeness(items)
    spread = float(scores.std()) or 1.0
    beams = [_beam(scores / spread, similar, weight) for weight in PENALTIES]
    found = np.concatenate(beams)[: max(0, count // 2)]
    each = -(-(count - len(found)) // len(TEMPERATURES))
    rng = np.random.default_rng(seed)
    noise = rng.gumbel(size=(len(TEMPERATURES), each, total))
    warmth = np.array(TEMPERATURES)[:, None, None]
    relevance = (scores / spread + warmth * noise).reshape(-1, total)
    vectors = np.zeros((total, 1), np.float32) if items.vectors is None else items.vectors
    repeated = np.broadcast_to(vectors, (len(relevance), *vectors.shape))
    return np.concatenate([found, dpp(relevance, repeated, total, 0.5)])[:count]


def _likeness(items: RerankItems) -> NDArray[np.float64]:
    """Compute how alike items are: cosine, and 1 more for the same creator or category, [N, N]; 0 with itself."""
    count = len(items)
    vectors = np.zeros((count, 1)) if items.vectors is None else unit(np.asarray(items.vectors, np.float64))
    found = np.maximum(vectors @ vectors.T, 0)
    for own in (items.creators, items.categories):
        if own is not None:
            found += (own[:, None] == own) & (own >= 0)
    np.fill_diagonal(found, 0)
    return found


def _beam(scores: NDArray[np.float64], similar: NDArray[np.float64], weight: float) -> Places:
    """Search orders of the greatest discounted score less likeness to the items above, [8, N]."""
    count = len(scores)
    orders, values = np.zeros((1, 0), np.int64), np.zeros(1)
    penalty, used = np.zeros((1, count)), np.zeros((1, count), bool)
    for slot in range(count):
        gains = np.where(used, -np.inf, (scores - weight * penalty) / np.log2(slot + 2))
        whole = (values[:, None] + gains).ravel()
        best = np.argsort(-whole, kind="stable")[: min(_BEAMS, int(np.isfinite(whole).sum()))]
        rows, chosen = best // count, best % count
        orders = np.concatenate([orders[rows], chosen[:, None]], 1)
        values, used = whole[best], used[rows].copy()
        used[np.arange(len(rows)), chosen] = True
        penalty = np.maximum(penalty[rows], similar[chosen])
    return orders


def to_files(model: ListwiseModel, about: dict[str, Any]) -> dict[str, bytes]:
    """Write a model as files: weights, and a card of its shape and what else is known of it."""
    from safetensors.torch import save

    weights = {name: own.detach().cpu().contiguous() for name, own in model.state_dict().items()}
    card = {"shape": asdict(model.shape), **about}
    return {"listwise.safetensors": save(weights), "listwise.json": json.dumps(card, sort_keys=True).encode()}


def from_files(weights: bytes, card: bytes) -> tuple[ListwiseModel, dict[str, Any]]:
    """Read a model; its files may be a stranger's.

    Raises:
        ValueError: they do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        about = json.loads(card)
        given = about["shape"]
        shape = replace(ListwiseShape(1), **{name: int(given[name]) for name in ("features", "dim", "layers", "heads")})
        sizes = (shape.features, shape.dim, shape.layers, shape.heads)
        most = (512, 512, 8, 16)
        if any(not 1 <= own <= bound for own, bound in zip(sizes, most, strict=True)) or shape.dim % shape.heads:
            raise ValueError(f"shape {given} is out of range")
        model = ListwiseModel(shape)
        stored = load(weights)
        if not all(bool(own.isfinite().all()) for own in stored.values()):
            raise ValueError("weights that are no numbers")
        model.load_state_dict(stored)
    except (SafetensorError, RuntimeError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0]) from error
    return model.eval(), about
