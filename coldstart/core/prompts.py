"""Read prompt files (front matter and a Jinja template) and render them in a sandbox. Item text is never a template.

A file with `output` is for a generator: its values are sanitized (`coldstart.core.sanitize`) before the template sees
them, so that no template can forget to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from coldstart.core import sanitize, settings
from coldstart.core.keys import digest
from coldstart.core.spelling import existing_path
from coldstart.core.yaml_text import parse_yaml
from coldstart.errors import ColdstartError

OUTPUT = ("summary", "attributes", "keywords", "queries")
"""Fields of a description that a prompt may request."""
MAX_NEW_TOKENS = 128
"""Tokens of an answer where a prompt states none."""
_FENCE = "---\n"
_CHARACTERS_A_TOKEN = 32  # more than any text has on average, so that what is cut before counting could never fit


@dataclass(frozen=True)
class Prompt:
    """One prompt file.

    Attributes:
        name: as stated in its front matter.
        version: raised by hand when its meaning changes.
        inputs: names that the template may use.
        source: the template's text.
        system: text before every rendered text, the same for all items; empty for texts that an encoder reads.
        output: requested fields, in the order in which they are written; empty likewise.
        budgets: input -> tokens of it that are read, as the generator counts them.
        max_new_tokens: most tokens of an answer.
        about: its purpose, for people.
    """

    name: str
    version: int
    inputs: tuple[str, ...]
    source: str
    system: str = ""
    output: tuple[str, ...] = ()
    budgets: Mapping[str, int] = field(default_factory=dict, hash=False)
    max_new_tokens: int = MAX_NEW_TOKENS
    about: str = field(default="", compare=False)

    @property
    def digest(self) -> str:
        """Key of everything that changes rendered texts and their answers."""
        parts: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "inputs": self.inputs,
            "source": self.source,
        }
        optional = {"system": self.system, "output": self.output, "budgets": dict(self.budgets)}
        parts |= {name: value for name, value in optional.items() if value}
        if self.max_new_tokens != MAX_NEW_TOKENS:
            parts["max_new_tokens"] = self.max_new_tokens
        return digest(parts)

    def render(self, values: Mapping[str, Any]) -> str:
        """Render the text of one item without empty lines; the template sees the names in `inputs` alone.

        Raises:
            ColdstartError: the template does what the sandbox forbids, or what its inputs do not allow.
        """
        given = {name: values.get(name) for name in self.inputs}
        if self.output:
            given = {name: sanitize.sanitize_tree(value) for name, value in given.items()}
        try:
            text = _compiled(self.source).render(given)
        except Exception as error:  # whatever it is, the template did it
            raise ColdstartError(f"prompt {self.name!r} cannot be rendered: {error}") from error
        return "\n".join(line.strip() for line in text.splitlines() if line.strip())

    def fit(self, items: Sequence[Mapping[str, Any]], count_tokens: CountTokens) -> list[dict[str, Any]]:
        """Sanitize the values of each item and cut each to its budget, counting the texts of all items in one go.

        Texts are cut by words, lists by entries, mappings by values, each of which has the budget for itself.

        Args:
            count_tokens: texts -> tokens of each, as the generator that will read them counts.
        """
        fitted = [
            {name: sanitize.sanitize_tree(item.get(name), self._characters(name)) for name in self.inputs}
            for item in items
        ]
        for name, budget in self.budgets.items():
            texts = [value[name] for value in fitted if isinstance(value[name], str)]
            short = iter(cut_texts(texts, budget, count_tokens))
            for value in fitted:
                if isinstance(value[name], str):
                    value[name] = next(short)
                elif isinstance(value[name], list):
                    value[name] = _first(value[name], budget, count_tokens)
                elif isinstance(value[name], dict):
                    few = cut_texts([str(one) for one in value[name].values()], budget, count_tokens)
                    value[name] = dict(zip(value[name], few, strict=True))
        return fitted

    def _characters(self, name: str) -> int | None:
        return self.budgets[name] * _CHARACTERS_A_TOKEN if name in self.budgets else None


CountTokens = Callable[[Sequence[str]], Sequence[int]]

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
_ENVIRONMENT.globals.clear()  # `range` and `namespace`, by which a text grows without end
_ENVIRONMENT.filters["data"] = sanitize.sanitize_text


@cache
def _compiled(source: str) -> Template:
    return _ENVIRONMENT.from_string(source)


def load(name: str) -> Prompt:
    """Load a prompt by the name of a packaged file, or by path.

    Raises:
        ColdstartError: there is no such file, its front matter lacks something, or its template does not parse or
            uses names that are not among its inputs.
    """
    packaged = settings.data_files("prompts", "*.md")
    path = packaged.get(name) or existing_path(Path(name))
    if not path.is_file():
        raise ColdstartError(f"no prompt {name!r}: give a path or one of {', '.join(packaged)}")
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ColdstartError(f"prompt {path} is not UTF-8 at byte {error.start}: save it as UTF-8") from error
    return _parsed(path, text)


@cache
def _parsed(path: Path, text: str) -> Prompt:
    """Parse the text of a prompt file; several stages read the same one."""
    head, fence, source = text.removeprefix(_FENCE).partition(f"\n{_FENCE}")
    if not text.startswith(_FENCE) or not fence:
        raise ColdstartError(f"prompt {path}: put name, version and inputs between two lines of --- at the top")
    try:
        front = parse_yaml("\n" + head)  # lines counted as in the file
        prompt = Prompt(str(front["name"]), int(front["version"]), _names(front["inputs"]), source)
        prompt = replace(prompt, **_optional(front, prompt.inputs))
    except _EntryError as error:
        raise ColdstartError(f"prompt {path}: {error}") from error
    except KeyError as error:
        raise ColdstartError(f"prompt {path}: the front matter lacks {error.args[0]}") from error
    except (TypeError, ValueError) as error:
        raise ColdstartError(
            f"prompt {path}: the front matter needs name, version (a number) and inputs (a list): {error}"
        ) from error
    try:
        if fault := _unbounded(source):  # before it is compiled, which computes constants
            raise ColdstartError(f"prompt {path} {fault}: its text could grow without bound")
        _compiled(source)
        unknown = meta.find_undeclared_variables(_ENVIRONMENT.parse(source)) - set(prompt.inputs)
    except TemplateError as error:
        raise ColdstartError(f"prompt {path}: {error}") from error
    if unknown:
        raise ColdstartError(f"prompt {path} uses {', '.join(sorted(unknown))}: name it among its inputs")
    return prompt


_MOST_LOOPS = 2
_WIDE = (
    *("format", "format_map", "center", "ljust", "rjust", "zfill", "expandtabs", "indent", "wordwrap"),
    *("batch", "slice", "tojson", "replace", "translate", "attr", "map"),
)
"""Filters and methods by which a number makes a text as long as it says, a text is put in for each character of
another, or another of these is called."""


def _unbounded(source: str) -> str | None:
    """Say by what the text of a template could grow far beyond its inputs; None if by nothing."""
    tree = _ENVIRONMENT.parse(source)
    if any(tree.find_all((nodes.Mul, nodes.Pow))):
        return "multiplies"
    if any(tree.find_all(nodes.Mod)):
        return "uses %, which fills in texts"
    if any(tree.find_all((nodes.Macro, nodes.CallBlock))) or any(loop.recursive for loop in tree.find_all(nodes.For)):
        return "calls itself"
    if _depth(tree) > _MOST_LOOPS:
        return f"has more than {_MOST_LOOPS} loops in one another"
    for node in tree.find_all((nodes.Filter, nodes.Getattr, nodes.Getitem)):
        if isinstance(node, nodes.Getitem):  # a[b] is a.b where b is its name
            name = node.arg.value if isinstance(node.arg, nodes.Const) else None
        else:
            name = node.name if isinstance(node, nodes.Filter) else getattr(node, "attr", None)
        if name in _WIDE:
            return f"uses {name}"
    own = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
    for call in tree.find_all(nodes.Call):
        by_name = isinstance(call.node, nodes.Name) and call.node.name not in own  # no input is a function
        if not (isinstance(call.node, nodes.Getattr) or by_name):
            return "calls a method that it looks up"
    kept = [set_to for set_to in tree.find_all(nodes.Assign) if isinstance(set_to.target, nodes.Name)]
    named = {str(set_to.target.name) for set_to in kept if isinstance(set_to.target, nodes.Name)}
    for set_to in kept:
        if any(
            name.name in named for name in [*set_to.node.find_all(nodes.Name), set_to.node] if hasattr(name, "name")
        ):
            return "sets a value from another that it sets"
    return None


def _depth(node: nodes.Node) -> int:
    """Count the loops that stand in one another."""
    inner = max((_depth(child) for child in node.iter_child_nodes()), default=0)
    return inner + isinstance(node, nodes.For)


def _names(given: Any) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise ValueError(f"inputs={given!r}")
    return tuple(given)


class _EntryError(Exception):
    """Fault of one entry of the front matter, worded for a person."""


def _optional(front: Mapping[str, Any], inputs: Sequence[str]) -> dict[str, Any]:
    """Read the optional entries of the front matter that are present.

    Raises:
        _EntryError: one of them is not what it has to be.
    """
    found: dict[str, Any] = {"about": str(front.get("about", ""))}
    if "system" in front:
        found["system"] = front["system"]
        if not isinstance(front["system"], str) or any(mark in front["system"] for mark in ("{{", "{%", "{#")):
            raise _EntryError(
                f"system={front['system']!r}: give one text without {{{{ }}}}, it is the same for every item"
            )
        found["system"] = front["system"].strip()
    if "output" in front:
        given = front["output"]
        if not isinstance(given, list) or not given or not all(isinstance(name, str) for name in given):
            raise _EntryError(f"output={given!r}: give a list of {', '.join(OUTPUT)}")
        if wrong := [name for name in given if name not in OUTPUT] or [n for n in given if given.count(n) > 1]:
            raise _EntryError(f"output has {wrong[0]!r}: give each of {', '.join(OUTPUT)} at most once")
        found["output"] = tuple(given)
    if "budgets" in front:
        found["budgets"] = front["budgets"]
        if not isinstance(front["budgets"], dict) or not all(_count(tokens) for tokens in front["budgets"].values()):
            raise _EntryError(f"budgets={front['budgets']!r}: give inputs with a number of tokens each, 1 or more")
        if unknown := [name for name in front["budgets"] if name not in inputs]:
            raise _EntryError(f"budgets has {unknown[0]!r}, which is not among its inputs: {', '.join(inputs)}")
    if "max_new_tokens" in front:
        found["max_new_tokens"] = front["max_new_tokens"]
        if not _count(front["max_new_tokens"]):
            raise _EntryError(f"max_new_tokens={front['max_new_tokens']!r}: give a number of tokens, 1 or more")
    return found


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _first(entries: Sequence[Any], budget: int, count_tokens: CountTokens) -> list[Any]:
    """Select the entries, in their order, that fit into the budget together; leaves out one that is too long."""
    if not entries:
        return []
    kept, left = [], budget
    extra = count_tokens([""])[0]
    for entry, tokens in zip(entries, count_tokens([f"{entry}, " for entry in entries]), strict=True):
        if tokens - extra <= left:
            left -= tokens - extra
            kept.append(entry)
    return kept


def cut_texts(texts: Sequence[str], budget: int, count_tokens: CountTokens) -> list[str]:
    """Cut each text to its first words that fit into `budget` tokens; a text that fits stays as it is.

    Where not even the first word fits, as in scripts that are written without spaces, its first characters.
    """
    if not texts:
        return []
    extra = count_tokens([""])[0]  # the marks that a tokenizer puts around any text
    over = [place for place, count in enumerate(count_tokens(texts)) if count - extra > budget]
    words = {place: texts[place].split() for place in over}
    found = _most(words, " ", budget + extra, count_tokens)
    letters = {place: words[place][0] for place in over if not found[place] and words[place]}
    found |= _most(letters, "", budget + extra, count_tokens)
    return [found.get(place, text) for place, text in enumerate(texts)]


def _most(pieces: Mapping[int, Sequence[str]], between: str, budget: int, count_tokens: CountTokens) -> dict[int, str]:
    """Find by halving, for each text that does not fit, the most of its first pieces that do."""
    low, high = dict.fromkeys(pieces, 0), {place: len(own) for place, own in pieces.items()}  # low fits, high does not
    while open_ := [place for place in pieces if high[place] - low[place] > 1]:
        middles = {place: (low[place] + high[place]) // 2 for place in open_}
        sizes = count_tokens([between.join(pieces[place][: middles[place]]) for place in open_])
        for place, size in zip(open_, sizes, strict=True):
            (low if size <= budget else high)[place] = middles[place]
    return {place: between.join(own[: low[place]]) for place, own in pieces.items()}
