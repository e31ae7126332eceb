"""Classes files: YAML, CSV or plain lines in, checked classes out, every fault of a file reported at once.

The packaged `sample/classes.yaml` says how one is written. A CSV has the columns `class` and, if wanted, `prompt`, one
prompt a row; any other file holds one class a line, and `#` begins a comment. Encodes nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from coldstart.core.keys import digest
from coldstart.core.settings import show_value, suggestion
from coldstart.core.spelling import existing_path, similar_path
from coldstart.core.values import delimiter_of
from coldstart.errors import ColdstartError

_Model = TypeVar("_Model", bound=BaseModel)
_NEEDS_TEXTS = "give a list of texts, such as [a, b]"

TEMPLATES = ("a photo of {}",)
"""Templates of prompts where a file states none."""


class ClassFileError(ColdstartError):
    """A classes file with faults; `faults` lists them all, one line each."""

    def __init__(self, path: Path, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        count = f"{len(faults)} faults" if len(faults) > 1 else "1 fault"
        super().__init__(f"classes {path}: {count}: " + "; ".join(faults))


@dataclass(frozen=True)
class Classes:
    """Classes that items may belong to.

    Attributes:
        names: of the classes, in the file's order; no two alike but for case and spaces.
        prompts: of each class, what it looks like or is called, in words.
        unknown: what an item of none of them may be, in words.
        templates: texts with one `{}` each, where a prompt goes.
    """

    names: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    unknown: tuple[str, ...]
    templates: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Key of all of it."""
        return digest([self.names, self.prompts, self.unknown, self.templates])

    def texts(self) -> tuple[list[str], list[int]]:
        """Every prompt in every template, and the number of the class that each is for; the texts for what is of none
        of them come after the classes, each as one of its own."""
        columns = [*self.prompts, *((text,) for text in self.unknown)]
        found = [
            (template.replace("{}", prompt), number)
            for number, prompts in enumerate(columns)
            for prompt in prompts
            for template in self.templates
        ]
        return [text for text, _ in found], [number for _, number in found]


def plain(name: str) -> str:
    """Normalise a name for comparison: without case, spaces single."""
    return " ".join(name.split()).casefold()


def of_categories(categories: Iterable[str | None]) -> Classes | None:
    """Build classes from the categories of items, each by its own name; None where there are fewer than two."""
    names: dict[str, str] = {}
    for category in sorted({one for one in categories if one and one.strip()}):
        names.setdefault(plain(category), " ".join(category.split()))
    if len(names) < 2:
        return None
    every = tuple(names.values())
    return Classes(every, tuple((name,) for name in every), (), TEMPLATES)


