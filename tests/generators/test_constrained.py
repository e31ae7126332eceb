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
from coldstart.generators._constrained import ConstrainedSequence, GrammarCompiler, ends_in_loop

ATTRIBUTES = {
    "type": Attribute(values=("Shirts", "Casual Shoes")),
    "colour": Attribute(values=("Blue", "Red")),
    "material": Attribute(),
}
SHORT, LONG = ("attributes", "summary"), ("summary", "attributes", "keywords", "queries")


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    tokenizer = word_tokens.tokenizer()
    return GrammarCompiler(tokenizer, len(tokenizer), [tokenizer.eos_token_id])


def allowed(compiler: GrammarCompiler, sequence: ConstrainedSequence) -> list[int]:
    bitmask = xgrammar.allocate_token_bitmask(1, compiler.vocab_size)
    assert sequence.mask(bitmask, 0)
    places = np.unpackbits(bitmask[0].numpy().view(np.uint8), bitorder="little").nonzero()[0]
    return [int(place) for place in places]


def write(compiler: GrammarCompiler, sequence: ConstrainedSequence, text: str) -> None:
    for token in compiler.split_greedily(text.encode()):
        assert token in allowed(compiler, sequence)
        sequence.accept(token)


def test_what_a_description_dumps_is_allowed_and_ends_itself(compiler: GrammarCompiler) -> None:
    text = '{"attributes": {"type": "Casual Shoes", "material": "wool"}, "summary": "A blue shoe, été."}'
    sequence = ConstrainedSequence(compiler, json_schema(ATTRIBUTES, SHORT), 200)
    write(compiler, sequence, text)
    assert (sequence.finish, sequence.text()) == ("stop", text)
    assert len(sequence.tokens) == len(compiler.split_greedily(text.encode()))


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
def test_what_the_schema_does_not_say_is_not_allowed(compiler: GrammarCompiler, begun: str, wrong: str) -> None:
    sequence = ConstrainedSequence(compiler, json_schema(ATTRIBUTES, SHORT), 200)
    write(compiler, sequence, begun)
    first = (
        compiler.tokenizer.convert_tokens_to_ids(wrong)
        if wrong.startswith("<|")
        else compiler.split_greedily(wrong.encode())[0]
    )
    assert first not in allowed(compiler, sequence)
    if not wrong.startswith("<|"):
        with pytest.raises(RuntimeError, match=r"does not fit the schema after"):
            sequence.accept(first)


@pytest.mark.parametrize("output", [SHORT, LONG])
@pytest.mark.parametrize("seed", range(12))
def test_texts_of_random_tokens_are_whole_within_their_budget(
    compiler: GrammarCompiler, output: tuple[str, ...], seed: int
) -> None:
    draw = random.Random(seed)
    schema = json_schema(ATTRIBUTES, output)
    least = len(compiler.split_greedily(b'{"summary": "a", "attributes": {}, "keywords": [], "queries": []}'))
    budget = least + 8 + draw.randrange(150)
    sequence = ConstrainedSequence(compiler, schema, budget)
    eager = draw.random()
    while sequence.finish is None:
        choice = allowed(compiler, sequence)
        marks = [token for token in choice if compiler.pieces[token] in (b'"', b",", b"}", b"]", b", ")]
        sequence.accept(draw.choice(marks if marks and draw.random() < eager else choice))
    assert len(sequence.tokens) <= budget
    parse(sequence.text(), output)


def test_a_text_that_is_cut_says_so(compiler: GrammarCompiler) -> None:
    schema = json_schema(ATTRIBUTES, SHORT)
    sequence = ConstrainedSequence(
        compiler, schema, len(compiler.split_greedily(b'{"attributes": {}, "summary": "a"}')) + 30
    )
    write(compiler, sequence, '{"attributes": {}, "summary": "')
    letters = [compiler.split_greedily(letter.encode())[0] for letter in "abcdefghijklmnopqrstuvwxyz"]
    for place in range(100):
        if sequence.finish is None:
            sequence.accept(letters[place * 7 % 26])
    assert sequence.finish == "length"
    assert json.loads(sequence.text())["summary"].startswith("ahov")


def test_a_loop_in_a_string_is_shut_and_the_text_goes_on(compiler: GrammarCompiler) -> None:
    sequence = ConstrainedSequence(compiler, json_schema(ATTRIBUTES, LONG), 300)
    write(compiler, sequence, '{"summary": "')
    letter = compiler.split_greedily(b"a")[0]
    while sequence.accept(letter) == letter:
        pass
    write(compiler, sequence, ', "attributes": {}, "keywords": [], "queries": []}')
    assert sequence.finish == "stop"
    assert len(json.loads(sequence.text())["summary"]) <= 40


def test_a_loop_ends_a_free_text(compiler: GrammarCompiler) -> None:
    sequence = ConstrainedSequence(compiler, None, 300)
    for token in compiler.split_greedily(b"so blue " * 30):
        if sequence.finish is None:
            sequence.accept(token)
    assert sequence.finish == "length"
    assert len(sequence.tokens) < 100


def test_the_mark_of_the_end_ends_a_free_text(compiler: GrammarCompiler) -> None:
    sequence = ConstrainedSequence(compiler, None, 300)
    for token in [*compiler.split_greedily(b"blue shoe"), compiler.tokenizer.eos_token_id]:
        sequence.accept(token)
    assert (sequence.finish, sequence.text()) == ("stop", "blue shoe")


def test_loops_are_counted() -> None:
    assert ends_in_loop([1] * 24)
    assert not ends_in_loop([1] * 23)
    assert ends_in_loop([9, *[1, 2, 3] * 8])
    assert ends_in_loop([9, *range(30), *range(30), *range(30)])
    assert not ends_in_loop([*range(40), *range(40), *range(40)])
    assert not ends_in_loop([])


def test_the_order_of_fields_is_the_schemas(compiler: GrammarCompiler) -> None:
    for output in (("summary", "attributes"), SHORT):
        sequence = ConstrainedSequence(compiler, json_schema(ATTRIBUTES, output), 100)
        write(compiler, sequence, f'{{"{output[0]}')


def test_a_schema_that_cannot_be_compiled_is_named(compiler: GrammarCompiler) -> None:
    schema: dict[str, Any] = {"type": "nothing"}
    with pytest.raises(ValueError, match=r'^schema \{"type": "nothing"\} cannot be compiled: '):
        ConstrainedSequence(compiler, schema, 10)
