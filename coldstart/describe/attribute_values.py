"""Hold predicted values of attributes, and choose the facts of an item: its record first, then what is likely enough.

Workers import this module, so it loads neither torch nor Arrow nor the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

PREDICTED = "predicted"
"""Field of an item's row that holds its row of `describe.attributes`."""
RECORD = "record"


@dataclass(frozen=True)
class PredictedValue:
    """Likely value of one attribute of one item.

    Attributes:
        probability: calibrated, 0 to 1.
        stated: True where the probability reaches the attribute's threshold.
        witnesses: what speaks for it: `title`, `texts`, `brand`, or the name of a space of pictures.
    """

    name: str
    value: str
    probability: float
    stated: bool
    witnesses: tuple[str, ...] = ()


Predicted = Mapping[str, Sequence[PredictedValue]]
"""Attribute -> its likeliest values, falling."""


@dataclass(frozen=True)
class Fact:
    """Value of an attribute to write and to check by.

    Attributes:
        probability: 1 where the record states it.
        source: `record`, or the witnesses of a predicted value joined with commas.
    """

    value: str
    probability: float
    source: str


def read_predicted(row: Mapping[str, Any]) -> dict[str, list[PredictedValue]]:
    """Read the predicted values of an item's row, under `PREDICTED`; empty where it has none."""
    found: dict[str, list[PredictedValue]] = {}
    for one in (row.get(PREDICTED) or {}).get("values") or ():
        value = PredictedValue(
            one["name"], one["value"], float(one["probability"]), bool(one["stated"]), tuple(one["witnesses"] or ())
        )
        found.setdefault(value.name, []).append(value)
    return found


def predicted_row(predicted: Predicted) -> dict[str, Any]:
    """Return predicted values as a row of `describe.attributes`, which `read_predicted` reads."""
    values = [one for own in predicted.values() for one in own]
    return {"values": [{**asdict(one), "witnesses": list(one.witnesses)} for one in values]}


def facts_of(recorded: Mapping[str, str], predicted: Predicted) -> dict[str, Fact]:
    """Choose the facts of an item: what its record states, and of the other attributes the value that is stated.

    Args:
        recorded: attribute -> value, as far as the view shows the record.
    """
    facts = {name: Fact(value, 1.0, RECORD) for name, value in recorded.items()}
    for name, values in predicted.items():
        best = next((one for one in values if one.stated), None)
        if name not in facts and best is not None:
            facts[name] = Fact(best.value, best.probability, ", ".join(best.witnesses))
    return facts
