"""Preferences of the checks: of several texts of an item the best and the worst, from which an adapter goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart import generators
from coldstart.attributes import Attribute, Attributes, truth
from coldstart.checks.contract import Checked
from coldstart.device import choose_device
from coldstart.errors import ColdstartError
from coldstart.fitted import writing_in
from coldstart.learning.writer import requests
from coldstart.stage import Reject, Row

if TYPE_CHECKING:
    from coldstart.learning.describe_fit import DescribeFit


def prefer(
    fit: DescribeFit, rows: Sequence[Row], attributes: Attributes, earlier: Path | None
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Files of the adapter after preferences, and what its card says.

    Args:
        rows: of items that the first fit learnt from; earlier: its folder.

    Raises:
        ColdstartError: there is no fit to go on from, it is one of another generator or of eyes, or no two texts of an
            item differ by enough.
    """
    from coldstart.training import dpo
    from coldstart.training.lora_settings import DpoSettings

    settings = fit.settings.preference
    if earlier is None:
        raise ColdstartError(
            f"{fit.name}.method=dpo goes on from a fit, and there is none: run `coldstart finetune describe` first"
        )
    before = writing_in(earlier, fit.pipeline.attributes)
    if before.generator != fit.settings.generator or fit.generator.image_transform is not None:
        raise ColdstartError(
            f"{fit.name}.method=dpo: the last fit is of {before.generator}, and preferences are learnt for the same "
            "language model without eyes alone: leave method out"
        )
    chosen = rows[: settings.items]
    engine = fit.pipeline.engine
    tuned = generators.load(
        fit.settings.generator, device=engine.device, dtype=engine.dtype, adapter=earlier, **fit.settings.options
    )
    writer = fit.writer(tuned, attributes)
    texts: list[list[str]] = [[] for _ in chosen]
    scores: list[list[float]] = [[] for _ in chosen]
    with fit.progress.meter(f"{fit.name}: texts", len(chosen) * settings.samples) as meter:
        for sample in range(settings.samples):
            written = writer.write(chosen, fit.given, temperature=settings.temperature, seed=fit.settings.seed + sample)
            for place, (row, one, checked) in enumerate(
                zip(chosen, written, writer.check(chosen, written, fit.given), strict=True)
            ):
                if not isinstance(one, Reject):
                    texts[place].append(one.text)
                    scores[place].append(
                        score(checked, truth(row, attributes.of(row["category"])), attributes.of(None))
                    )
            meter.advance(len(chosen), 0, 0.0)
    asked = requests([one for one in writer.asked(chosen, fit.given) if not isinstance(one, Reject)], tuned)
    pairs = []
    for row, request, own, marks in zip(chosen, asked, texts, scores, strict=True):
        if (found := dpo.pair_of(own, marks, margin=settings.margin)) is not None:
            best, worst = found
            pairs.append(dpo.Pair(row["item_id"], request.system, request.prompt, own[best], own[worst]))
    recipe = settings.model_dump(
        include={"beta", "lr", "epochs", "batch_size", "micro_batch", "gradient_checkpointing"}
    )
    made = dpo.tune(
        pairs,
        fit.settings.generator,
        earlier / "adapter",
        DpoSettings(**recipe, seed=fit.settings.seed),
        device=choose_device(engine.device),
        dtype=engine.dtype,
        folder=fit.folder,
        progress=fit.progress,
        name=fit.name,
    )
    return made.files(), {
        "training": settings.model_dump(),
        "seconds": made.seconds,
        "pairs": len(pairs),
        "stopped": made.stopped,
        "length": {"before": made.length_before, "after": made.length},
        "valid_loss": None,
        "history": made.history,
    }


def score(checked: Checked | Reject, known: Mapping[str, str], attributes: Mapping[str, Attribute]) -> float:
    """How good a text is, -1 to 1: F1 of its attributes against the record, less the share of its claims that have no
    ground and are not recorded either."""
    if isinstance(checked, Reject):
        return -1.0
    cut = [(one.claim, one.value) for one in checked.cut]
    stated = {**checked.description.attributes, **{name: value for name, value in cut if name in attributes}}
    right = {name for name, value in stated.items() if _recorded(name, value, known, attributes)}
    f1 = 2 * len(right) / (len(stated) + len(known)) if stated or known else 0.0
    made_up = sum(name not in right for name, _ in cut)
    claims = len(checked.grounds) + len(cut)
    return f1 - (made_up / claims if claims else 0.0)


def _recorded(name: str, value: str, known: Mapping[str, str], attributes: Mapping[str, Attribute]) -> bool:
    return name in known and name in attributes and attributes[name].canonical(value) == known[name]
