"""Test the merge of an adapter: the folder loads as any model and writes the same texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tiny_writers import byte_tokenizer, sft_examples, tiny_llama
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from coldstart import generators
from coldstart.describe.finetune import sft
from coldstart.describe.finetune.export import MergeCheck, greedy_texts, merge_adapter, verify_merge
from coldstart.describe.finetune.training import LoraSettings
from coldstart.errors import ColdstartError
from coldstart.generators import Request, _chat_template, fake
from coldstart.generators._base_model import load_base, suppress_output

CPU = torch.device("cpu")


def adapter(base: str, folder: Path) -> Path:
    """An adapter that changes the base a lot, untrained."""
    with suppress_output(0, CPU):
        model = sft.with_lora(load_base(base, CPU, torch.float32), LoraSettings(r=4))
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.05)
        sft.save_adapter(model, folder / "adapter")
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"hf:{tiny_llama(tmp_path_factory.mktemp('base'))}"


@pytest.fixture(scope="module")
def adapted(base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return adapter(base, tmp_path_factory.mktemp("adapted"))


@pytest.mark.slow
def test_the_merged_model_loads_as_any_and_says_the_same(base: str, adapted: Path, tmp_path: Path) -> None:
    out = merge_adapter(base, adapted, tmp_path / "merged")
    with suppress_output(0, CPU):
        merged = AutoModelForCausalLM.from_pretrained(out, local_files_only=True)
        tuned = PeftModel.from_pretrained(load_base(base, CPU, torch.float32).model, str(adapted / "adapter"))
    assert merged.dtype == torch.float32
    tokenizer = AutoTokenizer.from_pretrained(out, local_files_only=True)
    for lesson in sft_examples(4):
        ids = torch.tensor([_chat_template.prompt_ids(tokenizer, lesson.system, lesson.prompt)])
        assert ids[0].tolist() == _chat_template.prompt_ids(byte_tokenizer(), lesson.system, lesson.prompt)
        with torch.no_grad():
            torch.testing.assert_close(merged(ids).logits, tuned(ids).logits, atol=1e-4, rtol=1e-4)
    assert GenerationConfig.from_pretrained(out).eos_token_id == tokenizer.eos_token_id
    config = json.loads((out / "config.json").read_bytes())
    assert (config["architectures"], "quantization_config" in config) == (["LlamaForCausalLM"], False)
    assert not list(tmp_path.glob(".merged*"))


@pytest.mark.slow
def test_bfloat16_halves_the_files(base: str, adapted: Path, tmp_path: Path) -> None:
    wide, narrow = (merge_adapter(base, adapted, tmp_path / dtype, dtype=dtype) for dtype in ("float32", "bfloat16"))
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (wide, narrow)]
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.05)
    with suppress_output(0, CPU):
        assert AutoModelForCausalLM.from_pretrained(narrow, local_files_only=True).dtype == torch.bfloat16


def test_a_folder_that_is_there_stays(base: str, adapted: Path, tmp_path: Path) -> None:
    with pytest.raises(ColdstartError) as raised:
        merge_adapter(base, adapted, tmp_path)
    assert str(raised.value) == f"{tmp_path} exists: name a new folder for the merged model"


def test_no_adapter(base: str, tmp_path: Path) -> None:
    with pytest.raises(ColdstartError, match="holds no adapter"):
        merge_adapter(base, tmp_path, tmp_path / "merged")


@pytest.mark.slow
def test_an_adapter_of_another_model(adapted: Path, tmp_path: Path) -> None:
    with pytest.raises(ColdstartError, match="does not fit the model"):
        merge_adapter("starter", adapted, tmp_path / "merged")


def test_ways_that_agree() -> None:
    same = ["red shoe", "blue bag"]
    assert verify_merge({"adapter": same, "merged model": list(same)}) == MergeCheck(("adapter", "merged model"), 2)


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (
            ["red shoe", "blue hat"],
            "prompt 2 of 2: merged model differs from adapter at letter 6: 'blue hat' instead of 'blue bag'; the "
            "export is not used",
        ),
        (
            ["red shoe, new", "blue bag"],
            "prompt 1 of 2: merged model differs from adapter at letter 9: 'red shoe, new' instead of 'red shoe'; the "
            "export is not used",
        ),
        (["red shoe"], "merged model wrote 1 texts, adapter 2: compare as many"),
    ],
)
def test_the_first_difference_is_named(theirs: list[str], message: str) -> None:
    with pytest.raises(ColdstartError) as raised:
        verify_merge({"adapter": ["red shoe", "blue bag"], "merged model": theirs})
    assert str(raised.value) == message


def test_texts_are_taken_one_at_a_time_and_together() -> None:
    writer = fake.build("", device="cpu", dtype="auto", adapter=None)
    ways = greedy_texts(writer, writer, [Request("a"), Request("b")], 8)
    assert list(ways) == ["adapter", "adapter in a batch", "merged model"]
    assert verify_merge(ways).prompts == 2


@pytest.mark.slow
def test_the_starter_model_agrees_with_itself_merged(tmp_path: Path) -> None:
    folder = adapter("starter", tmp_path / "adapted")
    out = merge_adapter("starter", folder, tmp_path / "merged")
    requests = [Request(lesson.prompt, lesson.system) for lesson in sft_examples(4)]
    tuned = generators.load("starter", device="cpu", dtype="float32", adapter=folder, merge=False)
    exported = generators.load(f"hf:{out}", device="cpu", dtype="float32")
    assert verify_merge(greedy_texts(tuned, exported, requests, 12)).prompts == 4
