"""Constrain generated text to a JSON schema: which tokens may come next, row by row.

The grammar of a schema is compiled by xgrammar (Dong et al. 2024, arXiv:2411.15100) to exactly what `json.dumps` writes
with its own separators, fields in the schema's order. A text of bounded length has no quotation mark and no backslash
in it: there xgrammar knows no escapes. A sequence also stops what a small model does badly: a text that repeats itself
is closed, and where the tokens run out everything open is closed, so that it stays JSON. Checks no words; `finish`
states where a text was cut.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import xgrammar

from coldstart.errors import ColdstartError

LOOP_TOKENS, LOOP_TIMES, LONGEST_LOOP = 24, 3, 32
"""A loop has at least so many tokens, and comes so often; the longest that is searched for."""
_CHECK_EVERY = 8
_SPARE = 4
"""Tokens left over where a text is closed: its end is counted by the grammar's view, which is a little short."""
_MOST_COUNTED = 512
"""Tokens of closing after which counting is given up."""
_CACHE_BYTES = 256 << 20


class GrammarCompiler:
    """Compiler of schemas for one tokenizer.

    Args:
        tokenizer: of transformers.
        vocab_size: width of the model's logits.
        stop_ids: tokens that end an answer.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, stop_ids: Sequence[int]) -> None:
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.stop_ids = tuple(stop_ids)
        info = xgrammar.TokenizerInfo.from_huggingface(
            tokenizer, vocab_size=vocab_size, stop_token_ids=list(self.stop_ids)
        )
        self.pieces: list[bytes] = list(info.decoded_vocab)
        marks = {*info.special_token_ids, *tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
        self._ids = {piece: place for place, piece in enumerate(self.pieces) if piece and place not in marks}
        # xgrammar lets `<|im_start|>` and its like stand in a string as plain text, and bare control characters too.
        never = {place for place, piece in enumerate(self.pieces) if piece and min(piece) < 0x20}
        bits = np.full(-(-vocab_size // 32) * 32, True)
        bits[vocab_size:] = False
        bits[[place for place in (marks | never) - set(self.stop_ids) if place < vocab_size]] = False
        self.allowed = torch.from_numpy(np.packbits(bits, bitorder="little").view(np.int32))
        self._tokenized: dict[str, list[int]] = {}  # few: what schemas leave no choice about
        self._compiler = xgrammar.GrammarCompiler(info, max_threads=2, cache_limit_bytes=_CACHE_BYTES)

    def matcher(self, schema: Mapping[str, Any]) -> xgrammar.GrammarMatcher:
        """Start a matcher at the beginning of a text of that schema.

        Raises:
            ValueError: the schema cannot be compiled.
        """
        # Not a key that sorts: the order of fields is part of the grammar.
        text = json.dumps(schema, ensure_ascii=False)
        try:
            compiled = self._compiler.compile_json_schema(text, any_whitespace=False, separators=(", ", ": "))
        except RuntimeError as error:
            raise ValueError(f"schema {text[:200]} cannot be compiled: {error}") from error
        return xgrammar.GrammarMatcher(compiled)

    def closing_margin(self, schema: Mapping[str, Any]) -> int:
        """Count the tokens that one more field of an object, or entry of a list, can take at most before it may end."""
        inner = [*schema.get("properties", {}).items(), *([("", schema["items"])] if "items" in schema else [])]
        if not inner:
            return 0
        return max(max(self._cost(name, about), self.closing_margin(about)) for name, about in inner)

    def _cost(self, name: str, schema: Mapping[str, Any]) -> int:
        cost = len(self.split_greedily(f', "{name}": '.encode())) + 3
        cost += max(
            (len(self.split_greedily(json.dumps(one, ensure_ascii=False).encode())) for one in schema.get("enum", ())),
            default=0,
        )
        required, fields = schema.get("required", ()), schema.get("properties", {})
        return cost + sum(self._cost(one, fields[one]) for one in required)

    def tokenize(self, text: str) -> list[int]:
        """Tokenize a text by the tokenizer; no tokens if they stand for more than the text."""
        if text not in self._tokenized:
            ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            plain = b"".join(self.pieces[token] for token in ids) == text.encode()
            self._tokenized[text] = ids if plain else []
        return self._tokenized[text]

    def split_greedily(self, text: bytes) -> list[int]:
        """Split a text into tokens, always the longest that fits; for text that no model chose."""
        found = []
        while text:
            size = next(size for size in range(min(len(text), 32), 0, -1) if text[:size] in self._ids)
            found.append(self._ids[text[:size]])
            text = text[size:]
        return found


def grammar_compiler_of(name: str, model: Any, tokenizer: Any) -> GrammarCompiler:
    """Build the compiler for a model of transformers and its tokenizer.

    Raises:
        ColdstartError: nothing says which token ends a text.
    """
    stated = getattr(model.generation_config, "eos_token_id", None)
    ends = {stated} if isinstance(stated, int) else set(stated or ())
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    if not ends:
        raise ColdstartError(f"generator {name!r}: neither model nor tokenizer says which token ends a text")
    return GrammarCompiler(tokenizer, model.config.get_text_config().vocab_size, sorted(ends))


class ConstrainedSequence:
    """Text of one row while it is generated.

    Args:
        schema: what binds it; None: nothing.
        budget: tokens that it may have.

    Attributes:
        tokens: written so far, without the one that ends an answer.
        finish: None while it is open.
    """

    def __init__(self, compiler: GrammarCompiler, schema: Mapping[str, Any] | None, budget: int) -> None:
        self.tokens: list[int] = []
        self.finish: Literal["stop", "length"] | None = None
        self._grammar = compiler
        self._budget = budget
        self._matcher = None if schema is None else compiler.matcher(schema)
        self._whole = schema is not None and schema.get("type") == "object"  # its last brace is its end
        self._quoted = _StringState()
        self._shut = self._closing = self._cut = False
        self._margin = 0 if schema is None else compiler.closing_margin(schema)
        self._count_at = budget

    def mask(self, bitmask: torch.Tensor, place: int) -> bool:
        """Write which tokens may follow into one row of int32 `[B, ceil(vocab / 32)]`; False where any may."""
        if self._matcher is None:
            return False
        self._matcher.fill_next_token_bitmask(bitmask, place)
        bitmask[place] &= self._grammar.allowed
        return True

    def accept(self, token: int) -> int:
        """Append the token that the model chose under `mask`, or a replacement, and return the appended one.

        Raises:
            RuntimeError: the schema does not allow it.
        """
        token = self._replacement(token)
        if token in self._grammar.stop_ids:
            self.finish = "length" if self._cut else "stop"
            return token
        if self._matcher is not None and not self._matcher.accept_token(token):
            raise RuntimeError(f"token {token} does not fit the schema after {self.text()!r}")
        self.tokens.append(token)
        self._quoted.read(self._grammar.pieces[token])
        if self._whole and self._matcher is not None and self._matcher.is_completed():
            self.finish = "length" if self._cut else "stop"
        elif len(self.tokens) >= self._budget:
            self.finish = "length"
        elif len(self.tokens) % _CHECK_EVERY == 0 and ends_in_loop(self.tokens):
            if self._matcher is None:
                self.finish = "length"
            self._shut = True
        return token

    def text(self) -> str:
        if self._matcher is not None:
            return b"".join(self._grammar.pieces[token] for token in self.tokens).decode("utf-8", "replace")
        decode = self._grammar.tokenizer.decode
        free: str = decode(self.tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return free.strip()

    def _replacement(self, token: int) -> int:
        """Return the token to append in place of the model's, where a loop is closed or the budget ends."""
        if self._matcher is None:
            return token
        inside, mark = self._quoted.inside, ""
        if self._shut and (mark := _if_allowed(self._matcher, '"' if inside else "]")):
            self._shut = False
            return self._grammar.split_greedily(mark.encode())[0]
        if self._near_limit() and (not inside or b'"' in self._grammar.pieces[token][:-1] or self._at_limit()):
            mark = _closer(self._matcher, inside)
        if not mark:
            return self._retokenized(token)
        self._cut |= not mark.encode().startswith(self._grammar.pieces[token])
        return self._grammar.split_greedily(mark.encode())[0]

    def _retokenized(self, token: int) -> int:
        """Return the token, or, where the grammar leaves no choice, the longer one that the tokenizer would take.

        A model whose usual tokens a grammar forbids goes on letter by letter, which takes more steps and misleads it.
        The last token of what is certain stays the model's own: it may run on into what is not.
        """
        assert self._matcher is not None
        certain = self._matcher.find_jump_forward_string()
        if len(certain) < 2 or not certain.encode().startswith(self._grammar.pieces[token]):
            return token
        first, *others = self._grammar.tokenize(certain) or [token]
        return max(token, first, key=lambda one: len(self._grammar.pieces[one])) if others else token

    def _near_limit(self) -> bool:
        """Tell whether nothing more may begin. The cost of closing is counted again when half of the rest is used."""
        left = self._budget - len(self.tokens)
        if not self._closing and left <= self._count_at:
            spare = left - self._closing_cost() - self._margin
            self._closing = spare <= 0
            self._count_at = left - (spare + 1) // 2
        return self._closing

    def _at_limit(self) -> bool:
        """Tell whether even the current text must end here."""
        return self._budget - len(self.tokens) <= self._closing_cost() + _SPARE

    def _closing_cost(self) -> int:
        """Count the least tokens that close everything, where a text that must not be empty has one token."""
        assert self._matcher is not None
        matcher, quoted, count = self._matcher.fork(), self._quoted.copy(), 0
        bitmask = xgrammar.allocate_token_bitmask(1, self._grammar.vocab_size)
        while not matcher.is_completed() and count <= _MOST_COUNTED:
            mark = _closer(matcher, quoted.inside)
            if mark:
                tokens = self._grammar.split_greedily(mark.encode())
            else:
                matcher.fill_next_token_bitmask(bitmask, 0)
                bitmask[0] &= self._grammar.allowed
                words = bitmask[0].nonzero()[0]
                tokens = [_lowest_bit(int(bitmask[0, words[0]])) + 32 * int(words[0])]
            for token in tokens:
                matcher.accept_token(token)
                quoted.read(self._grammar.pieces[token])
            count += len(tokens)
        return count


