from dataclasses import replace

import numpy as np
import pytest
from behaviour_world import world

from coldstart.errors import ColdstartError
from coldstart.recommend.model import fusion
from coldstart.recommend.model.fusion import Content, Fusion, fit_blocks, fit_fusion, restore_fusion

CONTENT = world().content
TRAINING = np.arange(0, 160, 2)


def _without(content: Content, space: str, places: list[int]) -> Content:
    block = content.blocks[space].copy()
    block[places] = 0
    return replace(content, blocks={**content.blocks, space: block})


def _parts(fitted: Fusion, content: Content) -> dict[str, np.ndarray]:
    found = {name: block(content.blocks[name]) for name, block in fitted.blocks.items() if name in content.blocks}
    for name, code in fitted.labels.items():
        found[name] = fitted.blocks[name](code.rows(content.statements))
    return found


def test_a_product_is_the_weighted_mean_of_the_cosines() -> None:
    fitted = fit_fusion(CONTENT, TRAINING, weights={"picture": 1, "text": 3, "labels": 2})
    assert fitted.weights == {"picture": 1 / 6, "text": 1 / 2, "labels": 1 / 3}
    fused = fitted.transform(CONTENT)
    expected = sum(fitted.weights[name] * part @ part.T for name, part in _parts(fitted, CONTENT).items())
    there = CONTENT.present("picture")
    np.testing.assert_allclose((fused @ fused.T)[there][:, there], expected[there][:, there], atol=1e-5)
    assert fused.dtype == np.float32 and fused.shape == (160, len(fitted))


def test_weights_of_missing_blocks_go_to_those_that_are_there() -> None:
    fitted = fit_fusion(CONTENT, TRAINING, weights={"picture": 1, "text": 3, "labels": 2})
    fused, parts = fitted.transform(CONTENT), _parts(fitted, CONTENT)
    assert not CONTENT.present("picture")[[0, 10]].any()
    expected = (3 * parts["text"][0] @ parts["text"][10] + 2 * parts["labels"][0] @ parts["labels"][10]) / 5
    assert fused[0] @ fused[10] == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(np.linalg.norm(fused, axis=1), 1, atol=1e-6)


def test_an_item_of_which_nothing_is_known_is_zero() -> None:
    content = _without(_without(CONTENT, "picture", [5]), "text", [5])
    fused = fit_fusion(content, TRAINING, labels=False).transform(content)
    assert not fused[5].any() and fused[[4, 6]].any(axis=1).all()


@pytest.mark.parametrize("power", [0.0, 0.25, 0.5])
def test_directions_are_those_of_scikit_learn_and_evened_out(power: float) -> None:
    from sklearn.decomposition import PCA

    text = CONTENT.blocks["text"].astype(np.float64)
    fitted = fit_fusion(CONTENT, TRAINING, weights={"text": 1}, dims=6, power=power)
    reference = PCA(6, svd_solver="full").fit(text[TRAINING])
    variances = reference.explained_variance_ * (len(TRAINING) - 1) / len(TRAINING)
    shrunken = variances + 1e-3 * text[TRAINING].var(axis=0).mean()
    turned = reference.transform(text) / shrunken**power
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    found = fitted.transform(CONTENT)
    np.testing.assert_allclose(found @ found.T, turned @ turned.T, atol=1e-4)


def test_no_other_item_has_a_part_in_any_number() -> None:
    others = np.setdiff1d(np.arange(160), TRAINING)
    blocks = {name: block.copy() for name, block in CONTENT.blocks.items()}
    for block in blocks.values():
        block[others] = np.random.default_rng(0).normal(size=block[others].shape)
    records = list(CONTENT.records)
    for place in others:
        records[place] = {"category": "other", "tags": ["new"], "attributes": {"year": 3000}}
    changed = Content(CONTENT.item_ids, blocks, tuple(records))
    before, after = (fit_fusion(given, TRAINING).arrays() for given in (CONTENT, changed))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_it_is_restored_bit_by_bit() -> None:
    for labels in (True, False):
        fitted = fit_fusion(CONTENT, TRAINING, labels=labels)
        again = restore_fusion(fitted.arrays())
        assert again.weights == fitted.weights
        assert np.array_equal(again.transform(CONTENT), fitted.transform(CONTENT))
        assert all(array.dtype.kind in "fu" for array in fitted.arrays().values())


def _dated() -> Content:
    """The same items, each with a year."""
    years = np.random.default_rng(3).integers(1950, 2020, len(CONTENT)).tolist()
    records = [{**record, "attributes": {"year": year}} for record, year in zip(CONTENT.records, years, strict=True)]
    return replace(CONTENT, records=tuple(records))


