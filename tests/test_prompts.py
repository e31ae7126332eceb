"""Prompt files: packaged ones render, faulty ones are refused with a line, item text stays data."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from coldstart import prompts, resources
from coldstart.errors import ColdstartError
from coldstart.items import CONTENT_FIELDS

PACKAGED = resources.files("prompts", "*.md")
HEAD = "---\nname: test\nversion: 1\ninputs: [title, tags]\n---\n"
FULL = {"title": "Soap", "category": "Bath", "description": "Smells\n\n of roses.", "tags": ["a", "b"], "price": 2.0}


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def make(content: str | bytes) -> str:
        path = tmp_path / "prompt.md"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return make


def refusal(name: str) -> str:
    with pytest.raises(ColdstartError) as caught:
        prompts.load(name)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_packaged_prompts_are_found() -> None:
    assert list(PACKAGED) == ["item_evidence", "item_text", "title"]


@pytest.mark.parametrize("name", PACKAGED)
def test_a_packaged_prompt_loads_and_renders(name: str) -> None:
    prompt = prompts.load(name)
    assert prompt.name == name
    assert prompt.version >= 1
    assert set(prompt.inputs) <= {field.name for field in CONTENT_FIELDS} | {"transcript", "screen_text"}
    assert "Soap" in prompt.render(FULL)
    assert prompt.render({}) == ""
    assert prompt.render(dict.fromkeys(prompt.inputs)) == ""


def test_item_text_renders_what_there_is_on_few_lines() -> None:
    prompt = prompts.load("item_text")
    assert prompt.render(FULL) == "Soap.\nBath.\nSmells\nof roses.\na, b."
    assert prompt.render({"title": "Soap", "tags": []}) == "Soap."


def test_item_text_is_data_never_a_template() -> None:
    hostile = "{{ 7 * 7 }} {% for x in y %} <script>&amp; {# gone #} ''.__class__"
    assert prompts.load("title").render({"title": hostile}) == hostile


def test_names_besides_the_inputs_are_not_seen(write: Any) -> None:
    prompt = prompts.load(write(HEAD + "{{ title }} {{ tags | length }}"))
    assert prompt.render({"title": "a", "tags": [1, 2], "price": 5}) == "a 2"
    assert refusal(write(HEAD + "{{ title }} {{ price }} {{ cost }}")) == (
        f"prompt {write(HEAD + '{{ title }} {{ price }} {{ cost }}')} uses cost, price: name it among its inputs"
    )


def test_the_digest_changes_with_all_that_changes_the_text(write: Any) -> None:
    digests = {
        prompts.load(write(text)).digest
        for text in (
            HEAD + "{{ title }}",
            HEAD + "{{ title }}!",
            HEAD.replace("version: 1", "version: 2") + "{{ title }}",
            HEAD.replace("title, tags", "tags, title") + "{{ title }}",
        )
    }
    assert len(digests) == 4
    about = HEAD.replace("version: 1", "version: 1\nabout: words") + "{{ title }}"
    assert prompts.load(write(about)).digest in digests


def test_a_prompt_crosses_process_borders(write: Any) -> None:
    prompt = prompts.load(write(HEAD + "{{ title }}"))
    assert pickle.loads(pickle.dumps(prompt)).render({"title": "a"}) == "a"


@pytest.mark.parametrize("text", [HEAD + "{{ title }}", (HEAD + "{{ title }}").replace("\n", "\r\n")])
def test_line_ends_and_byte_order_marks_do_not_matter(write: Any, text: str) -> None:
    assert prompts.load(write(b"\xef\xbb\xbf" + text.encode())).render({"title": "a"}) == "a"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", ": put name, version and inputs between two lines of --- at the top"),
        ("{{ title }}", ": put name, version and inputs between two lines of --- at the top"),
        ("---\nname: a\nversion: 1\n", ": put name, version and inputs between two lines of --- at the top"),
        ("---\nname: a\ninputs: []\n---\nx", ": the front matter lacks version"),
        (
            "---\n- a\n---\nx",
            ": the front matter needs name, version (a number) and inputs (a list): "
            "list indices must be integers or slices, not str",
        ),
        (
            "---\nname: [\n---\nx",
            ": the front matter needs name, version (a number) and inputs (a list): "
            "not YAML: expected the node content, but found '<stream end>'",
        ),
        (
            "---\nname: a\nname: b\n---\nx",
            ": the front matter needs name, version (a number) and inputs (a list): "
            "not YAML at line 3: key 'name' stands twice",
        ),
        (
            "---\nname: a\nversion: x\ninputs: []\n---\nx",
            ": the front matter needs name, version (a number) and inputs (a list): "
            "invalid literal for int() with base 10: 'x'",
        ),
        (
            "---\nname: a\nversion: 1\ninputs: title\n---\n{{ title }}",
            ": the front matter needs name, version (a number) and inputs (a list): inputs='title'",
        ),
        (HEAD + "{{ title", ": unexpected end of template, expected 'end of print statement'."),
        (HEAD + "{{ title | nope }}", ": No filter named 'nope'."),
        (HEAD.encode() + b"\xff", " is not UTF-8 at byte 52: save it as UTF-8"),
    ],
)
def test_a_faulty_prompt_is_refused(write: Any, content: str | bytes, fault: str) -> None:
    path = write(content)
    assert refusal(path) == f"prompt {path}{fault}"


def test_a_prompt_that_is_nowhere_is_refused() -> None:
    assert refusal("nope") == "no prompt 'nope': give a path or one of item_evidence, item_text, title"


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__' of 'str' object is unsafe."),
        ("{{ tags.append(1) }}", "access to attribute 'append' of 'list' object is unsafe."),
        (
            "{% for n in range(10 ** 9) %}x{% endfor %}",
            "Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000).",
        ),
        ('{% include "/etc/passwd" %}', "no loader for this environment specified"),
        ("{{ title.colour.red }}", "'str object' has no attribute 'colour'"),
        ("{{ 1 / 0 }}", "division by zero"),
    ],
)
def test_what_the_sandbox_forbids_names_the_prompt(write: Any, template: str, fault: str) -> None:
    prompt = prompts.load(write(HEAD + template))
    with pytest.raises(ColdstartError) as caught:
        prompt.render({"title": "a", "tags": [1]})
    assert str(caught.value) == f"prompt 'test' cannot be rendered: {fault}"
