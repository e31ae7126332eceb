"""GGUF files: what is read of them, against transformers' own reading, and files that are damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from coldstart.errors import ColdstartError
from coldstart.models import gguf, install


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def file(path: Path) -> Path:
    """Two tensors: 2 x 32 numbers of Q8_0, 3 of F32."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 3, 3)
    head += text("name") + struct.pack("<I", 8) + text("été")
    head += text("count") + struct.pack("<II", 4, 7)
    head += text("words") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b")
    head += text("eight") + struct.pack("<IQQIQ", 2, 32, 2, 8, 0)
    head += text("plain") + struct.pack("<IQIQ", 1, 3, 0, 96)
    head += text("odd") + struct.pack("<IQIQ", 1, 32, 12, 0)
    blocks = b"".join(struct.pack("<e", scale) + np.arange(32, dtype=np.int8).tobytes() for scale in (0.5, -1.0))
    path.write_bytes(
        head.ljust(-(-len(head) // 32) * 32, b"\0") + blocks.ljust(96, b"\0") + np.float32([1, 2, 3]).tobytes()
    )
    return path


def test_metadata_and_tensors(tmp_path: Path) -> None:
    found = gguf.read_gguf(file(tmp_path / "x.gguf"))
    assert found.metadata == {"name": "été", "count": 7, "words": ["a", "b"]}
    np.testing.assert_array_equal(found.tensor("eight"), np.outer([0.5, -1.0], np.arange(32)))
    np.testing.assert_array_equal(found.tensor("plain"), [1, 2, 3])
    with pytest.raises(ColdstartError, match=r"x\.gguf: tensor odd is of GGUF type 12, which is not read$"):
        found.tensor("odd")
    with pytest.raises(KeyError):
        found.tensor("none")


def test_files_that_are_damaged(tmp_path: Path) -> None:
    whole = file(tmp_path / "x.gguf").read_bytes()
    (tmp_path / "short.gguf").write_bytes(whole[:40])
    with pytest.raises(ColdstartError, match=r"short\.gguf is damaged at byte 40: 8 bytes wanted, 0 left$"):
        gguf.read_gguf(tmp_path / "short.gguf")
    (tmp_path / "other.gguf").write_bytes(b"JPEG" + whole[4:])
    with pytest.raises(ColdstartError, match=r"other\.gguf is no GGUF file of version 3$"):
        gguf.read_gguf(tmp_path / "other.gguf")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_smollm2_is_what_transformers_reads() -> None:
    """Against transformers' reading through ggml's own `gguf` package: equal to the bit."""
    pytest.importorskip("gguf")
    try:
        path = install.starter_folder("language")
    except ColdstartError as error:
        pytest.skip(str(error))
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from coldstart.generators import _smollm2

    theirs = AutoModelForCausalLM.from_pretrained(
        path, gguf_file=_smollm2.FILE, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    ours = _smollm2.load_model(torch.device("cpu"), torch.float32)
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    assert all(torch.equal(weight, expected[name]) for name, weight in ours.state_dict().items())
    about = ours.config.to_dict()
    other = ("dtype", "_name_or_path", "_model_name_or_path", "unk_token_id")
    assert {name: about.get(name) for name in theirs.config.to_dict() if name not in other} == {
        name: value for name, value in theirs.config.to_dict().items() if name not in other
    }
    words, own = AutoTokenizer.from_pretrained(path, gguf_file=_smollm2.FILE), _smollm2.load_tokenizer()
    assert own.backend_tokenizer.to_str() == words.backend_tokenizer.to_str()
    assert own.chat_template == words.chat_template
