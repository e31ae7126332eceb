"""Fit sentences with slots: LoRA from patterns of facts to templates, candidates, and a choice for each pattern.

The model learns templates of the catalogue's own sentences and of the fixed rules, and writes candidates bound to slots
and frame words. A candidate replaces the rules where its texts find their items better by the titles of training items
(retrieval gain, interval above 0); items of one pattern share it, so that writing takes no model. Knows no table.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart import generators
from coldstart.core.attributes import Attributes
from coldstart.core.device import choose_device
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.core.scratch import scratch_folder
from coldstart.core.stage import Reject
from coldstart.describe.finetune.templates import (
    FactItem,
    TemplateGrammar,
    fact_items,
    own_templates,
    plan_templates,
    render,
    sub_patterns,
    words_of_values,
)
from coldstart.describe.finetune.training import Example, LoraSettings, batch_tokens
from coldstart.errors import ColdstartError
from coldstart.generators import Generator, Request, Sampling
from coldstart.metrics.intervals import FEWEST_COMPARED
from coldstart.metrics.ranking import TIE, paired

SYSTEM = "Facts to sentences."
MOST_PATTERNS, MOST_OWN = 64, 6
"""Patterns that are learnt, the most frequent first, and sentences of sellers that are learnt of each."""
MOST_JUDGED = 300
"""Items among which, and by whose titles, candidates of a pattern are judged."""
SAMPLES, TEMPERATURE = 4, 0.9
"""Sampled candidates of a pattern besides the likeliest, and how they are drawn."""
NEW_TOKENS = 640
"""Most tokens of a candidate; the cost of closing a text bound by a pattern is taken as 512, so that fewer cut it."""
TRAINING: Mapping[str, Any] = {"lr": 1e-3, "epochs": 3}
"""Settings of the training where none are set: few short examples, which want larger steps."""
_VALID_EVERY = 8

Encode = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True)
class Lessons:
    """Examples of a fit: pattern -> template, as prompts and completions, and the grammar of candidates."""

    train: list[Example]
    valid: list[Example]
    grammar: TemplateGrammar
    patterns: tuple[str, ...]
    own: int


def lessons_of(items: Sequence[FactItem]) -> Lessons:
    """Build examples of the most frequent patterns and of those with one or two facts fewer.

    Raises:
        ColdstartError: no product has a fact.
    """
    counts = Counter(item.pattern for item in items)
    if not counts:
        raise ColdstartError("no product has an attribute in its record: describe with generator: sentences")
    wanted: Counter[str] = Counter()
    for pattern, count in counts.items():
        for place, one in enumerate(sub_patterns(pattern)):
            wanted[one] += count if place == 0 else count // 8
    chosen = [pattern for pattern, _ in sorted(wanted.items(), key=lambda one: (-one[1], one[0]))[:MOST_PATTERNS]]
    own = own_templates(items)
    grammar = TemplateGrammar.of(
        [text for pattern in chosen for text in (*plan_templates(pattern), *own.get(pattern, ()))],
        words_of_values(items),
    )
    train: list[Example] = []
    valid: list[Example] = []
    learnt = 0
    for place, pattern in enumerate(chosen):
        sellers = [text for text, _ in own.get(pattern, Counter()).most_common(MOST_OWN)]
        learnt += len(sellers)
        for text in (*sellers, *plan_templates(pattern)):
            lesson = Example(pattern, SYSTEM, pattern, json.dumps({"text": f" {text}"}))
            (valid if place % _VALID_EVERY == _VALID_EVERY - 1 else train).append(lesson)
    return Lessons(train, valid, grammar, tuple(pattern for pattern in counts if pattern in chosen), learnt)


def write_candidates(generator: Generator, lessons: Lessons, progress: Progress, name: str) -> dict[str, list[str]]:
    """Write candidates of each pattern by a model, once a pattern; keep those that the grammar allows."""
    requests = [Request(pattern, SYSTEM, lessons.grammar.schema(pattern)) for pattern in lessons.patterns]
    found: dict[str, list[str]] = {pattern: [] for pattern in lessons.patterns}
    with progress.meter(f"{name}: candidates", len(requests) * (1 + SAMPLES)) as meter:
        for draw in range(1 + SAMPLES):
            sampling = Sampling(NEW_TOKENS, TEMPERATURE if draw else 0.0, 0.95 if draw else 1.0, draw)
            for pattern, written in zip(lessons.patterns, generator.generate(requests, sampling), strict=True):
                template = _template(written)
                if template and lessons.grammar.fault(template, pattern) is None and template not in found[pattern]:
                    found[pattern].append(template)
            meter.advance(len(requests), 0, 0.0)
    return found


def _template(written: generators.Generation | Reject) -> str:
    if isinstance(written, Reject):
        return ""
    try:
        text = json.loads(written.text)["text"]
    except (ValueError, KeyError, TypeError):
        return ""
    return text.strip() if isinstance(text, str) else ""


def choose_templates(
    items: Sequence[FactItem],
    candidates: Mapping[str, Sequence[str]],
    encode: Encode,
    encode_queries: Encode,
    seed: int,
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Choose for each pattern the rules' sentences or a candidate; return templates that differ from them, and figures.

    Each title asks for its item among the items of the pattern; the gain is the difference of reciprocal ranks, texts
    alike in the middle of their ranks. A candidate is taken where its interval is above 0. Mean similarities mislead: a
    text that begins as titles do is more like all of them.
    """
    templates: dict[str, str] = {}
    figures: list[dict[str, Any]] = []
    for pattern, own in candidates.items():
        judged = [item for item in items if item.pattern == pattern and item.title]
        total = len(judged)
        if total > MOST_JUDGED:
            places = np.random.default_rng(seed).choice(total, MOST_JUDGED, replace=False)
            judged = [judged[place] for place in sorted(places)]
        rules = plan_templates(pattern)
        others = list(dict.fromkeys((*rules[1:], *own)))
        line: dict[str, Any] = {"pattern": pattern, "items": total, "candidates": len(own), "chosen": "rules"}
        figures.append(line)
        if len(judged) < FEWEST_COMPARED or not others:
            line["chosen"] = "rules: too few to judge" if others else "rules"
            continue
        titles = encode_queries([item.title for item in judged])
        base = _gains(rules[0], judged, titles, encode)
        best = max(others, key=lambda text: float(_gains(text, judged, titles, encode).mean()))
        gain = paired(base, _gains(best, judged, titles, encode), seed=seed)
        line |= {"gain": round(gain.value, 4), "low": round(gain.low, 4), "high": round(gain.high, 4), "best": best}
        if gain.low > 0:
            templates[pattern] = best
            line["chosen"] = "rules, another order" if best in rules else "model"
    return templates, figures


