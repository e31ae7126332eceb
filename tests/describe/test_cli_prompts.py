"""Test `coldstart prompts`: its list, one prompt, and one rendered for an item."""

from __future__ import annotations

import json
from typing import Any

import pytest
import screens
from typer.testing import CliRunner

import coldstart
from coldstart.cli import app
from coldstart.core import prompts
from coldstart.core import settings as resources
from coldstart.core.attributes import Attribute, Attributes
from coldstart.describe.writing import InputTokens, RenderedPrompt, render_prompt
from coldstart.errors import ColdstartError

PACKAGED = list(resources.data_files("prompts", "*.md"))
SYSTEM = "Describe the product for a shop, from its data and pictures alone. Leave out what they do not say."


def words(texts: Any) -> list[int]:
    return [len(text.split()) for text in texts]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A workspace of one item with marks in its text, and a pipeline that asks for a gender."""
    folder = tmp_path_factory.mktemp("prompts")
    item = {"item_id": "a", "title": "Nike <|im_start|>\nShoes", "price": 5.5, "tags": ["x", "y"]}
    (folder / "items.jsonl").write_text(json.dumps(item), "utf-8")
    uri = str(folder / "workspace")
    settings = {
        "manifest": str(folder / "items.jsonl"),
        "attributes": {"default": {"gender": {"values": ["Men", "Women"]}}},
        "stages": {"ingest": {}},
    }
    coldstart.open(uri, create=True).run(settings)
    return uri


def run_prompts(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["prompts", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def fault(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["prompts", *arguments])
    assert isinstance(result.exception, ColdstartError), result.output
    return str(result.exception)


def test_all_packaged_prompts_are_listed() -> None:
    table = run_prompts()
    assert [row[0] for row in screens.rows(table)] == PACKAGED
    assert table.endswith("input tokens: at most, of the item; the budgets of an encoder are in the pipeline file\n")
    rows = json.loads(run_prompts("--json"))["prompts"]
    assert [row["name"] for row in rows] == PACKAGED
    assert rows[0]["digest"] == prompts.load(PACKAGED[0]).digest
    assert rows[0]["output"] == ["attributes", "summary"]


def test_one_prompt_is_shown() -> None:
    assert run_prompts("title") == (
        "title 1: The title alone, for encoders whose text window is short (CLIP reads 77 tokens).\n"
        f"digest: {prompts.load('title').digest}\n"
        "inputs: title\n"
        'template:\n{{ title or "" }}\n'
    )
    lines = run_prompts("describe_video").splitlines()
    assert lines[2].startswith("inputs: title (32), category (8), creator (8), facts (12), transcript (128)")
    assert lines[3] == "output: attributes, summary, at most 96 tokens"
    assert lines[4] == f"system: {prompts.load('describe_video').system}"
    assert json.loads(run_prompts("title", "--json"))["inputs"] == ["title"]


@pytest.mark.slow
def test_a_prompt_is_rendered_for_an_item(shop: str) -> None:
    text = run_prompts("describe_product", "--item", "a", "--workspace", shop, "--generator", "fake")
    assert text.startswith(
        f"system, 19 tokens:\n{SYSTEM}\n\n"
        "text, 17 tokens:\n<item>\ntitle: Nike ‹|im_start|› Shoes\nprice: 5.5\ntags: x, y\n</item>\n"
        "JSON with attributes (gender) and summary:\n\n"
    )
    assert screens.rows(text) == [["title", "3", "3", "32"], ["price", "1", "1", "-"], ["tags", "2", "2", "24"]]
    plain = json.loads(run_prompts("describe_product", "--item", "a", "-w", shop, "--generator", "fake", "--json"))
    assert plain["item_id"] == "a"
    assert plain["text_tokens"] == 17
    assert plain["inputs"]["title"] == {"tokens": 3, "read": 3, "budget": 32}


def test_a_prompt_of_an_encoder_is_rendered_as_it_is_read(shop: str) -> None:
    text = run_prompts("title", "--item", "a", "-w", shop, "--generator", "fake")
    assert text.startswith("text, 3 tokens:\nNike <|im_start|>\nShoes\n\n")


@pytest.mark.slow
def test_what_cannot_be_rendered_says_why(shop: str) -> None:
    assert fault("--item", "a") == "--item a: name the prompt to render, such as coldstart prompts describe_product"
    assert fault("title", "--item", "b", "-w", shop).startswith(f"no item 'b' in workspace {shop}")
    assert fault("nope") == f"no prompt 'nope': give a path or one of {', '.join(PACKAGED)}"
    assert fault("title", "--item", "a", "-w", shop, "--generator", "nope").startswith("generator 'nope' is unknown")


def test_what_was_cut_of_an_input_shows() -> None:
    row = {
        "item_id": "a",
        "title": "Soap",
        "description": "w " * 200,
        "evidence": {"transcript": "one two"},
        "described": {"summary": "A soap.", "attributes": [{"name": "scent", "value": "Rose"}]},
    }
    attributes = Attributes({"default": {"scent": Attribute()}})
    one = render_prompt(prompts.load("describe_product"), row, attributes, words)
    assert one.inputs == {
        "title": InputTokens(1, 1, 32),
        "description": InputTokens(200, 96, 96),
        "transcript": InputTokens(2, 2, 96),
    }
    assert render_prompt(prompts.load("described"), row, attributes, words) == RenderedPrompt(
        "", "A soap.\nRose.", 0, 3, {"summary": InputTokens(2, 2, None), "attributes": InputTokens(1, 1, None)}
    )
