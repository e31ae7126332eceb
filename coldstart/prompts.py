"""Prompt files: front matter and a Jinja template, rendered in a sandbox. Item text is data, never a template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from coldstart import resources
from coldstart.errors import ColdstartError
from coldstart.keys import digest

_FENCE = "---\n"


@dataclass(frozen=True)
class Prompt:
    """One prompt file.

    Attributes:
        name: as its front matter says.
        version: raised by hand when its meaning changes.
        inputs: names that the template may use.
        source: the template's text.
    """

    name: str
    version: int
    inputs: tuple[str, ...]
    source: str

    @property
    def digest(self) -> str:
        """Key of all that changes what it renders."""
        return digest({"name": self.name, "version": self.version, "inputs": self.inputs, "source": self.source})

    def render(self, values: Mapping[str, Any]) -> str:
        """The text for one item, on as few lines as it has; names besides `inputs` are not seen by the template."""
        text = _compiled(self.source).render({name: values.get(name) for name in self.inputs})
        return "\n".join(line.strip() for line in text.splitlines() if line.strip())


@cache
def _compiled(source: str) -> Template:
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False).from_string(source)


def load(name: str) -> Prompt:
    """A prompt by the name of a packaged file, or by path.

    Raises:
        ColdstartError: there is no such file, its front matter lacks something, or its template does not parse.
    """
    packaged = resources.files("prompts", "*.md")
    path = packaged.get(name, Path(name))
    if not path.is_file():
        raise ColdstartError(f"no prompt {name!r}: give a path or one of {', '.join(packaged)}")
    head, fence, source = path.read_text("utf-8").removeprefix(_FENCE).partition(f"\n{_FENCE}")
    try:
        front = yaml.safe_load(head)
        prompt = Prompt(str(front["name"]), int(front["version"]), tuple(front["inputs"]), source)
        _compiled(source)
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ColdstartError(f"prompt {path}: front matter needs name, version and inputs ({error})") from error
    except TemplateError as error:
        raise ColdstartError(f"prompt {path}: {error}") from error
    if not fence:
        raise ColdstartError(f"prompt {path}: a line of --- must end the front matter")
    return prompt
