"""Scores of given texts: the same as by the whole text at once; an order of letters has each once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_writers import tiny_llama

from coldstart import generators
from coldstart.errors import ColdstartError
from coldstart.generators import Request, TextScorer, _chat_template
from coldstart.generators._score import log_probabilities

TEXTS = ["a shoe", "", "wool", "a much longer title of a shoe", "b", "<|im_end|>", "c", "d", "e", "f"]
ASKED = Request("What do you like?", "You know.")


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return generators.load(f"hf:{tiny_llama(tmp_path_factory.mktemp('tiny'))}", device="cpu", dtype="float32")


@pytest.mark.slow
def test_titles_on_the_cache_of_the_prompt_score_as_whole_texts_do(
    writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(writer, TextScorer)
    found, tokens = writer.log_probabilities(ASKED, TEXTS)
    tokenizer, model = writer._tokenizer, writer._model
    prompt = _chat_template.prompt_ids(tokenizer, ASKED.system, ASKED.prompt)
    answers = [
        tokenizer(_chat_template.plain(tokenizer, text), add_special_tokens=False)["input_ids"] for text in TEXTS
    ]
    for value, own in zip(found, answers, strict=True):
        with torch.inference_mode():
            chances = torch.log_softmax(model(torch.tensor([[*prompt, *own]])).logits[0], -1)
        whole = sum(float(chances[len(prompt) - 1 + place, token]) for place, token in enumerate(own))
        assert value == pytest.approx(whole, abs=1e-3)
    assert found[1] == 0 and tokens == len(prompt) + sum(map(len, answers))
    # a model with another memory reads prompt and title together
    monkeypatch.setattr("coldstart.generators._score.shareable", lambda cache: False)
    assert log_probabilities(model, prompt, answers) == pytest.approx(found, abs=1e-3)


def test_letters_come_each_once_and_what_is_too_long_is_refused(writer: Any) -> None:
    letters = list("ABCDEFG")
    order, tokens = writer.order_letters(ASKED, letters)
    assert sorted(order) == list(range(7)) and tokens > 0
    assert writer.order_letters(ASKED, letters)[0] == order
    with pytest.raises(ColdstartError, match="over its context"):
        writer.log_probabilities(ASKED, ["x" * 1000])
    with pytest.raises(ColdstartError, match="no token of its own"):
        writer.order_letters(ASKED, ["A", "A"])
