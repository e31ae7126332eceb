"""What checks know of a catalogue beyond one item: what its pictures can be a ground of, and its names.

Both come from the stage `describe.grounds`; a pipeline without it has neither, and words alone are grounds.

The rules that a pipeline's `describe.check` holds descriptions to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from coldstart.core.pipeline import Pipeline
from coldstart.core.stage import Row
from coldstart.describe.checks import Rules
from coldstart.describe.visual_evidence import SeenValues, VisualEvidence, load_visual_evidence
from coldstart.errors import NotFitted
from coldstart.understand import policy as word_policy
from coldstart.understand.safety import scores

EVIDENCE_KIND = "describe.grounds"


NAMES_FILE = "names.json"


SPACE_FIELD = "space {}"
"""Field of a row under which the row of a space is read."""


@dataclass(frozen=True)
class CheckContext:
    """Judges of pictures, and the names of a catalogue.

    Attributes:
        spaces: whose vectors may be judged.
        digest: of what was fitted.
        brands, categories: of all items.
    """

    spaces: tuple[str, ...] = ()
    digest: str = ""
    evidence: VisualEvidence | None = None
    brands: frozenset[str] = field(default_factory=frozenset)
    categories: frozenset[str] = field(default_factory=frozenset)

    def seen_values(self, rows: Sequence[Row]) -> list[SeenValues]:
        """What the pictures of each item are a ground of; the rows of its spaces are under `FIELD`."""
        if self.evidence is None:
            return [{} for _ in rows]
        vectors = {}
        for space in self.evidence.spaces:
            own = [(row.get(SPACE_FIELD.format(space)) or {}).get("vector") for row in rows]
            dim = next((len(one) for one in own if one is not None), 0)
            if dim:
                vectors[space] = np.array([np.zeros(dim) if one is None else one for one in own], np.float32)
        return self.evidence.seen_values(vectors, len(rows))


def evidence_spaces(stage: str, pipeline: Pipeline) -> tuple[str, ...]:
    """The spaces that the last `describe.grounds` before a stage may judge by; none where there is no such stage."""
    grounds = pipeline.before(stage, EVIDENCE_KIND)
    if grounds is None:
        return ()
    wanted = pipeline.stage(grounds).settings.spaces
    images = [
        spec.name for spec in pipeline.earlier(grounds) if spec.kind == "embed" and spec.settings.input == "image"
    ]
    return tuple(images if wanted is None else wanted)


def load_check_context(stage: str, pipeline: Pipeline) -> CheckContext:
    """What a stage's checks know.

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
    """What a fit of `describe.grounds` left in a folder, which is named for its digest."""
    names = json.loads((folder / NAMES_FILE).read_text("utf-8"))
    return CheckContext(
        spaces, folder.name, load_visual_evidence(folder), frozenset(names["brands"]), frozenset(names["categories"])
    )


def names_file(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Content of `NAMES_FILE`: the sellers and categories of all items."""
    found = {
        "brands": sorted({row["creator"] for row in rows if row["creator"]}),
        "categories": sorted({row["category"] for row in rows if row["category"]}),
    }
    return json.dumps(found, ensure_ascii=False).encode()


CHECK_KIND = "describe.check"


def build_rules(settings: Any, context: CheckContext) -> Rules:
    """Those of the settings of such a stage.

    Raises:
        ColdstartError: the policy has faults.
    """
    policy = None if settings.policy is None else word_policy.load(settings.policy)
    return Rules(
        languages=settings.languages,
        min_seen=0.0,  # only what reaches its own threshold is told to be seen
        max_copy=settings.max_copy,
        max_unsupported=settings.max_unsupported,
        brands=context.brands,
        categories=context.categories,
        policy=None if policy is None else lambda text: scores(policy.find({"text": text})),
        max_unsafe=settings.max_unsafe,
    )


def pipeline_rules(pipeline: Pipeline, context: CheckContext | None = None) -> Rules:
    """Those of the pipeline's last such stage, or as that is without settings.

    Args:
        context: what the checks know of the catalogue; by default what the stage before them fitted.

    Raises:
        NotFitted: `describe.grounds` has fitted nothing, and no `context` is given.
        ColdstartError: as `rules_of`.
    """
    specs = pipeline.of_kind(CHECK_KIND)
    if not specs:
        context = context or CheckContext()
        return Rules(min_seen=0.0, brands=context.brands, categories=context.categories)
    return build_rules(specs[-1].settings, context or load_check_context(specs[-1].name, pipeline))
