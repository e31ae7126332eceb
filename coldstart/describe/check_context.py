"""Load the context of the checks: models of attributes and names of the catalogue, and the rules of `describe.check`.

Models and names come from the stage `describe.grounds`; without it only texts and the record support claims.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from coldstart.core.attributes import Attributes
from coldstart.core.pipeline import Pipeline
from coldstart.core.stage import Row
from coldstart.describe.attribute_model import AttributeModel, load_attribute_model
from coldstart.describe.attribute_values import PREDICTED, Predicted, PredictedValue, read_predicted
from coldstart.describe.checks import Rules
from coldstart.errors import NotFitted
from coldstart.understand import policy as word_policy
from coldstart.understand.safety import scores

EVIDENCE_KIND = "describe.grounds"


NAMES_FILE = "names.json"


SPACE_FIELD = "space {}"
"""Field of a row that holds the row of a space."""


@dataclass(frozen=True)
class CheckContext:
    """Models of attributes and names of a catalogue.

    Attributes:
        spaces: those whose vectors the models may read.
        digest: of the fit.
        brands, categories: of all items.
    """

    spaces: tuple[str, ...] = ()
    digest: str = ""
    evidence: AttributeModel | None = None
    brands: frozenset[str] = field(default_factory=frozenset)
    categories: frozenset[str] = field(default_factory=frozenset)

    def seen_values(self, rows: Sequence[Row]) -> list[dict[str, dict[str, float]]]:
        """Return the values that may be stated of each item: attribute -> value -> probability.

        Args:
            rows: with the row of `describe.attributes` under `PREDICTED`; without that stage the rows of the spaces
                are under `SPACE_FIELD`.
        """
        if rows and PREDICTED in rows[0]:
            return [stated_values(read_predicted(row)) for row in rows]
        return [stated_values(one) for one in self.predict(rows)]

    def predict(
        self, rows: Sequence[Row], attributes: Attributes | None = None, given: Collection[str] | None = None
    ) -> list[dict[str, list[PredictedValue]]]:
        """Predict the attributes of items in a view; rows of their spaces are under `SPACE_FIELD`."""
        if self.evidence is None:
            return [{} for _ in rows]
        vectors = {}
        for space in self.evidence.spaces:
            own = [(row.get(SPACE_FIELD.format(space)) or {}).get("vector") for row in rows]
            dim = next((len(one) for one in own if one is not None), 0)
            if dim:
                vectors[space] = np.array([np.zeros(dim) if one is None else one for one in own], np.float32)
        return self.evidence.predict(rows, vectors, attributes, given)


def stated_values(predicted: Predicted) -> dict[str, dict[str, float]]:
    """Return the predicted values that may be stated: attribute -> value -> probability."""
    found = {name: {one.value: one.probability for one in values if one.stated} for name, values in predicted.items()}
    return {name: values for name, values in found.items() if values}


def evidence_spaces(stage: str, pipeline: Pipeline) -> tuple[str, ...]:
    """Return the spaces of the last `describe.grounds` before a stage; empty where there is none."""
    grounds = pipeline.before(stage, EVIDENCE_KIND)
    if grounds is None:
        return ()
    wanted = pipeline.stage(grounds).settings.spaces
    images = [
        spec.name for spec in pipeline.earlier(grounds) if spec.kind == "embed" and spec.settings.input == "image"
    ]
    return tuple(images if wanted is None else wanted)


def load_check_context(stage: str, pipeline: Pipeline) -> CheckContext:
    """Load the context of a stage's checks.

    Raises:
        NotFitted: `describe.grounds` stands before it, and has fitted nothing yet.
    """
    grounds = pipeline.before(stage, EVIDENCE_KIND)
    if grounds is None:
        return CheckContext()
    folder = pipeline.fitted(grounds)
    if folder is None:
        raise NotFitted(f"stage {stage!r} waits for stage {grounds!r}, which has fitted nothing: run it first")
    return read_check_context(folder, evidence_spaces(stage, pipeline))


def read_check_context(folder: Path, spaces: tuple[str, ...] = ()) -> CheckContext:
    """Read a fit of `describe.grounds` from its folder, which is named for its digest.

    Raises:
        NotFitted: it is of another version, or damaged.
    """
    try:
        model = load_attribute_model(folder)
        names = json.loads((folder / NAMES_FILE).read_text("utf-8"))
        brands, categories = frozenset(names["brands"]), frozenset(names["categories"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise NotFitted(f"stage {EVIDENCE_KIND!r} was fitted by another version of coldstart: run it again") from error
    return CheckContext(spaces, folder.name, model, brands, categories)


def with_known_values(attributes: Attributes, stage: str, pipeline: Pipeline) -> Attributes:
    """List the values that models of attributes before a stage know, where an attribute lists none.

    Raises:
        NotFitted: as `load_check_context`.
    """
    model = load_check_context(stage, pipeline).evidence
    known = {} if model is None else {name: one.values for name, one in model.predictors.items()}
    return attributes.with_values(dict.fromkeys(attributes.root, known))


def names_file(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the content of `NAMES_FILE`: sellers and categories of all items."""
    found = {
        "brands": sorted({row["creator"] for row in rows if row["creator"]}),
        "categories": sorted({row["category"] for row in rows if row["category"]}),
    }
    return json.dumps(found, ensure_ascii=False).encode()


CHECK_KIND = "describe.check"


def build_rules(settings: Any, context: CheckContext) -> Rules:
    """Build the rules of a `describe.check` stage from its settings.

    Raises:
        ColdstartError: the policy has faults.
    """
    policy = None if settings.policy is None else word_policy.load(settings.policy)
    return Rules(
        languages=settings.languages,
        min_seen=0.0,  # values below the threshold of their attribute are left out already
        min_claimed=settings.min_claimed,
        max_copy=settings.max_copy,
        max_unsupported=settings.max_unsupported,
        brands=context.brands,
        categories=context.categories,
        policy=None if policy is None else lambda text: scores(policy.find({"text": text})),
        max_unsafe=settings.max_unsafe,
    )


def pipeline_rules(pipeline: Pipeline, context: CheckContext | None = None) -> Rules:
    """Build the rules of the pipeline's last `describe.check`, or default rules where it has none.

    Args:
        context: by default loaded from the last fit of the stage before the checks.

    Raises:
        NotFitted: `describe.grounds` has fitted nothing, and no `context` is given.
        ColdstartError: as `build_rules`.
    """
    specs = pipeline.of_kind(CHECK_KIND)
    if not specs:
        context = context or CheckContext()
        return Rules(min_seen=0.0, brands=context.brands, categories=context.categories)
    return build_rules(specs[-1].settings, context or load_check_context(specs[-1].name, pipeline))
