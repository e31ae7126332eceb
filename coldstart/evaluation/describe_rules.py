"""What the checks of a workspace know and ask: the rules of its `describe.check`, and what pictures are a ground of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from coldstart.checks import Rules
from coldstart.freshness import Standing
from coldstart.learning.describing import Seen
from coldstart.learning.rules import last_rules
from coldstart.learning.seeing import KIND, Seeing, read
from coldstart.learning.split_file import items_of
from coldstart.pipeline import Pipeline
from coldstart.space_vectors import vectors_of
from coldstart.workspace import Store


@dataclass(frozen=True)
class Evidence:
    """What claims about some items are held against, besides their records.

    Attributes:
        seen: item -> what its pictures are a ground of.
        learnt: items among them whose records `describe.grounds` has learnt from, so that their pictures look like
            better grounds than those of new items are.
    """

    rules: Rules = field(default_factory=Rules)
    seen: Mapping[str, Seen] = field(default_factory=dict)
    learnt: int = 0


def evidence(store: Store, pipeline: Pipeline, items: Sequence[str]) -> Evidence:
    """What the last stages of a pipeline say of these items; plain rules and nothing seen where it has none.

    Raises:
        ColdstartError: the policy of the checks has faults.
    """
    grounds = next((spec.name for spec in reversed(pipeline.of_kind(KIND))), None)
    made = None if grounds is None else store.artifacts.newest(grounds)
    if made is None:
        return Evidence(last_rules(pipeline, Seeing()))
    seeing = read(made.folder)
    assert seeing.grounds is not None, "it was read"
    standing = Standing(store, pipeline)
    vectors = {space: vectors_of(store, standing.stage(space), items) for space in seeing.grounds.spaces}
    seen = seeing.grounds.seen_of(vectors, len(items))
    sides = items_of(made)
    learnt = sum(sides.get(item, ("", ""))[1] == "judged" for item in items)
    return Evidence(last_rules(pipeline, seeing), dict(zip(items, seen, strict=True)), learnt)
