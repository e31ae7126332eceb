"""Test SFT examples: views of items with field dropout, and their completions."""

from __future__ import annotations

from typing import Any

from coldstart import generators
from coldstart.core import prompts
from coldstart.core.attributes import Attributes
from coldstart.describe.finetune.dataset import build_sft_examples

SHOP = Attributes.model_validate({"default": {"type": {"from": "category"}}})
PROMPT = prompts.load("describe_product")
ITEMS = [
    {
        "item_id": name,
        "kind": "product",
        "title": f"{name} the hat",
        "category": "Hats",
        "creator": "Acme",
        "attributes": "{}",
        "media": [],
        "evidence": {"transcript": "I like it"},
    }
    for name in ("a", "b", "c", "d")
]


def _examples(transform: Any = None, **changed: Any) -> list[Any]:
    settings: dict[str, Any] = {
        "prompts": {"product": PROMPT, "video": PROMPT},
        "attributes": SHOP,
        "given": frozenset({"title", "creator", "transcript"}),
        "drop": {"title": 0.5, "transcript": 0.5},
        "views": 4,
        "seed": 0,
        "prose": True,
    }
    generator: Any = generators.load("fake")
    generator.image_transform = transform
    return build_sft_examples(ITEMS, generator, **{**settings, **changed})


def test_the_first_view_shows_all_that_is_given_and_what_is_hidden_is_written() -> None:
    first = _examples(views=1)
    assert [one.item_id for one in first] == ["a", "b", "c", "d"]
    assert "a the hat" in first[0].prompt and "I like it" in first[0].prompt and "Acme" in first[0].prompt
    assert all("Hats" not in one.prompt for one in first)
    assert first[0].completion == '{"attributes": {"type": "Hats"}, "summary": "Hats."}'
    assert first[0].system == PROMPT.system


def test_further_views_leave_fields_out_and_none_is_shown_twice() -> None:
    found = _examples()
    of_a = [one.prompt for one in found if one.item_id == "a"]
    assert 1 < len(of_a) <= 4 and len(set(of_a)) == len(of_a)
    assert any("a the hat" not in prompt for prompt in (one.prompt for one in found))
    assert all("Acme" in one.prompt for one in found)  # never dropped


def test_draws_depend_on_seed_item_and_view_alone() -> None:
    assert _examples() == _examples()
    assert [one for one in _examples() if one.item_id == "c"] == build_sft_examples(
        [ITEMS[2]],
        generators.load("fake"),
        prompts={"product": PROMPT, "video": PROMPT},
        attributes=SHOP,
        given=frozenset({"title", "creator", "transcript"}),
        drop={"title": 0.5, "transcript": 0.5},
        views=4,
        seed=0,
        prose=True,
    )


def test_a_view_without_text_is_left_out_for_a_language_model() -> None:
    assert _examples(given=frozenset({"picture"})) == []
    assert len(_examples("eyes", given=frozenset({"picture"}))) == len(ITEMS)
