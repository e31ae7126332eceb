"""Teach a language model semantic IDs: supervised on histories and texts of items, then, if wanted, by rewards.

Supervised: the loss is on the IDs of what came next, every item of a history after the first; beside them examples that
align IDs with texts, in both directions. By rewards: group relative policy optimisation (Shao et al. 2024, GRPO) with
the reward of MiniOneRec (Kong et al. 2025): the group of a history are the likeliest IDs under the trie, the right one
gets 1, the wrong ones share -1, the ones listed first the most. A group without the right ID says nothing and is
dropped.

A killed training goes on from its checkpoint, to the same weights: what a step draws depends on the seed and its number
alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coldstart.core.optim import AdamW
from coldstart.errors import ColdstartError
from coldstart.semantic_ids.decode import TrieTensors
from coldstart.semantic_ids.llm_model import CodeLanguageModel, Sample, prompt_of

SAVED_EVERY = 50
"""Steps between two checkpoints."""
_WARM_UP = 0.03
_MOST_NORM = 1.0
_CLIP = 0.2

History = NDArray[np.int64]


@dataclass(frozen=True)
class LanguageData:
    """Items that a language model learns: codes int32 [N, L], -1 for an item it may not read or has no ID; texts."""

    codes: NDArray[np.int32]
    texts: Sequence[str | None]


@dataclass
class Course:
    """Record of one training: losses of steps, and what a method counts."""

    losses: list[float] = field(default_factory=list)
    counts: dict[str, float] = field(default_factory=dict)


Losses = Callable[[int, Course], Iterator[Tensor]]
"""Losses of a step by its number; the weights move after each."""


def train_steps(
    model: CodeLanguageModel,
    losses: Losses,
    steps: int,
    rate: float,
    row_rate: float,
    *,
    seed: int,
    checkpoint: Path | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Course:
    """Take steps by AdamW, the rate rising over the first 3 % of them, then falling as a cosine.

    Args:
        rate: highest step size of low-rank pairs; row_rate: of the rows of codes.
        checkpoint: file that the state is saved in, and read from; a finished training is read from it whole.

    Raises:
        ColdstartError: a loss is no finite number.
    """
    weights = model.trained()
    rows = {name: weight for name, weight in weights.items() if name in ("rows", "out_rows")}
    pairs = {name: weight for name, weight in weights.items() if name not in rows}
    parts = [(AdamW(pairs, {}, 0.0), rate), (AdamW(rows, {}, 0.0), row_rate)]
    course = Course()
    done = 0 if checkpoint is None else _resume(checkpoint, weights, [one for one, _ in parts], course)
    for _ in range(done):
        advance()
    model.train()
    with torch.random.fork_rng(devices=[model.rows.device] if model.rows.is_cuda else []):
        for step in range(done, steps):
            torch.manual_seed((seed * 1_000_003 + step) % (1 << 31))
            share = min(1.0, (step + 1) / max(1.0, _WARM_UP * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
            for loss in losses(step, course):
                if not bool(loss.isfinite()):
                    raise ColdstartError(
                        f"the loss of step {step + 1} is {float(loss.detach())}: use a lower llm.lr than {rate:g}"
                    )
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(weights.values(), _MOST_NORM)
                for optimizer, own in parts:
                    optimizer.step(own * share)
                course.losses.append(float(loss.detach()))
            advance()
            if checkpoint is not None and ((step + 1) % SAVED_EVERY == 0 or step + 1 == steps):
                _save(checkpoint, step + 1, weights, [one for one, _ in parts], course)
    model.eval()
    return course


def _save(path: Path, step: int, weights: dict[str, Any], optimizers: Sequence[AdamW], course: Course) -> None:
    from safetensors.torch import save_file

    tensors = {f"now.{name}": weight.detach() for name, weight in weights.items()}
    for optimizer in optimizers:
        tensors |= {f"mean.{name}": value for name, value in optimizer.mean.items()}
        tensors |= {f"square.{name}": value for name, value in optimizer.square.items()}
    updates = [one.steps for one in optimizers]
    about = {"state": json.dumps({"step": step, "updates": updates, **asdict(course)})}
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".part")
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, written, about)
    written.replace(path)


@torch.no_grad()
def _resume(path: Path, weights: dict[str, Any], optimizers: Sequence[AdamW], course: Course) -> int:
    """Read a checkpoint into weights and optimisers: its step; 0 where there is none, or one of another training."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        for name, weight in weights.items():
            if any(tensors[f"{kind}.{name}"].shape != weight.shape for kind in ("now", "mean", "square")):
                raise ValueError(name)
        step, updates = int(about["step"]), [int(one) for one in about["updates"]]
        course.losses, course.counts = [float(one) for one in about["losses"]], dict(about["counts"])
    except (OSError, SafetensorError, LookupError, ValueError, TypeError):
        return 0
    for name, weight in weights.items():
        weight.copy_(tensors[f"now.{name}"])
    for optimizer, count in zip(optimizers, updates, strict=True):
        optimizer.steps = count
        for kind in ("mean", "square"):
            for name, value in getattr(optimizer, kind).items():
                value.copy_(tensors[f"{kind}.{name}"])
    return step


