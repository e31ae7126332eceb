"""Ranking of showings on KuaiRand-Pure, through the product: ingest, then `evaluate rank`.

    python -m benchmarks.rank [--short] [requests]

Data in `COLDSTART_INTERACTIONS` (default `../shared/interactions`): showings of the main feed (tab 1), fitted on those
of 25 to 30 April 2022, judged from 1 May on, in the log's zone; histories end on 24 April. There are no times within
histories: actions stand a minute apart, the latest at the user's last time. Items have creator, tags, duration and
upload date, and a title made of the tags, since an item without any content is no item. Short: long_view alone, smaller
fits. `requests`: processor time of one request of 500 candidates, on these data, and on made histories of 1,000 and
10,000 actions with networks of fresh weights; one thread.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.report import CACHE, Row

DATA = Path(os.environ.get("COLDSTART_INTERACTIONS", Path(__file__).resolve().parents[2] / "shared/interactions"))
CUT = "time:2022-05-01T00:00+08:00"
EVENTS = ("long_view", "click", "like")
CANDIDATES, ITEMS = 500, 200_000
_COLUMNS = {"click": "is_click", "long_view": "long_view", "like": "is_like"}


def items(folder: Path) -> Path:
    """Write the videos as a manifest."""
    import pyarrow.parquet as pq

    path = folder / "items.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for row in pq.read_table(DATA / "kuairand_pure/videos.parquet").to_pylist():
            tags = [f"tag{tag}" for tag in (row["tag"] or "").split(",") if tag]
            record = {
                "item_id": f"v{row['video_id']}",
                "kind": "video",
                "title": " ".join(["video", *tags]),
                "creator": f"a{row['author_id']}",
                "category": tags[0] if tags else None,
                "tags": tags,
                "created_at": str(row["upload_dt"]),
                "attributes": {"duration_s": row["video_duration"] / 1000} if row["video_duration"] else None,
            }
            file.write(json.dumps({name: value for name, value in record.items() if value}) + "\n")
    return path


def showings(folder: Path) -> Path:
    """Write the showings of the main feed with their outcomes."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    parts = [pq.read_table(DATA / f"kuairand_pure/{name}.parquet") for name in ("val", "test")]
    table = pa.concat_tables([part.filter(pc.equal(part["tab"], 1)) for part in parts])

    def named(letter: str, column: str) -> Any:
        return pc.binary_join_element_wise(pa.scalar(letter), table[column].cast(pa.string()), "")

    columns = {"user_id": named("u", "user_id"), "item_id": named("v", "video_id"), "timestamp": table["time_ms"]}
    columns |= {event: table[column].cast(pa.float32()) for event, column in _COLUMNS.items()}
    path = folder / "shown.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def histories(folder: Path) -> Path:
    """Write what users watched, watched long and liked until 24 April."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: dict[str, list[Any]] = {name: [] for name in ("user_id", "item_id", "timestamp", "event")}
    kinds = {"watch": "watch_seq", "long_view": "long_watch_seq", "like": "like_seq"}
    for row in pq.read_table(DATA / "kuairand_pure/user_sequences.parquet").to_pylist():
        for event, column in kinds.items():
            for place, video in enumerate(reversed(row[column])):
                found["user_id"].append(f"u{row['user_id']}")
                found["item_id"].append(f"v{video}")
                found["timestamp"].append(row["last_time_ms"] // 1000 - 60 * place)
                found["event"].append(event)
    path = folder / "events.parquet"
    pq.write_table(pa.table(found), path)
    return path


def workspace() -> Path:
    """Make the workspace; kept in the cache."""
    import coldstart

    folder = CACHE / "rank-kuairand"
    uri = folder / "workspace"
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        ingest = ["ingest", str(items(folder)), "--workspace", str(uri)]
        subprocess.run([sys.executable, "-c", "from coldstart.cli import main; main()", *ingest], check=True)
        opened = coldstart.open(str(uri))
        opened.ingest_interactions(histories(folder))
        opened.ingest_impressions(showings(folder), signals=dict.fromkeys(EVENTS, ""))
        (folder / "done").touch()
    return uri


def run(short: bool = False) -> dict[str, Any]:
    """Evaluate all methods on the judged days, by the recipe of the plain command; with the source's own figures."""
    import coldstart
    from coldstart.rank.settings import with_rank

    if not (DATA / "kuairand_pure").is_dir():
        return {}
    events = EVENTS[:1] if short else EVENTS
    opened = coldstart.open(str(workspace()))
    raw, changes = with_rank(opened.pipeline(None), events=dict.fromkeys(events, 1.0))
    smaller = ["rank.rounds=50", "rank.epochs=1"] if short else []
    started = process_time()
    known = opened.evaluate_rank(opened.pipeline(raw, overrides=[*changes, *smaller]), split=CUT).to_dict()
    source = json.loads((DATA / "kuairand_pure/source_rank_metrics.json").read_text("utf-8"))["inference"]["test"]
    return {**known, "cpu_s": process_time() - started, "source": source}


