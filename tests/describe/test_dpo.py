"""Test preference pairs, and an adapter that is trained on them without writing longer texts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_writers import COLOURS, sft_examples, tiny_llama

from coldstart.describe.finetune import lora
from coldstart.describe.finetune.dpo import Pair, choose_pair, train_dpo
from coldstart.describe.finetune.training import DpoSettings, LoraSettings
from coldstart.errors import ColdstartError

CPU = torch.device("cpu")


def test_the_best_and_the_worst_of_several_make_a_pair() -> None:
    assert choose_pair(["aaaa", "bbbb", "cccc"], [0.5, 1.0, 0.2]) == (1, 2)


def test_of_equal_scores_the_first_counts() -> None:
    assert choose_pair(["aaaa", "bbbb", "cccc", "dddd"], [1.0, 0.0, 1.0, 0.0]) == (0, 1)


def test_the_worst_is_as_long_as_the_best() -> None:
    best = "x" * 100
    assert choose_pair([best, "y" * 121, "z" * 120, "w" * 80, "v" * 79], [1.0, 0.0, 0.5, 0.6, 0.0]) == (0, 2)


@pytest.mark.parametrize(
    ("texts", "scores"),
    [
        ([], []),
        (["only"], [1.0]),
        (["aaaa", "bbbb"], [1.0, 0.95]),
        (["short", "a very much longer text"], [1.0, 0.0]),
        (["same", "same"], [1.0, 0.0]),
    ],
    ids=["none", "one", "margin", "length", "same text"],
)
def test_texts_that_teach_nothing_make_no_pair(texts: list[str], scores: list[float]) -> None:
    assert choose_pair(texts, scores) is None


def test_as_many_scores_as_texts() -> None:
    with pytest.raises(ValueError, match=r"^2 texts and 1 scores$"):
        choose_pair(["a", "b"], [1.0])


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, lora.LoraResult]:
    """A model that names colours, from a first tuning."""
    base = f"hf:{tiny_llama(tmp_path_factory.mktemp('base'))}"
    settings = LoraSettings(lr=1e-2, epochs=2, batch_tokens=512, pack_tokens=256)
    folder = tmp_path_factory.mktemp("sft")
    return base, lora.train_lora(sft_examples(24), [], base, settings, device=CPU, dtype="float32", folder=folder)


def pairs() -> list[Pair]:
    """The right colour against another one."""
    made = []
    for place, example in enumerate(sft_examples(16)):
        right, wrong = COLOURS[place % 4], COLOURS[(place + 1) % 4]
        made.append(
            Pair(
                example.item_id,
                example.system,
                example.prompt,
                example.completion,
                example.completion.replace(right, wrong),
            )
        )
    return made


FAST = DpoSettings(lr=5e-3, epochs=3, batch_size=8, micro_batch=4, max_growth=100.0)


@pytest.mark.slow
def test_preferred_texts_become_likelier(fitted: tuple[str, lora.LoraResult], tmp_path: Path) -> None:
    base, sft = fitted
    before = sft.files()
    result = train_dpo(pairs(), base, sft.adapter, FAST, device=CPU, dtype="float32", folder=tmp_path)
    assert (result.pairs, result.steps, result.stopped) == (16, 6, False)
    assert result.history[0]["loss"] == pytest.approx(0.6931, abs=1e-3), "the reference is the adapter as it was"
    assert result.history[-1]["loss"] < 0.5
    assert result.history[-1]["accuracy"] > 0.8
    after = result.files()
    assert sorted(after) == sorted(before)
    assert after["adapter/adapter_model.safetensors"] != before["adapter/adapter_model.safetensors"]
    assert sft.files() == before, "what it went on from stays as it was"


@pytest.mark.slow
def test_texts_that_grow_stop_it(
    fitted: tuple[str, lora.LoraResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coldstart.describe.finetune._trl import AnswerLengths

    base, sft = fitted
    sizes = iter([20.0, 22.0, 24.0, 20.0])
    monkeypatch.setattr(AnswerLengths, "_measure", lambda self, model: next(sizes))
    settings = DpoSettings(lr=5e-3, epochs=4, batch_size=4, micro_batch=4)
    result = train_dpo(pairs(), base, sft.adapter, settings, device=CPU, dtype="float32", folder=tmp_path)
    assert (result.steps, result.stopped, result.length_before, result.length) == (2, True, 20.0, 22.0)


def test_no_pairs(tmp_path: Path) -> None:
    with pytest.raises(ColdstartError) as raised:
        train_dpo([], "starter", tmp_path, DpoSettings(), device=CPU, folder=tmp_path / "made")
    assert str(raised.value) == "finetune.describe: no preference pairs: no item's best and worst text differ by enough"
