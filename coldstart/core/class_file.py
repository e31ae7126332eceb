"""Classes files: YAML, CSV or plain lines in, checked classes out, every fault of a file reported at once.

The packaged `sample/classes.yaml` says how one is written. A CSV has the columns `class` and, if wanted, `prompt`, one
prompt a row; any other file holds one class a line, and `#` begins a comment. Encodes nothing.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from coldstart.core.keys import digest
from coldstart.core.settings import nearest, shown
from coldstart.errors import ColdstartError

TEMPLATES = ("a photo of {}",)
"""What prompts are put into where a file says nothing."""
_PARTS = ("templates", "classes", "unknown")
_COLUMNS = ("class", "prompt")


class ClassFileError(ColdstartError):
    """A classes file with faults; `faults` lists them all, one line each."""

    def __init__(self, path: Path, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        count = f"{len(faults)} faults" if len(faults) > 1 else "1 fault"
        super().__init__(f"classes {path}: {count}: " + "; ".join(faults))


@dataclass(frozen=True)
class Classes:
    """What items may be.

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
    """A name as names are compared: without case, spaces single."""
    return " ".join(name.split()).casefold()


def load(path: Path) -> Classes:
    """Read and check a classes file.

    Raises:
        ColdstartError: there is no such file, or it cannot be read.
        ClassFileError: with every fault of the file.
    """
    if not path.is_file():
        raise ColdstartError(f"no classes file {path}: give a .yaml or .csv, or a text file of one class a line")
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ColdstartError(f"classes {path} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    except OSError as error:
        raise ColdstartError(f"cannot read classes {path}: {error.strerror or error}") from error
    read = {".yaml": _yaml, ".yml": _yaml, ".csv": _csv}.get(path.suffix.lower(), _lines)
    draft = _Draft()
    read(text, draft)
    draft.check()
    if draft.faults:
        raise ClassFileError(path, draft.faults)
    return Classes(
        tuple(draft.classes), tuple(map(tuple, draft.classes.values())), tuple(draft.unknown), tuple(draft.templates)
    )


def template_faults(templates: Iterable[str]) -> list[str]:
    """Faults of templates, one line each."""
    return [
        f"template {shown(one)}: write {{}} once, where the class goes, such as 'a photo of {{}}'"
        for one in templates
        if one.count("{}") != 1
    ]


class _Draft:
    """What was read so far, and what was wrong with it."""

    def __init__(self) -> None:
        self.classes: dict[str, list[str]] = {}
        self.unknown: list[str] = []
        self.templates: list[str] = list(TEMPLATES)
        self.faults: list[str] = []
        self._names: dict[str, tuple[str, int]] = {}
        self._prompts: dict[str, tuple[str, int]] = {}

    def fault(self, line: int, said: str) -> None:
        self.faults.append(f"line {line}: {said}")

    def add_class(self, name: str, line: int) -> bool:
        """A class without prompts so far; whether it is a new one."""
        name = " ".join(name.split())
        if not name:
            self.fault(line, "a class without a name")
            return False
        if before := self._names.get(plain(name)):
            also = "" if before[0] == name else f" as {before[0]!r}"
            self.fault(line, f"class {name!r} stands twice: first on line {before[1]}{also}")
            return False
        self._names[plain(name)] = (name, line)
        self.classes[name] = []
        return True

    def add_prompt(self, owner: str | None, text: str, line: int) -> None:
        """A prompt of a class, or a text for what is none of them."""
        text = " ".join(text.split())
        of = "unknown" if owner is None else f"class {owner!r}"
        if not text:
            self.fault(line, f"{of} has an empty text")
            return
        if before := self._prompts.get(plain(text)):
            self.fault(line, f"text {shown(text)} of {of} stands twice: first on line {before[1]} of {before[0]}")
            return
        self._prompts[plain(text)] = (of, line)
        (self.unknown if owner is None else self.classes[owner]).append(text)

    def owner(self, name: str) -> str | None:
        """The class of that name, however it is written there."""
        found = self._names.get(plain(name))
        return found[0] if found else None

    def name_alone(self, name: str, line: int) -> None:
        """A class whose only prompt is its name."""
        if self.add_class(name, line):
            own = " ".join(name.split())
            self.add_prompt(own, own, line)

    def check(self) -> None:
        if not self.faults and len(self.classes) + len(self.unknown) < 2:
            many = f"only {next(iter(self.classes))!r} is there" if self.classes else "no class is there"
            self.faults.append(f"{many}: give two, or one and `unknown:` texts of what is not of it")
        elif not self.faults and not self.classes:
            self.faults.append("no class is there: give `classes:`")


def _lines(text: str, draft: _Draft) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        if name := line.partition("#")[0].strip():
            draft.name_alone(name, number)


def _csv(text: str, draft: _Draft) -> None:
    rows = csv.reader(io.StringIO(text), strict=True)
    try:
        columns = [name.strip().lower() for name in next(rows, [])]
        for place, column in enumerate(columns):
            if column not in _COLUMNS:
                draft.fault(1, f"unknown column {column!r}{nearest(column, _COLUMNS)}: it may have class and prompt")
            elif column in columns[:place]:
                draft.fault(1, f"column {column!r} stands twice")
        if "class" not in columns:
            draft.fault(1, "column 'class' is missing")
        if draft.faults:
            return
        for cells in rows:
            if any(cell.strip() for cell in cells):
                _row(dict(zip(columns, cells, strict=False)), len(cells) - len(columns), rows.line_num, draft)
    except csv.Error as error:
        draft.fault(rows.line_num, f"not CSV: {error}")


def _row(row: dict[str, str], over: int, line: int, draft: _Draft) -> None:
    if over > 0:
        draft.fault(line, f"{over} cells more than columns: put texts with commas in quotes")
        return
    name, prompt = row["class"], row.get("prompt", "")
    owner = draft.owner(name)
    if not prompt.strip():
        draft.name_alone(name, line)
    elif owner is not None or draft.add_class(name, line):
        draft.add_prompt(owner or " ".join(name.split()), prompt, line)


def _yaml(text: str, draft: _Draft) -> None:
    """By nodes, not values: they know their lines, and `No` and `2024` stay the words that they are."""
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        draft.fault(error.problem_mark.line + 1 if error.problem_mark else 1, f"not YAML: {error.problem}")
        return
    except (yaml.YAMLError, RecursionError) as error:
        draft.faults.append(f"not YAML: {str(error).splitlines()[0]}")
        return
    if not isinstance(root, yaml.MappingNode):
        draft.fault(1, "`classes:` is missing; for one class a line, name the file .txt")
        return
    parts: dict[str, yaml.Node] = {}
    for key, value in root.value:
        name = str(key.value)
        if name not in _PARTS:
            draft.fault(_line(key), f"unknown setting {name!r}{nearest(name, _PARTS)}")
        elif name in parts:
            draft.fault(_line(key), f"{name!r} stands twice")
        else:
            parts[name] = value
    if "classes" in parts:
        _yaml_classes(parts["classes"], draft)
    else:
        draft.fault(1, "`classes:` is missing")
    for text_, line in _texts(parts.get("unknown"), "unknown", draft):
        draft.add_prompt(None, text_, line)
    if "templates" in parts:
        given = _texts(parts["templates"], "templates", draft)
        for template, line in given:
            for fault in template_faults([template]):
                draft.fault(line, fault)
        draft.templates = list(dict.fromkeys(template for template, _ in given)) or list(TEMPLATES)


def _yaml_classes(node: yaml.Node, draft: _Draft) -> None:
    if not isinstance(node, yaml.MappingNode):
        for name, line in _texts(node, "classes", draft):
            draft.name_alone(name, line)
        return
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            draft.fault(_line(key), "the name of a class is a text")
        elif _empty(value):
            draft.name_alone(key.value, _line(key))
        elif draft.add_class(key.value, _line(key)):
            name = " ".join(key.value.split())
            for text, line in _texts(value, f"class {name!r}", draft):
                draft.add_prompt(name, text, line)


def _texts(node: yaml.Node | None, what: str, draft: _Draft) -> list[tuple[str, int]]:
    """The texts of a list, or the one that stands for itself, with their lines."""
    if node is None or _empty(node):
        return []
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    for one in nodes:
        if not isinstance(one, yaml.ScalarNode):
            draft.fault(_line(one), f"{what}: give a list of texts, such as [a, b]")
    return [(one.value, _line(one)) for one in nodes if isinstance(one, yaml.ScalarNode)]


def _empty(node: yaml.Node) -> bool:
    """Nothing after the colon, or an empty list."""
    return not node.value and not (isinstance(node, yaml.ScalarNode) and node.style)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
