"""Parse YAML to plain values, with the line and column of every setting.

Values are plain: no tags, no dates, no key twice. An alias counts as often as it is used, so that a text of a few lines
cannot stand for more than `MOST_VALUES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import yaml

MOST_VALUES = 200_000
"""Keys and values of a text, those behind aliases counted each time."""
MOST_DEPTH = 100

Path = tuple[str, ...]
"""Keys that lead to a setting, from the outermost."""


@dataclass(frozen=True, order=True)
class Place:
    """Line and column in a text, from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


class YamlError(ValueError):
    """A text that is no YAML.

    Attributes:
        faults: each with its place, None where that is not known.
    """

    def __init__(self, faults: Sequence[tuple[Place | None, str]], several_lines: bool = True) -> None:
        self.faults = list(faults)
        shown = [f"{f' at line {place.line}' if place and several_lines else ''}: {what}" for place, what in faults]
        super().__init__("; ".join(f"not YAML{one}" for one in shown))


@dataclass(frozen=True)
class YamlText:
    """A parsed text.

    Attributes:
        value: what it holds, in plain values.
        places: keys that lead to a setting -> where its key stands; entries of lists are counted from 0.
        values: the same -> where its value begins.
    """

    value: Any
    places: Mapping[Path, Place] = field(default_factory=dict)
    values: Mapping[Path, Place] = field(default_factory=dict)


def parse_yaml(text: str) -> Any:
    """Parse a YAML text to a new value, which the caller may change.

    Raises:
        YamlError: it is no YAML; one line, with the line's number where there are several.
    """
    return deepcopy(_parse(text).value)


def read_yaml(text: str) -> YamlText:
    """Parse a YAML text to a new value and the places of its settings.

    Raises:
        YamlError: it is no YAML.
    """
    parsed = _parse(text)
    return YamlText(deepcopy(parsed.value), parsed.places, parsed.values)


class _Loader(yaml.SafeLoader):
    """Loader that notes duplicate keys, which YAML forbids and of which PyYAML silently keeps the last.

    A date stays text: settings are stored as JSON, which knows no dates.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.doubled: list[tuple[Place, str]] = []

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: dict[str, Place] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    self.doubled.append((_place(key), f"key {key.value!r} stands twice"))
                seen.setdefault(key.value, _place(key))
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in own if tag != "tag:yaml.org,2002:timestamp"]
    for first, own in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@lru_cache(maxsize=32)
def _parse(text: str) -> YamlText:
    several = "\n" in text.strip()
    try:  # cached: a run reads the same policy for every stage that needs it
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if loader.doubled:
                raise YamlError([*sorted(loader.doubled)], several)
            if node is None:
                return YamlText(None)
            _check_size(node)
            keys, values = {}, {}
            for path, key, value in _settings(node, ()):
                keys[path], values[path] = _place(key), _place(value)  # before merge keys are resolved in place
            return YamlText(loader.construct_document(node), keys, values)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = None if mark is None else Place(mark.line + 1, mark.column + 1)
        raise YamlError([(place, _problem(error))], several) from error
    except YamlError:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a control character
        raise YamlError([(None, str(error).splitlines()[0])]) from error


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = str(error.problem)
    if "'\\t'" in problem:
        return f"{problem}: indent by spaces"
    if problem.startswith("could not determine a constructor"):
        return "a tag such as !name is not allowed: write plain values"
    return problem


def _check_size(root: yaml.Node) -> None:
    """Refuse a text that stands for too much; raises `YamlError`."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node, depth: int) -> int:
        if depth > MOST_DEPTH:
            raise YamlError([(_place(node), f"it is nested more than {MOST_DEPTH} deep")])
        known = sizes.get(id(node))
        if known is not None:
            return known
        sizes[id(node)] = MOST_VALUES + 1  # an alias to what it stands in
        found = 1
        if not isinstance(node, yaml.ScalarNode):
            for one in node.value:
                found += sum(size(part, depth + 1) for part in (one if isinstance(one, tuple) else (one,)))
        if found > MOST_VALUES:
            raise YamlError([(_place(node), f"it stands for more than {MOST_VALUES:,} values: use fewer aliases")])
        sizes[id(node)] = found
        return found

    size(root, 0)


def _settings(node: yaml.Node, path: Path) -> Iterator[tuple[Path, yaml.Node, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                own = (*path, str(key.value))
                yield own, key, value
                yield from _settings(value, own)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            own = (*path, str(number))
            yield own, value, value
            yield from _settings(value, own)


def _place(node: yaml.Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)