def _gains(
    template: str, items: Sequence[FactItem], titles: NDArray[np.float32], encode: Encode
) -> NDArray[np.float64]:
    """Return the reciprocal rank of each item's text, float64 `[I]`, asked for by its title."""
    scores = titles @ encode([render(template, item) for item in items]).T
    own = np.diag(scores)[:, None]
    ranks = 1 + (scores > own + TIE).sum(1) + 0.5 * ((np.abs(scores - own) <= TIE).sum(1) - 1)
    return np.asarray(1 / ranks, np.float64)


def fit_templates(
    rows: Sequence[Mapping[str, Any]],
    attributes: Attributes,
    pipeline: Pipeline,
    generator: str,
    options: Mapping[str, Any],
    settings: LoraSettings,
    *,
    seed: int,
    folder: Path,
    progress: Progress,
    name: str,
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Train, write candidates and choose; return the adapter's files and entries of the card.

    Args:
        rows: training items. Held-out items are read nowhere.
        folder: state from which a killed fit resumes.
    """
    from coldstart.describe.evaluate.retrieval_gain import evaluation_encoder
    from coldstart.describe.finetune.lora import train_lora

    items = fact_items([dict(row) for row in rows], attributes)
    lessons = lessons_of(items)
    base = generators.load(generator, device=pipeline.engine.device, dtype=pipeline.engine.dtype, **options)
    read = sum(base.count_tokens([text for one in lessons.train for text in (one.prompt, one.completion)]))
    settings = settings.model_copy(
        update={
            **{name: value for name, value in TRAINING.items() if name not in settings.model_fields_set},
            "batch_tokens": batch_tokens(settings.batch_tokens, read),
        }
    )
    result = train_lora(
        lessons.train,
        lessons.valid,
        generator,
        settings,
        seed=seed,
        device=choose_device(pipeline.engine.device),
        dtype=pipeline.engine.dtype,
        folder=folder,
        progress=progress,
        name=name,
    )
    files = result.files()
    with scratch_folder("fit") as scratch:
        for path, data in files.items():
            (scratch / path).parent.mkdir(parents=True, exist_ok=True)
            (scratch / path).write_bytes(data)
        engine = pipeline.engine
        tuned = generators.load(generator, device=engine.device, dtype=engine.dtype, adapter=scratch, **options)
        candidates = write_candidates(tuned, lessons, progress, name)
    encoder, _ = evaluation_encoder(pipeline)
    templates, figures = choose_templates(items, candidates, encoder.encode_documents, encoder.encode_queries, seed)
    before, after = result.valid_before, result.valid_loss
    return files, {
        "training": settings.model_dump(exclude={"processes"}),
        "seconds": result.seconds,
        "tokens": result.tokens,
        "tokens_s": result.tokens_s,
        "steps": result.steps,
        "left_out": result.left_out,
        "valid_loss": None if before is None or after is None else {"before": before, "after": after},
        "history": result.history,
        "lessons": len(lessons.train),
        "sellers_sentences": lessons.own,
        "templates": templates,
        "choices": figures,
    }
