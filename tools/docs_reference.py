"""Write the reference tables of the documentation from the code: settings, fields, commands, names, reasons, JSON.

`tools/docs_site.py` puts each in the place of a line such as `<!-- generated: settings -->`.
"""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from importlib import import_module
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).resolve().parent.parent


# -- settings


def type_text(annotation: Any) -> str:
    """Write a type as a reader of YAML knows it."""
    origin, given = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is NoneType:
        return "null"
    if origin is typing.Annotated:
        return type_text(given[0])
    if origin is Literal:
        return " | ".join(f"`{one}`" if one != "" else '`""`' for one in given)
    if origin in (typing.Union, UnionType):
        return " | ".join(type_text(one) for one in given)
    if origin in (dict, Mapping) or str(origin).endswith("abc.Mapping'>"):
        return f"mapping of {type_text(given[0])} to {type_text(given[1])}"
    if origin in (tuple, list):
        if len(given) == 2 and given[1] is not Ellipsis:
            return f"[{type_text(given[0])}, {type_text(given[1])}]"
        return f"list of {type_text(given[0])}"
    names = {str: "text", int: "whole number", float: "number", bool: "true | false", Any: "any", type(None): "null"}
    if annotation in names:
        return names[annotation]
    return {"datetime": "date or time"}.get(getattr(annotation, "__name__", ""), str(annotation))


def default_text(field: Any) -> str:
    """Write a default as YAML has it."""
    if field.is_required():
        return ""
    if field.default_factory is not None:
        name = getattr(field.default_factory, "__name__", "")
        made = field.default_factory()
        if name == "<lambda>" and isinstance(made, int):
            return "number of cores"
        return f"`{yaml_text(made)}`"
    return "" if field.default is PydanticUndefined else f"`{yaml_text(field.default)}`"


def required(field: Any) -> str:
    """Mark the type of a field without a default."""
    return ", **required**" if field.is_required() else ""


def yaml_text(value: Any) -> str:
    """Write a value in the short form of YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {yaml_text(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(yaml_text(one) for one in value) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) or '""'


def sub_model(annotation: Any) -> type[BaseModel] | None:
    """Find the model that a field holds itself, not in a list or a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def settings_table(model: type[BaseModel], place: str, defaults: Mapping[str, str] | None = None) -> Iterator[str]:
    """Write a table of the settings of a model, then one of each model that it holds."""
    from coldstart.core.pipeline_schema import field_docs

    texts, inner = field_docs(model), {}
    rows = []
    for name, field in model.model_fields.items():
        shown = field.alias or name
        meaning = field.description or texts.get(name, "")
        if (held := sub_model(field.annotation)) is not None:
            inner[shown] = held
            rows.append((f"`{shown}`", "settings", "", f"{meaning} See [below](#{anchor(f'{place}.{shown}')})."))
            continue
        default = (defaults or {}).get(name) or default_text(field)
        rows.append((f"`{shown}`", type_text(field.annotation) + required(field), default, meaning))
    yield f'<div class="settings" markdown>\n\n{table(("setting", "type", "default", "meaning"), rows)}\n</div>\n'
    for name, held in inner.items():
        yield heading(4, f"{place}.{name}")
        yield f"{first_line(held)}\n"
        yield from settings_table(held, f"{place}.{name}")


