"""Run `finetune.describe`: fit a language or vision-language model on the well described items of this catalogue.

Prompts show the fields that a cold item would have; completions state the hidden ones. Items of one title, seller or
picture fall on one side of the split. The fit is an artifact of the workspace, an adapter with its card.
`describe.write` with `generator: finetune:describe` uses it, and its rows follow a new fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.core.keys import stage_key
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.core.stage import LedgerRow
from coldstart.describe.finetune.dataset import FitItems, fit_items
from coldstart.describe.finetune.settings import Settings
from coldstart.describe.held_out import held_out_groups
from coldstart.describe.writing import given_fields, load_prompts
from coldstart.errors import ColdstartError
from coldstart.store import Store
from coldstart.store.fit_stage import SavedFits, fit_in_use, fit_unchanged, remove_scratch

if TYPE_CHECKING:
    from coldstart.generators import Generator


def build(name: str, settings: Settings, pipeline: Pipeline) -> FinetuneStage:
    """Build the stage and read its prompts.

    Raises:
        ColdstartError: a prompt cannot be read, or a field or a space is unknown.
    """
    return FinetuneStage(name, settings, pipeline)


class FinetuneStage:
    """Fit stage of a writer; see `coldstart.core.stage.FitStage`."""

    kind = "finetune.describe"
    version = 1

    def __init__(self, name: str, settings: Settings, pipeline: Pipeline) -> None:
        self.name = name
        self.settings = settings
        self._pipeline = pipeline
        self.prompts = load_prompts(name, settings.prompt)
        given = given_fields(name, settings.given)
        assert given is not None, "the setting has a default"
        self.given = given
        given_fields(name, settings.drop)
        self._space = self._pictures()
        self._fits = SavedFits(name, lambda: self._key, reads=lambda fit: fit.report["summary"])

    def _pictures(self) -> str | None:
        """Return the embed stage that finds near copies: the configured one, or the first of pictures."""
        earlier = self._pipeline.earlier(self.name)
        spaces = [spec.name for spec in earlier if spec.kind == "embed" and spec.settings.input == "image"]
        if self.settings.space is not None and self.settings.space not in spaces:
            raise ColdstartError(
                f"{self.name}.space={self.settings.space!r}: no space of pictures of that name stands before it; "
                f"there is {', '.join(spaces) or 'none'}"
            )
        return self.settings.space or next(iter(spaces), None)

    @cached_property
    def generator(self) -> Generator:
        """Generator before the fit, its weights not yet loaded.

        Raises:
            ColdstartError: it is unknown, or its model is not on this machine.
        """
        from coldstart import generators

        engine = self._pipeline.engine
        return generators.load(
            self.settings.generator, device=engine.device, dtype=engine.dtype, **self.settings.options
        )

    @cached_property
    def _key(self) -> str:
        made_of = {
            **self.settings.counted(),
            "generator": asdict(self.generator.passport()),
            "prompts": {kind: prompt.digest for kind, prompt in self.prompts.items()},
            "attributes": self._pipeline.attributes.plain(),
        }
        return stage_key(self.kind, self.version, made_of)

    def resolve(self) -> None:
        """Find the models, spaces and prompts of the settings; see `coldstart.core.stage.Resolves`."""
        _ = self._key

    def fingerprint(self) -> Mapping[str, Any]:
        """Return what its fits rest on besides rows; see `coldstart.engine.increment.Fingerprinted`."""
        return {"key": self._key}

    # -- where items are

    def expected(self, store: Store) -> tuple[dict[str, str], dict[str, LedgerRow]]:
        found = self._inputs(store)
        return dict(found.keys), dict(found.verdicts)

    def present(self, store: Store) -> dict[str, str]:
        """Keys of the items of the last fit, whatever their part of the split."""
        return self._fits.present(store)

    def _inputs(self, store: Store) -> FitItems:
        space = self._space if self.generator.image_transform is not None else None
        group_by = self.settings.group_by
        return fit_items(store, self._pipeline, self.name, self._key, self.given, group_by=group_by, space=space)

    # -- the fit

    def run(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit where nothing was fitted under these settings.

        Raises:
            ColdstartError: fewer than `min_items` items can be used, or the generator cannot be fitted.
        """
        made = self._fits.newest(store)
        if made is None:
            return self._fit(store, progress)
        changes = self._fits.changes(made, self._inputs(store).keys)
        return 0, [fit_in_use(made, changes.note("coldstart finetune describe"), made.report["summary"])]

    def refit(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        """Fit where nothing was fitted under these settings, or items came, changed or went since."""
        made = self._fits.newest(store)
        if made is not None and self.present(store) == dict(self._inputs(store).keys):
            return 0, [fit_unchanged(made, made.report["summary"])]
        return self._fit(store, progress)

    def _fit(self, store: Store, progress: Progress) -> tuple[int, list[str]]:
        from coldstart.describe.finetune.fit import DescribeFit

        found = self._inputs(store)
        items = sorted(found.keys)
        if len(items) < self.settings.min_items:
            raise ColdstartError(
                f"{self.name}: {len(items)} items can be used for a fit (with attributes in their record, or a "
                f"description), and a fit needs {self.settings.min_items} (min_items): until there are more, describe "
                f"with generator: {self.settings.generator}"
            )
        rows = [found.rows[item] for item in items]
        creators = [row["creator"] for row in rows]
        groups, why = held_out_groups(self.settings, store, self._pipeline, self.name, items, creators, self._space)
        fit = DescribeFit(
            name=self.name,
            settings=self.settings,
            pipeline=self._pipeline,
            generator=self.generator,
            prompts=self.prompts,
            given=self.given,
            folder=self._fits.scratch(store, of_settings=True),
            progress=progress,
        )
        files, about = fit.fit(rows, [found.keys[item] for item in items], groups, self._earlier(store))
        made = self._fits.save(store, found.keys.values(), files, {**about, "sellers": why})
        remove_scratch(fit.folder)
        return len(items), [made.report["summary"], why, *self._next(store)]

    def _earlier(self, store: Store) -> Path | None:
        """Return the folder of the last fit, which `method: dpo` continues."""
        newest = store.artifacts.newest(self.name)
        return None if newest is None or self.settings.method == "sft" else newest.folder

    def _next(self, store: Store) -> list[str]:
        """Return a line about the next step with the fit."""
        names = {f"finetune:{self.name}", f"finetune:{self.name.rpartition('.')[2]}"}
        users: Mapping[str, str] = {
            spec.name: spec.settings.generator for spec in self._pipeline.of_kind("describe.write")
        }
        using = [name for name, generator in users.items() if generator in names]
        if using:
            return [f"run `coldstart run --workspace {store.uri}` to update {', '.join(using)} with it"]
        return [
            f"no stage writes with it yet: `coldstart describe --workspace {store.uri} --generator "
            f"finetune:{self.name.rpartition('.')[2]}`"
        ]
