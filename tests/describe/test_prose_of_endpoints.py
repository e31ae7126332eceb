"""Test writing by an endpoint: its prompts hold facts with their confidence, its answers are bound to known values."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coldstart.core import pipeline as pipelines
from coldstart.core.attributes import Attributes
from coldstart.describe import check_context, writing
from coldstart.describe.check_context import CheckContext
from coldstart.describe.writing import build_requests, load_prompt_builder, render_prompt
from coldstart.errors import ColdstartError
from coldstart.generators import fake

VALUES = [
    {"name": "colour", "value": "Navy Blue", "probability": 0.934, "stated": True, "witnesses": ["colours"]},
    {"name": "colour", "value": "Black", "probability": 0.05, "stated": False, "witnesses": []},
    {"name": "type", "value": "Shirts", "probability": 0.4, "stated": False, "witnesses": ["image"]},
]
ROW = {
    "item_id": "a",
    "kind": "product",
    "title": "A title that a new product does not have",
    "creator": "Acme",
    "category": "Shirts",
    "tags": [],
    "description": None,
    "price": None,
    "media": [],
    "attributes": '{"audience": "Men"}',
    "predicted": {"values": VALUES},
}


def loaded(monkeypatch: pytest.MonkeyPatch, **write: Any) -> Any:
    """Writer and prompt builder of a pipeline whose models of attributes know two colours."""
    stages = {"ingest": {}, "describe": {"grounds": {}, "attributes": {}, "write": write}}
    attributes = {"default": {"audience": {}, "colour": {"visual": True}, "type": {"from": "category"}}}
    pipeline = pipelines.load({"stages": stages, "attributes": attributes})
    model: Any = SimpleNamespace(predictors={"colour": SimpleNamespace(values=("Black", "Navy Blue"))})
    monkeypatch.setattr(check_context, "load_check_context", lambda stage, pipeline: CheckContext(evidence=model))
    return load_prompt_builder(pipeline.stage("describe.write"), pipeline)


ENDPOINT = "openai:m@http://127.0.0.1:1/v1"


def test_facts_reach_the_prompt_with_their_confidence_and_as_plain_sentences(monkeypatch: pytest.MonkeyPatch) -> None:
    _, builder = loaded(monkeypatch, generator=ENDPOINT, given=["creator", "facts"])
    (request,) = build_requests([builder(ROW)], fake.build("", device="cpu", dtype="auto", adapter=None))
    assert request.prompt.splitlines() == [
        "<item>",
        "brand: Acme",
        "audience: Men",
        "colour: Navy Blue (0.93)",
        "in plain words: A navy blue product for men by Acme.",
        "</item>",
        "JSON with attributes (audience, colour, type) and summary:",
    ]
    assert {"attributes.audience", "creator", "kind"} <= builder.item_fields


def test_answers_are_bound_to_the_values_that_the_models_know(monkeypatch: pytest.MonkeyPatch) -> None:
    _, builder = loaded(monkeypatch, generator=ENDPOINT)
    (request,) = build_requests([builder(ROW)], fake.build("", device="cpu", dtype="auto", adapter=None))
    assert request.schema is not None
    bound = request.schema["properties"]["attributes"]["properties"]
    assert bound["colour"] == {"type": "string", "enum": ["Black", "Navy Blue"]}
    assert "enum" not in bound["audience"]


def test_only_an_endpoint_has_prompts_of_prose_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    prose = {"product": "describe_product_prose", "video": "describe_video_prose"}
    assert loaded(monkeypatch, generator=ENDPOINT)[0].prompt == prose
    assert loaded(monkeypatch, generator="sentences")[0].prompt == writing.DEFAULT_PROMPTS
    own = loaded(monkeypatch, generator=ENDPOINT, prompt=writing.DEFAULT_PROMPTS)
    assert own[0].prompt == writing.DEFAULT_PROMPTS
    assert loaded(monkeypatch, generator="sentences")[1].attributes.of(None)["colour"].values == ()


def test_the_command_shows_the_same_plain_sentences() -> None:
    prompt = writing.load_prompts("x", writing.PROSE_PROMPTS)["product"]
    attributes = Attributes.model_validate({"default": {"colour": {"visual": True}}})
    shown = render_prompt(prompt, {**ROW, "title": None}, attributes, lambda texts: [len(one) for one in texts])
    assert "in plain words: A navy blue product by Acme." in shown.text


def test_an_endpoint_waits_for_the_models_of_attributes(tmp_path: Path) -> None:
    stages = {"ingest": {}, "describe": {"grounds": {}, "attributes": {}, "write": {"generator": ENDPOINT}}}
    pipeline = pipelines.load({"stages": stages, "attributes": {"default": {"colour": {}}}})
    with pytest.raises(ColdstartError, match=r"waits for stage 'describe\.grounds', which has fitted nothing"):
        load_prompt_builder(pipeline.stage("describe.write"), pipeline)
