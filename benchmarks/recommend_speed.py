"""The best 50 of 100,000 items for each of 100,000 users, exactly: seconds, against the product alone and other ways.

Users are scored in parts, and in every part each contender takes the same few hundred of them in turn: the bare
product (torch, blocks of 512 users), ours, `torch.topk` over whole rows, and the C++ search of `implicit`. Vectors are
normal numbers, which no bound on norms can shorten. One user in a warm process: the list alone, without and with rules.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from implicit.cpu.topk import topk as implicit_topk
from scipy.sparse import csr_matrix

from benchmarks.report import Row, against, ratio
from coldstart.recommend.lists import Candidates, ListBuilder, Rules
from coldstart.recommend.model.scoring import Scorer

DIM, K, SEEN = 128, 50, 200
PRODUCT_ROWS = 512
RULES = {
    "plain": Rules(top_k=20),
    "cold share, creators, diversity": Rules(top_k=20, cold_share=0.2, per_creator=2, diversity=0.3),
    "and exploration": Rules(top_k=20, cold_share=0.2, per_creator=2, diversity=0.3, explore=0.1),
}


def run(short: bool) -> dict[str, Any]:
    """Seconds of every contender, part by part, and milliseconds of single users."""
    count, parts, compared, singles = (10_000, 3, 500, 200) if short else (100_000, 10, 500, 1_000)
    rng = np.random.default_rng(0)
    items = rng.normal(size=(count, DIM)).astype(np.float32)
    users = rng.normal(size=(count, DIM)).astype(np.float32)
    scorer = Scorer(items, device="cpu")
    contenders: dict[str, Callable[[Any], Any]] = {
        "product": _product(items),
        "ours": lambda some: scorer.top_k(some, K),
        "torch": _torch(items),
        "implicit": lambda some: implicit_topk(items, some, K),
    }
    for contend in contenders.values():
        contend(users[:64])
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    processor: dict[str, list[float]] = {name: [] for name in contenders}
    whole, same = 0.0, []
    for part in np.array_split(np.arange(count), parts):
        some = users[part[:compared]]
        found = {}
        for name, contend in contenders.items():
            began, worked = time.perf_counter(), time.process_time()
            found[name] = contend(some)
            seconds[name].append(time.perf_counter() - began)
            processor[name].append(time.process_time() - worked)
        same.append(float((found["ours"][0] == found["torch"]).mean()))
        began = time.perf_counter()
        scorer.top_k(users[part], K)
        whole += time.perf_counter() - began
    return {
        "count": count,
        "compared": compared,
        "seconds": seconds,
        "processor_s": processor,
        "whole_s": whole,
        "same": min(same),
        "singles": _singles(items, users[:singles], rng),
        "threads": torch.get_num_threads(),
    }


def _product(items: Any) -> Callable[[Any], None]:
    columns = torch.from_numpy(items).T
    out = torch.empty((PRODUCT_ROWS, len(items)))

    def contend(some: Any) -> None:
        for block in torch.from_numpy(some).split(PRODUCT_ROWS):
            torch.mm(block, columns, out=out[: len(block)])

    return contend


def _torch(items: Any) -> Callable[[Any], Any]:
    columns = torch.from_numpy(items).T

    def contend(some: Any) -> Any:
        blocks = torch.from_numpy(some).split(128)
        return torch.cat([torch.topk(block @ columns, K).indices for block in blocks]).numpy()

    return contend


def _singles(items: Any, users: Any, rng: np.random.Generator) -> dict[str, list[float]]:
    """Milliseconds of one list each, in a warm process; a fifth of the items cold, a tenth of them a creator's."""
    count = len(items)
    shelf = Candidates(
        tuple(map(str, range(count))), items, rng.random(count) < 0.2, rng.integers(0, max(count // 10, 1), count)
    )
    makers = {name: ListBuilder(shelf, rules, device="cpu") for name, rules in RULES.items()}
    found: dict[str, list[float]] = {name: [] for name in makers}
    for row, user in enumerate(users):
        seen = np.sort(rng.choice(count, SEEN, replace=False))
        left_out = csr_matrix((np.ones(SEEN, np.float32), seen, [0, SEEN]), shape=(1, count))
        for name, maker in makers.items():
            began = time.perf_counter()
            maker.lists(user[None], left_out, (str(row),))
            found[name].append(1000 * (time.perf_counter() - began))
    return found


def rows(result: dict[str, Any]) -> list[Row]:
    """Lines of the table."""
    seconds, count = result["seconds"], result["count"]
    setting = f"{count:,} users x {count:,} items x {DIM}, float32, {result['threads']} threads"
    rate = [2 * result["compared"] * count * DIM / s / 1e9 for s in seconds["product"]]
    found = [
        Row(
            f"exact top {K} of all users",
            setting,
            f"{result['whole_s']:.1f} s ({count / result['whole_s']:,.0f} users/s)",
            f"{result['same']:.2%} of places as by torch.topk",
        ),
        against(
            "limit",
            "exact lists against the bare product: share of its rate",
            f"{setting}; the product runs at {np.median(rate):,.0f} GFLOP/s",
            seconds["product"],
            seconds["ours"],
        ),
        Row(
            "the same by processor seconds, which a busy machine disturbs less",
            setting,
            *ratio(result["processor_s"]["product"], result["processor_s"]["ours"]),
        ),
    ]
    for name, what in (("torch", "torch.topk of whole rows"), ("implicit", "implicit's C++ search")):
        claim = f"exact lists against {what}: times as fast"
        found.append(against("peer", claim, setting, seconds[name], seconds["ours"]))
    for name, values in result["singles"].items():
        middle, late = np.percentile(values, [50, 95])
        found.append(
            Row(
                f"one user's list from a warm process, {name}",
                f"{count:,} items x {DIM}, top {RULES[name].top_k}, {len(values):,} users, {SEEN} items seen by each",
                f"p50 {middle:.1f} ms, p95 {late:.1f} ms",
                f"{min(values):.1f} to {max(values):.1f} ms",
            )
        )
    return found
