"""Define the attributes that descriptions state, by category, as the pipeline file lists them.

An attribute has a name, the field of the item's record that states it, if any, and perhaps a fixed list of values.
Knows nothing of models, tables or checks.
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
    """One attribute that a description may state.

    Values are compared without regard to case; `aliases` name further words for a value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    source: str | None = Field(default=None, alias="from")
    """Field of the record that states its true value: `category`, `creator`, `tags` (the first that is listed), or
    `attributes.KEY`; by default `attributes.` and its own name."""
    values: tuple[str, ...] = ()
    """All its possible values; none: any short text, or, after a fit, the values that the catalogue states."""
    visual: bool = False
    """True if a picture shows it, so that a picture can be evidence for a claim."""
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
        """Find the listed value that a text names, by the value itself or an alias; None for an unknown text.

        Without a list of values returns the text itself, its spaces tidied.
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
        """List all names of a value, the value itself first."""
        return (value, *self.aliases.get(value, ()))


class Attributes(RootModel[Mapping[str, Mapping[str, Attribute]]]):
    """Attributes by category and name; `default` holds for every category that is not named."""

    model_config = ConfigDict(frozen=True)
    root: Mapping[str, Mapping[str, Attribute]] = Field(default_factory=dict)

    def of(self, category: str | None) -> Mapping[str, Attribute]:
        """Return the attributes of a category, in the order in which they are written."""
        folded = (category or "").casefold()
        own = next((found for name, found in self.root.items() if name.casefold() == folded), None)
        return own if own is not None else self.root.get(DEFAULT, {})

    def with_values(self, seen: Mapping[str, Mapping[str, Iterable[str]]]) -> Attributes:
        """Add lists of values (category -> name -> values) where an attribute states none."""
        return Attributes(
            {
                category: {
                    name: one if one.values else one.model_copy(update={"values": tuple(values)})
                    for name, one in named.items()
                    for values in [seen.get(category, {}).get(name, ())]
                }
                for category, named in self.root.items()
            }
        )

    def plain(self) -> dict[str, Any]:
        """Return plain data for keys and files, which `Attributes.model_validate` reads."""
        plain: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        return plain


def attribute_fields(attributes: Attributes) -> frozenset[str]:
    """List the fields `attributes.KEY` of a record that state attributes, of any category."""
    sources = (one.source or f"attributes.{name}" for named in attributes.root.values() for name, one in named.items())
    return frozenset(source for source in sources if source.startswith("attributes."))


def recorded_values(item: Mapping[str, Any], attributes: Mapping[str, Attribute]) -> dict[str, str]:
    """Read the attribute values that the record of an item states (name -> value), without those not listed.

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
