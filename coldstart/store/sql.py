"""Build the few SQL fragments of the workspace; every value from outside passes through `quote`."""

from collections.abc import Iterable

from coldstart.errors import ColdstartError


def check_text(text: str) -> None:
    """Check that a text can be stored and compared.

    Raises:
        ColdstartError: it holds half a character, as bytes that are not UTF-8 leave on a command line.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ColdstartError(f"{text!r} is no Unicode text: give it in UTF-8") from None


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
