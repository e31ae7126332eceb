"""Digests: equal values have equal keys, everything that counts changes them, and they stay the same over releases."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldstart.core.keys import KEY_LENGTH, chain, digest, stage_key

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_digest_is_the_sha256_of_sorted_json() -> None:
    """Reference: hashlib over the JSON written by hand; were it to change, every workspace would be redone."""
    expected = hashlib.sha256('{"a":[1,2.5,null,true],"b":"é"}'.encode()).hexdigest()[:32]
    assert digest({"b": "é", "a": [1, 2.5, None, True]}) == expected
    assert digest({"a": (1, 2.5, None, True), "b": "é"}) == expected
    assert len(expected) == KEY_LENGTH


@pytest.mark.slow
@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_the_order_of_a_mapping_does_not_count(value: dict[str, Any]) -> None:
    assert digest(dict(reversed(value.items()))) == digest(value)


@given(JSON, JSON)
def test_how_values_are_nested_counts(one: Any, other: Any) -> None:
    assert digest([one, other]) != digest([[one, other]])


@pytest.mark.parametrize(("one", "other"), [(1, "1"), (1, True), (0, None), ("", None), ([], {}), ("é", "e\u0301")])
def test_values_that_look_alike_differ(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)


def test_what_json_lacks_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^Object of type bytes is not JSON serializable$"):
        digest(b"x")
    with pytest.raises(ValueError, match=r"^Out of range float values are not JSON compliant"):
        digest(float("nan"))


def test_names_of_files_that_are_no_unicode_have_digests() -> None:
    assert digest("\udc80") != digest("\udc81")


def test_a_stage_key_holds_kind_version_and_settings() -> None:
    keys = {
        stage_key("embed", 1, {"encoder": "a"}),
        stage_key("embed", 2, {"encoder": "a"}),
        stage_key("index", 1, {"encoder": "a"}),
        stage_key("embed", 1, {"encoder": "b"}),
        stage_key("embed", 1, {}),
    }
    assert len(keys) == 5
    assert stage_key("embed", 1, {"a": 1, "b": 2}) == stage_key("embed", 1, {"b": 2, "a": 1})


def test_chains_tell_stage_from_row_and_carry_changes_on() -> None:
    assert chain("a", "b") == hashlib.sha256(b"a\nb").hexdigest()[:32]
    assert chain("a", "b") != chain("b", "a")
    first, changed = chain("stage 1", "item"), chain("stage 1", "item, changed")
    assert chain("stage 2", first) != chain("stage 2", changed)
