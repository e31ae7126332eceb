"""Prompt files: packaged ones render, faulty ones are refused with a line, item text stays data."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from coldstart.core import description, prompts, settings
from coldstart.core.items import CONTENT_FIELDS
from coldstart.errors import ColdstartError

PACKAGED = settings.data_files("prompts", "*.md")
TEXTS = ["described", "item_described", "item_evidence", "item_text", "title"]
ASKING = [f"describe_{kind}{form}" for kind in ("product", "video") for form in ("", "_long", "_prose")]
HEAD = "---\nname: test\nversion: 1\ninputs: [title, tags]\n---\n"
ASK = HEAD[:-4] + "system: JSON.\noutput: [summary]\nbudgets: {title: 3, tags: 4}\nmax_new_tokens: 9\n---\n"
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
    assert list(PACKAGED) == ASKING + TEXTS


@pytest.mark.parametrize("name", TEXTS)
def test_a_packaged_prompt_of_an_encoder_loads_and_renders(name: str) -> None:
    prompt = prompts.load(name)
    assert prompt.name == name
    assert prompt.version >= 1
    read = {field.name for field in CONTENT_FIELDS} | {"transcript", "screen_text"}
    assert set(prompt.inputs) <= read | set(description.FIELDS)
    assert "Soap" in prompt.render({**FULL, "summary": "Rose Soap."})
    assert prompt.render({}) == ""
    assert prompt.render(dict.fromkeys(prompt.inputs)) == ""
    assert (prompt.system, prompt.output, prompt.budgets) == ("", (), {})


def test_the_digests_of_the_older_prompts_have_not_changed() -> None:
    assert {name: prompts.load(name).digest for name in ("item_evidence", "item_text", "title")} == {
        "item_evidence": "9295e9776805c9ec1341912e521d8ace",
        "item_text": "b02f78807a20d3343761d1ba59c8fc2d",
        "title": "4da7e0148f9b0857a2038282e2221458",
    }


@pytest.mark.parametrize("name", ASKING)
def test_a_packaged_prompt_of_a_generator_loads_and_renders(name: str) -> None:
    prompt = prompts.load(name)
    assert prompt.name == name
    assert set(prompt.output) <= set(description.FIELDS)
    assert list(prompt.output)[:2] == ["attributes", "summary"]
    assert set(prompt.budgets) == set(prompt.inputs) - {"price", "wanted"}
    assert prompt.system
    lines = prompt.render({}).splitlines()
    assert lines[:2] == ["<item>", "</item>"]
    assert "title: Soap" in prompt.render(FULL).splitlines()


def test_the_short_prompt_of_a_product_says_what_there_is_a_line_each() -> None:
    wanted = {"colour": ["Red", "Blue"], "scent": []}
    text = prompts.load("describe_product").render(
        {**FULL, "creator": "Suds", "facts": {"origin": "France"}, "screen_text": "100 %\nreal", "wanted": wanted}
    )
    assert text.splitlines() == [
        "<item>",
        "title: Soap",
        "category: Bath",
        "brand: Suds",
        "price: 2.0",
        "origin: France",
        "tags: a, b",
        "description: Smells of roses.",
        "on screen: 100 % real",
        "</item>",
        "JSON with attributes (colour, scent) and summary:",
    ]


def test_the_long_prompt_lists_the_values_to_choose_from() -> None:
    text = prompts.load("describe_video_long").render({"wanted": {"mood": ["calm", "wild"], "place": []}})
    assert text.splitlines()[3:6] == [
        "attributes: an object with those of these that are shown, and no others:",
        "- mood, one of: calm, wild",
        "- place",
    ]


def test_output_fields_are_those_of_a_description() -> None:
    assert prompts.OUTPUT == description.FIELDS


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


def test_each_new_entry_of_the_front_matter_changes_the_digest(write: Any) -> None:
    texts = [
        ASK,
        ASK.replace("JSON.", "XML."),
        ASK.replace("[summary]", "[summary, queries]"),
        ASK.replace("title: 3", "title: 2"),
        ASK.replace("max_new_tokens: 9", "max_new_tokens: 8"),
        HEAD,
    ]
    assert len({prompts.load(write(text + "{{ title }}")).digest for text in texts}) == len(texts)


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
        (
            ASK.replace("JSON.", "'{{ title }}'") + "x",
            ": system='{{ title }}': give one text without {{ }}, it is the same for every item",
        ),
        (
            ASK.replace("JSON.", "[a]") + "x",
            ": system=['a']: give one text without {{ }}, it is the same for every item",
        ),
        (
            ASK.replace("[summary]", "summary") + "x",
            ": output='summary': give a list of summary, attributes, keywords, queries",
        ),
        (
            ASK.replace("[summary]", "[words]") + "x",
            ": output has 'words': give each of summary, attributes, keywords, queries at most once",
        ),
        (
            ASK.replace("[summary]", "[summary, summary]") + "x",
            ": output has 'summary': give each of summary, attributes, keywords, queries at most once",
        ),
        (
            ASK.replace("title: 3", "title: 0") + "x",
            ": budgets={'title': 0, 'tags': 4}: give inputs with a number of tokens each, 1 or more",
        ),
        (
            ASK.replace("title: 3", "creator: 3") + "x",
            ": budgets has 'creator', which is not among its inputs: title, tags",
        ),
        (ASK.replace("9", "yes") + "x", ": max_new_tokens=True: give a number of tokens, 1 or more"),
        (HEAD.encode() + b"\xff", " is not UTF-8 at byte 52: save it as UTF-8"),
    ],
)
def test_a_faulty_prompt_is_refused(write: Any, content: str | bytes, fault: str) -> None:
    path = write(content)
    assert refusal(path) == f"prompt {path}{fault}"


def test_a_prompt_that_is_nowhere_is_refused() -> None:
    assert refusal("nope") == "no prompt 'nope': give a path or one of " + ", ".join(ASKING + TEXTS)


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__' of 'str' object is unsafe."),
        ("{{ tags.append(1) }}", "access to attribute 'append' of 'list' object is unsafe."),
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


def words(texts: Any) -> list[int]:
    return [len(text.split()) for text in texts]


def letters(texts: Any) -> list[int]:
    return [len(text) + 2 for text in texts]  # as a tokenizer that puts a mark at each end


def test_a_cut_keeps_the_first_words_that_fit() -> None:
    assert prompts.cut_texts(["a b c d", "a  b", ""], 3, words) == ["a b c", "a  b", ""]
    assert prompts.cut_texts([], 3, words) == []
    assert prompts.cut_texts(["abc def ghi"], 7, letters) == ["abc def"]


def test_a_cut_of_a_text_without_spaces_keeps_its_first_characters() -> None:
    assert prompts.cut_texts(["これはとても長い", "abcdef gh"], 4, letters) == ["これはと", "abcd"]


def test_values_are_cut_to_budgets_as_data(write: Any) -> None:
    prompt = prompts.load(write(ASK + "{{ title }}: {{ tags | data }}"))
    items: list[dict[str, Any]] = [
        {"title": "one\ntwo <three> four", "tags": ["a b", "x" * 9000, "c d e", "c\x00d"], "price": 3},
        {"title": None, "tags": {"size": "1 2 3 4 5", "<n>": 7}},
        {"title": "x" * 9000},
    ]
    fitted = prompt.fit(items, words)
    assert fitted[0] == {"title": "one two ‹three›", "tags": ["a b", "x" * 128, "c d"][:2]}
    assert fitted[1] == {"title": None, "tags": {"size": "1 2 3 4", "‹n›": "7"}}
    assert fitted[2] == {"title": "x" * 96, "tags": None}
    assert prompt.fit([], words) == []
    assert prompt.render(fitted[0]) == f"one two ‹three›: a b, {'x' * 128}"