def _closer(matcher: xgrammar.GrammarMatcher, inside: bool) -> str:
    """Return the next text on the shortest way to the end: a closing mark, or what the grammar forces."""
    for mark in ('"',) if inside else ("}", "]"):
        if _if_allowed(matcher, mark):
            return mark
    forced: str = matcher.find_jump_forward_string()
    return forced


def _if_allowed(matcher: xgrammar.GrammarMatcher, mark: str) -> str:
    """Return the mark if it may come next, else ""."""
    if not matcher.accept_string(mark):
        return ""
    matcher.rollback(1)
    return mark


def _lowest_bit(word: int) -> int:
    """Find the lowest set bit of an int32."""
    return (word & -word & 0xFFFFFFFF).bit_length() - 1


class _StringState:
    """Scanner that knows whether a JSON text is inside a string."""

    def __init__(self, inside: bool = False, escaped: bool = False) -> None:
        self.inside = inside
        self._escaped = escaped

    def copy(self) -> _StringState:
        return _StringState(self.inside, self._escaped)

    def read(self, piece: bytes) -> None:
        for byte in piece:
            if self._escaped:
                self._escaped = False
            elif self.inside and byte == 0x5C:
                self._escaped = True
            elif byte == 0x22:
                self.inside = not self.inside


def ends_in_loop(tokens: Sequence[int]) -> bool:
    """Tell whether a text ends in repetitions of one piece of up to `LONGEST_LOOP` tokens."""
    for period in range(1, LONGEST_LOOP + 1):
        times = max(LOOP_TIMES, -(-LOOP_TOKENS // period))
        if len(tokens) < period * times:
            continue
        tail = list(tokens[-period * times :])
        if tail == tail[:period] * times:
            return True
    return False
