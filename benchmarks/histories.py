"""Histories of users: building and reading them, comparing them with candidates, and a signal 30,000 actions back.

    python -m benchmarks.histories [--short] [build|compare|encode|planted]

`build`: 10 million made interactions of 100,000 users (a few of them with 10^5 actions and more) in a workspace, read
into histories in a process of its own; then 100,000 requests, each with its user's last 100 actions before it.
`compare`: search of the top 50 and tiers of 200 candidates by history length, 64 columns, 3 groups of events, 200,000
items in 256 clusters; one thread. `encode`: long attention, keys made once and 500 candidates scored.
`planted`: each user has 20 actions with items of one of 20 rare kinds 30,000 actions back, before 30,000 with items of
50 common kinds and now and then a rare one. A candidate is of a rare kind; it is clicked in 7 of 10 cases where its
kind is the user's and in 2 of 10 where it is not. Fitted by the code of `finetune rank` on the first half of the users,
judged on the others; AUC with a bootstrap over users. A ranker that knows the kind and the rule itself reaches `best
possible`.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.report import CACHE, Row

ROWS, SHORT_ROWS = 10_000_000, 200_000
_BLOCK = 500_000
_LENGTHS = (1_000, 10_000, 100_000)
_DAY = 86_400


def best_of(call: Callable[[], Any], rounds: int) -> float:
    """Measure the processor seconds of the quickest of some calls: others share the machine."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return min(found)


# -- files


def make_table(folder: Path, rows: int) -> None:
    """Write interactions straight into the table, without the checks of `ingest`."""
    from coldstart.ingest.interaction_file import SCHEMA
    from coldstart.store import Store
    from coldstart.store.interactions import INTERACTIONS, row_keys

    draw = np.random.default_rng(0)
    users = pa.array([f"user-{number:07d}" for number in range(100_000)])
    items = pa.array([f"item-{number:06d}" for number in range(50_000)])
    events = pa.array(["click", "like", "view"])
    store = Store(folder, create=True)
    with store.lock():
        for start in range(0, rows, _BLOCK):
            count = min(_BLOCK, rows - start)
            columns = [
                users.take(pa.array((len(users) * draw.random(count) ** 3).astype(int))),
                items.take(pa.array(draw.integers(0, len(items), count))),
                pa.array(draw.integers(1_600_000_000, 1_640_000_000, count) * 1_000_000).cast(SCHEMA.field(2).type),
                events.take(pa.array(draw.integers(0, 3, count))),
                pa.array(np.ones(count, np.float32)),
            ]
            batch = pa.record_batch(columns, schema=SCHEMA)
            keys = pa.field("row_key", pa.int64(), nullable=False)
            store.append(INTERACTIONS, pa.Table.from_batches([batch]).add_column(0, keys, pa.array(row_keys(batch))))


def build_alone(folder: Path) -> dict[str, Any]:
    """Build histories in this process and read them."""
    from coldstart.store import Store
    from coldstart.store.history_build import build, open_histories

    store = Store(folder)
    with store.lock():
        began, worked = time.perf_counter(), time.process_time()
        build(store)
    found: dict[str, Any] = {"seconds": time.perf_counter() - began, "processor_s": time.process_time() - worked}
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    found["rows"] = store.count("interactions")
    opened = open_histories(store)
    found |= opened.summary().to_dict()
    draw = np.random.default_rng(1)
    users = [f"user-{int(100_000 * one**3):07d}" for one in draw.random(100_000)]
    times = draw.integers(1_600_000_000, 1_640_000_000, len(users))
    worked = time.process_time()
    found["read"] = len(opened.read(users, times, last=100).items)
    found["read_s"] = time.process_time() - worked
    found["one_us"] = 1e6 / 1000 * best_of(lambda: [opened.of(user, int(times[0]), 100) for user in users[:1000]], 3)
    return found


def measure_build(short: bool) -> dict[str, Any]:
    """Build histories of a made table in a process of its own."""
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        place = Path(folder, "w")
        make_table(place, SHORT_ROWS if short else ROWS)
        command = [sys.executable, "-m", "benchmarks.histories", "alone", str(place)]
        root = Path(__file__).resolve().parents[1]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    return dict(json.loads(done.stdout))


# -- search and attention