# -- supervised


def history_sample(model: CodeLanguageModel, data: LanguageData, history: History, length: int) -> Sample:
    """Build the example of a history: all its items but the first are labels, each after those before it."""
    tokens = prompt_of(model, history, data.codes, length + 1)
    first = len(model.prompt) + len(model.sizes)
    return Sample(tokens, [place >= first for place in range(len(tokens))])


def align_samples(model: CodeLanguageModel, data: LanguageData, item: int) -> list[Sample]:
    """Build the examples of one item with a text: its text after its ID, and its ID after its text."""
    codes, text = model.code_ids(data.codes[item]), model.text_ids(f" {data.texts[item]}")
    before_text = [*model.opening, *model.text_ids("Item"), *codes, *model.text_ids(" is")]
    before_codes = [*model.opening, *model.text_ids("The item"), *text, *model.text_ids(" is")]
    return [
        Sample([*before_text, *text], [False] * len(before_text) + [True] * len(text)),
        Sample([*before_codes, *codes], [False] * len(before_codes) + [True] * len(codes)),
    ]


def supervised(
    model: CodeLanguageModel,
    data: LanguageData,
    histories: Sequence[History],
    *,
    batch: int,
    length: int,
    align_share: float,
    seed: int,
) -> Losses:
    """Build the losses of steps on histories, places of items with IDs, the latest last.

    Args:
        batch: histories a step, drawn by their number of targets, each up to a random item.
        align_share: items a step whose ID and text are aligned, as a share of `batch`; and the weight of their loss.

    Raises:
        ColdstartError: no history has two items with an ID.
    """
    known = [own for own in (own[data.codes[own, 0] >= 0] for own in histories) if len(own) >= 2]
    if not known:
        raise ColdstartError("no history has two items with a semantic ID: `coldstart finetune sids`")
    weights = np.array([min(len(own) - 1, length) for own in known], np.float64)
    weights /= weights.sum()
    met = np.unique(np.concatenate(known))
    described = [int(item) for item in met if data.texts[int(item)]]

    def losses(step: int, course: Course) -> Iterator[Tensor]:
        rng = np.random.default_rng([seed, step])
        samples = []
        for place in rng.choice(len(known), size=batch, p=weights):
            own = known[place]
            end = int(rng.integers(length + 1, len(own) + 1)) if len(own) > length + 1 else len(own)
            samples.append(history_sample(model, data, own[:end], length))
        loss = model.loss(samples)
        count = max(1, round(align_share * batch)) if align_share and described else 0
        if count:
            drawn = rng.choice(len(described), size=count)
            aligned = [one for place in drawn for one in align_samples(model, data, described[place])]
            loss = loss + align_share * model.loss(aligned)
        yield loss

    return losses


# -- by rewards


def rank_rewards(is_right: Tensor) -> Tensor:
    """Compute the rewards of groups of listed IDs, bool [B, G], the likeliest first.

    The right one gets 1; in its group the others share -1 by 1 / log2(place + 1), places from 1. All 0 without it.
    """
    count = is_right.shape[1]
    weights = 1 / torch.log2(torch.arange(2, count + 2, device=is_right.device, dtype=torch.float32))
    wrong = torch.where(is_right, 0, weights.expand(is_right.shape))
    wrong = wrong / wrong.sum(1, keepdim=True).clamp(min=1e-9)
    return torch.where(is_right.any(1, keepdim=True), is_right.float() - wrong, 0)


def advantages_of(rewards: Tensor) -> Tensor:
    """Standardise the rewards of each group, [B, G]: less their mean, in standard deviations and 0.0001."""
    deviation = rewards.std(1, keepdim=True, correction=0)
    return (rewards - rewards.mean(1, keepdim=True)) / (deviation + 1e-4)


