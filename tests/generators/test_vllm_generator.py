"""Requests to vLLM, by a stand-in with its names. vLLM itself needs CUDA and is not run here."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from coldstart import generators
from coldstart.core.attributes import Attribute
from coldstart.core.description import json_schema
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, Request, Sampling

SCHEMA = json_schema({"colour": Attribute(values=("red", "blue"))}, ("attributes", "summary"))
RED = '{"attributes": {"colour": "red"}, "summary": "red."}'
SAMPLING = Sampling(max_new_tokens=20, seed=3)
PICTURE = np.full((4, 6, 3), 90, np.uint8)
TOO_BIG = (
    "The decoder prompt (length 99) is longer than the maximum model length of 40. Make sure that `max_model_len` …"
)


class Named(SimpleNamespace):
    """Keeps what it is made with, by place and by name."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(given=given, **named)


class Tokenizer:
    """A token is a word."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[str]:
        assert not add_special_tokens
        return text.split()

    def apply_chat_template(self, messages: list[dict[str, str]], **settings: Any) -> str:
        assert settings == {"add_generation_prompt": True, "tokenize": False}
        return " ".join(f"<{message['role']}> {message['content']}" for message in messages) + " <assistant>"


class LLM:
    """Answers by the fake generator; refuses a call with a prompt of the word `huge`, as vLLM does."""

    made: ClassVar[list[LLM]] = []

    def __init__(self, **settings: Any) -> None:
        self.settings, self.calls = settings, []
        self.calls: list[tuple[list[Any], list[Any], dict[str, Any]]]
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=settings.get("max_model_len", 40)))
        LLM.made.append(self)

    def get_tokenizer(self) -> Tokenizer:
        return Tokenizer()

    def chat(self, messages: list[Any], sampling_params: list[Any], **settings: Any) -> list[Any]:
        self.calls.append((messages, sampling_params, settings))
        outputs = []
        for message, params in zip(messages, sampling_params, strict=True):
            content = message[-1]["content"]
            prompt = content if isinstance(content, str) else content[-1]["text"]
            if "huge" in prompt:
                raise ValueError(TOO_BIG)
            if "broken" in prompt:
                raise ValueError("something else")
            schema = params.structured_outputs.json if params.structured_outputs else None
            limit = Sampling(max_new_tokens=params.max_tokens)
            (made,) = generators.load("fake").generate([Request(prompt, "", schema)], limit)
            assert isinstance(made, Generation)
            written = SimpleNamespace(text=made.text, finish_reason=made.finish, token_ids=[0] * made.new_tokens)
            outputs.append(SimpleNamespace(outputs=[written], prompt_token_ids=[0] * made.prompt_tokens))
        return outputs


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("vllm", "vllm.lora", "vllm.lora.request", "vllm.sampling_params")
    vllm, lora, request, params = modules = [ModuleType(name) for name in names]
    vllm.LLM, vllm.SamplingParams, vllm.lora, vllm.sampling_params = LLM, Named, lora, params  # type: ignore[attr-defined]
    lora.request, request.LoRARequest, params.StructuredOutputsParams = request, Named, Named  # type: ignore[attr-defined]
    for name, module in zip(names, modules, strict=True):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(LLM, "made", [])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "small-model"
    made.mkdir()
    (made / "model.safetensors").write_bytes(weights(1))
    for name in ("config.json", "tokenizer.json"):
        (made / name).write_text("{}")
    return made


def weights(size: int) -> bytes:
    """A file of safetensors with one tensor of `size` bytes."""
    head = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(head).to_bytes(8, "little") + head + bytes(size)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    made = tmp_path / "fit" / "adapter"
    made.mkdir(parents=True)
    (made / "adapter_config.json").write_text(json.dumps({"r": 12, "rank_pattern": {"q_proj": 24}}))
    (made / "adapter_model.safetensors").write_bytes(weights(2))
    return made.parent


def test_the_engine_is_made_once_and_safely(folder: Path) -> None:
    generator = generators.load(f"vllm:{folder}", dtype="bfloat16")
    assert generator.generate([], SAMPLING) == []
    assert LLM.made == []
    for _ in range(2):
        assert generator.generate([Request("a red shoe", "", SCHEMA)], SAMPLING) == [Generation(RED, "stop", 3, 5)]
    (engine,) = LLM.made
    assert engine.settings == {
        "model": str(folder),
        "trust_remote_code": False,
        "load_format": "safetensors",
        "enable_prefix_caching": True,
        "generation_config": "vllm",
        "structured_outputs_config": {"backend": "xgrammar", "disable_any_whitespace": True},
        "dtype": "bfloat16",
        "gpu_memory_utilization": 0.9,
        "tensor_parallel_size": 1,
    }


def test_requests_as_they_are_handed_over(folder: Path) -> None:
    generator = generators.load(f"vllm:{folder}", image_side=64, pictures=2, context_tokens=200)
    bound = Request("a blue shoe", "Describe it.", SCHEMA, (PICTURE, PICTURE))
    free = Request("say what this is and no more")
    results = generator.generate([bound, free], SAMPLING)
    assert [result.text for result in results] == [RED.replace("red", "blue"), "say what this is and no more"]
    (engine,) = LLM.made
    assert engine.settings["limit_mm_per_prompt"] == {"image": 2}
    assert engine.settings["max_model_len"] == 200
    ((messages, params, settings),) = engine.calls
    assert settings == {"use_tqdm": False, "lora_request": None}
    system, user = messages[0]
    assert system == {"role": "system", "content": "Describe it."}
    first, second, text = user["content"]
    assert text == {"type": "text", "text": "a blue shoe"}
    assert first["type"] == second["type"] == "image_pil"
    assert first["image_pil"] == Image.fromarray(PICTURE)
    assert messages[1] == [{"role": "user", "content": "say what this is and no more"}]
    stated = {"max_tokens": 20, "temperature": 0.0, "top_p": 1.0, "seed": 3}
    assert params == [
        Named(**stated, structured_outputs=Named(json=SCHEMA)),
        Named(**stated, structured_outputs=None),
    ]


def test_an_adapter_goes_with_every_request(folder: Path, adapter: Path) -> None:
    generator = generators.load(f"vllm:{folder}", adapter=adapter)
    generator.generate([Request("a red shoe", "", SCHEMA)], SAMPLING)
    (engine,) = LLM.made
    assert (engine.settings["enable_lora"], engine.settings["max_lora_rank"]) == (True, 32)
    assert engine.calls[0][2]["lora_request"] == Named("adapter", 1, str(adapter / "adapter"))


def test_an_answer_that_is_cut_says_so(folder: Path) -> None:
    generator = generators.load(f"vllm:{folder}")
    (result,) = generator.generate([Request("a red shoe", "", SCHEMA)], Sampling(max_new_tokens=2))
    assert result == Generation('{"attributes": {"colour":', "length", 3, 2)


def test_prompts_over_the_context_are_verdicts_and_the_others_are_answered(folder: Path) -> None:
    generator = generators.load(f"vllm:{folder}", image_side=64)
    requests = [
        Request("x " * 30, "", SCHEMA),
        Request("a red shoe", "", SCHEMA),
        Request("a huge picture", "", SCHEMA, (PICTURE,)),
        Request("a blue shoe", "", SCHEMA),
    ]
    long, red, huge, blue = generator.generate(requests, SAMPLING)
    said = "32 tokens and 20 to write are over the context of 40"
    assert (long.reason, long.detail) == ("prompt_too_long", said)
    assert (huge.reason, huge.detail) == ("prompt_too_long", TOO_BIG)
    assert [json.loads(one.text)["summary"] for one in (red, blue)] == ["red.", "blue."]


def test_other_faults_of_the_engine_are_not_swallowed(folder: Path) -> None:
    with pytest.raises(ValueError, match="something else"):
        generators.load(f"vllm:{folder}").generate([Request("a broken schema")], SAMPLING)


def test_tokens_are_counted_without_marks(folder: Path) -> None:
    assert generators.load(f"vllm:{folder}").count_tokens(["a b", ""]) == [2, 0]


def test_the_passport_changes_with_the_files_and_starts_no_engine(folder: Path, adapter: Path) -> None:
    plain = generators.load(f"vllm:{folder}").passport()
    assert plain.model == "vllm:small-model"
    tuned = generators.load(f"vllm:{folder}", adapter=adapter, gpu_memory_utilization=0.5).passport()
    assert (tuned.weights, tuned.template, plain.adapter) == (plain.weights, plain.template, "")
    assert tuned.adapter.startswith("sha256:")
    (folder / "tokenizer.json").write_text('{"another": 1}')
    assert generators.load(f"vllm:{folder}").passport().template != plain.template
    (folder / "model.safetensors").write_bytes(weights(3))
    assert generators.load(f"vllm:{folder}").passport().weights != plain.weights
    assert LLM.made == []


def test_pictures_are_not_shown_unasked(folder: Path) -> None:
    generator = generators.load(f"vllm:{folder}")
    assert generator.image_transform is None
    with pytest.raises(ColdstartError) as caught:
        generator.generate([Request("x", images=(PICTURE,))], SAMPLING)
    assert str(caught.value) == (
        f"generator 'vllm:{folder}' shows no pictures: allow it by the option image_side, such as 768"
    )


def test_without_vllm_there_is_one_clear_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    generator = generators.load(f"vllm:{folder}")
    generator.passport()
    with pytest.raises(ColdstartError) as caught:
        generator.generate([Request("x")], SAMPLING)
    assert str(caught.value) == (
        f"generator 'vllm:{folder}' needs vLLM, which cannot be imported here (import of vllm halted; None in "
        "sys.modules): run `pip install vllm` on a machine with CUDA, or serve the model and write "
        "openai:MODEL@BASE_URL"
    )


def test_what_is_not_there(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    expected = {
        "vllm:some/model": "generator 'vllm:some/model': some/model is not in the local hub cache: "
        "run `hf download some/model`, or write vllm:FOLDER",
        "vllm:": "generator 'vllm:': '' is neither a folder nor a hub name",
        f"vllm:{tmp_path}": f"generator 'vllm:{tmp_path}': {tmp_path} holds no weights "
        "(*.safetensors; pickles are not read)",
    }
    for name, message in expected.items():
        with pytest.raises(ColdstartError) as caught:
            generators.load(name)
        assert str(caught.value) == message
    with pytest.raises(ColdstartError) as caught:
        generators.load(f"vllm:{folder}", adapter=tmp_path)
    assert str(caught.value) == f"generator 'vllm:{folder}': {tmp_path}/adapter holds no adapter_model.safetensors"


def test_other_devices_are_refused(folder: Path) -> None:
    with pytest.raises(ColdstartError) as caught:
        generators.load(f"vllm:{folder}", device="cuda:1")
    assert str(caught.value) == (
        f"generator 'vllm:{folder}' runs on CUDA, not on device 'cuda:1': write device: auto, "
        "and choose among several by the environment variable CUDA_VISIBLE_DEVICES"
    )