def test_each_field_of_the_records_is_a_block_of_its_own_weight_and_whitening() -> None:
    content = _dated()
    blocks = fit_blocks(content, TRAINING, fields=True)
    assert {"labels.category", "labels.attributes.year"} <= set(blocks.weights)
    assert "labels" not in blocks.weights
    powers = {name: 0.5 if name == "text" else 0.0 for name in blocks.weights}
    fitted = blocks.fusion(powers, {"text": 3.0, "labels.attributes.year": 1.0})
    assert fitted.weights == {"text": 0.75, "labels.attributes.year": 0.25}
    parts = _parts(fitted, content)
    expected = 0.75 * parts["text"] @ parts["text"].T
    expected += 0.25 * parts["labels.attributes.year"] @ parts["labels.attributes.year"].T
    fused = fitted.transform(content)
    np.testing.assert_allclose(fused @ fused.T, expected, atol=1e-5)
    again = restore_fusion(fitted.arrays())
    assert np.array_equal(again.transform(content), fused)
    joint = fit_blocks(content, TRAINING, weights={"text": 1, "labels": 1}, fields=True)
    assert set(joint.weights) == {"text", "labels"}  # as a weight of all labels asks for
    alone = fit_fusion(content, TRAINING, weights={"labels.category": 1.0})
    assert alone.weights == {"labels.category": 1.0}


def test_records_without_a_field_that_differs_have_no_block() -> None:
    bare = Content(CONTENT.item_ids, CONTENT.blocks, tuple({"title": "x", "kind": "product"} for _ in CONTENT.records))
    assert set(fit_blocks(bare, TRAINING, fields=True).weights) == {"picture", "text"}
    weights = {"picture": 1.0, "text": 1.0, "labels": 0.0}
    assert set(fit_blocks(bare, TRAINING, weights=weights, fields=True).weights) == {"picture", "text"}


def test_labels_of_an_earlier_fit_are_restored() -> None:
    fitted = fit_fusion(CONTENT, TRAINING)
    arrays = fitted.arrays()
    place = list(fitted.weights).index("labels")
    earlier = {name.replace(f"fusion.{place}.labels.", "labels."): value for name, value in arrays.items()}
    assert "labels.vocabulary" in earlier
    assert np.array_equal(restore_fusion(earlier).transform(CONTENT), fitted.transform(CONTENT))


def test_parts_of_the_items_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit_fusion(CONTENT, TRAINING).transform(CONTENT)
    monkeypatch.setattr(fusion, "_ROWS", 13)
    fitted = fit_fusion(CONTENT, TRAINING)
    np.testing.assert_allclose(fitted.transform(CONTENT), whole, atol=1e-4)
    np.testing.assert_allclose(fitted.transform(CONTENT.take([7, 3])), fitted.transform(CONTENT)[[7, 3]], atol=1e-6)


def test_other_weights_need_no_other_fit() -> None:
    weights = {"picture": 5.0, "text": 1.0, "labels": 2.0}
    fitted = fit_fusion(CONTENT, TRAINING, weights=weights)
    again = fit_fusion(CONTENT, TRAINING).reweighed(weights)
    assert np.array_equal(again.transform(CONTENT), fitted.transform(CONTENT))


def test_a_block_of_which_too_little_is_known_is_left_out() -> None:
    content = _without(CONTENT, "picture", TRAINING[1:].tolist())
    fitted = fit_fusion(content, TRAINING, labels=False)
    assert fitted.weights == {"text": 1.0}
    alone = fit_fusion(content, TRAINING, weights={"text": 1, "picture": 0}, labels=False)
    assert np.array_equal(alone.transform(content), fitted.transform(content))


def test_faults_name_the_value_the_place_and_the_next_step() -> None:
    def message(content: Content, **settings: object) -> str:
        with pytest.raises(ColdstartError) as caught:
            fit_fusion(content, TRAINING, **settings)  # type: ignore[arg-type]
        return str(caught.value)

    assert message(CONTENT, weights={"sound": 1}) == "weight of 'sound': there is picture, text, labels"
    assert message(CONTENT, weights={"text": -1}) == "weight of 'text': -1, where 0 or more was expected"
    assert message(CONTENT, weights={"text": 0}) == (
        "of 80 training items no two have different vectors in any of picture, text, labels: embed them, or give "
        "another space a weight"
    )
    named = replace(CONTENT, blocks={"labels": CONTENT.blocks["text"]})
    assert message(named) == "space 'labels' has the name of the labels of records: rename it, or fit without labels"

    fitted = fit_fusion(CONTENT, TRAINING)
    other = replace(CONTENT, blocks={"text": CONTENT.blocks["text"][:, :8]})
    with pytest.raises(ColdstartError) as caught:
        fitted.transform(other)
    assert str(caught.value) == (
        "these items have vectors of text (8), and behaviour was fitted on picture (24), text (32): fit it again, or "
        "name the spaces that it was fitted on"
    )
