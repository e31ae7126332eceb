"""Ranking of showings on KuaiRand-Pure, through the product: ingest, then `evaluate rank`.

    python -m benchmarks.rank [--short]

Data in `COLDSTART_INTERACTIONS` (default `../shared/interactions`): showings of the main feed (tab 1), fitted on those
of 25 to 30 April 2022, judged from 1 May on, in the log's zone; histories end on 24 April. There are no times within
histories: actions stand a minute apart, the latest at the user's last time. Items have creator, tags, duration and
upload date, and a title made of the tags, since an item without any content is no item. Short: long_view alone, smaller
fits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.report import CACHE, Row

DATA = Path(os.environ.get("COLDSTART_INTERACTIONS", Path(__file__).resolve().parents[2] / "shared/interactions"))
CUT = "time:2022-05-01T00:00+08:00"
EVENTS = ("long_view", "click", "like")
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

    measured = run("--short" in sys.argv)
    CACHE.mkdir(exist_ok=True)
    (CACHE / "rank.json").write_text(json.dumps(measured, indent=1, default=float))
    print(table(rows(measured)))