def anchor(name: str) -> str:
    """Write the anchor of a dotted name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def heading(level: int, name: str) -> str:
    """Write a heading for a name, with an anchor that other pages may use."""
    return f"\n{'#' * level} `{name}` {{ #{anchor(name)} }}\n"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Write a table of Markdown."""
    names = list(head)
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(cell(one) for one in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """Write one cell: a bar ends a column, even in code."""
    return " ".join(text.split()).replace("|", "&#124;") if "`" not in text else _cell_with_code(text)


def _cell_with_code(text: str) -> str:
    parts = " ".join(text.split()).split("`")
    marked = [
        f"<code>{escape(part).replace('|', '&#124;')}</code>" if place % 2 else part.replace("|", "&#124;")
        for place, part in enumerate(parts)
    ]
    return "".join(marked)


def first_line(documented: Any) -> str:
    """Return the first paragraph of a docstring as one line."""
    return " ".join((inspect.getdoc(documented) or "").partition("\n\n")[0].split())


def settings() -> str:
    """Write all settings of a pipeline file: the sections at its top, then each stage kind."""
    from coldstart.core import pipeline, stage
    from coldstart.core.attributes import Attribute
    from coldstart.media.limits import Limits

    limits = {name: f"`{yaml_text(value)}`" for name, value in vars(Limits()).items() if isinstance(value, int | float)}
    parts = []
    for name, model, defaults in (
        ("media", pipeline.Media, limits),
        ("engine", pipeline.Engine, None),
        ("attributes", Attribute, None),
    ):
        where = "attributes.CATEGORY.NAME" if name == "attributes" else name
        parts += [f"\n### `{where}` {{ #{anchor(name)} }}\n", f"{first_line(model)}\n"]
        parts += settings_table(model, name, defaults)
    parts.append("\n## Stages { #stages }\n")
    for kind in stage.kinds():
        module = stage.stage_module(kind)
        parts += [heading(3, kind), f"{purpose(kind)}\n"]
        if module.Settings.model_fields:
            parts += settings_table(module.Settings, kind)
        else:
            parts.append("It has no settings.\n")
    return "\n".join(parts)


def stage_kinds() -> str:
    """Write a table of the stage kinds."""
    from coldstart.core import stage

    return table(
        ("kind", "does"),
        [(f"[`{kind}`](settings.md#{anchor(kind)})", purpose(kind)) for kind in stage.kinds()],
    )


def purpose(kind: str) -> str:
    """Return the first line on a stage kind without its name."""
    from coldstart.core import stage

    text = re.sub(rf"^(?:The stage |Run |Fit )?`?{re.escape(kind)}`?: ", "", first_line(stage.stage_module(kind)))
    return text[:1].upper() + text[1:]


# -- fields


def item_fields() -> str:
    """Write the fields of a manifest row."""
    from coldstart.core.items import EXTENSIONS, SHORT_FORMS, Item, Media

    rows = model_rows(Item)
    short = {name: f"Short form of an entry of `media` with the role {name.rstrip('s')}." for name in SHORT_FORMS}
    rows += [(f"`{name}`", "text or list", text) for name, text in short.items()]
    ends: dict[str, list[str]] = {}
    for end, role in EXTENSIONS.items():
        ends.setdefault(role, []).append(end)
    return "\n".join(
        (
            '<div class="settings" markdown>\n',
            table(("field", "type", "meaning"), rows),
            "</div>\n",
            "\nAn entry of `media` has\n",
            table(("field", "type", "meaning"), model_rows(Media)),
            "\nThe end of a file's name gives its role:\n",
            table(("role", "ends"), [(role, ", ".join(f"`.{end}`" for end in names)) for role, names in ends.items()]),
        )
    )


def model_rows(model: type[BaseModel]) -> list[tuple[str, str, str]]:
    """List name, type and meaning of each field of a model of data."""
    from coldstart.core.pipeline_schema import field_docs

    texts = field_docs(model)
    rows = []
    for name, field in model.model_fields.items():
        kind = "list of entries" if name == "media" else type_text(field.annotation).replace(" | null", "")
        rows.append((f"`{name}`", kind + required(field), field.description or texts.get(name, "")))
    return rows


# -- commands


def commands() -> str:
    """Write every command with its usage, options and examples, as its help shows them."""
    from typer.main import get_command

    from coldstart.cli import app

    root: Any = get_command(app)
    return "\n".join(_command(root, ("coldstart",)))


def _command(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    name = " ".join(path)
    text, _, examples = inspect.cleandoc(command.help or "").partition("Examples:")
    inner = getattr(command, "commands", {})
    if len(path) > 1:
        yield f"\n{'##' if len(path) == 2 else '###'} `{name}` {{ #{anchor(name)} }}\n"
    yield text.replace("\b", "").strip() + "\n"
    context = command.make_context(path[-1], [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```\n{name} {usage}\n```\n"
    rows = []
    for param in command.get_params(context):
        record = param.get_help_record(context) or _argument(param, context)
        if record is not None and record[0] != "--help":
            given, meaning = record
            options = ", ".join(f"`{one}`" for one in re.split(r", (?=-)| / (?=-)", given))
            rows.append((options, meaning.replace("<", "&lt;")))
    if rows:
        yield table(("option", "meaning"), rows)
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    if lines:
        yield "```console\n" + "\n".join(f"$ {line}" for line in lines) + "\n```\n"
    if inner and len(path) == 1:
        links = [(f"[`{name} {key}`](#{anchor(f'{name} {key}')})", first_help(one)) for key, one in inner.items()]
        yield table(("command", "does"), links)
    for key, one in inner.items():
        yield from _command(one, (*path, key))


def first_help(command: Any) -> str:
    """Return the first line of a command's help."""
    return str(inspect.cleandoc(command.help or "").partition("\n")[0])


def _argument(param: Any, context: Any) -> tuple[str, str] | None:
    if param.param_type_name != "argument":
        return None
    name = str(param.make_metavar(ctx=context)).strip("[]{}").partition(" <")[0]
    return name, getattr(param, "help", None) or ""


# -- the rest


def pipelines() -> str:
    """Show the packaged pipeline files."""
    parts = []
    for path in sorted((ROOT / "pipelines").glob("*.yaml")):
        parts.append(f"\n## `{path.stem}` {{ #{path.stem} }}\n\n```yaml\n{path.read_text('utf-8').rstrip()}\n```\n")
    return "\n".join(parts)


def prompts() -> str:
    """Write a table of the packaged prompts."""
    from coldstart.core import prompts as rendering

    rows = []
    for path in sorted((ROOT / "prompts").glob("*.md")):
        prompt = rendering.load(path.stem)
        rows.append((f"`{path.stem}`", prompt.about, ", ".join(f"`{name}`" for name in prompt.inputs)))
    return table(("prompt", "is for", "inputs"), rows)


def encoders() -> str:
    """Write the first paragraph of each encoder's module."""
    return _modules("coldstart.encoders", import_module("coldstart.encoders").known())


def generators() -> str:
    """Write the first paragraph of each generator's module."""
    return _modules("coldstart.generators", import_module("coldstart.generators").known())


def mappers() -> str:
    """Write the first paragraph of each mapper's module."""
    package = "coldstart.recommend.model.mappers"
    return _modules(package, sorted(path.stem for path in _folder(package).glob("[a-z]*.py")))


def _folder(package: str) -> Path:
    return ROOT.joinpath(*package.split("."))


def _modules(package: str, names: Iterable[str]) -> str:
    rows = []
    for name in names:
        path = _folder(package) / f"{name.replace('-', '_')}.py"
        text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
        rows.append((f"`{name}`", " ".join(text.partition("\n\n")[0].split())))
    return table(("name", "what it is"), rows)


def python_names() -> str:
    """Write a section for each public name, which mkdocstrings fills from the docstrings."""
    package = import_module("coldstart")
    parts = []
    first = ("open", "Workspace")
    for name in (*first, *(name for name in package.__all__ if name not in first and not name.startswith("_"))):
        found = getattr(package, name)
        parts.append(f"\n::: {found.__module__}.{found.__qualname__}\n    options: {{heading_level: 2}}\n")
    return "\n".join(parts)


def json_shapes() -> str:
    """Write the JSON of every command: its fields, then the shapes that several share."""
    from coldstart.cli import shapes
    from coldstart.core.error_fields import KINDS

    def of(names: list[str], fields: Mapping[str, tuple[str, str]]) -> str:
        place = anchor(f"json {names[0]}") if names[0] in shapes.COMMANDS else f"shape-{names[0].lower()}"
        rows = []
        for field, (given, meaning) in fields.items():
            part = re.search(r"[A-Z]{2,}", given)
            kind = f"`{given}`"
            if part is not None:
                kind = f"[{given.replace('[', chr(92) + '[')}](#shape-{part[0].lower()})"
            rows.append((f"`{field}`", kind, meaning))
        title = ", ".join(f"`{name}`" for name in names)
        return f"\n### {title} {{ #{place} }}\n\n{table(('field', 'type', 'meaning'), rows)}"

    kinds = [(f"`{kind}`", meaning) for kind, meaning in KINDS.items()]
    alike: dict[str, list[str]] = {}
    for name, fields in shapes.COMMANDS.items():
        alike.setdefault(repr(sorted(fields.items())), []).append(name)
    parts = ["## Kinds of errors\n", table(("kind", "meaning"), kinds), "\n## Commands\n"]
    parts += [of(names, shapes.COMMANDS[names[0]]) for names in alike.values()]
    parts.append("\n## Shared shapes\n")
    parts += [of([name], fields) for name, fields in shapes.PARTS.items()]
    return "\n".join(parts)


def interaction_reasons() -> str:
    """Write the reasons of rejected interactions."""
    from coldstart.core import reasons

    return _reason_table("rows", reasons.INTERACTIONS)


def impression_reasons() -> str:
    """Write the reasons of rejected impressions and outcomes, besides those of interactions."""
    from coldstart.core import reasons

    return _reason_table("rows", reasons.IMPRESSIONS)


def claim_reasons() -> str:
    """Write the reasons of claims that were removed."""
    from coldstart.core import reasons

    return _reason_table("claims", reasons.CLAIMS)


def speech_reasons() -> str:
    """Write the reasons of words that were left out of a transcript."""
    from coldstart.core import reasons

    return _reason_table("because", reasons.SPEECH)


def _reason_table(head: str, reasons: Mapping[str, Any]) -> str:
    rows = [(f"`{code}`", reason.words, reason.remedy) for code, reason in reasons.items()]
    return table(("reason", head, "what to do"), rows)


GENERATED: Mapping[str, Callable[[], str]] = {
    "settings": settings,
    "stage-kinds": stage_kinds,
    "item-fields": item_fields,
    "commands": commands,
    "pipelines": pipelines,
    "prompts": prompts,
    "encoders": encoders,
    "generators": generators,
    "mappers": mappers,
    "python": python_names,
    "json-shapes": json_shapes,
    "interaction-reasons": interaction_reasons,
    "impression-reasons": impression_reasons,
    "claim-reasons": claim_reasons,
    "speech-reasons": speech_reasons,
}
"""Name in a page -> the function that writes what stands there."""
