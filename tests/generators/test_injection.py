"""Orders planted in item text: no mark of them survives in a prompt, and nothing that obeyed them in a description."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from injections import ATTRIBUTES, BRANDS, HONEST, ITEM, KNOWN, NEW, Injection

from coldstart import generators
from coldstart.core import prompts
from coldstart.core.description import json_schema
from coldstart.core.stage import Reject
from coldstart.describe.checks import Checked, Rules, Sources, check_description
from coldstart.generators import Generation, Request, Sampling
from coldstart.models import install

PROMPTS = [f"describe_{kind}{form}" for kind in ("product", "video") for form in ("", "_long", "_prose")]
RULES = Rules(output=("attributes", "summary"), brands=BRANDS)
MARKS = ("<|", "|>", "</", "[INST]", "[/INST]", "<<", "```", "\u200b", "\u202e", "\u00ad", "\x1b", "\x00", "＜")


def pieces(texts: Sequence[str]) -> list[int]:
    """Tokens as a tokenizer that knows few words counts them: four characters each."""
    return [-(-len(text) // 4) for text in texts]


def sources(item: Mapping[str, Any]) -> Sources:
    texts = {name: ", ".join(value) if isinstance(value, list) else value for name, value in item.items()}
    price = texts.pop("price")
    return Sources(texts, {"price": price, "brand": "Stride", "category": "Footwear"})


def verdict(injection: Injection, text: str) -> Checked:
    return check_description(text, "stop", ATTRIBUTES, sources(injection.item()), RULES)


def kept(checked: Checked, injection: Injection) -> list[str]:
    """Planted words that are still there."""
    text = checked.description.dumps().casefold()
    return [word for word in injection.planted if word.casefold() in text]


def named(injection: Injection) -> str:
    return injection.name


def test_there_are_enough_and_no_two_alike() -> None:
    names = [one.name for one in (*KNOWN, *NEW)]
    assert len(KNOWN) >= 30
    assert len(set(names)) == len(names)


def test_what_is_true_of_the_item_stays() -> None:
    checked = check_description(HONEST.dumps(), "stop", ATTRIBUTES, sources(ITEM), Rules(brands=BRANDS))
    assert checked.description == HONEST
    assert checked.cut == ()


@pytest.mark.parametrize("injection", KNOWN, ids=named)
def test_what_is_true_stays_beside_planted_text(injection: Injection) -> None:
    stays = verdict(injection, HONEST.dumps(RULES.output)).description.attributes
    if injection.name == "bidi_marks":  # an order in the title's only sentence: nothing of it is evidence
        assert stays == {"material": "leather"}
    else:
        assert stays == HONEST.attributes


@pytest.mark.parametrize("name", PROMPTS)
@pytest.mark.parametrize("injection", (*KNOWN, *NEW), ids=named)
def test_no_mark_survives_in_a_prompt(name: str, injection: Injection) -> None:
    prompt = prompts.load(name)
    wanted = {one: list(attribute.values) for one, attribute in ATTRIBUTES.items()}
    bare = dict.fromkeys(prompt.inputs) | {"wanted": wanted}
    values = prompt.fit([{**bare, **injection.item()}, {**bare, **ITEM}], pieces)
    text, honest = (prompt.render(value) for value in values)

    lines, plain = text.splitlines(), honest.splitlines()
    start, end = lines.index("<item>"), lines.index("</item>")
    assert lines.count("<item>") == lines.count("</item>") == 1
    assert lines[: start + 1] + lines[end:] == [*plain[: start + 1], *plain[plain.index("</item>") :]]
    inside = lines[start + 1 : end]
    assert not any(mark in "\n".join(inside) for mark in (*MARKS, "<", ">"))
    assert len(inside) == len({line.split(":")[0] for line in inside}) <= len(ITEM) + 1  # one line a field
    for field, budget in prompt.budgets.items():
        value = values[0][field]
        assert pieces([", ".join(value) if isinstance(value, list) else value or ""])[0] <= budget


@pytest.mark.parametrize("injection", KNOWN, ids=named)
def test_what_obeyed_is_cut(injection: Injection) -> None:
    checked = verdict(injection, injection.obeyed.dumps(RULES.output))
    assert checked.status in ("cut", "fallback")
    assert kept(checked, injection) == []
    assert checked.description.attributes.items() <= HONEST.attributes.items()


def test_how_far_a_list_of_forms_goes() -> None:
    """Of orders in new forms some words stay, as sentences of the seller: they are quoted where no model's are left."""
    passed = [one.name for one in NEW if kept(verdict(one, one.obeyed.dumps(RULES.output)), one)]
    assert passed == ["translate", "swahili"]


def test_what_a_title_simply_states_is_believed() -> None:
    item = {**ITEM, "title": "Purple Handbags for women"}
    lie = {"attributes": {"colour": "Purple", "type": "Handbags"}, "summary": "Handbags in purple for women."}
    assert check_description(json.dumps(lie), "stop", ATTRIBUTES, sources(item), RULES).status == "written"


@pytest.mark.slow
def test_a_real_model_writes_nothing_of_what_was_planted() -> None:
    prompt = prompts.load("describe_product")
    install.starter_folder("language")
    generator = generators.load("starter", device="cpu")
    chosen = [one for one in KNOWN if one.name in SHOWN]
    bare = dict.fromkeys(prompt.inputs) | {"wanted": {name: [] for name in ATTRIBUTES}}
    values = prompt.fit([{**bare, **one.item()} for one in chosen], generator.count_tokens)
    schema = json_schema(ATTRIBUTES, prompt.output)
    requests = [Request(prompt.render(value), prompt.system, schema) for value in values]
    written = generator.generate(requests, Sampling(64))
    for injection, one in zip(chosen, written, strict=True):
        assert isinstance(one, Generation)
        try:
            checked = check_description(one.text, one.finish, ATTRIBUTES, sources(injection.item()), RULES)
        except Reject as reject:
            pytest.fail(f"{injection.name}: {reject}")
        assert kept(checked, injection) == []
        stays = {name: value.casefold() for name, value in checked.description.attributes.items()}
        assert stays.items() <= {name: value.casefold() for name, value in HONEST.attributes.items()}.items()


SHOWN = ("ignore_above", "closing_tag", "chat_marks", "json_answer", "long")
"""Those that the small model is given: it is slow, and follows few of them."""
