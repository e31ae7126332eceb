"""What the base and the tuned generator write of the same items, side by side. Stores nothing."""

from __future__ import annotations

from typing import Any

from coldstart import generators
from coldstart.errors import ColdstartError
from coldstart.freshness import Standing
from coldstart.learning.describe_fit import needs_a_fit
from coldstart.learning.describe_pipeline import WRITE
from coldstart.learning.described_items import rows_of
from coldstart.learning.describing import Writer
from coldstart.learning.rules import last_rules
from coldstart.learning.writer import ask_of
from coldstart.media.limits import Limits
from coldstart.pipeline import Pipeline
from coldstart.stage import Reject
from coldstart.workspace import Store


def compared(store: Store, pipeline: Pipeline, limit: int) -> list[dict[str, Any]]:
    """Of the first items: `item_id`, `title`, and `written`, writer -> `text`, what was `kept` of it, what was `cut`.

    Raises:
        ColdstartError: the pipeline describes nothing, or its generator is tuned by nothing.
    """
    specs = pipeline.of_kind(WRITE)
    if not specs:
        raise ColdstartError(f"{pipeline.source} describes nothing: it has no stage of kind {WRITE}")
    spec = specs[-1]
    writing, ask = ask_of(spec, pipeline)
    if writing.adapter is None:
        raise ColdstartError(
            f"{spec.name}.generator={spec.settings.generator!r} is tuned by nothing, so that there is nothing to "
            "compare it with: run `coldstart finetune describe`, then name `--generator finetune:describe`"
        )
    rows = list(rows_of(store, pipeline, spec.name, Standing(store, pipeline)).values())[:limit]
    written: dict[str, list[Any]] = {}
    engine = pipeline.engine
    for name, adapter in ((writing.generator, None), (spec.settings.generator, writing.adapter)):
        if adapter is None and needs_a_fit(writing.generator):
            continue
        writer = Writer(
            generators.load(
                writing.generator, device=engine.device, dtype=engine.dtype, adapter=adapter, **spec.settings.options
            ),
            ask.by_kind,
            ask.attributes,
            last_rules(pipeline),
            Limits(**pipeline.media.limits()),
            spec.settings.frames,
            spec.settings.pictures,
        )
        texts = writer.write(rows, ask.given)
        written[name] = [_side(*pair) for pair in zip(texts, writer.check(rows, texts), strict=True)]
    return [
        {
            "item_id": row["item_id"],
            "title": row["title"],
            "written": {name: sides[place] for name, sides in written.items()},
        }
        for place, row in enumerate(rows)
    ]


def _side(generation: Any, checked: Any) -> dict[str, Any]:
    text = str(generation) if isinstance(generation, Reject) else generation.text
    if isinstance(checked, Reject):
        return {"text": text, "kept": "", "cut": [{"claim": "all", "value": "", "reason": checked.reason}]}
    kept = checked.description
    cut = [{"claim": one.claim, "value": one.value, "reason": one.reason} for one in checked.cut]
    return {"text": text, "kept": kept.dumps(), "cut": cut}
