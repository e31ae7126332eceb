"""How well the packaged safety policy tells unsafe texts from innocent ones, and how fast it reads.

The labelled texts are `tests/support/safety_texts.jsonl`, all by the policy's author: `before` were written before the
policy, `hard` were meant to fool it and it was mended on them, `after` were meant to fool it and it was not changed
since. The real texts are titles, overviews and captions of catalogues, taken as innocent.

Pictures: false alarms of open_nsfw on pictures that are taken as harmless, by the count of `coldstart evaluate safety`
(the posters of films are not all harmless). Its recall is not measured: no unsafe picture is at hand.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.report import CACHE, Row
from coldstart.core.keys import digest
from coldstart.errors import MissingModel
from coldstart.media.image import load_image
from coldstart.media.limits import Limits
from coldstart.understand import nsfw
from coldstart.understand import policy as word_policy
from coldstart.understand.safety import scores
from coldstart.understand.safety_evaluation import closed_share

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("COLDSTART_DATA", ROOT.parent / "shared" / "data"))
SETS = ("before", "hard", "after")
REAL = {
    "products": "fashion_products/products.jsonl",
    "captions": "flickr8k_1k/images.jsonl",
    "films": "movielens_posters/items.jsonl",
}
THRESHOLD = 0.8
PICTURES = {
    "products of fashion": "fashion_products/images",
    "pieces of clothing": "clothing/images",
    "groceries": "grocery",
    "photos of people and animals": "flickr8k_1k/images",
    "film posters": "movielens_posters/posters",
}
SHORT, BLOCK = 100, 64


def run(short: bool) -> dict[str, Any]:
    """Counts on the labelled texts, and on the real ones where they are (their first 500 in short form)."""
    policy = word_policy.load("safety")

    def closed(text: str) -> set[str]:
        found = scores(policy.find({"description": text}))
        return {rule for rule, score in found.items() if score >= THRESHOLD}

    labelled = [
        json.loads(line) for line in (ROOT / "tests" / "support" / "safety_texts.jsonl").read_text("utf-8").splitlines()
    ]
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
    return result | {"pictures": _pictures(policy, short)}


def _pictures(policy: word_policy.WordPolicy, short: bool) -> dict[str, Any]:
    """Harmless pictures that the classifier closes at the threshold of the policy, by set; empty without the model."""
    ((_, rule),) = policy.classifiers
    try:
        classifier = nsfw.OpenNsfw(nsfw.find_weights(), "cpu")
    except MissingModel:
        return {}
    found: dict[str, Any] = {}
    for name, folder in PICTURES.items():
        paths = sorted(path for end in ("jpg", "png") for path in (DATA / folder).rglob(f"*.{end}"))
        paths = paths[:: max(1, len(paths) // SHORT)] if short else paths
        if not paths:
            continue
        known = _scored(classifier, paths)
        closed = {path for path, score in known.items() if score >= rule.threshold}
        half = {path for path, score in known.items() if score >= 0.5}
        found[name] = {
            "at": rule.threshold,
            **closed_share(closed, known).to_dict(),
            "half": closed_share(half, known).to_dict(),
        }
    return found


def _scored(classifier: nsfw.OpenNsfw, paths: list[Path]) -> dict[str, float]:
    """Score of each picture; scores are kept in `.bench`, so that a run that was stopped goes on."""
    kept = CACHE / f"safety-pictures-{digest(classifier.identity())[:12]}.jsonl"
    known = dict(map(json.loads, kept.read_text("utf-8").splitlines())) if kept.is_file() else {}
    names = {str(path.relative_to(DATA)): path for path in paths}
    wanted = [name for name in names if name not in known]
    for start in range(0, len(wanted), BLOCK):
        some = wanted[start : start + BLOCK]
        images = [load_image(names[name], Limits(roots=(str(DATA),)), nsfw.TRANSFORM) for name in some]
        scored = dict(zip(some, classifier.scores(images), strict=True))
        known |= scored
        with kept.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps([name, score]) + "\n" for name, score in scored.items())
    return {name: known[name] for name in names}


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
    for name, one in result.get("pictures", {}).items():
        for share, at in ((one, one["at"]), (one["half"], 0.5)):
            setting = f"{share['n']} {name}, taken as harmless, at {at:g}"
            spread = f"{100 * share['low']:.2f} to {100 * share['high']:.2f} %"
            figure = f"{share['closed']} ({100 * share['value']:.2f} %)"
            lines.append(Row("safety of pictures: false alarms; recall not measured", setting, figure, spread))
    if "characters_per_cpu_s" in result:
        lines.append(Row("safety policy: characters a second", "one core", f"{result['characters_per_cpu_s']}", ""))
    return lines


if __name__ == "__main__":
    print(json.dumps(run(short="--short" in sys.argv[1:]), indent=2))
