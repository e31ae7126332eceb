"""Define the attributes that descriptions state, by category, as the pipeline file lists them.

An attribute has a name, the field of the item's record that states it, if any, and perhaps a fixed list of values.
Knows nothing of models, tables or checks.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator

SOURCES = ("category", "creator", "tags")
"""Fields of a record that may state an attribute, besides `attributes.KEY`."""
DEFAULT = "default"
"""Name of the attributes of all categories that have none of their own."""


Role = Literal["kind", "colour", "audience", "material", "use", "season", "section", "brand", "other"]
"""Part that an attribute has in a sentence about an item: `a COLOUR MATERIAL KIND for AUDIENCE by BRAND`."""
ROLES: tuple[Role, ...] = get_args(Role)
_NAMES: Mapping[Role, str] = {
    "kind": "kind type sort article article_type product_type item_type product item art produktart artikel",
    "colour": "colour color colours colors base_colour base_color main_colour farbe couleur",
    "audience": "audience gender sex age_group target department for geschlecht zielgruppe",
    "material": "material materials fabric composition stoff",
    "use": "use usage occasion purpose activity anlass",
    "season": "season collection saison",
    "section": "section aisle shelf category subcategory abteilung",
    "brand": "brand make manufacturer label marke hersteller",
}
_ROLE_OF: Mapping[str, Role] = {name: role for role, names in _NAMES.items() for name in names.split()}


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
    role: Role | None = None
    """Part in a sentence: `kind` (the noun), `colour`, `audience`, `material`, `use`, `season`, `section`, `brand`, or
    `other` for a remark of its own; by default as its name says."""

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

    def role_as(self, name: str) -> Role:
        """Return the role in sentences of this attribute under a name: the stated one, or that of such names."""
        if self.role is not None:
            return self.role
        folded = re.sub(r"[\s-]+", "_", name.strip().casefold())
        found = _ROLE_OF.get(folded) or _ROLE_OF.get(folded.rpartition("_")[2])
        return found or "other"

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
        for named in plain.values():
            for one in named.values():
                if one["role"] is None:  # keys of workspaces from before there were roles stay
                    del one["role"]
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
