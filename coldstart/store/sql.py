"""Build the few SQL fragments of the workspace; every value from outside passes through `quote`."""

from collections.abc import Iterable

from coldstart.core.sanitize import check_text


def quote(text: str) -> str:
    """Quote a string literal of Lance's SQL: doubled quotes are its only escape.

    Raises:
        ColdstartError: as for `check_text`.
    """
    check_text(text)
    return "'" + text.replace("'", "''") + "'"


def equals(column: str, value: str) -> str:
    return f"{column} = {quote(value)}"


def one_of(column: str, values: Iterable[str]) -> str:
    return f"{column} IN ({', '.join(quote(value) for value in values)})"
