"""Prompt files: front matter and a Jinja template, rendered in a sandbox. Item text is data, never a template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from coldstart import resources, yaml_text
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
        """The text for one item, on as few lines as it has; names besides `inputs` are not seen by the template.

        Raises:
            ColdstartError: the template does what the sandbox forbids, or what its inputs do not allow.
        """
        try:
            text = _compiled(self.source).render({name: values.get(name) for name in self.inputs})
        except Exception as error:  # whatever it is, the template did it
            raise ColdstartError(f"prompt {self.name!r} cannot be rendered: {error}") from error
        return "\n".join(line.strip() for line in text.splitlines() if line.strip())


_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)


@cache
def _compiled(source: str) -> Template:
    return _ENVIRONMENT.from_string(source)


def load(name: str) -> Prompt:
    """A prompt by the name of a packaged file, or by path.

    Raises:
        ColdstartError: there is no such file, its front matter lacks something, or its template does not parse or
            uses names that are not among its inputs.
    """
    packaged = resources.files("prompts", "*.md")
    path = packaged.get(name, Path(name))
    if not path.is_file():
        raise ColdstartError(f"no prompt {name!r}: give a path or one of {', '.join(packaged)}")
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ColdstartError(f"prompt {path} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    head, fence, source = text.removeprefix(_FENCE).partition(f"\n{_FENCE}")
    if not text.startswith(_FENCE) or not fence:
        raise ColdstartError(f"prompt {path}: put name, version and inputs between two lines of --- at the top")
    try:
        front = yaml_text.parse("\n" + head)  # lines counted as in the file
        prompt = Prompt(str(front["name"]), int(front["version"]), _names(front["inputs"]), source)
    except KeyError as error:
        raise ColdstartError(f"prompt {path}: the front matter lacks {error.args[0]}") from error
    except (TypeError, ValueError) as error:
        raise ColdstartError(
            f"prompt {path}: the front matter needs name, version (a number) and inputs (a list): {error}"
        ) from error
    try:
        _compiled(source)
        unknown = meta.find_undeclared_variables(_ENVIRONMENT.parse(source)) - set(prompt.inputs)
    except TemplateError as error:
        raise ColdstartError(f"prompt {path}: {error}") from error
    if unknown:
        raise ColdstartError(f"prompt {path} uses {', '.join(sorted(unknown))}: name it among its inputs")
    return prompt


def _names(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise ValueError(f"inputs={given!r}")
    return tuple(given)


def cut(texts: Sequence[str], budget: int, count_tokens: Callable[[Sequence[str]], Sequence[int]]) -> list[str]:
    """The first words of each text, as many as fit into `budget` tokens; a text that fits stays as it is."""
    if not texts:
        return []
    extra = count_tokens([""])[0]  # the marks that a tokenizer puts around any text
    words = [text.split() for text in texts]
    counts = count_tokens(texts)
    over = [place for place, count in enumerate(counts) if count - extra > budget]
    low, high = dict.fromkeys(over, 0), {place: len(words[place]) for place in over}  # low fits, high does not
    while open_ := [place for place in over if high[place] - low[place] > 1]:
        middles = {place: (low[place] + high[place]) // 2 for place in open_}
        sizes = count_tokens([" ".join(words[place][: middles[place]]) for place in open_])
        for place, size in zip(open_, sizes, strict=True):
            (low if size - extra <= budget else high)[place] = middles[place]
    return [" ".join(words[place][: low[place]]) if place in low else text for place, text in enumerate(texts)]
