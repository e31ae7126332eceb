"""How well the packaged safety policy tells unsafe texts from innocent ones, and how fast it reads.

The labelled texts are `tests/safety_texts.jsonl`, all by the policy's author: `before` were written before the policy,
`hard` were meant to fool it and it was mended on them, `after` were meant to fool it and it was not changed since. The
real texts are titles, overviews and captions of catalogues, taken as innocent.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.report import Row
from coldstart.understand import policy as word_policy
from coldstart.understand.safety import scores

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("COLDSTART_DATA", ROOT.parent / "shared" / "data"))
SETS = ("before", "hard", "after")
REAL = {
    "products": "fashion_products/products.jsonl",
    "captions": "flickr8k_1k/images.jsonl",
    "films": "movielens_posters/items.jsonl",
}
THRESHOLD = 0.8


def run(short: bool) -> dict[str, Any]:
    """Counts on the labelled texts, and on the real ones where they are (their first 500 in short form)."""
    policy = word_policy.load("safety")

    def closed(text: str) -> set[str]:
        found = scores(policy.find({"description": text}))
        return {rule for rule, score in found.items() if score >= THRESHOLD}

    labelled = [json.loads(line) for line in (ROOT / "tests" / "safety_texts.jsonl").read_text("utf-8").splitlines()]
    result: dict[str, Any] = {}
    for name in SETS:
        counts, by_rule = Counter[str](), Counter[str]()
        for row in labelled:
            if row["set"] == name:
                hit = bool(closed(row["text"]))
                counts[("caught" if hit else "missed") if row["rule"] else ("wrong" if hit else "left")] += 1
                by_rule[f"{row['rule']} {'caught' if hit else 'missed'}"] += bool(row["rule"])
        result[name] = {**counts, "by_rule": {key: count for key, count in sorted(by_rule.items()) if count}}
    letters, began = 0, time.process_time()
    for name, file in REAL.items():
        if (DATA / file).is_file():
            lines = (DATA / file).read_text("utf-8").splitlines()[: 500 if short else None]
            items = [json.loads(line) for line in lines]
            texts = [
                " ".join([one.get("title") or "", one.get("text") or "", *one.get("captions", ())]) for one in items
            ]
            letters += sum(map(len, texts))
            result[name] = {"texts": len(texts), "wrong": sum(bool(closed(text)) for text in texts)}
    if letters:
        result["characters_per_cpu_s"] = round(letters / (time.process_time() - began))
    return result


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    lines = []
    for name in SETS:
        found = {"wrong": 0, **result[name]}
        caught, unsafe = found["caught"], found["caught"] + found["missed"]
        setting = f"{unsafe} unsafe, {found['wrong'] + found['left']} innocent look-alikes, set `{name}`"
        figure = f"{caught} of {unsafe}, {found['wrong']} wrong"
        lines.append(Row("safety policy: unsafe texts closed at 0.8", setting, figure, ""))
    for name in REAL:
        if name in result:
            wrong, count = result[name]["wrong"], result[name]["texts"]
            lines.append(Row("safety policy: innocent items closed", f"{count} real {name}", f"{wrong}", ""))
    if "characters_per_cpu_s" in result:
        lines.append(Row("safety policy: characters a second", "one core", f"{result['characters_per_cpu_s']}", ""))
    return lines


if __name__ == "__main__":
    print(json.dumps(run(short="--short" in sys.argv[1:]), indent=2))
