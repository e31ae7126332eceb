"""Read and write descriptions of items as typed fields and JSON; checks nothing.

`attributes` come before `summary` in a prompt's `output` where the model should decide before it describes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coldstart.core.attributes import Attribute

FIELDS = ("summary", "attributes", "keywords", "queries")
"""Every field that a prompt may ask for."""
MAX_SUMMARY = 400
MAX_VALUE = 60
MAX_WORDS = 60
MAX_LISTED = 8
"""Characters of a summary, an attribute's value and a keyword or query; entries of a list."""


@dataclass(frozen=True)
class Description:
    """Generated description of one item.

    Attributes:
        summary: one or two sentences.
        attributes: name -> value; those that are not known are left out.
        keywords: single words or short names.
        queries: what someone would type to find it.
    """

    summary: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    keywords: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.summary or self.attributes or self.keywords or self.queries)

    def dumps(self, output: Sequence[str] = FIELDS) -> str:
        """Write JSON on one line: the fields of `output` in that order, as `json_schema` states them."""
        fields: dict[str, Any] = {
            "summary": self.summary,
            "attributes": dict(self.attributes),
            "keywords": list(self.keywords),
            "queries": list(self.queries),
        }
        return json.dumps({name: fields[name] for name in output}, ensure_ascii=False)


def json_schema(attributes: Mapping[str, Attribute], output: Sequence[str] = FIELDS) -> dict[str, Any]:
    """Build the JSON schema (draft 2020-12) of what `Description.dumps` writes: nothing else, in that order.

    Attributes may be left out; listed values are an `enum`.
    """
    text = {"type": "string", "minLength": 1}
    words = {"type": "array", "items": {**text, "maxLength": MAX_WORDS}, "maxItems": MAX_LISTED}
    values = {
        name: {"type": "string", "enum": list(one.values)} if one.values else {**text, "maxLength": MAX_VALUE}
        for name, one in attributes.items()
    }
    parts: dict[str, Any] = {
        "summary": {**text, "maxLength": MAX_SUMMARY},
        "attributes": {"type": "object", "properties": values, "additionalProperties": False},
        "keywords": words,
        "queries": words,
    }
    return {
        "type": "object",
        "properties": {name: parts[name] for name in output},
        "required": list(output),
        "additionalProperties": False,
    }


def parse(text: str, output: Sequence[str] = FIELDS) -> Description:
    """Parse a model's text as a description.

    Raises:
        ValueError: it is no JSON object, lacks a field of `output`, has another one, or one of another type.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"no JSON object but {type(found).__name__}")
    if missing := [name for name in output if name not in found]:
        raise ValueError(f"lacks {', '.join(missing)}")
    if others := [name for name in found if name not in output]:
        raise ValueError(f"has {', '.join(others)}, which the prompt did not request")
    summary = found.get("summary", "")
    if not isinstance(summary, str):
        raise ValueError(f"summary is {type(summary).__name__}, not text")
    attributes = found.get("attributes", {})
    if not isinstance(attributes, dict) or not all(isinstance(value, str) for value in attributes.values()):
        raise ValueError("attributes is no object of texts")
    lists = {}
    for name in ("keywords", "queries"):
        words = found.get(name, [])
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"{name} is no list of texts")
        lists[name] = tuple(words)
    return Description(summary, attributes, lists["keywords"], lists["queries"])


def sentence(attributes: Mapping[str, str]) -> str:
    """Join attribute values in their order to a sentence, such as `Men Brown Casual Shoes.`."""
    return f"{' '.join(attributes.values())}." if attributes else ""


_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+")


def split_sentences(text: str) -> list[str]:
    """Split a text after the marks that end sentences, where a blank follows; an empty one gives one empty sentence."""
    return _SENTENCE_END.split(text.strip())
