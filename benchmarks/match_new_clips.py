"""Products in clips that were made anew, of photos that no video of the sample shows: the default against each space.

    python -m benchmarks [--full] match_new_clips

Needs the real data (`COLDSTART_DATA`, default `../shared/data`) and the starter models. 12 clips show 30 products of
the grocery set, the 15 that the starter's heads never saw among them, by photos of its test split; 12 more show 24 of
800 fashion products by their one photo, cut out, turned and laid on another (see `benchmarks/new_clips.py`). Titles are
of the kind that creators write; every third clip names its products on screen, every third says other words there.
Settings of matching were chosen on the sample and on the clips of `chosen_on`, whose photos, titles and products'
company are others; the clips of `told` were looked at once. The short form takes the fashion clips alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.new_clips import CHATTER, TITLES, Clip, plan_clips, write_clip
from benchmarks.report import CACHE, Row
from coldstart import api, sample
from coldstart.core import pipeline as pipelines
from coldstart.search.evaluate_match import DEFAULT, compare_spaces
from coldstart.search.match_service import Matcher, gather_pairs
from coldstart.store import Store
from tools.starter_clip.data import held_out

DATA = Path(os.environ.get("COLDSTART_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
FASHION = 800
SETS = {
    "grocery": "12 clips of 30 grocery products, among 65, beside the sample's videos",
    "fashion": "12 clips of 24 fashion products, among 800",
}


def run(short: bool, which: str = "told") -> dict[str, Any]:
    """Compare the default with each space; in short form on fashion alone.

    Args:
        which: `told`, or `chosen on` for the clips that settings were chosen on.
    """
    results = {name: _measure(name, which) for name in (["fashion"] if short else SETS)}
    return {"results": results}


def _measure(name: str, which: str) -> dict[str, Any]:
    folder = CACHE / f"new_clips-{name}-{which.replace(' ', '_')}"
    folder.mkdir(parents=True, exist_ok=True)
    clips, backdrop = (_grocery if name == "grocery" else _fashion)(which)
    entries = []
    for clip in clips:
        path = folder / f"{clip.item_id}.mp4"
        if not path.exists():
            write_clip(path, clip, backdrop=backdrop)
        entries.append({"item_id": clip.item_id, "kind": "video", "title": clip.title, "video": str(path)})
    manifest = folder / "items.jsonl"
    products = _sample_items() if name == "grocery" else _fashion_items()
    manifest.write_text("".join(f"{json.dumps(entry)}\n" for entry in [*products, *entries]), "utf-8")
    workspace = api.open(folder / "clips.workspace", create=True)
    raw = pipelines.load("demo" if name == "grocery" else "starter").raw
    stages = {name: own for name, own in raw["stages"].items() if name not in ("finetune", "describe", "described")}
    media = {**raw.get("media", {}), "roots": [str(DATA), str(sample.path())]}
    workspace.run({**raw, "stages": stages, "manifest": str(manifest), "media": media})
    matcher = Matcher(Store(workspace.uri), workspace.pipeline, workspace.published, workspace.encoder_for)
    builder = matcher.query_builder()
    pairs = {clip.item_id: frozenset(clip.product_ids) for clip in clips}
    return compare_spaces(gather_pairs(builder, matcher.calibration(builder), pairs))


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _by_digest(ids: Iterable[str], salt: str = "") -> list[str]:
    return sorted(ids, key=lambda name: hashlib.sha256((salt + name).encode()).hexdigest())


def _photos(splits: Sequence[str]) -> dict[str, list[Path]]:
    """Photos of each grocery product that no video of the sample shows."""
    shown = {shot["photo"] for row in _rows(Path(sample.path()) / "truth.jsonl") for shot in row["shots"]}
    found: dict[str, list[Path]] = {}
    for row in _rows(DATA / "grocery/images.jsonl"):
        if row["split"] in splits and row["source_path"] not in shown:
            found.setdefault(row["product_id"], []).append(DATA / "grocery" / row["file"])
    return found


def _grocery(which: str) -> tuple[list[Clip], list[Path]]:
    names = {row["id"]: row["title"] for row in _rows(DATA / "grocery/products.jsonl")}
    new = held_out(names)
    if which == "told":
        products, photos = [*sorted(new), *_by_digest(set(names) - new, "told")[:15]], _photos(["test"])
    else:
        products, photos = sorted(names), _photos(["train", "val"])
    seed = 1 if which == "told" else 2
    prefix = "new" if which == "told" else "dev"
    return plan_clips(prefix, TITLES[which], CHATTER[which], products, names, photos, seed=seed), []


def _fashion(which: str) -> tuple[list[Clip], list[Path]]:
    rows = {row["id"]: row for row in _rows(DATA / "fashion_products/products.jsonl")}
    order = _by_digest(rows)
    products = order[:24] if which == "told" else order[24:72]
    names = {item: row["title"] for item, row in rows.items()}
    photos = {item: [DATA / "fashion_products" / row["file"]] for item, row in rows.items()}
    seed, prefix = (3, "fnew") if which == "told" else (4, "fdev")
    clips = plan_clips(prefix, TITLES[which], CHATTER[which], products, names, photos, each=(2,), seed=seed)
    tables = sorted(path for own in _photos(["train"]).values() for path in own)[::40]
    return clips, tables


def _sample_items() -> list[dict[str, Any]]:
    folder = Path(sample.path())
    entries = _rows(folder / "manifest.jsonl")
    for entry in entries:
        entry["media"] = [{**one, "uri": str(folder / one["uri"])} for one in entry["media"]]
    return entries


def _fashion_items() -> list[dict[str, Any]]:
    rows = {row["id"]: row for row in _rows(DATA / "fashion_products/products.jsonl")}
    return [
        {
            "item_id": item,
            "kind": "product",
            "title": rows[item]["title"],
            "category": rows[item]["article_type"],
            "image": str(DATA / "fashion_products" / rows[item]["file"]),
        }
        for item in _by_digest(rows)[:FASHION]
    ]


def rows(result: dict[str, Any]) -> list[Row]:
    found = []
    for name, one in result["results"].items():
        for ranking in one["rankings"]:
            first, five = ranking["recall_1"], ranking["recall_5"]
            how = "by default" if ranking["name"] == DEFAULT else f"by the space {ranking['name']} alone"
            found.append(
                Row(
                    f"products in new clips {how}",
                    SETS[name],
                    f"recall@5 {five['value']:.3f}",
                    f"{five['low']:.3f} to {five['high']:.3f}; recall@1 {first['value']:.3f} "
                    f"({first['low']:.3f} to {first['high']:.3f})",
                )
            )
        gain = one["difference"]
        found.append(
            Row(
                f"the same, default less the best space ({one['baseline']})",
                SETS[name],
                f"{gain['value']:+.3f}",
                f"{gain['low']:+.3f} to {gain['high']:+.3f}, recall@5",
                "≥ 0",
            )
        )
    return found
