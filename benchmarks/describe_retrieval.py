"""Whether written descriptions help new items to be found, on fashion photos.

    python -m benchmarks.describe_retrieval

Needs the real data (`COLDSTART_DATA`, default `../shared/data`) and the starter models; texts are encoded by MiniLM.

Fashion: the products that `benchmarks.align_fashion` holds out; given are the photo and the brand (the title's words
before the one that says for whom). The real title asks, among all held-out products, and products of one title are
right. What was written stands in `.bench/describe_fashion.jsonl`, a line `{"writer", "item_id", "text"}` each, as
`benchmarks.describe_fashion` leaves it: JSON of a description, or a plain line, neither checked. Without that file
there are the bounds alone: the brand, and what the record states as a sentence.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.align_fashion import HELD_OUT, NEAR, held_out, pictures, products
from benchmarks.describe_fashion import WRITTEN
from benchmarks.report import Row
from coldstart import encoders
from coldstart.core import prompts
from coldstart.core.description import Description, parse, sentence
from coldstart.describe.evaluate.retrieval_gain import Gallery, retrieval_gain
from coldstart.metrics.splits import group_items, near_pairs

DATA = Path(os.environ.get("COLDSTART_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
_FOR_WHOM = frozenset(
    ("men", "men's", "women", "women's", "boys", "boy's", "girls", "girl's", "kids", "kid's", "unisex")
)
_FIELDS = {"type": "article_type", "colour": "colour", "audience": "gender", "use": "usage"}


def brand(title: str) -> str:
    """The words of a title before the one that says for whom; its first word where none does."""
    words = title.split()
    place = next((place for place, word in enumerate(words) if word.lower() in _FOR_WHOM), 1)
    return " ".join(words[: max(place, 1)])


def text_of(written: str) -> str:
    """A description's JSON as the text that an index would hold; a plain line as it is."""
    output = ("attributes", "summary")
    try:
        found = parse(written, output)
    except ValueError:
        return written if not written.lstrip().startswith("{") else ""
    return described(found)


def described(found: Description) -> str:
    values: Mapping[str, Any] = {"summary": found.summary, "attributes": list(found.attributes.values())}
    return prompts.load("described").render({**values, "keywords": [], "queries": []})


def fashion() -> dict[str, Any]:
    """Recall of the real title over the held-out products, by what is indexed of them."""
    lines = products()
    encoder = encoders.load("starter")
    seen = pictures(encoder, [DATA / "fashion_products" / line["file"] for line in lines])
    names = [" ".join(line["title"].lower().split()) for line in lines]
    groups = group_items([[name] for name in names], near_pairs(seen, NEAR))
    places = held_out(groups, [line["id"] for line in lines], HELD_OUT)
    test = [lines[place] for place in places]
    truth = [{name: line[field] for name, field in _FIELDS.items() if line[field]} for line in test]
    alone = {**written([line["id"] for line in test]), "truth": [described(Description(sentence(t), t)) for t in truth]}
    given = [brand(line["title"]) for line in test]
    both = {
        f"given + {name}": [f"{mark}\n{text}" for mark, text in zip(given, own, strict=True)]
        for name, own in alone.items()
    }
    gallery = Gallery(
        texts={"given": given, **alone, **both},
        queries=[line["title"] for line in test],
        likeness=[tuple(one.items()) for one in truth],
        groups=groups[places].tolist(),
        asking=[True] * len(test),
    )
    pairs = [("given", name) for name in both] + _pairs(list(alone), "") + _pairs(list(alone), "given + ")
    found = retrieval_gain(gallery, pairs, encoder.encode_documents, encoder.encode_queries)
    return {"items": len(test), "writers": list(alone)[:-1], **found}


def _pairs(names: Sequence[str], mark: str) -> list[tuple[str, str]]:
    return [(mark + before, mark + after) for before, after in itertools.pairwise(names)]


def written(items: Sequence[str]) -> dict[str, list[str]]:
    """Writer -> text of each item, in the order in which the file names writers; none where there is no file.

    Raises:
        ValueError: a writer has not written of every item.
    """
    found: dict[str, dict[str, str]] = {}
    if WRITTEN.exists():
        for line in WRITTEN.read_text("utf-8").splitlines():
            row = json.loads(line)
            found.setdefault(row["writer"], {})[row["item_id"]] = row["text"]
    for writer, texts in found.items():
        if missing := [item for item in items if item not in texts]:
            raise ValueError(f"{WRITTEN}: {writer} has not written of {len(missing)} items, {missing[0]} the first")
    return {writer: [text_of(texts[item]) for item in items] for writer, texts in found.items()}


def run(short: bool) -> dict[str, Any]:
    """Recall by what is indexed; short and full are the same."""
    torch.set_num_threads(2)
    return {"load": os.getloadavg()[0], "fashion": fashion()}


def rows(result: dict[str, Any]) -> list[Row]:
    """The claim's lines in the table."""
    return lines_of(f"{result['fashion']['items']} fashion products by title, given the brand", result["fashion"])


def lines_of(setting: str, found: Mapping[str, Any]) -> list[Row]:
    asked = found["text_to_item"]
    lines = [
        Row(
            f"text to item, R@{k}, indexed: {name}", setting, _value(of[f"recall_at_{k}"]), _range(of[f"recall_at_{k}"])
        )
        for name, of in asked["contenders"].items()
        for k in (1, 10)
    ]
    lines += [
        Row(
            f"text to item, R@10, {one['before']} to {one['after']}",
            setting,
            f"{one['recall_at_10']['value']:+.3f}",
            _range(one["recall_at_10"]),
        )
        for one in asked["differences"]
        if one["before"] == "given"
    ]
    return lines


def _value(found: Mapping[str, float]) -> str:
    return f"{found['value']:.3f}"


def _range(found: Mapping[str, float]) -> str:
    return f"{found['low']:.3f} to {found['high']:.3f}"


if __name__ == "__main__":
    print(json.dumps(run(False), indent=2))
