"""Parse a condition on rows, as a user writes it in SQL, and render it anew for the store.

The text itself never reaches the store: it is parsed alone to a tree, so that it cannot close a bracket that others
opened; nodes, functions and fields that are not listed here are refused; and the SQL is written from the tree, with
literals quoted by this package. What is listed costs time in proportion to the rows and their texts, no more.

An item's attributes are a JSON object in text. A comparison with one of them, `attributes.colour = 'blue'`, becomes a
regular expression over that text. It holds only for items that have the attribute; negations are moved inwards, so that
this holds for `NOT attributes.colour = 'blue'` too, as it does in SQL for a column that is null.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa
import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.errors import ParseError, TokenError

from coldstart.errors import ColdstartError
from coldstart.store import json_text
from coldstart.store.operands import MAX_DEPTH, TOO_DEEP, Operand, OperandReader

MAX_LENGTH = 100_000
"""Characters of a condition; a thousand ids in a list fit."""
MAX_TERMS = 500
"""Comparisons that AND and OR join."""
MAX_WILDCARDS = 20
"""Signs `%` and `_` in one pattern of LIKE."""

_COMPARED: Mapping[type[exp.Expr], tuple[str, str]] = {
    exp.EQ: ("=", "<>"),
    exp.NEQ: ("<>", "="),
    exp.LT: ("<", ">="),
    exp.LTE: ("<=", ">"),
    exp.GT: (">", "<="),
    exp.GTE: (">=", "<"),
}
"""Comparison -> its operator, and that of its negation."""
_SWAPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True)
class Condition:
    """A condition that the store may evaluate.

    Attributes:
        sql: in brackets.
        attributes: attribute -> SQL that holds for the rows that have it.
    """

    sql: str
    attributes: Mapping[str, str]


def parse_condition(text: str, schema: pa.Schema) -> Condition:
    """Parse a condition over the columns of a table.

    Args:
        schema: of the table; columns of texts, numbers, times, truth values and lists of texts can be named, and single
            attributes where it has the column `attributes`.

    Raises:
        ColdstartError: the text is no condition, or uses what is not allowed; with the character where.
    """
    return _Parser(OperandReader(text, schema)).parse()


@dataclass
class _Parser:
    read: OperandReader
    terms: int = 0

    def parse(self) -> Condition:
        if not self.read.text.strip():
            raise self.read.fault("it is empty")
        if len(self.read.text) > MAX_LENGTH:
            raise self.read.fault(f"{len(self.read.text):,} characters are too many: write {MAX_LENGTH:,} at most")
        for place, character in enumerate(self.read.text):
            if character == "\0" or "\ud800" <= character <= "\udfff":
                raise self.read.fault(f"{character!r} is no character of a text", place)
        logger = logging.getLogger("sqlglot")
        logger.addFilter(_drop_record)  # a warning of the parser would stand beside the error
        try:
            if _nesting(sqlglot.tokenize(self.read.text)) > MAX_DEPTH:  # before the parser, whose time grows with it
                raise self.read.fault(TOO_DEEP)
            tree = sqlglot.parse_one(self.read.text, into=exp.Condition)
        except TokenError:
            comment = " or a comment after /*" if "/*" in self.read.text else ""
            raise self.read.fault(f"a text or name in quotes{comment} does not end") from None
        except ParseError as error:
            entry = error.errors[0] if error.errors else {}
            place = _offset(self.read.text, entry.get("line") or 1, entry.get("col") or 1) - len(
                entry.get("highlight", "")
            )
            raise self.read.fault("this is no condition", max(0, place)) from None
        except RecursionError:
            raise self.read.fault(TOO_DEEP) from None
        finally:
            logger.removeFilter(_drop_record)
        return Condition(f"({self._condition(tree, True, 0)})", self.read.attributes)

    def _condition(self, node: exp.Expr, positive: bool, depth: int) -> str:
        """Render a condition, or its negation."""
        self.read.check_depth(node, depth)
        if isinstance(node, exp.And | exp.Or):
            word = " AND " if isinstance(node, exp.And) == positive else " OR "
            parts = [self._condition(part, positive, depth + 1) for part in _chain(node, type(node))]
            return f"({word.join(parts)})"
        if isinstance(node, exp.Paren):
            return self._condition(node.this, positive, depth + 1)
        if isinstance(node, exp.Not):
            return self._condition(node.this, not positive, depth + 1)
        self.terms += 1
        if self.terms > MAX_TERMS:
            raise self.read.fault(
                f"more than {MAX_TERMS} comparisons: name values in a list, as in kind IN ('video', 'product')"
            )
        render = _CONDITIONS.get(type(node))
        if render is not None:
            return render(self, node, positive, depth + 1)
        value = self.read.value(node, depth)
        if value.type != "truth":
            raise self.read.fault(
                f"{self.read.source(node)} is no condition but a {value.type}: compare it with something", node
            )
        return value.sql if positive else f"NOT {value.sql}"

    def _compare(self, node: exp.Expr, positive: bool, depth: int) -> str:
        operator = _COMPARED[type(node)][0 if positive else 1]
        left, right = self.read.value(node.this, depth), self.read.value(node.expression, depth)
        if left.is_literal and not right.is_literal:  # 5 < price
            left, right, operator = right, left, _SWAPPED.get(operator, operator)
        if "null" in (left.type, right.type):
            raise self.read.fault("nothing compares with NULL: write IS NULL or IS NOT NULL", node)
        if left.type == "attribute":
            return self._compare_attribute(node, left.attribute, operator, right)
        left, right = self.read.alike(node, left, right)
        return f"{left.sql} {operator} {right.sql}"

    def _in(self, node: exp.Expr, positive: bool, depth: int) -> str:
        self.read.only(node, "this", "expressions")
        left = self.read.value(node.this, depth)
        values = [self.read.literal(one, depth) for one in node.args.get("expressions") or []]
        if not values:
            raise self.read.fault("the list is empty", node)
        if left.type == "attribute":
            return self._attribute_equals(left.attribute, values, positive)
        rendered = ", ".join(self.read.alike(node, left, value)[1].sql for value in values)
        return f"{left.sql} {'IN' if positive else 'NOT IN'} ({rendered})"

    def _between(self, node: exp.Expr, positive: bool, depth: int) -> str:
        self.read.only(node, "this", "low", "high")
        left = self.read.value(node.this, depth)
        low, high = (self.read.literal(node.args[name], depth) for name in ("low", "high"))
        if left.type == "attribute":
            left = self.read.attribute_number(node, left.attribute, low, high)
        ends = [self.read.alike(node, left, end)[1].sql for end in (low, high)]
        return f"{left.sql} {'BETWEEN' if positive else 'NOT BETWEEN'} {ends[0]} AND {ends[1]}"

    def _is(self, node: exp.Expr, positive: bool, depth: int) -> str:
        self.read.only(node, "this", "expression")
        target = node.expression
        if isinstance(target, exp.Not):  # some versions of the parser keep IS NOT NULL in one node
            target, positive = target.this, not positive
        if not isinstance(target, exp.Null):
            raise self.read.fault("only NULL goes with IS", node)
        left = self.read.value(node.this, depth)
        if left.type == "attribute":
            has = self.read.has(left.attribute)
            return f"(attributes IS NULL OR NOT {has})" if positive else has
        return f"{left.sql} IS {'NULL' if positive else 'NOT NULL'}"

    def _like(self, node: exp.Expr, positive: bool, depth: int) -> str:
        self.read.only(node, "this", "expression", "negate")
        positive = positive != bool(node.args.get("negate"))
        left, pattern = self.read.value(node.this, depth), self.read.literal(node.expression, depth)
        any_case = isinstance(node, exp.ILike)
        if not isinstance(pattern.literal, str) or left.type not in ("text", "attribute"):
            raise self.read.fault("LIKE compares a text with a pattern such as 'red%'", node)
        if sum(map(pattern.literal.count, "%_")) > MAX_WILDCARDS:
            raise self.read.fault(f"a pattern has more than {MAX_WILDCARDS} signs % and _", node)
        if left.type == "attribute":
            test = json_text.like(left.attribute, pattern.literal, any_case)
            return self._attribute_test(left.attribute, test, positive)
        return f"{left.sql} {'' if positive else 'NOT '}{'ILIKE' if any_case else 'LIKE'} {pattern.sql}"

    def _array_has(self, node: exp.Expr, positive: bool, depth: int) -> str:
        self.read.only(node, "this", "expression")
        name = "array_has" if isinstance(node, exp.ArrayContains) else "array_has_all"
        return self._list_test(node, name, node.this, _elements(node.expression), positive, depth)

    def _starts_with(self, node: exp.Expr, positive: bool, depth: int) -> str:
        self.read.only(node, "this", "expression")
        left, start = self.read.value(node.this, depth), self.read.literal(node.expression, depth)
        if left.type != "text" or start.type != "text":
            raise self.read.fault(
                "starts_with takes a field of text and a text; for an attribute write LIKE 'red%'", node
            )
        return f"{'' if positive else 'NOT '}starts_with({left.sql}, {start.sql})"

    def _called(self, node: exp.Expr, positive: bool, depth: int) -> str:
        """Render a function that the parser does not know and that is a condition."""
        name, given = self.read.function(node)
        if name in ("array_has_any", "array_has_all", "array_has") and len(given) == 2:
            return self._list_test(node, name, given[0], _elements(given[1]), positive, depth)
        value = self.read.value(node, depth)
        raise self._no_condition(node, value)

    def _list_test(
        self,
        node: exp.Expr,
        name: str,
        owner: exp.Expr,
        elements: Sequence[exp.Expr],
        positive: bool,
        depth: int,
    ) -> str:
        left, values = self.read.value(owner, depth), [self.read.literal(one, depth) for one in elements]
        texts = [value.literal for value in values if isinstance(value.literal, str)]
        is_one = len(texts) == 1 or name != "array_has"
        if left.type not in ("list of texts", "attribute") or not is_one or not texts or len(texts) != len(values):
            raise self.read.fault(f"{name} takes a list such as tags, and texts: array_has(tags, 'vegan')", node)
        if left.type == "attribute":
            tests = [json_text.holds(left.attribute, text) for text in texts]
            parts = [self._attribute_test(left.attribute, test, positive) for test in tests]
            return f"({(' OR ' if (name == 'array_has_any') == positive else ' AND ').join(parts)})"
        second = values[0].sql if name == "array_has" else f"[{', '.join(value.sql for value in values)}]"
        return f"{'' if positive else 'NOT '}{name}({left.sql}, {second})"

    def _compare_attribute(self, node: exp.Expr, name: str, operator: str, right: Operand) -> str:
        if operator in ("=", "<>") and right.is_literal and right.type in ("text", "truth"):
            return self._attribute_equals(name, [right], operator == "=")
        return f"{self.read.attribute_number(node, name, right).sql} {operator} {right.sql}"

    def _attribute_equals(self, name: str, values: Sequence[Operand], positive: bool) -> str:
        literals = [value.literal for value in values if value.literal is not None]
        return self._attribute_test(name, json_text.equals(name, literals), positive)

    def _attribute_test(self, name: str, test: str, positive: bool) -> str:
        has = self.read.has(name)
        return test if positive else f"({has} AND NOT {test})"

    def _no_condition(self, node: exp.Expr, value: Operand) -> ColdstartError:
        return self.read.fault(
            f"{self.read.source(node)} is no condition but a {value.type}: compare it with something", node
        )


_Render: TypeAlias = "Callable[[_Parser, exp.Expr, bool, int], str]"
_CONDITIONS: Mapping[type[exp.Expr], _Render] = {
    **dict.fromkeys(_COMPARED, _Parser._compare),
    exp.In: _Parser._in,
    exp.Between: _Parser._between,
    exp.Is: _Parser._is,
    exp.Like: _Parser._like,
    exp.ILike: _Parser._like,
    exp.ArrayContains: _Parser._array_has,
    exp.ArrayContainsAll: _Parser._array_has,
    exp.StartsWith: _Parser._starts_with,
    exp.Anonymous: _Parser._called,
}


def _chain(node: exp.Expr, kind: type[exp.Expr]) -> list[exp.Expr]:
    """List what a chain of AND, or of OR, joins."""
    found: list[exp.Expr] = []
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, kind):
            waiting += [one.expression, one.this]
        else:
            found.append(one)
    return found


def _elements(node: exp.Expr) -> list[exp.Expr]:
    """List the elements of `['a', 'b']`, `ARRAY['a']` or `make_array('a')`; of one text, that."""
    is_list = isinstance(node, exp.Array) or (isinstance(node, exp.Anonymous) and node.name.lower() == "make_array")
    return list(node.expressions) if is_list else [node]


def _nesting(tokens: Sequence[Token]) -> int:
    """Count brackets inside one another at most."""
    depth = deepest = 0
    for token in tokens:
        depth += token.token_type in (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)
        depth -= token.token_type in (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)
        deepest = max(deepest, depth)
    return deepest


def _offset(text: str, line: int, column: int) -> int:
    lines = text.splitlines(keepends=True)[: line - 1]
    return sum(map(len, lines)) + column


def _drop_record(_: logging.LogRecord) -> bool:
    return False
