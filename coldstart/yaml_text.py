"""YAML as the pipeline and prompt files use it: plain values, no key twice, and faults of one line."""

from __future__ import annotations

from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping: YAML forbids it, and PyYAML keeps the last in silence.

    A date stays the text that it is: settings are kept as JSON, which knows no dates.
    """

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"key {key.value!r} stands twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return node


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in own if tag != "tag:yaml.org,2002:timestamp"]
    for first, own in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: it is no YAML; one line, with the line's number where there are several.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        where = f" at line {error.problem_mark.line + 1}" if error.problem_mark and "\n" in text.strip() else ""
        raise ValueError(f"not YAML{where}: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a control character
        raise ValueError(f"not YAML: {str(error).splitlines()[0]}") from error
