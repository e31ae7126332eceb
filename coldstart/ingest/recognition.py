"""Hold which columns of a table are which fields of an item, with reasons and doubts."""

from __future__ import annotations

from dataclasses import dataclass, replace

OWN, SYNONYM, SIMILAR, CONTENT = 1.0, 0.9, 0.6, 0.4
"""Confidence by kind of evidence: our own name, a known name, words of one in a longer name, values alone."""
SURE = 0.8


@dataclass(frozen=True)
class Match:
    """A field and the columns that it is read from.

    Attributes:
        field: `item_id`, `title`, …, or `attributes.NAME`.
        confidence: 0 to 1, see `SURE`.
        reason: why, in plain words.
        samples: up to three values.
        rivals: other columns that may be it, which become attributes.
        doubt: what may be wrong, "" where it is sure.
    """

    field: str
    columns: tuple[str, ...]
    confidence: float
    reason: str
    samples: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    doubt: str = ""

    @property
    def sure(self) -> bool:
        """True if nothing about it is doubtful."""
        return not self.doubt


@dataclass(frozen=True)
class Recognition:
    """Fields of a table's columns.

    Attributes:
        matches: a field each, in the order of our fields.
        attributes: columns of no field.
        id_from: columns whose digest is the id of an item, where no column holds one.
        currency: of all prices, by the name of their column; None where it is not stated.
        pairs: columns of names and of values, such as `Option1 Name` and `Option1 Value`.
    """

    matches: tuple[Match, ...]
    attributes: tuple[str, ...]
    id_from: tuple[str, ...] = ()
    currency: str | None = None
    pairs: tuple[tuple[str, str], ...] = ()

    def map(self) -> dict[str, str | list[str]]:
        """Return the setting `map` of the stage ingest: our field -> its column, or several."""
        return {
            match.field: match.columns[0] if len(match.columns) == 1 else list(match.columns) for match in self.matches
        }

    def of(self, name: str) -> Match | None:
        """Find the match of a field."""
        return next((match for match in self.matches if match.field == name), None)

    def confident(self) -> Recognition:
        """Leave out the fields that are guessed from values or from words in a longer name."""
        kept = tuple(match for match in self.matches if match.confidence >= SURE)
        uncertain = [column for match in self.matches if match not in kept for column in match.columns]
        return replace(self, matches=kept, attributes=(*self.attributes, *uncertain))
