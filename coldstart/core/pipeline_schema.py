"""Describe pipeline files as JSON Schema, from the settings models of all stages."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from coldstart.core import stage as registry
from coldstart.core.attributes import Attribute
from coldstart.core.sections import Engine, Media

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def pipeline_schema() -> dict[str, Any]:
    """Build the JSON Schema of pipeline files.

    A stage is checked by the settings of its kind: the one that `stage` states, else the one of its name.
    """
    definitions: dict[str, Any] = {}
    kinds = {kind: _reference(kind, registry.stage_module(kind).Settings, definitions) for kind in registry.kinds()}
    for group in registry.groups():
        parts = {part: _part(kinds[f"{group}.{part}"]) for part in registry.parts(group)}
        definitions[group] = {
            "type": ["object", "null"],
            "description": f"Stages of the group {group}, each on unless it is false.",
            "properties": parts,
            "additionalProperties": False,
        }
        kinds[group] = {"$ref": f"#/$defs/{group}"}
    single = {kind: made for kind, made in kinds.items() if "." not in kind}
    engine = _reference("engine section", Engine, definitions)
    return {
        "$schema": DRAFT,
        "title": "coldstart pipeline",
        "type": "object",
        "properties": {
            "manifest": {
                "type": ["string", "null"],
                "description": "Catalogue, relative to this file; `--manifest` takes another one.",
            },
            "max_failed": {
                "type": "number",
                "minimum": 0,
                "maximum": 1,
                "default": 0.01,
                "description": "Share of items that may fail in a stage before a run stops.",
            },
            "media": _reference("media section", Media, definitions),
            "engine": {
                "anyOf": [engine, {"enum": ["local", "ray"]}],
                "description": definitions["engine section"]["description"],
            },
            "attributes": {
                "type": ["object", "null"],
                "description": "Attributes that descriptions state, by category; `default` for all.",
                "additionalProperties": {
                    "type": "object",
                    "additionalProperties": _reference("attribute", Attribute, definitions),
                },
            },
            "stages": {
                "type": "object",
                "description": "Stages in the order in which they run: a name and its settings.",
                "minProperties": 1,
                "propertyNames": {"pattern": "^[a-z0-9_]+$"},
                "additionalProperties": _stage(list(kinds), kinds),
                "properties": {kind: _named(kind, list(kinds), kinds) for kind in single},
            },
        },
        "required": ["stages"],
        "additionalProperties": False,
        "$defs": definitions,
    }


def _stage(names: list[str], kinds: dict[str, Any]) -> dict[str, Any]:
    """Build the schema of a stage that states its kind."""
    return {
        "type": "object",
        "properties": {"stage": {"enum": names, "description": "Kind of the stage, where its name is another."}},
        "required": ["stage"],
        "allOf": [
            {"if": {"properties": {"stage": {"const": name}}, "required": ["stage"]}, "then": kinds[name]}
            for name in names
        ],
    }


def _named(kind: str, names: list[str], kinds: dict[str, Any]) -> dict[str, Any]:
    """Build the schema of a stage with the name of a kind, which it has unless it states another."""
    return {
        "if": {"type": "object", "required": ["stage"]},
        "then": _stage(names, kinds),
        "else": kinds[kind],
    }


def _part(reference: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [reference, {"type": "boolean"}]}


def _reference(name: str, model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    """Add the schema of one model to the definitions; returns a reference to it."""
    if name not in definitions:
        made = model.model_json_schema(ref_template="#/$defs/{model}")
        for own, inner in made.pop("$defs", {}).items():
            definitions.setdefault(own, inner)
        _describe(made, model)
        for inner_model in _models(model):
            if inner_model.__name__ in definitions:
                _describe(definitions[inner_model.__name__], inner_model)
        made["type"] = ["object", "null"] if not made.get("required") else "object"
        if name in registry.kinds():
            made["properties"]["stage"] = {"enum": [*registry.kinds(), *registry.groups()]}
        definitions[name] = made
    return {"$ref": f"#/$defs/{name}"}


def _models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield the models of the fields of a model."""
    for info in model.model_fields.values():
        if inspect.isclass(info.annotation) and issubclass(info.annotation, BaseModel):
            yield info.annotation
            yield from _models(info.annotation)


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Add the docstrings of the fields of a model to its schema."""
    found = field_docs(model)
    for name, setting in schema.get("properties", {}).items():
        if name in found:
            setting["description"] = found[name]
    if model.__doc__:
        schema["description"] = " ".join(inspect.cleandoc(model.__doc__).split())


def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """Read the docstring below each field of a model and of those that it inherits from, in one line each."""
    found: dict[str, str] = {}
    for own in reversed(model.__mro__):
        if not issubclass(own, BaseModel) or own is BaseModel:
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(own))).body[0]
        assert isinstance(body, ast.ClassDef), "the source of a class"
        for before, after in zip(body.body, body.body[1:], strict=False):
            if not isinstance(before, ast.AnnAssign) or not isinstance(before.target, ast.Name):
                continue
            if (
                isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                found[before.target.id] = " ".join(after.value.value.split())
    return found
