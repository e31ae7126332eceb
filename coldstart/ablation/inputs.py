"""Read from a workspace the texts of items at each step, and the recorded costs of stages.

A text encoder reads one text an item, longer from step to step. Category, tags and attributes are in none of them: they
are labels, which a step may have beside its texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.ablation.report import Cost
from coldstart.core import prompts
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.core.stage import is_map
from coldstart.embed.spaces import TextCache, drop_tables
from coldstart.store import RUNS, Store
from coldstart.store.freshness import PipelineState

if TYPE_CHECKING:
    from coldstart.encoders import Encoder

Parts = Mapping[str, str]
"""Texts of one item by name: `title`, `base` or `adapter`, `description`, `transcript`, `screen_text`."""
ORDER = ("title", "base", "adapter", "description", "transcript", "screen_text")
"""Order of the texts, short and certain ones first, since an encoder cuts the end of a long text."""
PREFIX = "evaluate.stages.text-"
_PROBE = 64
_FINETUNE, _GROUNDS, _WRITE, _CHECK = "finetune.describe", "describe.grounds", "describe.write", "describe.check"
_UNKNOWN = "no run of it is recorded"


def join_parts(parts: Parts, chosen: Sequence[str]) -> str:
    """Join the chosen texts, a line each, without blank ones."""
    found = (" ".join(parts.get(name, "").split()) for name in ORDER if name in chosen)
    return "\n".join(text for text in found if text)


def text_parts(row: Mapping[str, Any]) -> dict[str, str]:
    """Collect the texts of an item's row, with transcript and screen text under `evidence`."""
    evidence = row.get("evidence") or {}
    own = {name: row.get(name) for name in ("title", "description")}
    found = {name: evidence.get(name) for name in ("transcript", "screen_text")}
    return {name: text for name, text in {**own, **found}.items() if isinstance(text, str) and text.strip()}


def cut_parts(items: Sequence[Parts], budgets: Mapping[str, int], encoder: Encoder) -> list[dict[str, str]]:
    """Cut each text to its budget of the encoder's tokens, as the pipeline's own space does."""
    found = [dict(parts) for parts in items]
    for name, budget in budgets.items():
        own = [parts for parts in found if parts.get(name)]
        cut = prompts.cut_texts([parts[name] for parts in own], budget, encoder.count_tokens) if own else []
        for parts, text in zip(own, cut, strict=True):
            parts[name] = text
    return found


class TextVectors:
    """Vectors of texts, each encoded once and stored in the workspace, and the cost of encoding."""

    def __init__(self, store: Store, encoder: Encoder, progress: Progress) -> None:
        self._encoder = encoder
        table = f"{PREFIX}{encoder.passport('text').digest}"
        drop_tables(store, PREFIX, table)
        self._cache = TextCache(store, table, encoder)
        self._progress = progress

    def vectors(self, name: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode texts, float32 [N, D]; zero for an empty text."""
        distinct = list(dict.fromkeys(text for text in texts if text))
        with self._progress.meter(f"evaluate stages: texts of {name}", None) as meter:
            known = self._cache.vectors(distinct, meter).astype(np.float32)
        places = {text: place for place, text in enumerate(distinct)}
        found = np.zeros((len(texts), known.shape[1]), np.float32)
        given = [place for place, text in enumerate(texts) if text]
        found[given] = known[[places[texts[place]] for place in given]]
        return found

    def cost(self, name: str, texts: Sequence[str]) -> Cost:
        """Estimate the cost of encoding texts, timed on a random sample of them, stored or not."""
        given = [text for text in texts if text]
        if not given:
            return Cost(name, 0.0, 0.0, "there is nothing to encode")
        drawn = np.random.default_rng(0).permutation(len(given))[:_PROBE]
        probe = [given[place] for place in drawn]
        self._encoder.encode_documents(probe[:1])  # loads the weights
        started = monotonic()
        self._encoder.encode_documents(probe)
        per_text = (monotonic() - started) / len(probe)
        return Cost(name, per_text * len(given) / len(texts), 0.0, f"timed on {len(probe)} texts")


def required_costs(name: str, pipeline: Pipeline, pipeline_state: PipelineState) -> frozenset[str]:
    """Collect a stage and all stages and fits that its rows depend on: names of their costs."""
    found = {name}
    stage = pipeline_state.stage(name)
    if is_map(stage):
        for read in stage.reads.values():
            found |= required_costs(read, pipeline, pipeline_state)
    spec = pipeline.stage(name)
    if spec.kind == _WRITE and spec.settings.generator.startswith("finetune:"):
        found |= {one.name for one in pipeline.of_kind(_FINETUNE)}
    if spec.kind == _CHECK:
        found |= {one.name for one in pipeline.of_kind(_GROUNDS)}
    return frozenset(found)


def recorded_costs(names: Sequence[str], store: Store, pipeline_state: PipelineState) -> dict[str, Cost]:
    """Read the costs of stages: seconds an item over the newest runs that cover its rows; of a fit, once.

    Seconds are wall time of the machine that ran it, waiting for media included.
    """
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for row in reversed(store.in_sequence(RUNS)):
        with suppress(KeyError, TypeError, ValueError, RecursionError):  # a report that `coldstart check` lists
            ran = json.loads(row["report"])["ran"]
            if ran["done"] + ran["lost"] and ran["seconds"] >= 0:
                runs.setdefault(row["stage"], []).append(ran)
    found = {}
    for name in names:
        own = runs.get(name, [])
        if not is_map(pipeline_state.stage(name)):
            found[name] = Cost(name, 0.0, own[0]["seconds"], "recorded") if own else Cost(name, 0.0, 0.0, _UNKNOWN)
            continue
        rows = len(pipeline_state.of(name).fresh)
        done = spent = 0.0
        for ran in own:
            done += ran["done"] + ran["lost"]
            spent += ran["seconds"]
            if done >= rows:
                break
        found[name] = Cost(name, spent / done, 0.0, f"recorded, {done:,.0f} items") if done else _unknown(name)
    return found


def _unknown(name: str) -> Cost:
    return Cost(name, None, 0.0, _UNKNOWN)