# -- requests


def _milliseconds(call: Callable[[], Any], rounds: int = 7) -> float:
    """Least processor time of some calls: others share the machine."""
    found = []
    for _ in range(rounds):
        started = process_time()
        call()
        found.append(process_time() - started)
    return 1e3 * min(found)


def _of_models(maker: Any, model: Any, candidates: Any) -> dict[str, float]:
    """Milliseconds of the features of a request, and of each model."""
    features = maker.make(candidates)
    found = {"features": _milliseconds(lambda: maker.make(candidates))}
    found["features, of these without sequences"] = _milliseconds(lambda: maker.make(candidates, sequences=False))
    for name in (*(["trees"] if model.trees else []), *model.networks):
        found[name] = _milliseconds(partial(model.logits, features, name))
    return found


def measure_requests(short: bool) -> dict[str, dict[str, float]]:
    """Measure a request: of a user of the data, and of users with long histories."""
    import numpy as np
    import torch

    import coldstart
    from coldstart.rank.data import read_data
    from coldstart.rank.features import Rows
    from coldstart.rank.fit_stage import VECTOR_DIM, kinds_of
    from coldstart.rank.model import RankModel, Recipe
    from coldstart.rank.settings import Settings

    torch.set_num_threads(1)
    found = {}
    draw = np.random.default_rng(0)

    def request(user: int, at: int, items: int) -> Rows:
        many = np.full(CANDIDATES, user, np.int64)
        return Rows(many, draw.integers(0, items, CANDIDATES), np.full(CANDIDATES, at, np.int64),
                    np.full(CANDIDATES, -1, np.int32))  # fmt: skip

    if (DATA / "kuairand_pure").is_dir():
        settings = Settings(events={"long_view": 1.0})
        data = read_data(coldstart.open(str(workspace()))._store, settings)
        past = data.rows.where(np.arange(len(data.rows)) % (20 if short else 4) == 0)
        vectors = data.vectors(int(past.times.min()), VECTOR_DIM)
        maker = data.maker(past, settings, vectors)
        features = maker.make(past)
        recipe = Recipe(models=kinds_of(settings, data), rounds=51, epochs=1, calibrated=False, all_kept=True)
        model = RankModel.fit(features, past.labels, past.times, maker.cold(past), recipe)
        users = draw.choice(np.unique(past.users), 3 if short else 12, replace=False)
        at = int(past.times.max()) + 1
        several = [_of_models(maker, model, request(int(user), at, len(data.items.ids))) for user in users]
        found["histories of KuaiRand"] = {name: float(np.median([one[name] for one in several])) for name in several[0]}
    for length in (1_000,) if short else (1_000, 10_000):
        maker, model = _fresh(length)
        found[f"a history of {length:,}"] = _of_models(maker, model, request(0, 2_000_000_000, ITEMS))
    return found