def load(path: Path) -> Classes:
    """Read and check a classes file.

    Raises:
        ColdstartError: there is no such file, or it cannot be read.
        ClassFileError: with every fault of the file.
    """
    path = existing_path(path)
    if not path.is_file():
        raise ColdstartError(
            f"no classes file {path}{similar_path(path)}: give a .yaml or .csv, or a text file of one class a line"
        )
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ColdstartError(f"classes {path} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    except OSError as error:
        raise ColdstartError(f"cannot read classes {path}: {error.strerror or error}") from error
    by_suffix: dict[str, Callable[[str, _Context], dict[str, Any]]] = {".yaml": _yaml, ".yml": _yaml, ".csv": _csv}
    context = _Context()
    raw = by_suffix.get(path.suffix.lower(), _lines)(text, context)
    checked = None
    if raw or not context.faults:
        checked = _checked(_ClassFile, raw, context, {str(key): getattr(key, "line", 1) for key in raw})
    if checked is None or context.faults:
        in_order = sorted(context.faults, key=lambda fault: fault[0])
        raise ClassFileError(path, [f"line {line}: {text}" if line else text for line, text in in_order])
    return checked.result()


def template_faults(templates: Iterable[str]) -> list[str]:
    """Faults of templates, one line each."""
    return [
        f"template {show_value(one)}: write {{}} once, where the class goes, such as 'a photo of {{}}'"
        for one in templates
        if one.count("{}") != 1
    ]


class _Text(str):
    """One text of a file, as it stands there, with its line."""

    line: int

    def __new__(cls, text: str, line: int) -> _Text:
        made = super().__new__(cls, text)
        made.line = line
        return made


@dataclass(frozen=True)
class _NoText:
    """A list or mapping at a place for one text."""

    line: int


class _Context:
    """Faults of the syntax, and names and texts that were read before, of one file."""

    def __init__(self) -> None:
        self.faults: list[tuple[int, str]] = []
        self.names: dict[str, _Text] = {}
        self.texts: dict[str, tuple[str, int]] = {}

    def fault(self, line: int, text: str) -> None:
        self.faults.append((line, text))


def _error(line: int, text: str) -> PydanticCustomError:
    return PydanticCustomError("class_file", "{text}", {"text": text, "line": line})


def _class_name(value: _Text | _NoText, info: ValidationInfo) -> _Text:
    """Check a name: a text, not empty, and new in its file."""
    if isinstance(value, _NoText):
        raise _error(value.line, "the name of a class is a text")
    name = _Text(" ".join(value.split()), value.line)
    if not name:
        raise _error(name.line, "a class without a name")
    names: dict[str, _Text] = info.context.names  # type: ignore[union-attr]
    if before := names.get(plain(name)):
        also = "" if before == name else f" as {str(before)!r}"
        raise _error(name.line, f"class {str(name)!r} stands twice: first on line {before.line}{also}")
    names[plain(name)] = name
    return name


def _place(info: ValidationInfo) -> str:
    return f"class {str(info.data['name'])!r}" if "name" in info.data else str(info.field_name)


def _any_text(value: _Text | _NoText, info: ValidationInfo) -> _Text:
    if isinstance(value, _NoText):
        raise _error(value.line, f"{_place(info)}: {_NEEDS_TEXTS}")
    return value


def _prompt(value: _Text, info: ValidationInfo) -> _Text:
    """Check a prompt: not empty, and no prompt of its file before it."""
    text, owner = _Text(" ".join(value.split()), value.line), _place(info)
    if not text:
        raise _error(text.line, f"{owner} has an empty text")
    texts: dict[str, tuple[str, int]] = info.context.texts  # type: ignore[union-attr]
    if before := texts.get(plain(text)):
        again = f"text {show_value(str(text))} of {owner} stands twice"
        raise _error(text.line, f"{again}: first on line {before[1]} of {before[0]}")
    texts[plain(text)] = (owner, text.line)
    return text


def _template(value: _Text) -> _Text:
    for fault in template_faults([str(value)]):
        raise _error(value.line, fault)
    return value


_AnyText = Annotated[Any, AfterValidator(_any_text)]
_Prompt = Annotated[_AnyText, AfterValidator(_prompt)]
_Template = Annotated[_AnyText, AfterValidator(_template)]


class _ClassEntry(BaseModel):
    """One class of a file."""

    name: Annotated[Any, AfterValidator(_class_name)]
    prompts: tuple[_Prompt, ...]

    @field_validator("prompts", mode="wrap")
    @classmethod
    def _of_a_good_name(cls, given: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        return check(given) if "name" in info.data else ()


class _ClassFile(BaseModel):
    """All of a file."""

    model_config = ConfigDict(extra="forbid")

    classes: tuple[_ClassEntry, ...]
    unknown: tuple[_Prompt, ...] = ()
    templates: tuple[_Template, ...] = ()

    @model_validator(mode="after")
    def _two_at_least(self, info: ValidationInfo) -> Self:
        if info.context.faults:  # type: ignore[union-attr]
            return self
        if len(self.classes) + len(self.unknown) < 2:
            many = f"only {str(self.classes[0].name)!r} is there" if self.classes else "no class is there"
            raise _error(0, f"{many}: give two, or one and `unknown:` texts of what is not of it")
        if not self.classes:
            raise _error(0, "no class is there: give `classes:`")
        return self

    def result(self) -> Classes:
        """Return its classes as plain texts."""
        return Classes(
            tuple(str(one.name) for one in self.classes),
            tuple(tuple(map(str, one.prompts)) for one in self.classes),
            tuple(map(str, self.unknown)),
            tuple(dict.fromkeys(map(str, self.templates))) or TEMPLATES,
        )


class _Columns(BaseModel):
    """Columns of a CSV."""

    model_config = ConfigDict(extra="forbid")

    name: Any = Field(alias="class")
    prompt: Any = None


def _checked(model: type[_Model], raw: Mapping[str, Any], context: _Context, lines: Mapping[str, int]) -> _Model | None:
    """Validate what was read; faults go into the context, and None comes back.

    Args:
        lines: of the keys of `raw`, for those that are unknown.
    """
    try:
        return model.model_validate(dict(raw), context=context)
    except ValidationError as error:
        setting, also = ("column", ": it may have class and prompt") if model is _Columns else ("setting", "")
        known = [field.alias or name for name, field in model.model_fields.items()]
        for entry in sorted(error.errors(), key=lambda entry: entry["type"] == "missing"):
            key = str(entry["loc"][-1]) if entry["loc"] else ""
            if entry["type"] == "extra_forbidden":
                context.fault(lines[key], f"unknown {setting} {key!r}{suggestion(key, known)}{also}")
            elif entry["type"] == "missing":
                context.fault(1, f"column {key!r} is missing" if model is _Columns else f"`{key}:` is missing")
            else:
                context.fault(entry["ctx"]["line"], entry["ctx"]["text"])
        return None


def _entry(name: _Text | _NoText, prompts: Sequence[_Text | _NoText] = ()) -> dict[str, Any]:
    """Build one class as `_ClassEntry` reads it; without prompts its name is its prompt."""
    return {"name": name, "prompts": list(prompts) or [name]}


def _lines(text: str, context: _Context) -> dict[str, Any]:
    names = ((line.partition("#")[0].strip(), number) for number, line in enumerate(text.splitlines(), 1))
    return {"classes": [_entry(_Text(name, number)) for name, number in names if name]}


def _csv(text: str, context: _Context) -> dict[str, Any]:
    rows = csv.reader(io.StringIO(text), delimiter=delimiter_of(text), strict=True)
    entries: list[dict[str, Any]] = []
    owners: dict[str, dict[str, Any]] = {}
    try:
        columns = [name.strip().lower() for name in next(rows, [])]
        for column in dict.fromkeys(one for place, one in enumerate(columns) if one in columns[:place]):
            context.fault(1, f"column {column!r} stands twice")
        _checked(_Columns, dict.fromkeys(columns), context, dict.fromkeys(columns, 1))
        for cells in rows if not context.faults else ():
            line = rows.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if (over := len(cells) - len(columns)) > 0:
                context.fault(line, f"{over} cells more than columns: put texts with commas in quotes")
                continue
            row = dict(zip(columns, cells, strict=False))
            name, prompt = _Text(row.get("class", ""), line), _Text(row.get("prompt", ""), line)
            if prompt.strip() and plain(name) in owners:
                owners[plain(name)]["prompts"].append(prompt)
            else:
                entries.append(_entry(name, [prompt] if prompt.strip() else ()))
                if plain(name):
                    owners.setdefault(plain(name), entries[-1])
    except csv.Error as error:
        context.fault(rows.line_num, f"not CSV: {error}")
    return {"classes": entries}


def _yaml(text: str, context: _Context) -> dict[str, Any]:
    """Read nodes, not values: they know their lines, and `No` and `2024` stay the words that they are."""
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        context.fault(error.problem_mark.line + 1 if error.problem_mark else 1, f"not YAML: {error.problem}")
        return {}
    except (yaml.YAMLError, RecursionError) as error:
        context.fault(0, f"not YAML: {str(error).splitlines()[0]}")
        return {}
    if not isinstance(root, yaml.MappingNode):
        context.fault(1, "`classes:` is missing; for one class a line, name the file .txt")
        return {}
    parts: dict[str, Any] = {}
    for key, node in root.value:
        name = _Text(str(key.value), _line(key))
        if name in parts:
            context.fault(name.line, f"{str(name)!r} stands twice")
        elif name != "classes":
            parts[name] = _texts(node)
        elif isinstance(node, yaml.MappingNode):
            parts[name] = [_entry(_text(key), _texts(prompts)) for key, prompts in node.value]
        else:
            texts = _texts(node)
            for one in texts:
                if isinstance(one, _NoText):
                    context.fault(one.line, f"classes: {_NEEDS_TEXTS}")
            parts[name] = [_entry(one) for one in texts if isinstance(one, _Text)]
    return parts


def _texts(node: yaml.Node) -> list[_Text | _NoText]:
    """Read the texts of a list, or the one that stands for itself."""
    if not node.value and not (isinstance(node, yaml.ScalarNode) and node.style):  # nothing, or an empty list
        return []
    return [_text(one) for one in (node.value if isinstance(node, yaml.SequenceNode) else [node])]


def _text(node: yaml.Node) -> _Text | _NoText:
    return _Text(node.value, _line(node)) if isinstance(node, yaml.ScalarNode) else _NoText(_line(node))


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
