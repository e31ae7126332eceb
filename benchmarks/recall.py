"""Recall of the next item on Amazon Scientific and Beauty: the sequence model by its heads, beside baselines.

    python -m benchmarks.recall [--short] [scientific|beauty] [last-out|cold:0.1] [METHODS|all] [seeds=N] [users=N]

Data in `COLDSTART_INTERACTIONS` (default `../shared/interactions`), texts by the starter encoder. Every fit reads the
histories without each user's last item, the one before it too, which published rows keep for validation alone: our fits
choose their epochs on it, and go on with it. All items are ranked but those of the history. Short: the first 1,500
users of Scientific, methods without training. `seeds`: fits of each trained method, averaged by user; `users`: judge so
many, drawn by a hash of their ids.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import CACHE, Row

DATA = Path(os.environ.get("COLDSTART_INTERACTIONS", Path(__file__).resolve().parents[2] / "shared/interactions"))
SETS = {"scientific": ("amazon_scientific", "Scientific"), "beauty": ("amazon_beauty", "Beauty")}
SPLITS = ("last-out", "cold:0.1")
UNTRAINED = ["popularity", "content", "itemknn", "ease"]


def texts_of(name: str) -> dict[str, dict[str, Any]]:
    """Item -> its record."""
    folder, stem = SETS[name]
    if name == "beauty":  # full titles are not public in this cut; three to seven words of the item's text
        lines = (DATA / folder / "items.jsonl").read_text("utf-8").splitlines()
        return {str(row["item"]): {"title": row["words"] or None} for row in map(json.loads, lines)}
    read = json.loads((DATA / folder / f"{stem}.item.json").read_text("utf-8"))
    return {
        item: {
            "title": row.get("title") or None,
            "description": row.get("description") or None,
            "category": " > ".join(part.strip() for part in str(row.get("categories") or "").split(",") if part.strip())
            or None,
            "creator": row.get("brand") or None,
        }
        for item, row in read.items()
    }


def workspace(name: str, users: int | None) -> Path:
    """Make a workspace with texts and all interactions, the place in a history as its time; kept in the cache."""
    import coldstart

    folder = CACHE / f"recall-{name}{'' if users is None else f'-{users}'}"
    if (folder / "done").exists():
        return folder / "workspace"
    folder.mkdir(parents=True, exist_ok=True)
    manifest, events = folder / "items.jsonl", folder / "events.csv"
    records = texts_of(name)
    manifest.write_text(
        "".join(json.dumps({"item_id": f"i{item}", **row}) + "\n" for item, row in records.items()), "utf-8"
    )
    own, stem = SETS[name]
    histories = json.loads((DATA / own / f"{stem}.inter.json").read_text("utf-8"))
    rows = ["user_id,item_id,timestamp"]
    for user, history in list(histories.items())[:users]:
        rows += [f"u{user},i{item},{1_500_000_000 + place}" for place, item in enumerate(history)]
    events.write_text("\n".join(rows) + "\n", "utf-8")
    opened = coldstart.open(folder / "workspace", create=True)
    settings: dict[str, Any] = {
        "manifest": str(manifest),
        "stages": {"ingest": {}, "text": {"stage": "embed", "encoder": "starter", "input": "text"}, "index": {}},
    }
    opened.run(settings)
    opened.ingest_interactions(events)
    (folder / "done").touch()
    return folder / "workspace"


def measure(
    name: str, split: str, methods: list[str] | None, users: int | None = None, **options: int
) -> dict[str, Any]:
    """Evaluate one set by one split; `options`: of `Workspace.evaluate_recall`."""
    import coldstart

    opened = coldstart.open(workspace(name, users))
    return opened.evaluate_recall(split=split, methods=methods, **options).to_dict()


def run(short: bool) -> dict[str, Any]:
    """Evaluate both sets by both splits."""
    if not (DATA / SETS["scientific"][0]).is_dir():
        return {}
    if short:
        return {"scientific, last-out": measure("scientific", "last-out", UNTRAINED, 1500)}
    return {f"{name}, {split}": measure(name, split, None) for name in SETS for split in SPLITS}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    if not result:
        return [Row("recall of the next item", "no data", "not run", "set COLDSTART_INTERACTIONS")]
    found = []
    for name, known in result.items():
        for method in known["methods"].values():
            for group in ("warm", "new", "new_among_new"):
                own = method["sets"][group]
                if own is None:
                    continue
                recall, ndcg = own["recall@10"], own["ndcg@10"]
                found.append(
                    Row(
                        f"recall of the next item, {name}: {method['title']}",
                        f"{known['sets'][group]}, {own['n']:,} users",
                        f"recall@10 {recall['value']:.4f} ({recall['low']:.4f} to {recall['high']:.4f})",
                        f"NDCG@10 {ndcg['value']:.4f} ({ndcg['low']:.4f} to {ndcg['high']:.4f})",
                    )
                )
    return found


if __name__ == "__main__":
    from benchmarks.report import table

    given = [word for word in sys.argv[1:] if word != "--short" and "=" not in word]
    if given:
        wanted = given[2].split(",") if len(given) > 2 and given[2] != "all" else None
        numbers = {name: int(value) for name, value in (word.split("=") for word in sys.argv[1:] if "=" in word)}
        measured = {f"{given[0]}, {given[1]}": measure(given[0], given[1], wanted, **numbers)}
    else:
        measured = run("--short" in sys.argv)
    CACHE.mkdir(exist_ok=True)
    (CACHE / "recall.json").write_text(json.dumps(measured, indent=1, default=float))
    print(table(rows(measured)))
