"""Encoders and generators of other installed packages, found by their entry points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import coldstart
from coldstart import encoders, generators
from coldstart.core import plugins
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, Request, Sampling

MODULE = """
import numpy as np
from coldstart.encoders import Passport
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, GeneratorPassport

class Constant:
    modalities = frozenset({"text"})
    image_transform = None
    max_tokens = None

    def __init__(self, dim):
        self.name, self.dim = f"acme:{dim}", dim

    def passport(self, modality):
        return Passport(self.name, "sha256:0", "none", self.dim)

    def count_tokens(self, texts):
        return [len(text.split()) for text in texts]

    def encode_queries(self, texts):
        return self.encode_documents(texts)

    def encode_documents(self, texts):
        return np.tile(np.eye(1, self.dim, dtype=np.float32), (len(texts), 1))

def build(rest, *, device, dtype, allow_random_weights, scale=1.0):
    if not rest:
        raise ColdstartError("encoder 'acme': write acme:DIM")
    return Constant(int(rest))

class Echo:
    name, image_transform, context_tokens = "acme-echo", None, None

    def passport(self):
        return GeneratorPassport(self.name, "none")

    def generate(self, requests, sampling):
        return [Generation(request.prompt, "stop", 1, 1) for request in requests]

def build_generator(rest, *, device, dtype, adapter):
    return Echo()

def short(rest):
    return Echo()

number = 3
"""
ENTRY_POINTS = """
[coldstart.encoders]
acme = acme_models:build
fake = acme_models:build
starter_clip = acme_models:build
gone = acme_missing:build
raising = acme_raising:build
short = acme_models:short
number = acme_models:number
twice = acme_models:build

[coldstart.generators]
acme-echo = acme_models:build_generator
fake = acme_models:build_generator
"""


def install(folder: Path, name: str, version: str, entry_points: str, **modules: str) -> None:
    """Lay a package down as an installer does."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(entry_points)
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    raising = "raise OSError('no licence\\nfile')"
    install(folder, "acme", "1.2", ENTRY_POINTS, acme_models=MODULE, acme_raising=raising)
    install(folder, "other", "0.1", "[coldstart.encoders]\ntwice = acme_models:build\n")
    return folder


@pytest.fixture
def installed(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(packages)


@pytest.mark.usefixtures("installed")
def test_an_encoder_of_another_package_is_loaded_by_its_name() -> None:
    encoder = encoders.load("acme:3", scale=2.0)
    assert encoder.passport("text").encoder == "acme:3"
    assert encoder.encode_documents(["a", "b"]).tolist() == [[1, 0, 0], [1, 0, 0]]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["acme-echo", "acme_echo:any"])
def test_a_generator_of_another_package_is_loaded_by_its_name(name: str) -> None:
    generator = generators.load(name)
    assert generator.passport().model == "acme-echo"
    assert generator.generate([Request("red shoe")], Sampling()) == [Generation("red shoe", "stop", 1, 1)]


def test_a_package_that_is_not_installed_adds_nothing() -> None:
    with pytest.raises(ColdstartError, match=r"^encoder 'acme:3' is unknown: nearest are "):
        encoders.load("acme:3")


@pytest.mark.usefixtures("installed")
def test_own_names_are_not_replaced() -> None:
    assert encoders.load("fake:8").passport("text").encoder == "fake:8"
    assert generators.load("fake").passport().model != "acme-echo"
    with pytest.raises(ColdstartError, match=r"^encoder 'starter_clip' is unknown: nearest are starter-clip"):
        encoders.load("starter_clip")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("acmee:3", {}, "encoder 'acmee:3' is unknown: nearest are acme"),
        (
            "zzz",
            {},
            "encoder 'zzz' is unknown: nearest are acme, align, colours, gone, number, open_clip, "
            "raising, sentence-transformers, short, starter, starter-clip, twice",
        ),
        ("acme", {}, "encoder 'acme': write acme:DIM"),
        ("acme:3", {"colour": 1}, "option 'colour' is unknown to encoder 'acme:3': it takes scale"),
        ("acme:3", {"dtype": "int8"}, "dtype 'int8' is unknown: use auto, float32, bfloat16 or float16"),
        (
            "acme:x",
            {},
            "encoder 'acme' of acme 1.2 (acme_models:build) failed: ValueError: "
            "invalid literal for int() with base 10: 'x'; report it to its authors",
        ),
        (
            "gone",
            {},
            "encoder 'gone' of acme 1.2 (acme_missing:build) cannot be imported: ModuleNotFoundError: "
            "No module named 'acme_missing'; repair or uninstall acme 1.2",
        ),
        (
            "raising",
            {},
            "encoder 'raising' of acme 1.2 (acme_raising:build) cannot be imported: OSError: no licence file; "
            "repair or uninstall acme 1.2",
        ),
        (
            "short",
            {},
            "encoder 'short' of acme 1.2 (acme_models:short) must take rest, *, device, dtype, allow_random_weights: "
            "got an unexpected keyword argument 'device'",
        ),
        (
            "number",
            {},
            "encoder 'number' of acme 1.2 (acme_models:number) is no function: its entry point must name one, "
            "as in MODULE:build",
        ),
        ("twice", {}, "encoder 'twice' is registered by acme 1.2 and by other 0.1: uninstall all but one"),
    ],
)
def test_a_faulty_package_is_named(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ColdstartError) as caught:
        encoders.load(name, **options)
    assert str(caught.value) == message


def test_entry_points_are_not_read_for_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: str) -> None:
        raise AssertionError("entry points were read")

    monkeypatch.setattr(plugins, "entry_points", refuse)
    encoders.load("fake:8")
    generators.load("fake")
    with pytest.raises(AssertionError, match="entry points were read"):
        encoders.load("zzz")


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_a_workspace_embeds_and_searches_with_an_encoder_of_another_package(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text('{"item_id": "a", "title": "red shoe"}\n{"item_id": "b", "title": "hat"}\n')
    workspace = coldstart.open(tmp_path / "w", create=True)
    stages = {"ingest": {}, "text": {"stage": "embed", "encoder": "acme:3", "input": "text"}, "index": {}}
    workspace.run({"manifest": str(tmp_path / "m.jsonl"), "stages": stages})
    assert {hit.item_id for hit in workspace.search(text="shoe")} == {"a", "b"}
