"""The pages' templates: escaped, cleaned of what no reader sees, and strict about names."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from coldstart.show.tiles import clean


def environment() -> Environment:
    """Templates of this package; None prints as nothing."""
    return Environment(
        loader=PackageLoader("coldstart.show", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_cleaned,
    )


def _cleaned(value: Any) -> Any:
    """Every text that a template prints passes here."""
    if value is None:
        return ""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value