def measure_compare(short: bool) -> dict[str, Any]:
    """Compare 200 candidates with histories of rising length."""
    from coldstart.rank.history_search import HistorySearch

    draw = np.random.default_rng(0)
    count = 2_000 if short else 200_000
    codes = draw.integers(0, 256, count)
    vectors = draw.standard_normal((256, 64))[codes] + draw.standard_normal((count, 64))
    search = HistorySearch(vectors, codes)
    found = {}
    for length in _LENGTHS[: 1 if short else None]:
        items, groups = draw.integers(0, count, length), draw.integers(0, 3, length)
        seconds = np.sort(draw.integers(0, 400 * _DAY, length))
        candidates = draw.integers(0, count, 200)
        for exact in (True, False):
            given = (candidates, items, groups, seconds, 400 * _DAY)
            compare = partial(search.compare, *given, group_count=3, exact=exact)

            tracemalloc.start()
            compare()
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            own: dict[str, Any] = {"ms": 1e3 * best_of(compare, 7), "peak_mb": peak / 1e6}
            if not exact:
                own["recall"], own["of"] = search.shortcut_recall([(candidates, items, groups)], group_count=3)
            found[f"{length} {'exact' if exact else 'by codes'}"] = own
    return found


def measure_encode(short: bool) -> dict[str, Any]:
    """Make keys of histories of rising length once, and score 500 candidates against them."""
    import torch

    from coldstart.rank.long_attention import LongAttention

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, found = LongAttention(3, dim=32).eval(), {}
    for length in _LENGTHS[: 1 if short else None]:
        history = (
            torch.randn(1, length, 32),
            torch.randint(0, 3, (1, length)),
            torch.arange(length, 0, -1)[None],
            torch.ones(1, length, dtype=torch.bool),
        )
        candidates = torch.randn(1, 500, 32)
        with torch.no_grad():
            keys = model.encode(*history)
            found[str(length)] = {
                "keys_ms": 1e3 * best_of(partial(model.encode, *history), 3),
                "score_ms": 1e3 * best_of(partial(model.read, keys, candidates), 3),
                "keys_mb": keys.size_bytes() / 1e6,
            }
    return found


# -- a planted signal


