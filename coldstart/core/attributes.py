"""What a description states of an item: the attributes of each category, as the pipeline file lists them.

An attribute has a name, the place in an item's record where its truth stands, if any, and perhaps a closed list of
values. Knows nothing of models, tables or checks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator

SOURCES = ("category", "creator", "tags")
"""Fields of a record that may state an attribute, besides `attributes.KEY`."""
DEFAULT = "default"
"""Name of the attributes of all categories that have none of their own."""


class Attribute(BaseModel):
    """One thing that a description may state.

    Values are compared without regard to case; `aliases` name further words for a value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    source: str | None = Field(default=None, alias="from")
    """Field of the record that states its truth: `category`, `creator`, `tags` (the first that is listed), or
    `attributes.KEY`; by default `attributes.` and its own name."""
    values: tuple[str, ...] = ()
    """All that it may be; none: any short text, or, after a fit, what the catalogue was seen to state."""
    visual: bool = False
    """Whether a picture shows it, so that a picture can be the ground of a claim."""
    aliases: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Value -> other words for it."""

    @field_validator("source")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and value not in SOURCES and not value.startswith("attributes."):
            raise ValueError(f"give one of {', '.join(SOURCES)}, or attributes.KEY")
        return value

    @field_validator("values", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return [str(one) for one in value] if isinstance(value, list | tuple) else value

    def canonical(self, value: str) -> str | None:
        """The listed value that a text stands for, by its own words or an alias; None where it stands for none.

        Without a list the text itself, its spaces tidied.
        """
        tidy = " ".join(value.split())
        if not tidy:
            return None
        folded = tidy.casefold()
        for known, others in self.aliases.items():
            if folded in (one.casefold() for one in (known, *others)):
                return known
        if not self.values:
            return tidy
        return next((known for known in self.values if known.casefold() == folded), None)

    def words_of(self, value: str) -> tuple[str, ...]:
        """All words that stand for a value, itself first."""
        return (value, *self.aliases.get(value, ()))


class Attributes(RootModel[Mapping[str, Mapping[str, Attribute]]]):
    """Category -> name -> attribute; `default` holds for every category that is not named."""

    model_config = ConfigDict(frozen=True)
    root: Mapping[str, Mapping[str, Attribute]] = Field(default_factory=dict)

    def of(self, category: str | None) -> Mapping[str, Attribute]:
        """The attributes of a category, in the order in which they are written."""
        folded = (category or "").casefold()
        own = next((found for name, found in self.root.items() if name.casefold() == folded), None)
        return own if own is not None else self.root.get(DEFAULT, {})

    def with_values(self, learnt: Mapping[str, Mapping[str, Iterable[str]]]) -> Attributes:
        """The same, with lists of values (category -> name -> values) where an attribute states none."""
        return Attributes(
            {
                category: {
                    name: one if one.values else one.model_copy(update={"values": tuple(values)})
                    for name, one in named.items()
                    for values in [learnt.get(category, {}).get(name, ())]
                }
                for category, named in self.root.items()
            }
        )

    def plain(self) -> dict[str, Any]:
        """As plain data, for keys and files: `Attributes.model_validate` reads it."""
        plain: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        return plain


def recorded_values(item: Mapping[str, Any], attributes: Mapping[str, Attribute]) -> dict[str, str]:
    """Name -> value that the record of an item states; values that are not listed are left out.

    Args:
        item: a row of the items table (`attributes` as JSON text) or a record (`attributes` as a mapping).
    """
    own = item.get("attributes") or {}
    if isinstance(own, str):
        own = json.loads(own)
    found: dict[str, str] = {}
    for name, attribute in attributes.items():
        source = attribute.source or f"attributes.{name}"
        value = own.get(source.removeprefix("attributes.")) if source.startswith("attributes.") else item.get(source)
        stated = value if isinstance(value, list | tuple) else [value]
        for one in stated:
            canonical = attribute.canonical(str(one)) if _is_plain(one) else None
            if canonical is not None:
                found[name] = canonical
                break
    return found


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
