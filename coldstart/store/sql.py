"""Build the few SQL fragments of the workspace; every value from outside passes through `quote`."""

from collections.abc import Iterable


def quote(text: str) -> str:
    """Quote a string literal of Lance's SQL: doubled quotes are its only escape."""
    return "'" + text.replace("'", "''") + "'"


def equals(column: str, value: str) -> str:
    return f"{column} = {quote(value)}"


def one_of(column: str, values: Iterable[str]) -> str:
    return f"{column} IN ({', '.join(quote(value) for value in values)})"
