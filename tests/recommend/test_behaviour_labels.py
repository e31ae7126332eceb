import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from coldstart.recommend.model import labels
from coldstart.recommend.model.labels import (
    REST,
    Labels,
    NumberCode,
    fit_fields,
    fit_labels,
    read_statements,
    restore_labels,
    restore_number_code,
)

RECORDS = [
    {
        "kind": "product",
        "category": "Shoes > Boots",
        "tags": ["Winter ", "red"],
        "attributes": {"colour": "Red", "sizes": ["S", "M"], "vegan": True, "year": 1990 + place},
    }
    for place in range(20)
]
BLANK: dict[str, Any] = {"kind": "", "category": None, "tags": [], "attributes": {}}


def fitted_on(records: Sequence[Mapping[str, Any]], *, min_count: int = 3) -> Labels:
    return fit_labels(read_statements(records), np.arange(len(records)), min_count=min_count)


def test_labels_are_case_folded_statements_of_records() -> None:
    found = fitted_on(RECORDS)
    assert [word for word in found.words if "~" not in word] == [
        "attributes.colour=red",
        "attributes.sizes=m",
        "attributes.sizes=s",
        "attributes.vegan=true",
        "category=shoes",
        "category=shoes/boots",
        "kind=product",
        "tag=red",
        "tag=winter",
    ]


def test_numbers_become_their_quantile_among_training_items() -> None:
    found = fitted_on(RECORDS, min_count=1)
    (name, bounds), *others = found.edges.items()
    assert (name, others) == ("attributes.year", [])
    years = [1990.0 + place for place in range(20)]
    assert bounds[0] == tuple(np.quantile(years, [0.2, 0.4, 0.6, 0.8]))
    places = {word: place for place, word in enumerate(found.words)}
    first, last = found.transform([{"attributes": {"year": 1900}}, {"attributes": {"year": 2100}}])
    assert {word for word, place in places.items() if first[place]} == {
        "attributes.year~1/5", "attributes.year~1/20",
    }  # fmt: skip
    assert {word for word, place in places.items() if last[place]} == {
        "attributes.year~5/5", "attributes.year~20/20",
    }  # fmt: skip


def test_a_field_is_coded_apart_and_the_rest_together() -> None:
    records = [
        {"category": f"c{place % 2}", "tags": ["new"] if place % 3 else [], "attributes": {"year": 1990 + place}}
        for place in range(20)
    ]
    statements = read_statements(records)
    found = fit_fields(statements, np.arange(20), most=2)
    assert list(found) == ["attributes.year", "category", REST]
    assert isinstance(found["attributes.year"], NumberCode)
    assert found["category"].words == ("category=c0", "category=c1")  # type: ignore[union-attr]
    assert found[REST].words == ("tag=new",)  # type: ignore[union-attr]
    assert list(fit_fields(statements, np.arange(20), most=1)) == ["attributes.year", REST]


def test_near_numbers_have_like_codes_and_their_unit_does_not_matter() -> None:
    years = np.arange(1950, 2020)
    codes = []
    for unit in (1, 365):
        records = [{"attributes": {"year": int(year) * unit}} for year in years]
        code = fit_fields(read_statements(records), np.arange(len(years)), most=1)["attributes.year"]
        assert isinstance(code, NumberCode)
        probes = [{"attributes": {"year": year * unit}} for year in (1980, 1983, 2010, 1800)] + [BLANK]
        rows = code.rows(read_statements(probes))
        codes.append(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9))
        again = restore_number_code(code.arrays())
        assert np.array_equal(again.rows(read_statements(probes)), rows)
    np.testing.assert_allclose(codes[0], codes[1], atol=1e-6)
    assert codes[0][0] @ codes[0][1] > 0.9 > 0.1 > codes[0][0] @ codes[0][2]
    assert codes[0][3].any() and not codes[0][4].any()


def test_few_different_numbers_have_a_part_each() -> None:
    found = fitted_on([{"attributes": {"doors": doors}} for doors in (2, 4, 4, 5) * 3])
    assert found.words == ("attributes.doors~1/3", "attributes.doors~2/3", "attributes.doors~3/3")


def test_rows_are_unit_vectors_weighed_by_rarity() -> None:
    """The weights are those of scikit-learn's TfidfTransformer over the same counts."""
    from sklearn.feature_extraction.text import TfidfTransformer

    records = [{"tags": tags} for tags in (["a", "b"], ["a"], ["a", "c"], ["b", "c"], ["c"], [])]
    found = fitted_on(records, min_count=1)
    assert found.words == ("tag=a", "tag=b", "tag=c")
    counts = [[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]]
    reference = TfidfTransformer().fit_transform(counts).toarray()
    np.testing.assert_allclose(found.transform(records), reference, atol=1e-6)


def test_rare_and_unknown_labels_give_zero() -> None:
    found = fitted_on([{"tags": ["a"]}] * 3 + [{"tags": ["b"]}] * 2)
    assert found.words == ("tag=a",)
    assert not found.transform([BLANK, {"tags": ["b"]}, {}]).any()
    assert fitted_on([BLANK] * 5).transform([BLANK]).shape == (1, 0)


def test_the_most_frequent_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "MOST_LABELS", 2)
    records = [{"tags": ["often", "seldom"]}] * 3 + [{"tags": ["often", "middling"]}] * 4
    assert fitted_on(records).words == ("tag=middling", "tag=often")


def test_attributes_as_json_text_give_the_same_labels() -> None:
    stored = [{**record, "attributes": json.dumps(record["attributes"])} for record in RECORDS]
    assert fitted_on(stored).words == fitted_on(RECORDS).words
    assert np.array_equal(fitted_on(stored).transform(stored), fitted_on(RECORDS).transform(RECORDS))
    assert fitted_on([{"attributes": "no json"}] * 3).words == ()


def test_labels_are_restored_bit_by_bit() -> None:
    records = [*RECORDS, {"tags": ["\ud800 odd", "ünï"]}, {"tags": ["\ud800 odd"]}]
    found = fitted_on(records, min_count=1)
    again = restore_labels(found.arrays())
    assert again.words == found.words and again.edges == found.edges
    assert np.array_equal(again.transform(records), found.transform(records))
