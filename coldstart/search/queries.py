"""Define queries, and read files of them and of known pairs of videos and products: a faulty line costs that line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from coldstart.core.sanitize import check_text
from coldstart.core.spelling import existing_path, similar_path
from coldstart.core.stage import Reject
from coldstart.core.values import is_missing, parse_id
from coldstart.errors import ColdstartError

By = Literal["text", "image", "video", "item"]

BY: tuple[By, ...] = ("text", "image", "video", "item")

QUERY_FIELDS = ("text", "image", "video", "item_id")


SINGLE = "query"
"""Id of a query that is alone."""


@dataclass(frozen=True)
class Query:
    """One query, by exactly one of a text, the path of a picture or a video, or the id of an item.

    Raises:
        ColdstartError: none or several are given, or it is blank or no Unicode text.
    """

    query_id: str
    text: str | None = None
    image: str | None = None
    video: str | None = None
    item: str | None = None

    def __post_init__(self) -> None:
        given = [by for by in BY if getattr(self, by) is not None]
        if len(given) != 1:
            raise ColdstartError(
                f"{self.label}give exactly one of {', '.join(BY)}, not {' and '.join(given) or 'none'}"
            )
        if not self.value.strip():
            raise ColdstartError(f"{self.label}{self.by} is blank: give what to search for")
        if self.by in ("text", "item"):  # a path may have any bytes
            try:
                check_text(self.value)
            except ColdstartError as error:
                raise ColdstartError(f"{self.label}{self.by} {error}") from None

    @property
    def label(self) -> str:
        """Beginning of a message about it, empty for the one query of a call."""
        return "" if self.query_id == SINGLE else f"query {self.query_id!r}: "

    @property
    def by(self) -> By:
        """Kind of the query: `text`, `image`, `video` or `item`."""
        return next(by for by in BY if getattr(self, by) is not None)

    @property
    def value(self) -> str:
        """The text, path or id."""
        return str(getattr(self, self.by))


@dataclass(frozen=True)
class FaultyQuery:
    """A query that cannot be read, with the reason; `query_id` is None where it has none."""

    query_id: str | None
    reason: Reject


def read_queries(path: Path) -> Iterator[Query | FaultyQuery]:
    """Read queries of a JSONL file with `query_id` and one of `QUERY_FIELDS`; media paths are relative to the file.

    Raises:
        ColdstartError: there is no such file.
    """
    check_query_file(path)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _query(path, number, line)


def check_query_file(path: Path) -> None:
    """Check that there is a file of queries; raises `ColdstartError`."""
    if not path.is_file():
        raise ColdstartError(
            f"no query file at {path}{similar_path(path)}: give JSONL with query_id and one of "
            f"{', '.join(QUERY_FIELDS)}"
        )


def _query(path: Path, number: int, line: bytes) -> Query | FaultyQuery:
    try:
        fields = _object(line, "query_id")
        query_id = str(parse_id(fields["query_id"]))
    except ValueError as error:
        return FaultyQuery(None, Reject("bad_line", f"{path} line {number}: {error}"))
    given = {name: fields[name] for name in QUERY_FIELDS if fields.get(name) is not None}
    if len(given) != 1:
        detail = f"give exactly one of {', '.join(QUERY_FIELDS)}, not {' and '.join(given) or 'none'}"
        return FaultyQuery(query_id, Reject("bad_query", f"{path} line {number}: {detail}"))
    ((name, value),) = given.items()
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return FaultyQuery(query_id, Reject("bad_query", f"{path} line {number}: {name} is no text"))
    try:
        if name in ("image", "video") and str(value).strip():
            value = existing_path(path.parent / str(value))
        elif name == "item_id":
            value = parse_id(value) or ""
        return Query(query_id, **{name.removesuffix("_id"): str(value)})
    except (ColdstartError, ValueError) as error:
        return FaultyQuery(query_id, Reject("bad_query", str(error).removeprefix(f"query {query_id!r}: ")))


def missing_file(path: Path) -> Reject | None:
    """Reject a picture or a video that is no file; None where there is one."""
    if path.is_file():  # reading a pipe would wait for ever
        return None
    reason = "not_a_file" if path.exists() else "not_found"
    return Reject(reason, f"there is no such file{similar_path(path)}: give the path of one")


def check_given(*, image: Path | None = None, video: Path | None = None, queries: Path | None = None) -> None:
    """Check the file of a query, or of queries, before a workspace is opened for it.

    Raises:
        ColdstartError: there is none; the search says the same.
    """
    if queries is not None:
        check_query_file(queries)
    for by, path in (("image", image), ("video", video)):
        if path is not None and (reject := missing_file(existing_path(path))):
            raise ColdstartError(f"{by} {path}: {reject.detail}", kind="input")


def read_pairs(path: Path, on_error: Callable[[str], None] | None = None) -> dict[str, frozenset[str]]:
    """Read pairs of a JSONL file with `item_id` and `product_ids`; a video without products is left out.

    Args:
        on_error: takes what is wrong with a line; the rest is read. Without it, the first such line raises.

    Raises:
        ColdstartError: there is no such file, or a line is something else.
    """
    if not path.is_file():
        raise ColdstartError(f"no file of pairs at {path}{similar_path(path)}: give JSONL with item_id and product_ids")
    found: dict[str, set[str]] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                if line.strip():
                    item_id, product_ids = _pair(line)
                    found.setdefault(item_id, set()).update(product_ids)
            except (ValueError, ColdstartError) as error:
                fault = f"{path} line {number}: {error}"
                if on_error is None:
                    raise ColdstartError(fault) from error
                on_error(fault)
    return {item_id: frozenset(products) for item_id, products in found.items() if products}


def _pair(line: bytes) -> tuple[str, list[str]]:
    row = _object(line, "item_id", "product_ids")
    item_id, product_ids = parse_id(row["item_id"]), row["product_ids"]
    if item_id is None or isinstance(row["item_id"], bool | list | dict) or not isinstance(product_ids, list):
        raise ValueError(
            "not a JSON object with item_id and product_ids (item_id is to be a text and product_ids a list)"
        )
    products = [product for given in product_ids if (product := parse_id(given)) is not None]
    for text in (item_id, *products):
        check_text(text)
    return item_id, products


def _object(line: bytes, *names: str) -> dict[str, Any]:
    """Parse a JSON object that has these fields.

    Raises:
        ValueError: it is none, or lacks one.
    """
    expected = f"not a JSON object with {' and '.join(names)}"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{expected} ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"{expected} (it is a {type(value).__name__})")
    missing = [name for name in names if is_missing(value.get(name))]
    if missing:
        raise ValueError(f"{expected} ({' and '.join(missing)} is missing)")
    return value
