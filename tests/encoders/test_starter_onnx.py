"""Queries of the starter's encoders without torch: the vectors of torch, and torch where there is no graph."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coldstart import encoders, sample
from coldstart.core import device
from coldstart.encoders import Encoder, _starter_onnx
from coldstart.encoders.starter import Starter
from coldstart.errors import ColdstartError
from coldstart.media.image import load_image
from coldstart.media.limits import Limits
from coldstart.models import exported, install

MIN_COSINE = 0.9999


@pytest.fixture
def models() -> None:
    try:
        install.starter_folder("text"), install.starter_folder("image")
    except ColdstartError as error:
        pytest.skip(str(error))


def texts() -> list[str]:
    """Titles and descriptions of the sample catalogue, and texts that tokenizers stumble over."""
    rows = [json.loads(line) for line in (sample.path() / "manifest.jsonl").read_text("utf-8").splitlines()]
    real = [row["title"] for row in rows] + [row["description"] for row in rows if row.get("description")]
    return [
        *real[::8],
        "",
        " ",
        "mjölk 3 %",
        "日本語の醤油",
        "🍋 lemon",
        "word " * 600,
        "a\x00b\u200b",
        "ﬁne Straße",
        "x" * 5000,
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("name", ["starter", "starter:levels", "starter-clip"])
def test_vectors_equal_those_of_torch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_starter_onnx, "_BATCH", 4)
    exact = encoders.load(name, device="cpu", dtype="float32")
    quick = encoders.for_queries(exact)
    assert quick is not exact and encoders.for_queries(quick) is quick
    for modality in ("text", "image"):
        assert quick.passport(modality) == exact.passport(modality)
    queries = texts()
    assert quick.count_tokens(queries) == exact.count_tokens(queries)
    expected = exact.encode_queries(queries)
    found = quick.encode_queries(queries)
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert (found * expected).sum(axis=1).min() >= MIN_COSINE
    for one in (0, -1):  # alone as in company
        assert (quick.encode_queries([queries[one]])[0] * expected[one]).sum() >= MIN_COSINE
    assert exact.image_transform is not None
    photos = sorted((sample.path() / "images").rglob("*.jpg"))[:6]  # one batch and a part of one
    pictures = [load_image(photo, Limits(), exact.image_transform) for photo in photos]
    assert (quick.encode_images(pictures) * exact.encode_images(pictures)).sum(axis=1).min() >= MIN_COSINE
    assert quick.encode_queries([]).shape == (0, expected.shape[1])
    assert quick.encode_images([]).shape == (0, exact.passport("image").dim)


@pytest.mark.slow
@pytest.mark.usefixtures("models")
def test_a_query_loads_no_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from coldstart import encoders\n"
        "encoder = encoders.for_queries(encoders.load('starter-clip', device='cpu'))\n"
        "encoder.encode_queries(['lemon'])\n"
        "encoder.encode_images([np.zeros((260, 260, 3), np.uint8)])\n"
        "print(sorted({'torch', 'transformers', 'timm', 'sentence_transformers', 'onnx', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class Torch(Starter):
    """A starter whose torch path answers with ones."""

    def encode_documents(self, texts: Any) -> Any:
        return np.ones((len(texts), 384), np.float32)

    def encode_images(self, images: Any) -> Any:
        return np.ones((len(images), 1280), np.float32)


def answers_by_torch(encoder: Encoder) -> bool:
    return bool(encoder.encode_queries(["a"]).all() and encoder.encode_images([np.zeros((260, 260, 3))]).all())


def test_torch_answers_where_no_graph_can_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLDSTART_MODELS", str(tmp_path))
    monkeypatch.setattr(
        _starter_onnx, "export_graph", lambda job, starter: (_ for _ in ()).throw(RuntimeError("no exporter"))
    )
    assert answers_by_torch(_starter_onnx.StarterQueries(Torch("cpu", "float32")))
    said = capsys.readouterr().err
    assert "note: the graph of all-MiniLM-L6-v2 for queries is not in" in said
    assert said.endswith("note: queries for image need torch, which takes longer: no exporter\n")


def test_torch_answers_where_the_folder_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLDSTART_MODELS", str(tmp_path))
    monkeypatch.setattr(exported, "can_store", lambda: False)
    assert answers_by_torch(_starter_onnx.StarterQueries(Torch("cpu", "float32")))
    assert capsys.readouterr().err.count("and the folder cannot be written: torch answers, which takes longer") == 2


def test_a_damaged_graph_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLDSTART_MODELS", str(tmp_path))
    exported.folder_of("text").mkdir(parents=True)
    monkeypatch.setattr(_starter_onnx, "load_graph", lambda path, job: pytest.fail("it was loaded"))
    monkeypatch.setattr(
        _starter_onnx, "export_graph", lambda job, starter: (_ for _ in ()).throw(RuntimeError("no exporter"))
    )
    encoder = _starter_onnx.StarterQueries(Torch("cpu", "float32"))
    assert encoder.encode_queries(["a"]).all()
    assert "is damaged" in capsys.readouterr().err


def test_graphs_answer_on_the_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for chosen, dtype in (("cuda", "auto"), ("mps", "auto"), ("cpu", "bfloat16")):
        asked = Starter(chosen, dtype)
        assert encoders.for_queries(asked) is asked
    assert isinstance(encoders.for_queries(Starter("cpu", "auto")), _starter_onnx.StarterQueries)
    monkeypatch.setattr(device, "Path", lambda driver: type("Driver", (), {"exists": lambda self: True})())
    assert not device.surely_cpu("auto") and device.surely_cpu("cpu")
