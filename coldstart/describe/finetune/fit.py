"""Run one fit of a writer, supervised or by preferences: items in, an adapter with its card out. Knows no table.

Preferences come from the checks: of several texts of an item the best and the worst make a pair.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart import generators
from coldstart.core.attributes import Attribute, Attributes, recorded_values
from coldstart.core.description import parse
from coldstart.core.device import choose_device
from coldstart.core.keys import digest
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.core.prompts import Prompt
from coldstart.core.scratch import scratch_folder
from coldstart.core.stage import Reject, Row
from coldstart.describe.checks.contract import Checked, Rules
from coldstart.describe.finetune.card import fit_summary, model_card
from coldstart.describe.finetune.dataset import build_sft_examples, observed_values
from coldstart.describe.finetune.settings import Settings
from coldstart.describe.finetune.training import Example, batch_tokens
from coldstart.describe.writing import Writer, build_requests
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, Generator
from coldstart.media.limits import Limits
from coldstart.media.loaders import LoadPictures
from coldstart.store.fits import CARD, ITEMS_FILE, items_file, read_writer_config

MAX_SAMPLES = 8


def requires_fit(generator: str) -> bool:
    """Tell whether a generator cannot write before it is fitted."""
    return generator.partition(":")[0] == "starter-vlm"


@dataclass(frozen=True)
class DescribeFit:
    """One fit of a writer, ready to run.

    Attributes:
        name: of the stage.
        generator: as it is before the fit.
        prompts: kind of item -> prompt; given: fields that a cold item may have.
        folder: state from which a killed fit resumes.
        progress: see `coldstart.core.progress`.
    """

    name: str
    settings: Settings
    pipeline: Pipeline
    generator: Generator
    prompts: Mapping[str, Prompt]
    given: frozenset[str]
    folder: Path
    progress: Progress

    def fit(
        self, rows: Sequence[Row], keys: Sequence[str], groups: NDArray[np.int64], earlier: Path | None
    ) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Train on part `train`, stop early by `valid`, and describe some items of `test` before and after.

        Args:
            rows: of the items, evidence in them; keys: their row keys; groups: int64 `[I]`.
            earlier: folder of the fit that `method: dpo` continues.

        Returns:
            Files of the artifact, and its report; `summary` is one line.
        """
        from coldstart.metrics.splits import split

        ids = [row["item_id"] for row in rows]
        shares = {"test": self.settings.test_share, "valid": self.settings.valid_share}
        shares["train"] = 1 - sum(shares.values())
        parts = split(groups, ids, shares, self.settings.seed)
        train_places = self._sample(parts["train"])
        train, valid, test = (
            [rows[place] for place in places] for places in (train_places, parts["valid"], parts["test"])
        )
        values = observed_values(train, self.pipeline.attributes)
        if self.settings.input == "facts":
            return self._fit_facts(train, rows, keys, groups, {**parts, "train": train_places}, values)
        attributes = self.pipeline.attributes.with_values(values)
        examples = self._examples(train, attributes, self.settings.views)
        checked = self._examples(valid, attributes, 1)
        trained, about = self._train(
            examples, checked, {row["item_id"]: row for row in (*train, *valid)}, attributes, earlier
        )
        card = {
            "generator": self.settings.generator,
            "base": self.generator.passport().digest,
            "prompt": dict(self.settings.prompt),
            "prompts": {kind: prompt.digest for kind, prompt in self.prompts.items()},
            "given": sorted(self.given),
            "values": values,
            "data": digest(list(keys)),
            "items": {part: len(places) for part, places in {**parts, "train": train_places}.items()},
            "lessons": len(examples),
            "method": self.settings.method,
            **about,
        }
        files = {**trained, ITEMS_FILE: items_file(ids, keys, groups, parts)}
        card |= self._describe_held_out(test[: self.settings.judged], files, attributes)
        files[CARD] = _json(card)
        files["MODEL_CARD.md"] = model_card(self.name, card).encode()
        return files, {**card, "summary": fit_summary(card)}

    def _fit_facts(
        self,
        train: Sequence[Row],
        rows: Sequence[Row],
        keys: Sequence[str],
        groups: NDArray[np.int64],
        parts: Mapping[str, NDArray[np.int64]],
        values: Mapping[str, Any],
    ) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Fit sentences with slots; the artifact is written with by `sentences`, not by the model."""
        from coldstart.describe.finetune.fit_templates import fit_templates

        if self.settings.method != "sft" or self.generator.image_transform is not None:
            raise ColdstartError(
                f"{self.name}.input=facts is for method: sft and a language model, such as generator: starter"
            )
        attributes = self.pipeline.attributes.with_values(values)
        files, about = fit_templates(
            train,
            attributes,
            self.pipeline,
            self.settings.generator,
            self.settings.options,
            self.settings.training,
            seed=self.settings.seed,
            folder=self.folder,
            progress=self.progress,
            name=self.name,
        )
        card = {
            "generator": "sentences",
            "tuned": self.settings.generator,
            "base": self.generator.passport().digest,
            "prompt": dict(self.settings.prompt),
            "prompts": {kind: prompt.digest for kind, prompt in self.prompts.items()},
            "given": None,
            "values": values,
            "data": digest(list(keys)),
            "items": {part: len(places) for part, places in parts.items()},
            "method": self.settings.method,
            **about,
            "judged": {"items": 0, "before": None, "after": None},
            "samples": [],
        }
        ids = [row["item_id"] for row in rows]
        files = {**files, ITEMS_FILE: items_file(ids, keys, groups, parts), CARD: _json(card)}
        files["MODEL_CARD.md"] = model_card(self.name, card).encode()
        return files, {**card, "summary": fit_summary(card)}

    def _examples(self, rows: Sequence[Row], attributes: Attributes, views: int) -> list[Example]:
        return build_sft_examples(
            rows,
            self.generator,
            prompts=self.prompts,
            attributes=attributes,
            given=self.given,
            drop=self.settings.drop,
            views=views,
            seed=self.settings.seed,
            prose=self.settings.summary == "description",
        )

    def _train(
        self,
        examples: Sequence[Example],
        valid: Sequence[Example],
        rows: Mapping[str, Row],
        attributes: Attributes,
        earlier: Path | None,
    ) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Files of the adapter, and `training`, `seconds`, `valid_loss` (`before` and `after`) and more of the card."""
        if self.settings.method == "dpo":
            return self._train_dpo(rows, attributes, earlier)
        if requires_fit(self.settings.generator):
            return self._train_vlm(examples, valid, rows)
        return self._train_lora(examples, valid, rows)

    def _train_vlm(
        self, examples: Sequence[Example], valid: Sequence[Example], rows: Mapping[str, Row]
    ) -> tuple[dict[str, bytes], dict[str, Any]]:
        from coldstart.describe.finetune.fit_vlm import fit_vlm

        return fit_vlm(
            self.generator,
            examples,
            valid,
            self._picture_loader(rows),
            self.settings.vision,
            seed=self.settings.seed,
            engine=self.pipeline.engine,
            folder=self.folder,
            meter=lambda what, total: self.progress.meter(f"{self.name}: {what}", total),
        )

    def _train_dpo(
        self, rows: Mapping[str, Row], attributes: Attributes, earlier: Path | None
    ) -> tuple[dict[str, bytes], dict[str, Any]]:

        return train_preferences(self, list(rows.values()), attributes, earlier)

    def _train_lora(
        self, examples: Sequence[Example], valid: Sequence[Example], rows: Mapping[str, Row]
    ) -> tuple[dict[str, bytes], dict[str, Any]]:
        from coldstart.describe.finetune import lora

        settings = self.settings.training
        counted = self.generator.count_tokens([text for one in examples for text in (one.prompt, one.completion)])
        settings = settings.model_copy(update={"batch_tokens": batch_tokens(settings.batch_tokens, sum(counted))})
        pictures = self._picture_loader(rows) if self.generator.image_transform is not None else None
        result = lora.train_lora(
            examples,
            valid,
            self.settings.generator,
            settings,
            seed=self.settings.seed,
            device=choose_device(self.pipeline.engine.device),
            dtype=self.pipeline.engine.dtype,
            folder=self.folder,
            progress=self.progress,
            pictures=pictures,
            name=self.name,
        )
        return result.files(), {
            "training": settings.model_dump(exclude={"processes"}),
            "seconds": result.seconds,
            "tokens": result.tokens,
            "tokens_s": result.tokens_s,
            "steps": result.steps,
            "left_out": result.left_out,
            "valid_loss": _losses(result.valid_before, result.valid_loss),
            "history": result.history,
        }

    def _picture_loader(self, rows: Mapping[str, Row]) -> Callable[[str], Sequence[NDArray[np.uint8]]]:
        """Return a function from an item to its pictures for the generator, decoded at each call."""
        transform = self.generator.image_transform
        assert transform is not None, "it takes pictures"
        limits = Limits(**self.pipeline.media.limits())
        load = LoadPictures(transform, limits, self.settings.frames, "uniform", self.settings.pictures)
        return lambda item: load(rows[item])[0].images

    def _sample(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        most = self.settings.max_items
        if most is None or len(places) <= most:
            return places
        return np.sort(np.random.default_rng(self.settings.seed).choice(places, most, replace=False))

    def _describe_held_out(
        self, rows: Sequence[Row], files: Mapping[str, bytes], attributes: Attributes
    ) -> dict[str, Any]:
        """Describe held-out items before and after the fit: `judged` and `samples` of the card."""
        before: list[Generation | Reject] | None = None
        if rows and not requires_fit(self.settings.generator):
            before = self.writer(self.generator, attributes).write(rows, self.given)
        with scratch_folder("fit") as folder:
            write_files(files, folder)
            engine = self.pipeline.engine
            tuned = generators.load(
                self.settings.generator,
                device=engine.device,
                dtype=engine.dtype,
                adapter=folder,
                **self.settings.options,
            )
            after = self.writer(tuned, attributes).write(rows, self.given) if rows else []
        samples = [
            {
                "item_id": row["item_id"],
                "truth": " ".join(recorded_values(row, attributes.of(row["category"])).values()),
                "before": None if before is None else _text(before[place]),
                "after": _text(after[place]),
            }
            for place, row in enumerate(rows[:MAX_SAMPLES])
        ]
        shares = {
            "items": len(rows),
            "before": None if before is None else self._share_right(rows, before, attributes),
            "after": self._share_right(rows, after, attributes),
        }
        return {"judged": shares, "samples": samples}

    def writer(self, generator: Generator, attributes: Attributes) -> Writer:
        """Return a writer with the prompts of the fit."""
        limits = Limits(**self.pipeline.media.limits())
        return Writer(
            generator, self.prompts, attributes, Rules(), limits, self.settings.frames, self.settings.pictures
        )

    def _share_right(
        self, rows: Sequence[Row], written: Sequence[Generation | Reject], attributes: Attributes
    ) -> float | None:
        """Return the share of recorded attributes that texts state alike; None where records state none."""
        stated = right = 0
        for row, generation in zip(rows, written, strict=True):
            known = attributes.of(row["category"] if "category" in self.given else None)
            stated_values: Mapping[str, str] = {}
            if not isinstance(generation, Reject):
                with suppress(ValueError):
                    stated_values = parse(generation.text, self.prompts[row["kind"]].output).attributes
            for name, value in recorded_values(row, known).items():
                stated += 1
                right += name in stated_values and known[name].canonical(stated_values[name]) == value
        return right / stated if stated else None


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files by their paths into a folder."""
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def _losses(before: float | None, after: float | None) -> dict[str, float] | None:
    return None if before is None or after is None else {"before": before, "after": after}


def _text(generation: Generation | Reject) -> str:
    return str(generation) if isinstance(generation, Reject) else generation.text


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False).encode()


def train_preferences(
    fit: DescribeFit, rows: Sequence[Row], attributes: Attributes, earlier: Path | None
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Train an adapter on preference pairs of the checks; return its files and entries of the card.

    Args:
        rows: training items of the earlier fit; earlier: its folder.

    Raises:
        ColdstartError: there is no earlier fit, it is of another generator or a vision-language one, or no two texts of
            an item differ by enough.
    """
    from coldstart.describe.finetune import dpo

    settings = fit.settings.preference
    if earlier is None:
        raise ColdstartError(
            f"{fit.name}.method=dpo continues a fit, and there is none: run `coldstart finetune describe` first"
        )
    before = read_writer_config(earlier, fit.pipeline.attributes)
    if before.generator != fit.settings.generator or fit.generator.image_transform is not None:
        raise ColdstartError(
            f"{fit.name}.method=dpo: the last fit is of {before.generator}, and method=dpo is for the same "
            "language model, without pictures: leave method out"
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
                        score_text(checked, recorded_values(row, attributes.of(row["category"])), attributes.of(None))
                    )
            meter.advance(len(chosen), 0, 0.0)
    prompts = build_requests(
        [one for one in writer.prompt_inputs(chosen, fit.given) if not isinstance(one, Reject)], tuned
    )
    pairs = []
    for row, request, own, marks in zip(chosen, prompts, texts, scores, strict=True):
        if (found := dpo.choose_pair(own, marks, margin=settings.margin)) is not None:
            best, worst = found
            pairs.append(dpo.Pair(row["item_id"], request.system, request.prompt, own[best], own[worst]))
    result = dpo.train_dpo(
        pairs,
        fit.settings.generator,
        earlier / "adapter",
        settings,
        seed=fit.settings.seed,
        device=choose_device(engine.device),
        dtype=engine.dtype,
        folder=fit.folder,
        progress=fit.progress,
        name=fit.name,
    )
    return result.files(), {
        "training": settings.model_dump(),
        "seconds": result.seconds,
        "pairs": len(pairs),
        "stopped": result.stopped,
        "length": {"before": result.length_before, "after": result.length},
        "valid_loss": None,
        "history": result.history,
    }


def score_text(checked: Checked | Reject, known: Mapping[str, str], attributes: Mapping[str, Attribute]) -> float:
    """Score a text, -1 to 1: F1 of its attributes against the record, less the share of its claims that have no
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
