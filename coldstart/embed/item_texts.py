"""Texts of items for a fit, and the fields by which items are grouped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from coldstart.core import prompts
from coldstart.core.item_fields import read_attributes
from coldstart.core.pipeline import Pipeline
from coldstart.errors import ColdstartError
from coldstart.store import ITEMS, Store
from coldstart.store.freshness import PipelineState

FIELDS = ("title", "description", "category")
EVIDENCE = ("transcript", "screen_text")
GROUPS = ("title", "description", "category", "creator")
_ATTRIBUTE = "attributes."


class PairTexts:
    """Reader of texts by view: a field of the item, speech or text on screen, or a prompt over both.

    Args:
        stage: whose settings these are, for messages.
        views: field, or name or path of a prompt; its numbers are not read.
        group_by: fields whose equal values make items one group.

    Raises:
        ColdstartError: nothing to read, a prompt that cannot be read, or an unknown field.
    """

    def __init__(self, stage: str, views: Mapping[str, float], group_by: Sequence[str], pipeline: Pipeline) -> None:
        if not any(views.values()):
            raise ColdstartError(f"{stage}.texts={dict(views)}: give one of them a number above 0")
        check_fields(f"{stage}.group_by", group_by)
        self._views = {name: weight for name, weight in views.items() if weight > 0}
        self._group_by = tuple(group_by)
        self._evidence = pipeline.before(stage, "understand.evidence")
        self._duplicates = pipeline.before(stage, "understand.duplicates")

    @cached_property
    def _prompts(self) -> dict[str, prompts.Prompt]:
        return {name: prompts.load(name) for name in self._views if name not in (*FIELDS, *EVIDENCE)}

    def fingerprint(self) -> Mapping[str, Any]:
        """Return the settings that change a fit."""
        return {"views": self._views, "prompts": {name: prompt.digest for name, prompt in self._prompts.items()}}

    def read(self, store: Store, pipeline_state: PipelineState) -> dict[str, dict[str, str]]:
        """Read the texts that are not blank: item -> view -> text."""
        if not store.has(ITEMS):
            return {}
        wanted = {name for prompt in self._prompts.values() for name in prompt.inputs} | set(self._views)
        columns = [name for name in store.columns(ITEMS) if name in wanted]
        rows = store.read(ITEMS, ["item_id", *columns]).to_pylist()
        heard = self._heard(store, pipeline_state) if wanted & {*EVIDENCE, "language"} else {}
        nothing = dict.fromkeys(wanted)
        found: dict[str, dict[str, str]] = {}
        for row in rows:
            given = {**nothing, **row, **heard.get(row["item_id"], {})}
            texts = {name: self._render(name, given) for name in self._views}
            found[row["item_id"]] = {name: text for name, text in texts.items() if text}
        return found

    def _render(self, view: str, given: Mapping[str, Any]) -> str:
        if view in self._prompts:
            return self._prompts[view].render(given)
        return " ".join((given[view] or "").split())

    def _heard(self, store: Store, pipeline_state: PipelineState) -> dict[str, dict[str, Any]]:
        if self._evidence is None:
            return {}
        fresh = pipeline_state.of(self._evidence).fresh
        table = f"stage.{self._evidence}"
        rows = store.read(table, ["item_id", *EVIDENCE, "language"]).to_pylist() if fresh else []
        return {row.pop("item_id"): row for row in rows if row["item_id"] in fresh}

    def group_keys(self, store: Store, items: Sequence[str]) -> list[list[str]]:
        """List the keys of each item: fields, bytes of media, the original of a copy.

        Items that share one are of one group.
        """
        named = [labels_of(store, items, name) for name in self._group_by]
        found = self.copy_keys(store, items)
        for name, labels in zip(self._group_by, named, strict=True):
            for keys, value in zip(found, labels, strict=True):
                if value:
                    keys.append(f"{name} {value}")
        return found

    def copy_keys(self, store: Store, items: Sequence[str]) -> list[list[str]]:
        """List the keys by which items show the same: bytes of media, the original of a copy."""
        rows = store.read(ITEMS, ["item_id", "media"]).to_pylist()
        media = {row["item_id"]: [f"media {entry['digest']}" for entry in row["media"]] for row in rows}
        originals = self._originals(store)
        return [[f"item {originals.get(item, item)}", *media[item]] for item in items]

    def _originals(self, store: Store) -> dict[str, str]:
        table = f"stage.{self._duplicates}"
        if self._duplicates is None or not store.has(table):
            return {}
        rows = store.read(table, ["item_id", "duplicate_of"], where="duplicate_of IS NOT NULL").to_pylist()
        return {row["item_id"]: row["duplicate_of"] for row in rows}


def check_fields(place: str, names: Sequence[str]) -> None:
    """Check names of fields by which items are grouped.

    Args:
        place: the setting, for the message.

    Raises:
        ColdstartError: one is no such field.
    """
    for name in names:
        if not is_field(name):
            raise ColdstartError(f"{place}={name!r}: it is none of {', '.join((*GROUPS, f'{_ATTRIBUTE}NAME'))}")


def is_field(name: object) -> bool:
    """Tell whether a value names a field by which items are grouped."""
    return isinstance(name, str) and (name in GROUPS or name.startswith(_ATTRIBUTE))


def labels_of(store: Store, items: Sequence[str], field: str) -> list[str]:
    """Read a field of `GROUPS`, or `attributes.NAME`, of items, normalised as for groups; empty where not given."""
    rows = store.read(ITEMS, ["item_id", field.partition(".")[0]]).to_pylist()
    values = {row["item_id"]: _value(row, field) for row in rows}
    return [values[item] for item in items]


def _value(row: Mapping[str, Any], name: str) -> str:
    """Normalise a field for comparison: without case, punctuation and runs of blanks."""
    if name.startswith(_ATTRIBUTE):
        value = read_attributes(row["attributes"]).get(name.removeprefix(_ATTRIBUTE))
    else:
        value = row[name]
    return "" if value is None else " ".join(re.findall(r"\w+", str(value).casefold()))