def planted(users: int, length: int, seed: int) -> dict[str, Any]:
    """Make histories with a burst at their beginning, and candidates with labels."""
    draw = np.random.default_rng(seed)
    kinds, each = 70, 40  # 50 common ones, 20 rare
    centres = draw.standard_normal((kinds, 32))
    vectors = centres.repeat(each, 0) + 0.5 * draw.standard_normal((kinds * each, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    own = draw.integers(50, kinds, users)
    common = draw.integers(0, 50, (users, length))
    common = np.where(draw.random((users, length)) < 0.001, draw.integers(50, kinds, (users, length)), common)
    kind = np.concatenate([np.repeat(own[:, None], 20, 1), common], 1)
    items = kind * each + draw.integers(0, each, kind.shape)
    asked = np.where(draw.random((users, 20)) < 0.5, own[:, None], draw.integers(50, kinds, (users, 20)))
    chance = np.where(asked == own[:, None], 0.7, 0.2)
    return {
        "vectors": vectors.astype(np.float32),
        "items": items.astype(np.int32),
        "candidates": asked * each + draw.integers(0, each, asked.shape),
        "labels": (draw.random(asked.shape) < chance).astype(np.int8),
        "best": chance,
    }


def area(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """Compute the area under the ROC curve, ties as a half."""
    from scipy.stats import rankdata

    ranks, positive = rankdata(scores), labels > 0
    wins = ranks[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
    return float(wins / (positive.sum() * (~positive).sum()))


def interval(scores: NDArray[Any], labels: NDArray[Any]) -> dict[str, Any]:
    """Compute the area with its 95 % interval over users, [users, candidates] each."""
    draw = np.random.default_rng(0)
    resampled = [
        area(scores[chosen].ravel(), labels[chosen].ravel())
        for chosen in (draw.integers(0, len(scores), len(scores)) for _ in range(300))
    ]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return {"value": area(scores.ravel(), labels.ravel()), "low": low, "high": high, "users": len(scores)}


def ranked(made: dict[str, Any], fitted: int, last: int | None, models: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Fit rankers by the code and the settings of `finetune rank` on the first users, and predict the others: model ->
    logits, [users, candidates]. Requests of a user stand at one time, so that the window is cut between users."""
    from coldstart.rank.features import Actions, FeatureMaker, ItemTable, Met, Rows
    from coldstart.rank.model import RankModel, Recipe, WholeHistories

    vectors, histories = made["vectors"], made["items"] if last is None else made["items"][:, -last:]
    users, length = histories.shape
    seconds = 1_600_000_000 + np.arange(length) * 1_000
    times = int(seconds[-1]) + _DAY + np.arange(users) * 1_000
    none, count = np.zeros(len(vectors), np.int32), made["candidates"].shape[1]
    ids = tuple(map(str, range(len(vectors))))
    items = ItemTable(
        ids, {"creator": none, "category": none}, np.zeros((len(vectors), 0), np.int32),
        np.full(len(vectors), np.nan), vectors=vectors,
    )  # fmt: skip

    def latest(chosen: NDArray[Any], before: NDArray[Any], count: int) -> Actions:
        own = histories[chosen][:, -count:]
        return Actions(own, np.zeros(own.shape, np.uint8), np.broadcast_to(seconds[-count:], own.shape))

    def whole(chosen: NDArray[Any], before: NDArray[Any], count: int | None) -> WholeHistories:
        own = histories[chosen][:, -(count or 0) :]
        each = own.shape[1]
        ones = np.ones(own.size, np.int32)
        return WholeHistories(np.arange(len(own) + 1) * each, own.ravel(), ones, np.tile(seconds[-each:], len(own)))

    rows = Rows(
        np.arange(users).repeat(count), made["candidates"].ravel(), times.repeat(count),
        np.full(users * count, -1, np.int32), {"click": made["labels"].ravel().astype(np.float32)},
    )  # fmt: skip
    past = rows.where(rows.users < fitted)
    nothing = np.empty(0, np.int64)
    maker = FeatureMaker(
        items, past, latest, ["met"], Met(nothing, nothing, nothing), whole=whole, long_length=100_000,
        lengths=lambda own: np.full(len(own), length), searched=length > 200, found=True,
    )  # fmt: skip
    features = maker.make(past)
    recipe = Recipe(models=models, calibrated=False, all_kept=True)
    own = np.zeros(len(past), bool)
    model = RankModel.fit(features, past.labels, past.times, own, recipe, offsets=maker.offsets(past))
    print({"last": last, **model.report}, file=sys.stderr)
    judged = maker.make(rows.where(rows.users >= fitted))
    return {name: model.logits(judged, name)["click"].reshape(-1, count) for name in model.report["log_loss"]}


def measure_planted(short: bool) -> dict[str, Any]:
    """Judge rankers that see the last 50 actions, and ones that see all."""
    import torch

    torch.set_num_threads(1)
    users, length = (200, 1_000) if short else (450, 30_000)
    made = planted(users, length, 0)
    labels = made["labels"][users // 2 :]
    found: dict[str, Any] = {"best possible": interval(made["best"][users // 2 :], labels)}
    for name, last in (("last 50", 50), ("all", None)):
        for models in (("trees", "attention", "both"), ("long",)):
            worked = time.process_time()
            for model, logits in ranked(made, users // 2, last, models).items():
                found[f"{model}, {name}"] = interval(logits, labels)
            found[f"{models[-1]}, {name}"]["processor_s"] = time.process_time() - worked
    return found


PARTS = {"build": measure_build, "compare": measure_compare, "encode": measure_encode, "planted": measure_planted}


def run(short: bool) -> dict[str, Any]:
    """Measure all parts."""
    return {name: measure(short) for name, measure in PARTS.items()}


def rows(result: dict[str, Any]) -> list[Row]:
    """Write the lines of the table."""
    lines = []
    if build := result.get("build"):
        rate = build["rows"] / build["processor_s"]
        spread = f"{build['processor_s']:.1f} s of processor time, peak {build['peak_mb']:,.0f} MB"
        setting = f"{build['rows']:,} rows, {build['users']:,} users, the longest {build['longest']:,}"
        lines.append(Row("histories, built from the table", setting, f"{rate:,.0f} rows/s", spread, "peak under 1 GB"))
        reads = f"{build['read'] / build['read_s']:,.0f} actions/s"
        lines.append(Row("histories, 100,000 requests at once", setting, reads, f"one alone {build['one_us']:.0f} us"))
    for name, own in result.get("compare", {}).items():
        shortcut = f", recall {own['recall']:.3f}" if "recall" in own else ""
        goal = "below 30 ms" if name == "10000 exact" else ""
        setting = f"200 candidates, {int(name.split()[0]):,} actions, {name.split(maxsplit=1)[1]}"
        spread = f"{own['peak_mb']:.0f} MB{shortcut}"
        lines.append(Row("search of the top 50 and tiers", setting, f"{own['ms']:.1f} ms", spread, goal))
    for name, own in result.get("encode", {}).items():
        setting = f"{int(name):,} actions, width 32, keys of {own['keys_mb']:.2f} MB"
        figure = f"{own['keys_ms']:.1f} ms + {own['score_ms']:.1f} ms"
        lines.append(Row("long attention: keys once, 500 candidates", setting, figure, "one thread"))
    for name, own in result.get("planted", {}).items():
        spread = f"{own['low']:.3f} to {own['high']:.3f}"
        lines.append(
            Row(f"signal 30,000 actions back: {name}", f"{own['users']} users", f"AUC {own['value']:.3f}", spread)
        )
    return lines


if __name__ == "__main__":
    if sys.argv[1:2] == ["alone"]:
        print(json.dumps(build_alone(Path(sys.argv[2]))))
    else:
        from benchmarks.report import table

        wanted = [word for word in sys.argv[1:] if word in PARTS] or [*PARTS]
        for part in wanted:
            measured = {part: PARTS[part]("--short" in sys.argv)}
            print(json.dumps(measured, default=float), table(rows(measured)), sep="\n", flush=True)
