"""A prompt file from a stranger: its text cannot grow far beyond what it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from coldstart.core import prompts
from coldstart.core.settings import data_files
from coldstart.errors import ColdstartError


def write(path: Path, source: str) -> Path:
    path.write_text(f"---\nname: own\nversion: 1\ninputs: [title, price]\n---\n{source}\n", "utf-8")
    return path


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ title * 1000000000 }}", "multiplies"),
        ("{{ 9 ** 999999999 }}", "multiplies"),
        ("{% for a in title %}{% for b in title %}{% for c in title %}x{% endfor %}{% endfor %}{% endfor %}",
         "has more than 2 loops in one another"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "calls itself"),
        ("{% for a in title recursive %}{{ loop(title) }}{% endfor %}", "calls itself"),
        ("{{ title | center(1000000000) }}", "uses center"),
        ("{{ title.ljust(price) }}", "uses ljust"),
        ("{{ '%999999999d' | format(1) }}", "uses format"),
        ("{{ '%999999999d' % price }}", "uses %, which fills in texts"),
        ("{{ title['center'](999999999) }}", "uses center"),
        ("{{ title['cen' ~ 'ter'](999999999) }}", "calls a method that it looks up"),
        ("{% set f = title['cen' ~ 'ter'] %}{{ f(999999999) }}", "calls a method that it looks up"),
        ("{{ (title | attr('center'))(999999999) }}", "uses attr"),
        ("{{ title | batch(999999999, 'x') | list }}", "uses batch"),
        ("{{ title | map('center', 999999999) | list }}", "uses map"),
        ("{{ title.replace('', title).replace('', title) }}", "uses replace"),
        ("{{ title | tojson(indent=999999999) }}", "uses tojson"),
        ("{% set a = title ~ title %}{% set a = a ~ a %}{{ a }}", "sets a value from another that it sets"),
    ],
)  # fmt: skip
def test_templates_that_grow_without_bound_are_refused(tmp_path: Path, source: str, words: str) -> None:
    path = write(tmp_path / "own.md", source)
    with pytest.raises(ColdstartError) as caught:
        prompts.load(str(path))
    assert str(caught.value) == f"prompt {path} {words}: its text could grow without bound"


@pytest.mark.parametrize("name", ["range", "namespace", "lipsum"])
def test_functions_of_jinja_are_no_inputs(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "own.md", f"{{{{ {name}(99999) }}}}")
    with pytest.raises(ColdstartError) as caught:
        prompts.load(str(path))
    assert str(caught.value) == f"prompt {path} uses {name}: name it among its inputs"


def test_code_cannot_be_reached(tmp_path: Path) -> None:
    prompt = prompts.load(str(write(tmp_path / "own.md", "{{ title.__class__.__mro__ }}")))
    with pytest.raises(ColdstartError, match="cannot be rendered"):
        prompt.render({"title": "x"})


def test_usual_templates_pass(tmp_path: Path) -> None:
    source = "{% set a = title %}{% for c in a %}{{ c | upper }}{% endfor %} {{ price + 1 }} {{ title | join(', ') }}"
    assert prompts.load(str(write(tmp_path / "own.md", source))).render({"title": "ab", "price": 1}) == "AB 2 a, b"
    assert all(prompts.load(name) for name in data_files("prompts", "*.md"))
