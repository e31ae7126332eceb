"""A folder of a model from a stranger is data: whatever lies in it, nothing of it runs and nothing outside is read."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny_encoders
import tiny_writers

from coldstart import encoders, generators
from coldstart.errors import ColdstartError
from coldstart.generators import _chat_form
from coldstart.models.adapters import read_lora_config
from coldstart.models.folder import check_folder, pattern_fault

HEADER = struct.Struct("<Q")


class Planted:
    """Object whose pickle writes a file when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Folder that exists only if something planted has run."""
    return tmp_path / "it-ran"


def plant(folder: Path, marker: Path, *, own_classes: bool = True) -> None:
    """Put code and pickles of all kinds into a folder of a model."""
    code = f"import os\nos.makedirs({str(marker)!r}, exist_ok=True)\n"
    for file in ("own.py", "modeling_own.py", "tokenization_own.py", "custom_generate/generate.py", "__init__.py"):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(code + "class Own:\n    pass\ndef generate(*a, **k):\n    pass\n")
    for file in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "weights.pt", "data.pkl", "extra.npy"):
        (folder / file).write_bytes(pickle.dumps(Planted(marker), protocol=2))
    if own_classes:
        for file in ("config.json", "tokenizer_config.json", "preprocessor_config.json", "processor_config.json"):
            if (folder / file).is_file():
                names = ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoTokenizer", "AutoProcessor")
                change(folder / file, auto_map=dict.fromkeys(names, "modeling_own.Own"))


def change(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **settings}))


def refused(load: Callable[[], Any]) -> str:
    with pytest.raises(ColdstartError) as caught:
        load()
    return str(caught.value)


# -- encoders


@pytest.mark.slow
def test_code_and_pickles_beside_an_encoder_are_left_alone(tmp_path: Path, marker: Path) -> None:
    tiny_encoders.bert_folder(tmp_path)
    folder = tmp_path / "model"
    plant(folder, marker, own_classes=False)
    (folder / "pytorch_model.bin").unlink()
    name = f"sentence-transformers:{folder}"
    assert encoders.load(name, device="cpu").encode_documents(["red shoe"]).shape == (1, 16)
    plant(folder, marker)
    (folder / "pytorch_model.bin").unlink()
    assert refused(lambda: encoders.load(name)).startswith(
        f"encoder {name!r}: {folder} cannot be read as a model: The repository {folder} contains custom code"
    )
    assert not marker.exists()


@pytest.mark.slow
def test_an_open_clip_folder_cannot_ask_for_code_in_its_tokenizer(tmp_path: Path, marker: Path) -> None:
    tiny_encoders.siglip2_folder(tmp_path)
    plant(tmp_path, marker)
    name = f"open_clip:local-dir:{tmp_path}"
    assert encoders.load(name, device="cpu").count_tokens(["red shoe"]) == [4]
    config = json.loads((tmp_path / "open_clip_config.json").read_bytes())
    for options, words in (
        ({"trust_remote_code": True}, "asks for code of its own to be run (trust_remote_code)"),
        (
            {"tokenizer_file": "x"},
            "sets tokenizer_kwargs.tokenizer_file, which is not read (read: clean, strip_sep_token, language, "
            "reduction_mask, additional_special_tokens)",
        ),
    ):
        config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = options
        (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
        assert refused(lambda: encoders.load(name)) == f"encoder {name!r}: {tmp_path / 'open_clip_config.json'} {words}"
    config["model_cfg"]["text_cfg"].pop("tokenizer_kwargs")
    config["model_cfg"]["vision_cfg"]["timm_model_name"] = "local-dir:/elsewhere"
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    assert "leads out of the folder (timm_model_name: local-dir:/elsewhere)" in refused(lambda: encoders.load(name))
    assert not marker.exists()


@pytest.mark.slow
def test_an_open_clip_checkpoint_that_is_a_pickle_runs_nothing(tmp_path: Path, marker: Path) -> None:
    tiny_encoders.open_clip_folder(tmp_path)
    (tmp_path / "open_clip_model.safetensors").unlink()
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps(Planted(marker), protocol=2))
    name = f"open_clip:local-dir:{tmp_path}"
    assert refused(lambda: encoders.load(name, device="cpu").encode_documents(["red shoe"])) == (
        f"encoder {name!r}: {tmp_path / 'open_clip_pytorch_model.bin'} holds more than weights: save it as safetensors"
    )
    assert not marker.exists()


# -- generators


@pytest.mark.slow
@pytest.mark.parametrize("own_classes", [False, True])
def test_code_and_pickles_beside_a_generator_are_left_alone(tmp_path: Path, marker: Path, own_classes: bool) -> None:
    folder = tiny_writers.tiny_llama(tmp_path / "model")
    plant(folder, marker, own_classes=own_classes)
    written = generators.load(f"hf:{folder}", device="cpu").generate(
        [generators.Request("red shoe")], generators.Sampling(max_new_tokens=2)
    )
    assert isinstance(written[0], generators.Generation)
    assert not marker.exists()


@pytest.mark.slow
def test_code_beside_the_base_of_a_fit_is_left_alone(tmp_path: Path, marker: Path) -> None:
    import torch

    from coldstart.generators._base_model import load_base

    folder = tiny_writers.tiny_llama(tmp_path / "model")
    plant(folder, marker)
    load_base(f"hf:{folder}", torch.device("cpu"), torch.float32)
    assert not marker.exists()
    change(folder / "config.json", trust_remote_code=True)
    name = f"hf:{folder}"
    assert refused(lambda: load_base(name, torch.device("cpu"), torch.float32)) == (
        f"generator {name!r}: {folder / 'config.json'} asks for code of its own to be run (trust_remote_code)"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}x", "takes too much time"),
        ("{% set n = namespace(a='aaaa') %}{% for i in range(60) %}{% set n.a = n.a ~ n.a %}{% endfor %}", "takes too"),
        ("{{ 'a' * 10000000000 }}", "takes too much time or memory"),
        ("{{ messages[-1]['content'] }}" * 2, "does not say each text it is given once"),
        ("{{ ''.__class__.__mro__ }}", "fails (SecurityError"),
    ],
)
def test_a_chat_template_that_does_not_end_is_refused(template: str, words: str) -> None:
    tokenizer = tiny_writers.byte_tokenizer()
    tokenizer.chat_template = template
    message = refused(lambda: _chat_form.bind_chat_template(tokenizer, "hf:x"))
    assert message.startswith(f"generator 'hf:x': its chat template {words}")
    assert message.endswith(": use another model")


def test_every_chat_template_of_a_folder_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str] = []
    monkeypatch.setattr(_chat_form, "_rendered", lambda template, chats, name: found.append(template))
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "tools.jinja").write_text("b")
    (tmp_path / "chat_template.jinja").write_bytes(b"a\xff")
    config = {"chat_template": [{"name": "default", "template": "c"}, {"name": "rag", "template": "d"}, 3]}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "chat_template.json").write_text('{"chat_template": {"default": "e", "x": null}}')
    (tmp_path / "processor_config.json").write_text("{")
    _chat_form.check_chat_template(tmp_path, "vllm:x")
    assert found == ["a\ufffd", "b", "c", "d", "e"]


@pytest.mark.slow
def test_a_bound_chat_template_writes_as_the_model_s_own() -> None:
    own = (
        "{{ bos_token }}{% if messages[0].role == 'system' %}<<{{ messages[0].content | trim }}>>\n\\é'😀{% endif %}"
        "[{{ messages[-1].content.strip() }}]{% for m in messages %}{{ loop.index }}{% endfor %}"
    )
    tokenizer = tiny_writers.byte_tokenizer()
    tokenizer.chat_template = own
    chats = [
        [{"role": "user", "content": " {{ 7 * 7 }} 'é'\n"}],
        [{"role": "system", "content": "a\\n"}, {"role": "user", "content": "{% x"}],
    ]
    wanted = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    assert wanted == ["<|im_start|>[{{ 7 * 7 }} 'é']1", "<|im_start|><<a\\n>>\n\\é'😀[{% x]12"]
    _chat_form.bind_chat_template(tokenizer, "hf:x")
    assert "for" not in tokenizer.chat_template
    assert [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats] == wanted
    assert _chat_form.own_chat_template(tokenizer) == own


@pytest.mark.slow
def test_a_bound_template_of_pictures_writes_as_the_model_s_own() -> None:
    tokenizer = tiny_writers.byte_tokenizer()
    own = (
        "{% for m in messages %}<{{ m.role }}>{% for c in m.content %}{% if c.type == 'image' %}<p>\n{% else %}"
        "{{ c.text }}{% endif %}{% endfor %}{% endfor %}"
    )
    tokenizer.chat_template = own
    chats = [
        [{"role": "user", "content": [*[{"type": "image"}] * shown, {"type": "text", "text": " shoe\n"}]}]
        for shown in (0, 1, 2, 5)
    ]
    chats += [[{"role": "system", "content": [{"type": "text", "text": "Be."}]}, *chat] for chat in chats]
    wanted = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    assert wanted[6] == "<system>Be.<user><p>\n<p>\n shoe\n"
    _chat_form.bind_chat_template(tokenizer, "hf:x", pictures=True)
    assert [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats] == wanted


# -- adapters, heads, projectors


def lora(folder: Path, **settings: Any) -> Path:
    folder.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], **settings}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.slow
def test_the_configuration_of_an_adapter_says_shapes_alone(tmp_path: Path, marker: Path) -> None:
    place = lora(tmp_path / "adapter", base_model_name_or_path=str(tmp_path), megatron_core="megatron.core")
    config = read_lora_config(place)
    assert (config.r, config.lora_alpha, config.base_model_name_or_path) == (4, 8, None)
    path = place / "adapter_config.json"
    for settings, words in (
        (
            {"megatron_config": {"a": 1}, "megatron_core": "own"},
            f"{path} sets megatron_config, which is not read: plain LoRA is",
        ),
        ({"megatron_core": "own"}, f"{path} sets megatron_core, which is not read: plain LoRA is"),
        ({"peft_type": "XLORA"}, f"{path} is of method 'XLORA': LORA is read"),
        ({"target_modules": "(.*.*)*x"}, f"{path} has a pattern that repeats what repeats itself ((.*.*)*x)"),
        (
            {"init_lora_weights": "pissa"},
            f"{path} sets init_lora_weights='pissa', which changes the base: plain LoRA is read",
        ),
    ):
        assert refused(partial(read_lora_config, lora(place, **settings))) == f"adapter: {words}"


def test_heads_name_folders_beside_them_alone(tmp_path: Path) -> None:
    from coldstart.encoders._heads_file import read_heads_file

    tower = {"encoder": "fake:8", "passport": {}, "adapter": "../../elsewhere"}
    stated = {"version": 1, "towers": {"image": tower, "text": tower}, "heads": {}, "about": {}}
    (tmp_path / "heads.json").write_text(json.dumps(stated))
    assert refused(lambda: read_heads_file(tmp_path)) == (
        f"{tmp_path} does not hold aligned heads (heads.json): "
        "ValueError(\"adapter '../../elsewhere' is not the name of a folder beside it\")"
    )


@pytest.mark.parametrize("weight", ["1" + "0" * 400, "[" * 100_000 + "]" * 100_000], ids=["huge", "deep"])
def test_weights_of_heads_that_are_no_numbers_are_refused(tmp_path: Path, weight: str) -> None:
    from coldstart.encoders._heads_file import read_heads_file

    tower = {"encoder": "fake:8", "passport": {}}
    shapes = [{"inputs": 4, "outputs": 4}]
    stated = {"version": 2, "towers": {"image": tower, "text": tower}, "heads": {"image": shapes, "text": shapes}}
    text = json.dumps({**stated, "about": {}, "weights": ["WEIGHT"]}).replace('"WEIGHT"', weight)
    (tmp_path / "heads.json").write_text(text)
    assert refused(lambda: read_heads_file(tmp_path)).startswith(
        f"{tmp_path} does not hold aligned heads (heads.json): "
    )


def test_heads_of_absurd_shapes_take_no_memory(tmp_path: Path) -> None:
    import aligned

    from coldstart.encoders._heads import AlignedHeads

    folder = aligned.folder(tmp_path / "heads")
    stated = json.loads((folder / "heads.json").read_bytes())
    for side in ("image", "text"):
        stated["heads"][side] |= {"inputs": 10**9, "outputs": 10**6}
    (folder / "heads.json").write_text(json.dumps(stated))
    assert "does not fit heads.json beside it" in refused(lambda: AlignedHeads.load(folder))


# -- the gate itself


def tensors(path: Path, header: dict[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> None:
    words = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(HEADER.pack(len(words) if length is None else length) + words + data)


def entry(shape: list[int], first: int, last: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


@pytest.mark.parametrize(
    ("header", "length", "words"),
    [
        ({}, 2**62, "is no safetensors file: its header would take 4,611,686,018,427,387,904 of 18 bytes"),
        (b"{" * 5000, None, "is no safetensors file: its header cannot be read ("),
        (b"[]", None, "is no safetensors file: its header cannot be read (AttributeError)"),
        ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, None, "is damaged: its tensors overlap"),
        ({"a": entry([2**40, 2**40], 0, 8)}, None, "is damaged: its tensors overlap, or their shapes do not fit"),
        ({"a": entry([-2], 0, 8)}, None, "is no safetensors file: its header cannot be read (ValueError)"),
        ({"a": entry([2], 0, 8, "PICKLE")}, None, "is no safetensors file: its header cannot be read (KeyError)"),
        ({"a": entry([4], 0, 16)}, None, "is damaged: it holds 8 bytes of 16"),
    ],
)
def test_headers_of_weights_that_lie_are_refused(tmp_path: Path, header: Any, length: int | None, words: str) -> None:
    tensors(tmp_path / "model.safetensors", header, bytes(8), length)
    message = refused(lambda: check_folder(tmp_path, "encoder 'x'"))
    assert message.startswith(f"encoder 'x': {tmp_path / 'model.safetensors'} {words}")


def test_true_headers_pass(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"b": torch.zeros(3, 2), "a": torch.zeros(()), "c": torch.zeros(0)}, tmp_path / "model.safetensors")
    check_folder(tmp_path, "encoder 'x'")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("config.json", {"a": [{"trust_remote_code": True}]}, "asks for code of its own to be run"),
        ("config.json", {"attn_implementation": "someone/kernel"}, "asks for code from the hub to be run"),
        ("2_Dense/config.json", {"activation_function": "os.system"}, "names a class to be run (activation_function"),
        ("tokenizer_config.json", {"vocab_file": "/etc/passwd"}, "leads to /etc/passwd (vocab_file: /etc/passwd)"),
        ("config.json", {"backbone": "../../../../../../../../../etc"}, "leads to /etc (backbone: "),
        ("modules.json", [{"type": "custom_st.Own", "path": ""}], "names a class to be run (custom_st.Own)"),
        ("modules.json", [{"type": "sentence_transformers.models.Dense", "path": "../x"}], "leads out of the folder"),
        ("model.safetensors.index.json", {"weight_map": {"a": "../b.safetensors"}}, "leads out of the folder"),
        ("adapter_config.json", {"base_model_name_or_path": "someone/else"}, "makes it an adapter of another model"),
        ("tokenizer.json", {"pre_tokenizer": {"pattern": {"Regex": "(a+)+$"}}}, "has a pattern that repeats what"),
    ],
)
def test_settings_that_run_or_lead_elsewhere_are_refused(tmp_path: Path, file: str, content: Any, words: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(json.dumps(content))
    assert refused(lambda: check_folder(tmp_path, "encoder 'x'")).startswith(f"encoder 'x': {tmp_path / file} {words}")


def test_harmless_settings_pass(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps(
            {"_name_or_path": "/etc", "trust_remote_code": False, "attn_implementation": "sdpa", "a": "/no/such"}
        )
    )
    (tmp_path / "notes.json").write_text("no JSON")
    check_folder(tmp_path, "encoder 'x'")


def test_settings_nested_without_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" * 100_000)
    assert refused(lambda: check_folder(tmp_path, "encoder 'x'")) == (
        f"encoder 'x': {tmp_path / 'config.json'} is nested too deep"
    )


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    folder, other = tmp_path / "model", tmp_path / "other.json"
    folder.mkdir()
    other.write_text("{}")
    (folder / "config.json").symlink_to(other)
    assert refused(lambda: check_folder(folder, "encoder 'x'")) == (
        f"encoder 'x': {folder / 'config.json'} is a link that leads to {other}: put a copy of that file in its place"
    )
    (folder / "config.json").unlink()
    (folder / "sub").symlink_to(tmp_path)
    assert "sub is a link that leads to" in refused(lambda: check_folder(folder, "encoder 'x'"))
    (folder / "sub").unlink()
    os.mkfifo(folder / "config.json")
    assert refused(lambda: check_folder(folder, "encoder 'x'")) == f"encoder 'x': {folder / 'config.json'} is no file"


def test_links_of_the_hub_s_cache_pass(tmp_path: Path) -> None:
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    folder.mkdir(parents=True)
    (blobs / "abc").write_text("{}")
    (folder / "config.json").symlink_to("../../blobs/abc")
    check_folder(folder, "encoder 'x'")


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+|\s+(?!\S)|\s+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+",
        r"(?=(\d{3})+(?!\d))",
        r"[\p{Han}&&[^a]]+| {2,}",
    ],
)
def test_patterns_of_known_tokenizers_pass(pattern: str) -> None:
    assert pattern_fault(pattern) is None


@pytest.mark.parametrize("pattern", ["(a+)+$", r"(?:\w+\s?)*x", "((a|b)*c?){20,}", r"([a-z]+){1,50}y"])
def test_patterns_that_never_end_are_found(pattern: str) -> None:
    assert pattern_fault(pattern) == "repeats what repeats itself"


def test_a_gguf_header_that_lies_is_refused(tmp_path: Path) -> None:
    from coldstart.models.gguf import read_gguf

    def text(words: bytes) -> bytes:
        return HEADER.pack(len(words)) + words

    nested = text(b"k") + b"".join(struct.pack("<IIQ", 9, 9, 1) for _ in range(1))
    heads = {
        "deep": struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + nested + struct.pack("<IQ", 9, 1) * 5000,
        "alignment": struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + text(b"general.alignment") + struct.pack("<II", 4, 0),
        "many": struct.pack("<4sIQQ", b"GGUF", 3, 2**60, 2**60),
    }
    for name, head in heads.items():
        path = tmp_path / name
        path.write_bytes(head)
        assert refused(lambda path=path: read_gguf(path)).startswith(f"{path} is damaged at byte ")
