"""What a text encoder reads of items at each step: one text an item, longer from step to step.

Category, tags and attributes are in none of them: they are labels, which a step may have beside its texts.

What the stages of a pipeline took, by what the workspace has recorded of its runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.ablation.report import Cost
from coldstart.core import prompts
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.core.stage import is_map
from coldstart.embed.spaces import TextCache, forget
from coldstart.store import RUNS, Store
from coldstart.store.freshness import Standing

if TYPE_CHECKING:
    from coldstart.encoders import Encoder


Parts = Mapping[str, str]
"""Of one item: `title`, `base` or `adapter` (a description), `description`, `transcript`, `screen_text` -> text."""


ORDER = ("title", "base", "adapter", "description", "transcript", "screen_text")
"""Short and certain ones first: an encoder cuts the end of what is too long for it."""


PREFIX = "evaluate.stages.text-"


_PROBE = 64


def join_parts(parts: Parts, chosen: Sequence[str]) -> str:
    """The chosen parts, a line each, those that are blank left out."""
    found = (" ".join(parts.get(name, "").split()) for name in ORDER if name in chosen)
    return "\n".join(text for text in found if text)


def text_parts(row: Mapping[str, Any]) -> dict[str, str]:
    """Of an item's row, with what was found in its media under `evidence`."""
    heard = row.get("evidence") or {}
    own = {name: row.get(name) for name in ("title", "description")}
    found = {name: heard.get(name) for name in ("transcript", "screen_text")}
    return {name: text for name, text in {**own, **found}.items() if isinstance(text, str) and text.strip()}


def cut_parts(items: Sequence[Parts], budgets: Mapping[str, int], encoder: Encoder) -> list[dict[str, str]]:
    """Each part cut to its budget of the encoder's tokens, as the pipeline's own space reads it."""
    found = [dict(parts) for parts in items]
    for name, budget in budgets.items():
        own = [parts for parts in found if parts.get(name)]
        cut = prompts.cut([parts[name] for parts in own], budget, encoder.count_tokens) if own else []
        for parts, text in zip(own, cut, strict=True):
            parts[name] = text
    return found


class TextVectors:
    """Vectors of texts, each encoded once and kept in the workspace, and what encoding takes."""

    def __init__(self, store: Store, encoder: Encoder, progress: Progress) -> None:
        self._encoder = encoder
        table = f"{PREFIX}{encoder.passport('text').digest}"
        forget(store, PREFIX, table)
        self._cache = TextCache(store, table, encoder)
        self._progress = progress

    def vectors(self, name: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """float32 [N, D], zero where a text is empty."""
        distinct = list(dict.fromkeys(text for text in texts if text))
        with self._progress.meter(f"evaluate stages: texts of {name}", None) as meter:
            known = self._cache.vectors(distinct, meter).astype(np.float32)
        places = {text: place for place, text in enumerate(distinct)}
        found = np.zeros((len(texts), known.shape[1]), np.float32)
        told = [place for place, text in enumerate(texts) if text]
        found[told] = known[[places[texts[place]] for place in told]]
        return found

    def cost(self, name: str, texts: Sequence[str]) -> Cost:
        """Of encoding such texts, timed on some of them, drawn at random, whatever is kept already."""
        told = [text for text in texts if text]
        if not told:
            return Cost(name, 0.0, 0.0, "there is nothing to encode")
        drawn = np.random.default_rng(0).permutation(len(told))[:_PROBE]
        probe = [told[place] for place in drawn]
        self._encoder.encode_documents(probe[:1])  # loads the weights
        started = monotonic()
        self._encoder.encode_documents(probe)
        per_text = (monotonic() - started) / len(probe)
        return Cost(name, per_text * len(told) / len(texts), 0.0, f"timed on {len(probe)} texts")


_FINETUNE, _GROUNDS, _WRITE, _CHECK = "finetune.describe", "describe.grounds", "describe.write", "describe.check"


_UNKNOWN = "no run of it is recorded"


def required_costs(name: str, pipeline: Pipeline, pipeline_state: Standing) -> frozenset[str]:
    """The stage and all that its rows are made from: stages that it reads, and fits that it stands on."""
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


def recorded_costs(names: Sequence[str], store: Store, pipeline_state: Standing) -> dict[str, Cost]:
    """Stage -> what it took: seconds an item, of the newest runs that made as many rows as there are; of a fit, once.

    Seconds are those on the clock of the machine that ran it, waiting for media included.
    """
    runs: dict[str, list[Mapping[str, Any]]] = {}
    if store.has(RUNS):
        for row in store.read(RUNS).sort_by([("started_at", "descending")]).to_pylist():
            ran = json.loads(row["report"])["ran"]
            if ran["done"] + ran["lost"]:
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
