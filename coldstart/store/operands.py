"""Read the operands of a condition from its tree, and render each as SQL with its type: fields, literals, functions.

What is not listed here is refused, with the character where it stands. What is costs time in proportion to the rows and
their texts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Literal

import pyarrow as pa
from sqlglot import exp

from coldstart.core.values import parse_time
from coldstart.errors import ColdstartError
from coldstart.store import json_text
from coldstart.store.sql import quote

MAX_DEPTH = 20
"""Brackets, functions and signs inside one another."""
MAX_LITERAL = 1_000
"""Characters of one text."""
TOO_DEEP = f"more than {MAX_DEPTH} brackets and functions stand inside one another"

ATTRIBUTES = "attributes"
_LANGUAGE = "language"

Type = Literal["text", "number", "time", "truth", "list of texts", "attribute", "null"]

_ARITHMETIC: Mapping[type[exp.Expr], str] = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/"}
_DATE_PARTS = ("year", "month", "day", "dow", "hour")
FUNCTIONS = (
    *("abs", "array_has", "array_has_all", "array_has_any", "array_length", "coalesce", "date_part", "length", "lower"),
    *("now", "round", "starts_with", "upper"),
)
"""Functions that a condition may use."""
_LIST_FUNCTIONS = {"list_has": "array_has", "list_contains": "array_has", "cardinality": "array_length"}
_KNOWN: Mapping[type[exp.Expr], tuple[str, tuple[str, ...]]] = {
    exp.Abs: ("abs", ("this",)),
    exp.ArraySize: ("array_length", ("this",)),
    exp.Coalesce: ("coalesce", ("this", "expressions")),
    exp.CurrentTimestamp: ("now", ()),
    exp.Extract: ("date_part", ("this", "expression")),
    exp.Length: ("length", ("this",)),
    exp.Lower: ("lower", ("this",)),
    exp.Round: ("round", ("this", "decimals")),
    exp.Upper: ("upper", ("this",)),
}
"""Functions that the parser has a class for -> name, and the arguments that are read."""


@dataclass(frozen=True)
class Operand:
    """An operand: its SQL and type; the literal behind it, or the name of an attribute."""

    sql: str
    type: Type
    literal: str | float | bool | None = None
    attribute: str = ""

    @property
    def is_literal(self) -> bool:
        return self.literal is not None


@dataclass
class OperandReader:
    """Reader of the operands of one condition.

    Attributes:
        schema: of the table; columns of texts, numbers, times, truth values and lists of texts can be named, and single
            attributes where it has the column `attributes`.
        attributes: attribute that was read -> SQL that holds for the rows that have it.
    """

    text: str
    schema: pa.Schema
    attributes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found = {entry.name: _type_of(entry.type) for entry in self.schema}
        self.fields: dict[str, Type] = {name: kind for name, kind in found.items() if kind is not None}
        if ATTRIBUTES in found:  # an item: a table of an earlier release lacks its language until the next run
            self.fields.setdefault(_LANGUAGE, "text")

    def attribute_number(self, node: exp.Expr, name: str, *others: Operand) -> Operand:
        if any(other.type != "number" for other in others):
            raise self.fault(
                f"{ATTRIBUTES}.{name} compares with a text by = and LIKE, and with a number by =, < and > as well", node
            )
        self.has(name)
        return Operand(json_text.number(name), "number")

    def has(self, name: str) -> str:
        self.attributes[name] = json_text.has(name)
        return self.attributes[name]

    def value(self, node: exp.Expr, depth: int) -> Operand:
        self.check_depth(node, depth)
        if isinstance(node, exp.Paren):
            return self.value(node.this, depth + 1)
        if isinstance(node, exp.Column):
            return self._field(node)
        if isinstance(node, exp.Bracket):
            return self._bracket(node)
        if isinstance(node, exp.Literal):
            return self._plain(node)
        if isinstance(node, exp.Boolean):
            return Operand("true" if node.this else "false", "truth", bool(node.this))
        if isinstance(node, exp.Null):
            return Operand("NULL", "null")
        if isinstance(node, exp.Cast):
            return self._cast(node)
        if isinstance(node, exp.Neg):
            return self._negated(node, depth + 1)
        if type(node) in _ARITHMETIC:
            return self._arithmetic(node, depth + 1)
        if isinstance(node, exp.Array):
            raise self.fault("no list can be compared: write array_has(tags, 'vegan') or array_length(tags) = 0", node)
        if isinstance(node, exp.Func):
            return self._call(node, depth + 1)
        if isinstance(node, exp.Placeholder | exp.Parameter):
            raise self.fault("a placeholder such as ? or :name has no value here: write the value itself", node)
        raise self.fault(f"{self.source(node)} cannot stand in a condition", node)

    def literal(self, node: exp.Expr, depth: int) -> Operand:
        value = self.value(node, depth + 1)
        if not value.is_literal:
            raise self.fault(f"{self.source(node)} is no text, number or date: write one here", node)
        return value

    def _plain(self, node: exp.Literal) -> Operand:
        text = str(node.this)
        if node.is_string:
            if len(text) > MAX_LITERAL:
                raise self.fault(f"a text of {len(text):,} characters is too long: {MAX_LITERAL:,} at most", node)
            return Operand(quote(text), "text", text)
        try:
            number = float(text)
        except ValueError:
            number = math.inf
        if not math.isfinite(number):
            raise self.fault(f"{text[:40]} is no number", node)
        return Operand(text if text.isdigit() and number < 2**53 else repr(number), "number", number)

    def _negated(self, node: exp.Expr, depth: int) -> Operand:
        value = self._number(node.this, depth)
        if isinstance(value.literal, float):  # two signs in a row would begin a comment
            sql = value.sql.removeprefix("-")
            return Operand(sql if sql != value.sql else f"-{sql}", "number", -value.literal)
        return Operand(f"(-1.0 * {value.sql})", "number")

    def _arithmetic(self, node: exp.Expr, depth: int) -> Operand:
        left, right = self._number(node.this, depth), self._number(node.expression, depth)
        sides = [side.sql if not side.is_literal else repr(side.literal) for side in (left, right)]
        divisor = f"nullif({sides[1]}, 0.0)" if isinstance(node, exp.Div) else sides[1]
        return Operand(f"({sides[0]} {_ARITHMETIC[type(node)]} {divisor})", "number")

    def _number(self, node: exp.Expr, depth: int) -> Operand:
        value = self.value(node, depth)
        if value.type == "attribute":
            value = self.attribute_number(node, value.attribute)
        if value.type != "number":
            raise self.fault(f"{self.source(node)} is a {value.type}, where a number is needed", node)
        return value

    def _cast(self, node: exp.Expr) -> Operand:
        kind = node.args["to"].this if isinstance(node.args.get("to"), exp.DataType) else None
        if kind in exp.DataType.TEMPORAL_TYPES and isinstance(node.this, exp.Literal) and node.this.is_string:
            return self._time(node, str(node.this.this))
        raise self.fault(
            f"{self.source(node)} cannot be converted here: only DATE '2026-01-31' and TIMESTAMP are", node
        )

    def _time(self, node: exp.Expr, text: str) -> Operand:
        try:
            time = parse_time(text)
        except ValueError:
            raise self.fault(f"{text[:60]!r} is no date: write '2026-01-31' or '2026-01-31T18:00:00Z'", node) from None
        return Operand(f"TIMESTAMP '{time.year:04}-{time:%m-%d %H:%M:%S.%f}'", "time", text)

    def alike(self, node: exp.Expr, left: Operand, right: Operand) -> tuple[Operand, Operand]:
        """Check that two operands compare; a text beside a time is read as a date."""
        if left.type == "time" and right.type == "text" and isinstance(right.literal, str):
            right = self._time(node, right.literal)
        if left.type == "list of texts":
            raise self.fault(
                f"{self.source(node.this)} is a list: write array_has({self.source(node.this)}, 'text')", node
            )
        if right.type == "attribute":
            raise self.fault("an attribute compares with a text or a number", node)
        if left.type != right.type:
            raise self.fault(f"a {left.type} does not compare with a {right.type}: {self.source(node)}", node)
        return left, right

    def _field(self, node: exp.Column) -> Operand:
        parts = [part for part in node.parts if isinstance(part, exp.Identifier)]
        names = [part.name for part in parts]
        has_attributes = self.fields.get(ATTRIBUTES) == "text"
        if has_attributes and names[0].lower() == ATTRIBUTES and len(parts) == len(node.parts) > 1:
            if len(names) > 2:
                raise self.fault("an attribute inside an attribute cannot be named", node)
            return self._attribute(names[1])
        folded = {name.lower(): name for name in self.fields}
        if len(names) == 1 and (name := names[0] if names[0] in self.fields else folded.get(names[0].lower())):
            if name not in self.schema.names:
                return Operand("CAST(NULL AS STRING)", "text")
            is_integer = pa.types.is_integer(self.schema.field(name).type)  # the store compares it with integers alone
            return Operand(f"CAST(`{name}` AS DOUBLE)" if is_integer else f"`{name}`", self.fields[name])
        given = ".".join(names)
        close = get_close_matches(given.lower(), folded, n=1)
        hint = f": did you mean {folded[close[0]]}?" if close else ""
        if parts and parts[0].quoted and not close:
            hint = f": write a text in single quotes, {quote(names[0])}"
        raise self.fault(f"no field {given!r}{hint}", node)

    def _bracket(self, node: exp.Bracket) -> Operand:
        """Read `attributes['colour']`."""
        keys = node.args.get("expressions") or []
        is_name = len(keys) == 1 and isinstance(keys[0], exp.Literal) and keys[0].is_string
        if not is_name or not isinstance(node.this, exp.Column) or node.this.name.lower() != ATTRIBUTES:
            raise self.fault("brackets go with attributes alone: attributes['colour']", node)
        self._field(node.this)
        return self._attribute(str(keys[0].this))

    def _attribute(self, name: str) -> Operand:
        if len(name) > MAX_LITERAL:
            raise self.fault(
                f"the name of an attribute of {len(name):,} characters is too long: {MAX_LITERAL:,} at most"
            )
        return Operand("", "attribute", attribute=name)

    def _call(self, node: exp.Expr, depth: int) -> Operand:
        name, given = self.function(node)
        if name == "now":
            return self._time(node, datetime.now(UTC).isoformat())
        if name == "date_part" and len(given) == 2:
            part = given[0].name.lower()
            value = self._typed(node, given[1], "time", depth)
            if part not in _DATE_PARTS:
                raise self.fault(f"a time has no part {part!r} here: {', '.join(_DATE_PARTS)}", node)
            return Operand(f"CAST(date_part('{part}', {value.sql}) AS DOUBLE)", "number")
        if name == "array_length" and len(given) == 1:
            owner = self._typed(node, given[0], "list of texts", depth)
            return Operand(f"CAST(array_length({owner.sql}) AS DOUBLE)", "number")
        if name in ("lower", "upper", "length") and len(given) == 1:
            owner = self._typed(node, given[0], "text", depth)
            sql = f"{name}({owner.sql})"
            return Operand(sql, "text") if name != "length" else Operand(f"CAST({sql} AS DOUBLE)", "number")
        if (name == "abs" and len(given) == 1) or (name == "round" and 1 <= len(given) <= 2):
            numbers = [self._number(given[0], depth).sql]
            for digits in given[1:]:
                literal = self.literal(digits, depth).literal
                if not isinstance(literal, float) or literal not in range(10):
                    raise self.fault("round takes 0 to 9 digits", node)
                numbers.append(str(int(literal)))
            return Operand(f"{name}({', '.join(numbers)})", "number")
        if name == "coalesce" and len(given) == 2:
            owner, other = self.alike(node, self.value(given[0], depth), self.literal(given[1], depth))
            return Operand(f"coalesce({owner.sql}, {other.sql})", owner.type)
        raise self.fault(f"{name} takes other arguments than {self.source(node)}", node)

    def _typed(self, node: exp.Expr, given: exp.Expr, wanted: Type, depth: int) -> Operand:
        value = self.value(given, depth)
        if value.type == "attribute":
            raise self.fault("functions take fields, not attributes; for any case of letters write ILIKE", node)
        if value.type != wanted:
            raise self.fault(f"{self.source(node)} needs a {wanted}, not a {value.type}", node)
        return value

    def function(self, node: exp.Expr) -> tuple[str, list[exp.Expr]]:
        """Return the name of a function and its arguments.

        Raises:
            ColdstartError: it is not one of `FUNCTIONS`.
        """
        known = _KNOWN.get(type(node))
        if known is not None:
            name, keys = known
            self.only(node, *keys)
            given = [node.args[key] for key in keys if node.args.get(key) is not None]
            return name, [one for entry in given for one in (entry if isinstance(entry, list) else [entry])]
        own = node.name if isinstance(node, exp.Anonymous) or not isinstance(node, exp.Func) else node.sql_name()
        own = own.lower()
        name = _LIST_FUNCTIONS.get(own, own)
        if isinstance(node, exp.Anonymous) and name in FUNCTIONS:
            return name, list(node.expressions)
        close = get_close_matches(own, FUNCTIONS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(FUNCTIONS)}"
        raise self.fault(f"no function {own!r} in conditions: {hint}", node)

    def only(self, node: exp.Expr, *names: str) -> None:
        """Refuse a node that says more than is read of it."""
        for name, value in node.args.items():
            if value and name not in names and name not in ("value_constructor", "coalesce"):
                raise self.fault(f"{self.source(node)} cannot stand in a condition", node)

    def check_depth(self, node: exp.Expr, depth: int) -> None:
        if depth > 2 * MAX_DEPTH:  # a bracket takes two steps at most
            raise self.fault(TOO_DEEP, node)

    def source(self, node: exp.Expr) -> str:
        """Return the part of the text that a node was read from, as far as its tokens tell."""
        places = [(one.meta["start"], one.meta["end"]) for one in node.walk() if "start" in one.meta]
        if not places:
            return type(node).__name__.upper()
        start, end = min(places)[0], max(end for _, end in places) + 1
        shown = " ".join(self.text[start:end].split())
        shown += ")" * (shown.count("(") - shown.count(")"))
        return shown if len(shown) <= 60 else shown[:57] + "..."

    def fault(self, reason: str, at: exp.Expr | int | None = None) -> ColdstartError:
        place = at
        if at is not None and not isinstance(at, int):
            place = min((one.meta["start"] for one in at.walk() if "start" in one.meta), default=None)
        shown = self.text if len(self.text) <= 200 else self.text[:197] + "..."
        where = "" if place is None else f" (character {place + 1})"
        names = ", ".join(self.fields)
        more = f" and {ATTRIBUTES}.NAME" if self.fields.get(ATTRIBUTES) == "text" else ""
        return ColdstartError(f"where {shown!r}: {reason}{where}; write a condition over {names}{more}", kind="usage")


def _type_of(kind: pa.DataType) -> Type | None:
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return "number"
    if pa.types.is_timestamp(kind):
        return "time"
    if pa.types.is_boolean(kind):
        return "truth"
    if pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
        return "list of texts"
    return None
