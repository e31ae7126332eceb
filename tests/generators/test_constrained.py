"""Bound text: what may be written, and that it is whole whatever the model would rather do."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
import word_tokens
import xgrammar

from coldstart.core.attributes import Attribute
from coldstart.core.description import json_schema, parse
from coldstart.generators._constrained import Binder, Pen, loops

ATTRIBUTES = {
    "type": Attribute(values=("Shirts", "Casual Shoes")),
    "colour": Attribute(values=("Blue", "Red")),
    "material": Attribute(),
}
SHORT, LONG = ("attributes", "summary"), ("summary", "attributes", "keywords", "queries")


@pytest.fixture(scope="module")
def binder() -> Binder:
    tokenizer = word_tokens.tokenizer()
    return Binder(tokenizer, len(tokenizer), [tokenizer.eos_token_id])


def allowed(binder: Binder, pen: Pen) -> list[int]:
    bitmask = xgrammar.allocate_token_bitmask(1, binder.vocab_size)
    assert pen.mask(bitmask, 0)
    places = np.unpackbits(bitmask[0].numpy().view(np.uint8), bitorder="little").nonzero()[0]
    return [int(place) for place in places]


def write(binder: Binder, pen: Pen, text: str) -> None:
    for token in binder.split(text.encode()):
        assert token in allowed(binder, pen)
        pen.take(token)


def test_what_a_description_dumps_is_allowed_and_ends_itself(binder: Binder) -> None:
    text = '{"attributes": {"type": "Casual Shoes", "material": "wool"}, "summary": "A blue shoe, été."}'
    pen = Pen(binder, json_schema(ATTRIBUTES, SHORT), 200)
    write(binder, pen, text)
    assert (pen.finish, pen.text()) == ("stop", text)
    assert len(pen.tokens) == len(binder.split(text.encode()))


@pytest.mark.parametrize(
    ("begun", "wrong"),
    [
        ('{"attributes": {"', "size"),
        ('{"attributes": {"type": "', "Blue"),
        ('{"attributes": {"colour": "Blue", "', "type"),
        ("{", ' "'),
        ('{"attributes": {}', "}"),
        ('{"attributes": {}, "summary": "', '"'),
        ('{"attributes": {}, "summary": "', "\n"),
        ('{"attributes": {}, "summary": "a', "\\"),
        ('{"attributes": {}, "summary": "', "<|im_end|>"),
        ('{"attributes": {}, "summary": "', "<|im_start|>"),
    ],
)
def test_what_the_schema_does_not_say_is_not_allowed(binder: Binder, begun: str, wrong: str) -> None:
    pen = Pen(binder, json_schema(ATTRIBUTES, SHORT), 200)
    write(binder, pen, begun)
    first = binder.tokenizer.convert_tokens_to_ids(wrong) if wrong.startswith("<|") else binder.split(wrong.encode())[0]
    assert first not in allowed(binder, pen)
    if not wrong.startswith("<|"):
        with pytest.raises(RuntimeError, match=r"does not fit the schema after"):
            pen.take(first)


@pytest.mark.parametrize("output", [SHORT, LONG])
@pytest.mark.parametrize("seed", range(12))
def test_texts_of_random_tokens_are_whole_within_their_budget(
    binder: Binder, output: tuple[str, ...], seed: int
) -> None:
    draw = random.Random(seed)
    schema = json_schema(ATTRIBUTES, output)
    least = len(binder.split(b'{"summary": "a", "attributes": {}, "keywords": [], "queries": []}'))
    budget = least + 8 + draw.randrange(150)
    pen = Pen(binder, schema, budget)
    eager = draw.random()
    while pen.finish is None:
        choice = allowed(binder, pen)
        marks = [token for token in choice if binder.pieces[token] in (b'"', b",", b"}", b"]", b", ")]
        pen.take(draw.choice(marks if marks and draw.random() < eager else choice))
    assert len(pen.tokens) <= budget
    parse(pen.text(), output)


def test_a_text_that_is_cut_says_so(binder: Binder) -> None:
    schema = json_schema(ATTRIBUTES, SHORT)
    pen = Pen(binder, schema, len(binder.split(b'{"attributes": {}, "summary": "a"}')) + 30)
    write(binder, pen, '{"attributes": {}, "summary": "')
    letters = [binder.split(letter.encode())[0] for letter in "abcdefghijklmnopqrstuvwxyz"]
    for place in range(100):
        if pen.finish is None:
            pen.take(letters[place * 7 % 26])
    assert pen.finish == "length"
    assert json.loads(pen.text())["summary"].startswith("ahov")


def test_a_loop_in_a_string_is_shut_and_the_text_goes_on(binder: Binder) -> None:
    pen = Pen(binder, json_schema(ATTRIBUTES, LONG), 300)
    write(binder, pen, '{"summary": "')
    letter = binder.split(b"a")[0]
    while pen.take(letter) == letter:
        pass
    write(binder, pen, ', "attributes": {}, "keywords": [], "queries": []}')
    assert pen.finish == "stop"
    assert len(json.loads(pen.text())["summary"]) <= 40


def test_a_loop_ends_a_free_text(binder: Binder) -> None:
    pen = Pen(binder, None, 300)
    for token in binder.split(b"so blue " * 30):
        if pen.finish is None:
            pen.take(token)
    assert pen.finish == "length"
    assert len(pen.tokens) < 100


def test_the_mark_of_the_end_ends_a_free_text(binder: Binder) -> None:
    pen = Pen(binder, None, 300)
    for token in [*binder.split(b"blue shoe"), binder.tokenizer.eos_token_id]:
        pen.take(token)
    assert (pen.finish, pen.text()) == ("stop", "blue shoe")


def test_loops_are_counted() -> None:
    assert loops([1] * 24)
    assert not loops([1] * 23)
    assert loops([9, *[1, 2, 3] * 8])
    assert loops([9, *range(30), *range(30), *range(30)])
    assert not loops([*range(40), *range(40), *range(40)])
    assert not loops([])


def test_the_order_of_fields_is_the_schemas(binder: Binder) -> None:
    for output in (("summary", "attributes"), SHORT):
        pen = Pen(binder, json_schema(ATTRIBUTES, output), 100)
        write(binder, pen, f'{{"{output[0]}')


def test_a_schema_that_cannot_be_compiled_is_named(binder: Binder) -> None:
    schema: dict[str, Any] = {"type": "nothing"}
    with pytest.raises(ValueError, match=r'^schema \{"type": "nothing"\} cannot be compiled: '):
        Pen(binder, schema, 10)
