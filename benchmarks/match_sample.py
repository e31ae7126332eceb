"""Do words help pictures? Products shown in the sample videos, found by frames, by words, and by both.

Recall is found over shown, meaned over the 28 videos that show products, with 95 % bootstrap intervals over videos.
Fitted weights are fitted on the other 27 videos each time, never on the video that they rank. Captions and speech of
the sample often name the product, so titles alone are told apart from titles with what was heard and read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import CACHE, Row
from coldstart import api, sample
from coldstart.core import pipeline as pipelines
from coldstart.search import match_service
from coldstart.search.channel_weights import default_weights
from coldstart.search.fusion import KnownVideo, RetrievalScores, Weights, evaluate_weights, search_weights
from coldstart.search.match_service import Matcher
from coldstart.search.queries import read_pairs
from coldstart.store import Store

SPACES = {
    "title": {"encoder": "starter", "input": "text", "prompt": "title"},
    "clip": {"encoder": "starter-clip", "input": "image", "over": "image"},
    "clip_title": {"encoder": "starter-clip", "input": "text", "over": "title"},
    "clip_text": {"encoder": "starter-clip", "input": "text", "over": "text"},
}
"""Besides `image` and `text` of the demo's pipeline, of which `text` reads speech and text on screen as well."""

STARTER, CLIP = ("image→image",), ("clip→clip",)
TITLE, HEARD = ("title→title",), ("text→text", "text lines→text")
CLIP_TITLE = (*CLIP, "clip→clip_title", "clip_title→clip", "clip_title→clip_title")
CLIP_HEARD = (
    *CLIP, "clip→clip_text", "clip_text→clip", "clip_text lines→clip", "clip_text→clip_text",
    "clip_text lines→clip_text",
)  # fmt: skip
CONTENDERS: dict[str, tuple[str, ...]] = {
    "the default of the demo's spaces": (*STARTER, *CLIP, *HEARD),
    "frames": STARTER,
    "title": TITLE,
    "all words": HEARD,
    "frames and title": STARTER + TITLE,
    "frames and all words": STARTER + HEARD,
    "starter-clip: frames to pictures": CLIP,
    "starter-clip: frames to titles": ("clip→clip_title",),
    "starter-clip: frames to all words": ("clip→clip_text",),
    "starter-clip: title to pictures": ("clip_title→clip",),
    "starter-clip: frames to pictures and titles": (*CLIP, "clip→clip_title"),
    "starter-clip: frames and title, all four ways": CLIP_TITLE,
    "starter-clip: frames and all words, all ways": CLIP_HEARD,
    "starter and starter-clip: frames to pictures and titles": (*STARTER, *CLIP, "clip→clip_title"),
    "starter and starter-clip: frames and title": STARTER + TITLE + CLIP_TITLE,
    "starter and starter-clip: frames and all words": STARTER + HEARD + CLIP_HEARD,
}
"""What is compared -> its channels."""


def run(short: bool) -> dict[str, Any]:
    """The sample is small: the short form is the full one."""
    workspace = api.open(CACHE / "match_sample.workspace", create=True)
    demo = pipelines.load("demo").raw
    stages = {name: own for name, own in demo["stages"].items() if name not in ("finetune", "describe", "described")}
    workspace.run({**demo, "stages": stages}, spaces=SPACES)
    pairs = read_pairs(Path(sample.path()) / "truth.jsonl")
    matcher = Matcher(Store(workspace.uri), workspace.pipeline, workspace.published, workspace.encoder_for)
    builder = matcher.query_builder()
    gathered = match_service.gather_pairs(builder, matcher.calibration(builder), pairs)
    names = [channel.name for channel in gathered.channels]
    results = []
    for name, wanted in CONTENDERS.items():
        rows = [names.index(channel) for channel in wanted]
        channels = [gathered.channels[row] for row in rows]
        known = [
            KnownVideo(one.group, [one.votes[row] for row in rows], one.right, one.shown) for one in gathered.known
        ]
        default = default_weights(channels, gathered.calibration)
        results.append(
            {
                "name": name,
                "channels": len(rows),
                "default": evaluate_weights(known, default).summary(),
            }
        )
        if len(rows) > 1:
            found, weights = left_one_out(known, default)
            results[-1] |= {"fitted": found.summary(), "weights": dict(zip(wanted, weights, strict=True))}
    return {"results": results, "products": matcher.published().count("kind = 'product'")}


def left_one_out(known: list[KnownVideo], default: Weights) -> tuple[RetrievalScores, list[float]]:
    """Every video ranked by weights that were fitted on the others, and the mean of those weights."""
    rows = np.array([search_weights([*known[:place], *known[place + 1 :]], default) for place in range(len(known))])
    return evaluate_weights(known, rows), [round(float(weight), 2) for weight in rows.mean(0)]


def rows(result: dict[str, Any]) -> list[Row]:
    found = []
    for one in result["results"]:
        for weights in ("default", "fitted"):
            if weights in one:
                own = one[weights]
                setting = f"{own['shown']} shown in {own['videos']} videos, among {result['products']}"
                how = "" if one["channels"] == 1 else f", {weights} weights"
                five, first = own["recall_5"], own["recall_1"]
                found.append(
                    Row(
                        f"products in a video by {one['name']}{how}",
                        setting,
                        f"{own['found_5']} among the first 5, {own['found_1']} first",
                        f"recall@5 {five['value']:.3f} ({five['low']:.3f} to {five['high']:.3f}), "
                        f"recall@1 {first['value']:.3f} ({first['low']:.3f} to {first['high']:.3f})",
                    )
                )
    return found
