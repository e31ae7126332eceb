"""The few SQL fragments the workspace builds; every value from outside passes through `quote`."""

from collections.abc import Iterable


def quote(text: str) -> str:
    """A string literal of Lance's SQL: doubled quotes are the only escape it knows."""
    return "'" + text.replace("'", "''") + "'"


def equals(column: str, value: str) -> str:
    return f"{column} = {quote(value)}"


def one_of(column: str, values: Iterable[str]) -> str:
    return f"{column} IN ({', '.join(quote(value) for value in values)})"