def grpo_loss(now: Tensor, before: Tensor, reference: Tensor, advantages: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Compute the loss of GRPO, the mean over tokens, and the mean divergence from the reference.

    Args:
        now, before, reference: log P of each token by the weights that learn, by those that listed, and by those that
            training began with, [..., L]; advantages: of each ID, [...].
        beta: weight of the divergence, exp(r - n) - (r - n) - 1.
    """
    ratio = (now - before).exp()
    own = advantages[..., None]
    gain = torch.minimum(ratio * own, ratio.clamp(1 - _CLIP, 1 + _CLIP) * own)
    away = reference - now
    divergence = away.exp() - away - 1
    return (beta * divergence - gain).mean(), divergence.mean().detach()


def by_rewards(
    model: CodeLanguageModel,
    data: LanguageData,
    histories: Sequence[History],
    trie: TrieTensors,
    *,
    batch: int,
    group: int,
    length: int,
    beta: float,
    updates: int,
    seed: int,
) -> Losses:
    """Build the losses of GRPO steps, from the weights that the model has now, which are the reference.

    Args:
        trie: of the items that may be listed; group: IDs listed for a history; updates: of the weights by one listing.
    """
    known = [own for own in (own[trie_items(data, trie)[own]] for own in histories) if len(own) >= 2]
    if not known:
        raise ColdstartError("no history has two items with a semantic ID: `coldstart finetune sids`")
    weights = model.trained()
    reference = {name: weight.detach().clone() for name, weight in weights.items()}
    paths = leaf_codes(trie)

    @torch.no_grad()
    def by_reference(prompts: Sequence[Sequence[int]], codes: Tensor) -> Tensor:
        own = {name: weight.detach().clone() for name, weight in weights.items()}
        try:
            for name, weight in weights.items():
                weight.copy_(reference[name])
            return model.code_log_p(prompts, codes)
        finally:
            for name, weight in weights.items():
                weight.copy_(own[name])

    def losses(step: int, course: Course) -> Iterator[Tensor]:
        rng = np.random.default_rng([seed, step, 1])
        prompts, targets = [], []
        allowed = torch.ones(batch, len(trie.leaf_of), dtype=torch.bool, device=trie.leaf_of.device)
        for row in range(batch):
            own = known[int(rng.integers(len(known)))]
            end = int(rng.integers(1, len(own)))
            prompts.append(prompt_of(model, own[:end], data.codes, length))
            targets.append(int(trie.leaf_of[int(own[end])]))
            allowed[row, torch.from_numpy(own[:end]).to(allowed.device)] = False
        nodes, _ = model.beam(prompts, trie, allowed, group)
        right = torch.tensor(targets, device=nodes.device)[:, None]
        full = (nodes >= 0).all(1)  # with fewer IDs than the group, which only a tiny trie has
        rewards = rank_rewards(nodes == right)
        useful = full & (rewards.std(1, correction=0) > 0)
        counted = {"groups": batch, "dropped": batch - int(useful.sum()), "first": int((nodes[:, :1] == right).sum())}
        for name, value in counted.items():
            course.counts[name] = course.counts.get(name, 0) + value
        if not bool(useful.any()):
            return
        chosen = [prompt for prompt, is_useful in zip(prompts, useful.tolist(), strict=True) if is_useful]
        codes, advantages = paths[nodes[useful]], advantages_of(rewards[useful])
        before = None
        fixed = by_reference(chosen, codes)
        for _ in range(updates):
            now = model.code_log_p(chosen, codes)
            before = now.detach() if before is None else before
            loss, divergence = grpo_loss(now, before, fixed, advantages, beta)
            course.counts["divergence"] = float(divergence)
            yield loss

    return losses


def leaf_codes(trie: TrieTensors) -> Tensor:
    """Codes of every ID of a trie, int64 [leaves, L]."""
    nodes = torch.arange(trie.leaves, device=trie.leaf_of.device)
    found: list[Tensor] = []
    for level in range(len(trie.codes) - 1, -1, -1):
        found.insert(0, trie.codes[level][nodes])
        nodes = trie.parents[level][nodes]
    return torch.stack(found, 1)


def trie_items(data: LanguageData, trie: TrieTensors) -> NDArray[np.bool_]:
    """Items of a trie, bool [N]."""
    found: NDArray[np.bool_] = (trie.leaf_of >= 0).cpu().numpy() & (data.codes[:, 0] >= 0)
    return found
