"""Descriptions of fashion products by the packaged pipeline `product`, on products that no fit has seen.

    python -m benchmarks.describe_fashion [--short]

Needs the real data (`COLDSTART_DATA`, default `../shared/data`) and the starter models. A manifest is made of the 4,183
products: title, brand (the title's words before the one that says for whom), article type, gender, colour and usage.
`coldstart run product` describes them with the settings as they are packaged, one command a step, one thread, and
`evaluate_describe` compares what is written of the held-out tenth (groups of title or nearly one picture) with its
records. Views: photo and brand, the photo alone, all fields but the record's attributes and category, and photo and
brand where whole brands are held out (`describe.grounds.sellers: apart`). The workspace is kept under `.bench/` and
made anew by each full run. `--short` takes 600 products.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import coldstart
from benchmarks.report import CACHE, Row

DATA = Path(os.environ.get("COLDSTART_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
STEPS = {
    "vectors": ["ingest", "image", "colours", "text"],
    "fit": ["describe.grounds"],
    "writing": ["describe.attributes", "describe.write", "describe.check"],
}
"""Steps that are measured, and their stages."""
VIEWS: dict[str, list[str]] = {
    "photo and brand": ["creator", "picture"],
    "photo alone": ["picture"],
    "photo, brand and title": ["creator", "picture", "title"],
}
APART = "photo and brand, whole brands held out"
GOALS = {"type": "at least 0.88", "colour": "at least 0.62", "audience": "at least 0.90"}
ATTRIBUTES = {"type": "category", "colour": "colour", "audience": "gender", "use": "usage"}
_FOR_WHOM = frozenset(
    ("men", "men's", "women", "women's", "boys", "boy's", "girls", "girl's", "kids", "kid's", "unisex")
)


def brand(title: str) -> str:
    """The words of a title before the one that says for whom; its first word where none does."""
    words = title.split()
    place = next((place for place, word in enumerate(words) if word.lower() in _FOR_WHOM), 1)
    return " ".join(words[: max(place, 1)])


def write_manifest(path: Path, count: int | None) -> None:
    """Write the products as a manifest; `count`: so many of them, evenly."""
    folder = DATA / "fashion_products"
    lines = [json.loads(line) for line in (folder / "products.jsonl").read_text("utf-8").splitlines()]
    chosen = lines if count is None else lines[:: max(1, len(lines) // count)][:count]
    with path.open("w", encoding="utf-8") as out:
        for line in chosen:
            stated = {"audience": line["gender"], "colour": line["colour"], "use": line["usage"]}
            row = {
                "item_id": line["id"],
                "title": line["title"],
                "category": line["article_type"],
                "creator": brand(line["title"]) or None,
                "attributes": {name: value for name, value in stated.items() if value},
                "image": str(folder / line["file"]),
            }
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def workspace(short: bool) -> Path:
    """Folder of the workspace."""
    return CACHE / f"describe_fashion{'-short' if short else ''}" / "fashion.workspace"


def prepared(short: bool) -> tuple[Path, dict[str, dict[str, float]]]:
    """Run the pipeline where that is not done yet; return the workspace, and seconds and memory of each step."""
    uri = workspace(short)
    report = uri.parent / "steps.json"
    if not report.exists():
        shutil.rmtree(uri.parent, ignore_errors=True)
        uri.parent.mkdir(parents=True)
        write_manifest(uri.parent / "items.jsonl", 600 if short else None)
        report.write_text(json.dumps({name: _step(uri, stages) for name, stages in STEPS.items()}))
    return uri, json.loads(report.read_text())


def _step(uri: Path, stages: Sequence[str], *settings: str) -> dict[str, float]:
    """Run some stages in a process of one thread; return its processor seconds and largest memory."""
    command = [sys.executable, "-c", "from coldstart.cli import main; main()", "run", "product", "-w", str(uri)]
    command += ["-m", str(uri.parent / "items.jsonl"), "--media-root", str(DATA)]
    command += [word for stage in stages for word in ("--only", stage)]
    command += [word for setting in settings for word in ("--set", setting)]
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    process = subprocess.Popen(command, env={**os.environ, **one}, stdout=sys.stderr)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with {status}")
    return {"cpu_s": used.ru_utime + used.ru_stime, "peak_gb": used.ru_maxrss * 1024 / 1e9}


def evaluated(uri: Path, given: Sequence[str]) -> dict[str, Any]:
    """Evaluate in a view; what the rows of the page need."""
    found = coldstart.open(uri).evaluate_describe(given=given).to_dict()
    (writer,) = found["measures"]
    own = found["measures"][writer]
    return {
        "items": found["counts"]["items"],
        "groups": found["counts"]["groups"],
        "caveat": found["caveat"],
        "texts": found["texts"][writer],
        "true_cut": own["true_cut"],
        "wrong": {stage: own[stage]["wrong"] for stage in ("written", "checked")},
        "reads": own["checked"]["reads"],
        "attributes": {stage: own[stage]["attributes"] for stage in ("written", "checked")},
        "gain": found["gain"]["text_to_item"],
    }


def run(short: bool) -> dict[str, Any]:
    """What is stated, right and wrong in each view, and what fit and writing take."""
    if not short:
        shutil.rmtree(workspace(short).parent, ignore_errors=True)
    uri, steps = prepared(short)
    views = {name: evaluated(uri, given) for name, given in VIEWS.items()}
    apart = uri.parent / "apart.workspace"
    shutil.copytree(uri, apart, dirs_exist_ok=True)
    _step(apart, STEPS["fit"], "describe.grounds.sellers=apart")
    views[APART] = evaluated(apart, VIEWS["photo and brand"])
    shutil.rmtree(apart)
    return {"products": len((uri.parent / "items.jsonl").read_text().splitlines()), "steps": steps, "views": views}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    lines = [line for name, found in result["views"].items() for line in _view_rows(name, found)]
    for name, used in result["steps"].items():
        setting = f"{result['products']} products, one thread"
        lines.append(Row(f"{name}: processor seconds", setting, f"{used['cpu_s']:.0f}", f"{used['peak_gb']:.1f} GB"))
    return lines


def _view_rows(name: str, found: Mapping[str, Any]) -> list[Row]:
    setting = f"{found['items']} unseen products of {found['groups']} groups, {name}"
    is_main = name == "photo and brand"
    lines = []
    for attribute in ATTRIBUTES:
        after = found["attributes"]["checked"][attribute]
        goal = GOALS.get(attribute, "") if is_main else ""
        for measure, label in (("recall", "stated and right"), ("accuracy", "right of stated"), ("stated", "stated")):
            lines.append(_row(f"{attribute}, {label}", setting, after[measure], goal if measure == "recall" else ""))
    lines.append(_row("wrong claims, as written", setting, found["wrong"]["written"]))
    lines.append(_row("wrong claims, after the checks", setting, found["wrong"]["checked"], "at most 0.05" * is_main))
    lines.append(_row("true claims cut by the checks", setting, found["true_cut"], "at most 0.05" * is_main))
    if is_main:
        lines.append(_row("summaries that read as sentences", setting, found["reads"]))
    return lines


def _row(claim: str, setting: str, found: Mapping[str, float] | None, goal: str = "") -> Row:
    if found is None:
        return Row(claim, setting, "nothing stated", "", goal)
    return Row(claim, setting, f"{found['value']:.3f}", f"{found['low']:.3f} to {found['high']:.3f}", goal)


if __name__ == "__main__":
    print(json.dumps(run("--short" in sys.argv), indent=2))
