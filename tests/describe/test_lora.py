"""Test LoRA: packed rows keep examples apart, the loss is on completions, a killed training ends as an unbroken one."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_writers import byte_tokenizer, sft_examples, tiny_llama
from torch.nn.functional import cross_entropy

from coldstart.describe.finetune import _speed, _trl, lora, sft
from coldstart.describe.finetune.training import Example, LoraSettings
from coldstart.errors import ColdstartError
from coldstart.generators._base_model import load_base, suppress_output

CPU = torch.device("cpu")
FEW = LoraSettings(lr=1e-2, epochs=2, batch_tokens=512, pack_tokens=256)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"hf:{tiny_llama(tmp_path_factory.mktemp('base'))}"


def train(base: str, folder: Path, settings: LoraSettings = FEW, **given: Any) -> lora.LoraResult:
    return lora.train_lora(
        given.pop("examples", sft_examples(24)),
        given.pop("valid", sft_examples(6, start=24)),
        base,
        settings,
        device=CPU,
        dtype=given.pop("dtype", "float32"),
        folder=folder,
        **given,
    )


@pytest.fixture(scope="module")
def made(base: str, tmp_path_factory: pytest.TempPathFactory) -> lora.LoraResult:
    return train(base, tmp_path_factory.mktemp("made"))


@pytest.mark.slow
def test_the_loss_is_on_the_completion(base: str, made: lora.LoraResult) -> None:
    assert made.valid_before is not None and made.valid_loss is not None
    assert made.valid_loss < 0.6 * made.valid_before
    assert (made.stopped, made.left_out) == (False, 0)
    assert next(look["step"] for look in made.history if "valid_loss" in look) == 0
    assert made.history[-1]["step"] == made.steps
    assert made.tokens == 2 * sum(
        len(sft.example_row(byte_tokenizer(), example)["input_ids"]) for example in sft_examples(24)
    )
    assert sorted(made.files()) == ["adapter/adapter_config.json", "adapter/adapter_model.safetensors"]


def test_labels_are_of_the_completion_and_its_end() -> None:
    tokenizer = byte_tokenizer()
    row = sft.example_row(tokenizer, Example("a", "Describe.", "red shoe", '{"is": "red"}'))
    labelled = [token for token in row["labels"] if token != _trl.IGNORED_LABEL]
    assert tokenizer.decode(labelled) == '{"is": "red"}<|im_end|>'
    assert tokenizer.decode(row["input_ids"]) == (
        "<|im_start|>system\nDescribe.<|im_end|>\n<|im_start|>user\nred shoe<|im_end|>\n<|im_start|>assistant\n"
        '{"is": "red"}<|im_end|>'
    )


def packed(base: str, folder: Path) -> tuple[Any, Any, sft.TrainingRows]:
    """A trainer, its model and the rows that it was given."""
    loaded = load_base(base, CPU, torch.float32)
    model = sft.with_lora(loaded, FEW)
    for name, weight in model.named_parameters():  # fresh pairs change nothing: these do
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    rows = sft.TrainingRows.of(loaded, sft_examples(12), [], FEW, None)
    return sft.build_trainer(loaded, model, rows, FEW, CPU, folder, None, "fit"), model, rows


@pytest.mark.slow
def test_a_packed_row_gives_the_logits_of_its_parts_alone(base: str, tmp_path: Path) -> None:
    with suppress_output(0, CPU):
        trainer, model, rows = packed(base, tmp_path)
        model.eval()
        checked = 0
        for batch in trainer.get_train_dataloader():
            starts = [*(batch["position_ids"][0] == 0).nonzero()[:, 0].tolist(), batch["input_ids"].shape[1]]
            assert len(starts) > 2, "several examples share the row"
            with torch.no_grad():
                inputs = {name: value for name, value in batch.items() if name != "labels"}
                together = model(**inputs, use_cache=False)
                by_mask = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False)
                for begin, end in pairwise(starts):
                    ids = batch["input_ids"][:, begin:end]
                    alone = model(input_ids=ids, use_cache=False).logits
                    torch.testing.assert_close(together.logits[:, begin:end], alone, atol=1e-4, rtol=1e-4)
                    torch.testing.assert_close(by_mask.logits[:, begin:end], alone, atol=1e-4, rtol=1e-4)
                    assert {
                        "input_ids": ids[0].tolist(),
                        "labels": batch["labels"][0, begin:end].tolist(),
                    } in rows.train
                    checked += 1
    assert checked == 12


@pytest.mark.slow
def test_the_loss_is_that_of_all_positions_and_of_trl(base: str, tmp_path: Path) -> None:
    with suppress_output(0, CPU):
        trainer, model, _ = packed(base, tmp_path)
        batch = next(iter(trainer.get_train_dataloader()))
        ours = _trl.completion_loss(model, batch)
        ours.backward()
        gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.requires_grad}
        model.zero_grad()
        trls = super(type(trainer), trainer).compute_loss(model, dict(batch))
        trls.backward()
        torch.testing.assert_close(ours, trls, atol=1e-5, rtol=1e-5)
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                torch.testing.assert_close(gradients[name], weight.grad, atol=1e-5, rtol=1e-4)
        logits = model(input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits
        plain = cross_entropy(logits[0, :-1], batch["labels"][0, 1:], ignore_index=_trl.IGNORED_LABEL)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_fused_pairs_compute_what_peft_computes(base: str) -> None:
    ids = torch.tensor([sft.example_row(byte_tokenizer(), sft_examples(1)[0])["input_ids"]])
    found = []
    for fused in (False, True):
        with suppress_output(0, CPU):
            model = sft.with_lora(load_base(base, CPU, torch.float32), FEW)
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(weight, std=0.2)
            assert not fused or _speed.fuse_lora_layers(model) == 14
            logits = model(ids).logits
            logits.square().mean().backward()
        found.append([logits.detach(), *(one.grad for one in model.parameters() if one.requires_grad)])
    for apart, together in zip(*found, strict=True):
        torch.testing.assert_close(together, apart, atol=1e-4, rtol=1e-4)


def test_no_telemetry_is_sent(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trl.trainer import base_trainer

    sent: list[object] = []
    monkeypatch.setattr(base_trainer, "send_telemetry", lambda *given, **named: sent.append(given))
    with suppress_output(0, CPU):
        packed(base, tmp_path)
    assert sent == []
    assert base_trainer._BaseTrainer._send_telemetry, "the method that is replaced"


class Killed(BaseException):
    pass


class KillsAfter:
    """Progress that ends the training after so many tokens."""

    def __init__(self, tokens: int) -> None:
        self.left = tokens

    def meter(self, name: str, total: int | None) -> KillsAfter:
        assert (name, total) == ("finetune.describe: tokens", 3596)
        return self

    def __enter__(self) -> KillsAfter:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def advance(self, done: int, lost: int, wait_share: float) -> None:
        self.left -= done
        if self.left < 0:
            raise Killed


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_end(base: str, made: lora.LoraResult, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train(base, tmp_path, progress=KillsAfter(2500))
    kept = sft.last_complete_checkpoint(tmp_path / "checkpoints")
    assert kept is not None
    half = Path(kept).with_name("checkpoint-999")
    shutil.copytree(kept, half)
    (half / "trainer_state.json").write_bytes(b'{"epo')  # killed while it was written
    again = train(base, tmp_path)
    assert again.files() == made.files()
    assert [(look["step"], look.get("loss"), look.get("valid_loss")) for look in again.history] == [
        (look["step"], look.get("loss"), look.get("valid_loss")) for look in made.history
    ]
    assert again.tokens == made.tokens
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_a_finished_training_is_not_done_again_but_another_is(
    base: str, made: lora.LoraResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(lora, "run_sft", lambda *given: asked.append(1) or (_ for _ in ()).throw(Killed))
    assert train(base, made.folder) == made
    with pytest.raises(Killed):
        train(base, made.folder.with_name("other"), seed=1)
    assert asked == [1]


@pytest.mark.slow
def test_patience_ends_it_and_keeps_the_best(base: str, tmp_path: Path) -> None:
    still = LoraSettings(lr=1e-30, epochs=6, batch_tokens=512, pack_tokens=256, patience=2, looks=2)  # nothing moves
    result = train(base, tmp_path, still)
    held = {int(look["step"]): look["valid_loss"] for look in result.history if "valid_loss" in look}
    assert result.stopped
    assert result.steps == max(held)
    after = {step: loss for step, loss in held.items() if step}
    assert len(after) == 2  # both no better than the look before the first step
    assert result.valid_loss == min(after.values()) == held[result.best_step]
    assert result.best_step == min(after)


@pytest.mark.slow
def test_bfloat16_lowers_the_loss_too(base: str, tmp_path: Path) -> None:
    result = train(base, tmp_path, dtype="bfloat16")
    assert result.valid_loss is not None and result.valid_before is not None
    assert result.valid_loss < 0.6 * result.valid_before


@pytest.mark.slow
def test_without_a_held_out_part_the_last_step_counts(base: str, tmp_path: Path) -> None:
    checkpointed = LoraSettings(epochs=1, pack_tokens=256, batch_tokens=256, gradient_checkpointing=True)
    result = train(base, tmp_path, checkpointed, valid=[])
    assert (result.valid_loss, result.valid_before, result.best_step) == (None, None, result.steps)


@pytest.mark.slow
def test_examples_over_the_context_are_left_out(tmp_path: Path) -> None:
    small = f"hf:{tiny_llama(tmp_path / 'base', context=128)}"
    long = Example("long", "Describe.", "red " * 50, '{"is": "red shoe"}')
    result = train(small, tmp_path / "made", LoraSettings(epochs=1), examples=[*sft_examples(6), long])
    assert result.left_out == 1
    with pytest.raises(ColdstartError) as raised:
        train(small, tmp_path / "none", examples=[long])
    assert str(raised.value) == (
        f"all 1 examples are longer than the 128 tokens of {small}: lower the budgets of the prompt"
    )


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("fake", FEW, "generator 'fake' cannot be fitted: use starter or hf:NAME_OR_PATH"),
        (
            "starter",
            LoraSettings(quantize="4bit"),
            "quantize='4bit' for 'starter' needs bitsandbytes, which is not installed: pip install bitsandbytes, or "
            "set quantize to ''",
        ),
    ],
)
def test_models_that_cannot_be_fitted(name: str, settings: LoraSettings, message: str, tmp_path: Path) -> None:
    with pytest.raises(ColdstartError) as raised:
        train(name, tmp_path, settings)
    assert str(raised.value) == message


def test_no_training_examples(base: str, tmp_path: Path) -> None:
    with pytest.raises(ColdstartError, match=r"^finetune\.describe: no training examples$"):
        train(base, tmp_path, examples=[])


def test_pictures_for_a_language_model_are_refused(base: str, tmp_path: Path) -> None:
    with pytest.raises(ColdstartError) as raised:
        train(base, tmp_path, pictures=lambda item_id: [])
    assert str(raised.value) == (
        f"finetune.describe: {base} takes no pictures: leave them out, or use a vision-language model"
    )


@pytest.mark.slow
def test_two_processes_reach_the_loss_of_one(base: str, made: lora.LoraResult, tmp_path: Path) -> None:
    result = train(base, tmp_path, FEW.model_copy(update={"processes": 2}))
    assert result.valid_loss is not None and result.valid_before is not None
    assert result.valid_loss < 0.6 * result.valid_before
    assert result.tokens == pytest.approx(made.tokens, rel=0.2)


@pytest.mark.slow
def test_the_starter_model_lowers_its_loss(tmp_path: Path) -> None:
    settings = LoraSettings(lr=2e-3, epochs=2, batch_tokens=128, pack_tokens=128, looks=1)
    result = train(
        "starter", tmp_path, settings, examples=sft_examples(12), valid=sft_examples(2, start=12), dtype="auto"
    )
    assert result.valid_loss is not None and result.valid_before is not None
    assert result.valid_loss < 0.5 * result.valid_before
    assert result.trained == 4_884_480
