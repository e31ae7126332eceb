"""Count what the first rows of a catalogue have: pictures, videos, words, categories, prices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from coldstart.core.items import EXTENSIONS
from coldstart.core.language import count_languages, mostly_english
from coldstart.ingest.catalogue import SourcePlan, plan_table
from coldstart.ingest.manifest import Manifest
from coldstart.ingest.sources import find_tables

ROWS_READ = 2000
_ROLES = {
    "image": "pictures",
    "images": "pictures",
    "video": "videos",
    "videos": "videos",
    "audio": "sounds",
}


@dataclass
class Contents:
    """Counts of the first rows of a catalogue.

    Attributes:
        path: the manifest or folder; settings: of the stage ingest by which it is read.
        rows: so many were read.
        having: `pictures`, `videos`, `sounds`, `titles`, `descriptions`, `categories`, `prices` -> rows that have them.
        hosts: web hosts of media -> how many media.
        languages: code -> items whose title and description are in it, `und` where that does not show.
    """

    path: Path
    settings: Mapping[str, Any]
    rows: int = 0
    having: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)

    @property
    def is_english(self) -> bool | None:
        """Tell whether an encoder for English serves; None where too few items show their language."""
        return mostly_english(self.languages)


def read_contents(path: Path) -> Contents:
    """Read the first rows of a manifest or a folder of media.

    Raises:
        ColdstartError: it cannot be read, or its columns are not understood.
    """
    plan = plan_table(str(path), find_tables(path.expanduser().absolute())[0], {}, {}, ())
    found = Contents(plan.path, plan.settings())
    texts: list[tuple[Any, Any]] = []
    for entry in islice(_manifest(plan).entries(), ROWS_READ):
        found.rows += 1
        fields = entry.fields
        media = list(_media(fields))
        found.having.update({role for role, _ in media})
        found.hosts.update(host for _, uri in media if (host := urlsplit(uri).hostname) and uri.startswith("http"))
        for name, counted in (("title", "titles"), ("description", "descriptions"), ("category", "categories")):
            found.having[counted] += bool(fields.get(name))
        found.having["prices"] += fields.get("price") is not None
        texts.append((fields.get("title"), fields.get("description")))
    found.languages = count_languages(texts)
    return found


def _manifest(plan: SourcePlan) -> Manifest:
    settings = plan.settings()
    if plan.recognition is None:
        return Manifest(plan.path)
    return Manifest(plan.path, settings["map"], clean=settings["clean"], id_from=settings["id_from"])


def _media(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the kind and the place of each medium of a row, as its short forms or its list name them."""
    for name, counted in _ROLES.items():
        for one in _listed(fields.get(name)):
            yield counted, one if isinstance(one, str) else ""
    for one in _listed(fields.get("media")):
        uri = str(one.get("uri") or "") if isinstance(one, Mapping) else str(one)
        role = one.get("role") if isinstance(one, Mapping) else None
        known = _ROLES.get(str(role or EXTENSIONS.get(uri.rpartition(".")[2].lower())))
        if known:
            yield known, uri


def _listed(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