def _fresh(length: int) -> tuple[Any, Any]:
    """Build features over a long history of 200,000 items and two kinds of actions, and networks of fresh weights."""
    import numpy as np

    from coldstart.rank.features import Actions, FeatureMaker, ItemTable, Met, Rows
    from coldstart.rank.model import RankModel, Recipe, WholeHistories
    from coldstart.rank.train_network import FittedNetwork, build_network

    draw = np.random.default_rng(0)
    own = draw.integers(0, ITEMS, length).astype(np.int32)
    kinds = draw.integers(0, 2, length)
    seconds = 1_900_000_000 + 3_600 * np.arange(length)
    vectors = draw.standard_normal((ITEMS, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codes = {
        name: draw.integers(1, size, ITEMS).astype(np.int32) for name, size in (("creator", 5_000), ("category", 50))
    }
    table = ItemTable(tuple(map(str, range(ITEMS))), codes, np.zeros((ITEMS, 0), np.int32), np.zeros(ITEMS),
                      vectors=vectors)  # fmt: skip

    def latest(users: Any, before: Any, last: int) -> Actions:
        return Actions(own[None, -last:], kinds[None, -last:].astype(np.uint8), seconds[None, -last:])

    def whole(users: Any, before: Any, last: int | None) -> WholeHistories:
        start = -min(last or length, length)
        some = own[start:]
        return WholeHistories(np.array([0, len(some)]), some, (kinds[start:] + 1).astype(np.int32), seconds[start:])

    zeros = np.zeros(1_000, np.int64)
    past = Rows(zeros, draw.integers(0, ITEMS, 1_000), zeros + 1_899_000_000, np.full(1_000, -1, np.int32),
                {"click": (draw.random(1_000) < 0.5).astype(np.float32)})  # fmt: skip
    maker = FeatureMaker(
        table, past, latest, ["view", "like"], Met(own.astype(np.int64), kinds, seconds), whole=whole,
        lengths=lambda users: np.full(len(users), length), searched=True, found=True,
    )  # fmt: skip
    features = maker.make(Rows(zeros[:1], zeros[:1], zeros[:1] + 2_000_000_000, np.full(1, -1, np.int32)))
    size = features.values.shape[1]
    networks = {
        name: FittedNetwork(build_network(name, features, ("click",), Recipe()), ("click",),
                            np.zeros(size, np.float32), np.ones(size, np.float32))
        for name in ("attention", "long")
    }  # fmt: skip
    return maker, RankModel("both", ("click",), features.names, networks=networks)


def request_rows(result: dict[str, dict[str, float]]) -> list[Row]:
    """Lines of a table of what a request costs."""
    return [
        Row(f"a request: {name}", f"{CANDIDATES} candidates, {of}, one thread", f"{ms:.1f} ms", "")
        for of, own in result.items()
        for name, ms in own.items()
    ]


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    if not result:
        return [Row("ranking of showings", "no data", "not run", "set COLDSTART_INTERACTIONS")]
    found = []
    for event, own in result["events"].items():
        for name, method in own["methods"].items():
            auc, gauc, ece = (method[metric] for metric in ("auc", "gauc", "ece"))
            found.append(
                Row(
                    f"{event}: {result['titles'][name]}",
                    f"KuaiRand-Pure, {own['rows']:,} showings of 1 to 8 May, {own['users']:,} users with both",
                    f"GAUC {gauc['value']:.4f} ({gauc['low']:.4f} to {gauc['high']:.4f}), AUC {auc['value']:.4f}",
                    f"log loss {method['log_loss']['value']:.4f}, ECE {ece['value']:.4f} ({ece['low']:.4f} to "
                    f"{ece['high']:.4f})",
                    "ECE at most 0.01" if name == "both" else "",
                )
            )
        for name, one in own["compared"].items():
            text = f"{one['value']:+.4f} ({one['low']:+.4f} to {one['high']:+.4f})"
            found.append(Row(f"{event}, GAUC: {name}", "paired over users", text, ""))
    source = result["source"]
    found.append(
        Row(
            "the source repository's DIN",
            f"{source['num_candidates']:,} recalled candidates of {source['num_users']:,} users: another set",
            f"long watch AUC {source['long_watch_auc']:.4f}, like AUC {source['like_auc']:.4f}",
            f"log loss {source['long_watch_logloss']:.4f}, {source['like_logloss']:.4f}",
        )
    )
    return found


if __name__ == "__main__":
    from benchmarks.report import table

    if "requests" in sys.argv:
        print(table(request_rows(measure_requests("--short" in sys.argv))))
        sys.exit()
    measured = run("--short" in sys.argv)
    CACHE.mkdir(exist_ok=True)
    (CACHE / "rank.json").write_text(json.dumps(measured, indent=1, default=float))
    print(table(rows(measured)))
