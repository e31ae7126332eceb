"""Labels of some published items by classes that are given now; stores nothing. The stage `label` labels a catalogue.

Nothing is calibrated: a score says which class is nearest, and not how many labels are right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from coldstart.core.class_file import TEMPLATES, Classes, plain
from coldstart.embed.zero_shot import THRESHOLD, LabelTargets, ensemble, predict, uncalibrated
from coldstart.encoders import Encoder, Passport
from coldstart.errors import ColdstartError
from coldstart.store.published import Published

MOST_CLASSES = 200
MOST_PROMPTS = 20
"""Prompts of one class."""
MOST_CHARACTERS = 200
"""Characters of a class or of a prompt."""


@dataclass(frozen=True)
class ItemLabel:
    """Label of one item.

    Attributes:
        label: the class, None where no score is sure enough, or where the item has no vector.
        best: class that it is most like, score: how likely; second: the next one, margin: by how much less likely.
    """

    item_id: str
    label: str | None
    best: str | None = None
    score: float | None = None
    second: str | None = None
    margin: float | None = None


@dataclass(frozen=True)
class Labelled:
    """Labels of items, in the order in which these were named.

    Attributes:
        spaces: that the classes were compared in; threshold: score that a label needs.
    """

    classes: tuple[str, ...]
    spaces: tuple[str, ...]
    threshold: float
    labels: Sequence[ItemLabel]
    notes: Sequence[str] = field(default_factory=tuple)


def read_classes(given: Sequence[str] | Mapping[str, Sequence[str]]) -> Classes:
    """Read classes that are names, or names with prompts.

    Raises:
        ColdstartError: fewer than two, too many, or a name that is blank, too long or stands twice.
    """
    named = dict(given) if isinstance(given, Mapping) else {name: (name,) for name in given}
    count = len(given)
    if not 2 <= count <= MOST_CLASSES:
        raise ColdstartError(f"classes: {count:,} of them: give 2 to {MOST_CLASSES}", kind="usage")
    found: dict[str, tuple[str, ...]] = {}
    for name, prompts in named.items():
        texts = tuple(" ".join(one.split()) for one in (name, *(prompts or (name,))))
        if not 1 <= len(prompts or (name,)) <= MOST_PROMPTS:
            raise ColdstartError(f"classes: {name[:80]!r} has {len(prompts)} prompts: give 1 to {MOST_PROMPTS}")
        for text in texts:
            if not 0 < len(text) <= MOST_CHARACTERS:
                raise ColdstartError(
                    f"classes: {text[:80]!r} is blank or longer than {MOST_CHARACTERS} characters: write it in words",
                    kind="usage",
                )
        found[texts[0]] = texts[1:]
    if len({plain(name) for name in found}) < count:
        raise ColdstartError("classes: one stands twice: name each once", kind="usage")
    return Classes(tuple(found), tuple(found.values()), (), TEMPLATES)


def label_items(
    published: Published,
    encoder_for: Callable[[Passport], Encoder],
    classes: Classes,
    item_ids: Sequence[str],
    *,
    spaces: Sequence[str] | None = None,
    threshold: float = THRESHOLD,
) -> Labelled:
    """Label items by zero-shot classification.

    Args:
        spaces: to compare in; by default all whose encoder reads words into the same space.
        threshold: score that a label needs.

    Raises:
        ColdstartError: no space holds words, or one of those named does not.
    """
    encoders, notes = _text_encoders(published, encoder_for, spaces)
    names = tuple(encoders)
    calibration = uncalibrated(len(names), LabelTargets(0, threshold))
    notes.append(
        "not calibrated: a score says which class is nearest, and not how many labels are right; `coldstart label` "
        "calibrates on items that have a category"
    )
    texts, owners = classes.texts()
    numbers = np.array(owners, np.int64)
    vectors = published.unit_vectors(names, item_ids)
    present = np.array([np.isfinite(vectors[space]).all(axis=1) for space in names])
    known = np.flatnonzero(present.any(axis=0))
    labels = {}
    if len(known):
        cosines = [
            np.nan_to_num(vectors[space][known])
            @ ensemble(encoder.encode_queries(texts), numbers, len(classes.names)).T
            for space, encoder in encoders.items()
        ]
        found = predict(calibration.logits(cosines, present[:, known]))
        sure = found.accepted(len(classes.names), threshold)
        for place, at in enumerate(known.tolist()):
            best, second = classes.names[found.best[place]], classes.names[found.second[place]]
            score, margin = float(found.score[place]), float(found.margin[place])
            labels[at] = ItemLabel(item_ids[at], best if sure[place] else None, best, score, second, margin)
    every = [labels.get(at) or ItemLabel(item_id, None) for at, item_id in enumerate(item_ids)]
    return Labelled(classes.names, names, threshold, every, tuple(notes))


def _text_encoders(
    published: Published, encoder_for: Callable[[Passport], Encoder], spaces: Sequence[str] | None
) -> tuple[dict[str, Encoder], list[str]]:
    """Load the encoders of the spaces that words can be compared in, by space; and notes on those that are missing."""
    found: dict[str, Encoder] = {}
    notes = []
    for space in published.passports if spaces is None else dict.fromkeys(spaces):
        if space not in published.passports:
            raise published.no_space(space)
        passport = Passport.from_json(published.passports[space])
        try:
            encoder = encoder_for(passport) if passport.of_content else None
        except ColdstartError as error:
            if spaces is not None:
                raise
            notes.append(f"space {space} is not compared: {error}")
            continue
        if encoder is not None and "text" in encoder.modalities and encoder.passport("text") == passport:
            found[space] = encoder
        elif spaces is not None:
            raise ColdstartError(
                f"space {space!r} holds no words, so that it cannot be compared with classes: name one that takes "
                "text, or leave spaces out",
                kind="usage",
            )
    if not found:
        raise ColdstartError(
            "no space of the catalogue holds words, so that none can be compared with classes: embed the items with an "
            "encoder that takes text",
            kind="not_ready",
        )
    return found, notes
