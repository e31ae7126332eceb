"""Test rules and predicted attributes of the items of an evaluation."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_evaluate_describe_workspace import TYPES, fitted, settings

import coldstart
from coldstart.describe.attribute_features import SpaceFeatures
from coldstart.describe.attribute_model import (
    AttributeModel,
    AttributePredictor,
    HeldOutScores,
    Probe,
    Weights,
)
from coldstart.describe.checks import Rules
from coldstart.describe.evaluate.workspace import ItemEvidence, load_item_evidence
from coldstart.store import Store

ITEMS = ["red-hat", "red-bag", "red-belt"]


def described(folder: Path, **check: Any) -> dict[str, Any]:
    """The shop of the other tests with a space of pictures and checks."""
    raw = settings(folder)
    stages = raw["stages"]
    image = {"stage": "embed", "encoder": "fake:32", "input": "image"}
    describe = {"write": {"generator": "fake"}, "check": check}
    ordered = {"ingest": {}, "image": image, "finetune": stages["finetune"], "describe": describe, "index": {}}
    return {**raw, "stages": ordered}


def save_models(store: Store) -> None:
    """Models as `describe.grounds` leaves them, which take every picture for a red one."""
    scores = HeldOutScores(100, 0.9, 0.5, 0.9, (0.8, 1.0), 0.5, 0.02)
    weights = Weights({"prior": 1.0, "image": 1.0}, 0.6, scores)
    none, shares = np.zeros(32, np.float32), np.array([0.5, 0.5], np.float32)
    probe = Probe(np.zeros((2, 32), np.float32), np.array([2.0, 0.0], np.float32))
    names = ("red", "blue")
    words = tuple((name,) for name in names)
    colour = AttributePredictor(
        "colour", names, words, shares, frozenset({"product"}), {}, {"image": probe}, weights, weights, None
    )
    model = AttributeModel({"colour": colour}, {"image": SpaceFeatures(none, none + 1, None)}, {"image": "p"}, {})
    table = pa.table({"item_id": ITEMS[:2], "key": ["k", "k"], "split": ["judged", "counted"]})
    out = io.BytesIO()
    pq.write_table(table, out)
    files = {
        "items.parquet": out.getvalue(),
        "names.json": json.dumps({"brands": ["acme"], "categories": list(TYPES)}).encode(),
        **model.files(),
    }
    store.artifacts.save("describe.grounds", "key", files, {"settings": "s"})


def rows_of(uri: Path) -> list[dict[str, Any]]:
    rows = {row["item_id"]: row for row in Store(uri).read("items").to_pylist()}
    return [rows[item] for item in ITEMS]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    path = folder / "shop.workspace"
    coldstart.open(path, create=True).run(described(folder, policy=None, max_copy=0.5), only=["ingest", "image"])
    fitted(Store(path))
    save_models(Store(path))
    return path


@pytest.mark.slow
def test_rules_are_those_of_the_checks_and_names_those_of_the_catalogue(uri: Path) -> None:
    found = load_item_evidence(Store(uri), coldstart.open(uri).pipeline(), rows_of(uri))
    assert found.rules == Rules(
        max_copy=0.5, min_seen=0.0, brands=frozenset({"acme"}), categories=frozenset(TYPES), policy=None
    )


@pytest.mark.slow
def test_picture_values_are_found_and_items_of_their_fit_are_counted(uri: Path) -> None:
    found = load_item_evidence(Store(uri), coldstart.open(uri).pipeline(), rows_of(uri))
    assert found.fitted == 1
    assert list(found.seen) == ITEMS
    assert [list(one) for one in found.seen.values()] == [["colour"]] * 3
    assert found.seen["red-belt"]["colour"] == {"red": pytest.approx(1 / (1 + np.exp(-2)), abs=1e-3)}


@pytest.mark.slow
def test_a_pipeline_without_checks_has_words_alone(tmp_path: Path) -> None:
    path = tmp_path / "plain.workspace"
    workspace = coldstart.open(path, create=True)
    workspace.run(settings(tmp_path), only=["ingest"])
    assert load_item_evidence(Store(path), workspace.pipeline(), rows_of(path)) == ItemEvidence(Rules(min_seen=0.0))


@pytest.mark.slow
def test_the_report_warns_of_items_that_the_models_were_fitted_on(uri: Path) -> None:
    looked = coldstart.open(uri).evaluate_describe(writers=["base"], given=["category", "picture"])
    assert looked.caveat == (
        "the models of attributes were fitted on the records of 1 of these items, so that the checks look better "
        "here than on new ones"
    )
    assert all(example["seen"]["colour"][0] == "red" for example in looked.examples)
    template = looked.gain["text_to_item"]["contenders"]["template"]
    assert template["indexed"] == 6  # the picture is believed, and the category names the type
    blind = coldstart.open(uri).evaluate_describe(writers=["base"], given=["category"])
    assert blind.caveat == ""
    assert not any(example["seen"] for example in blind.examples)
