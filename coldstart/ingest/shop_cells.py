"""Convert cells as shops write them: lists of media and tags, nested categories, ids. Knows no columns."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from coldstart.core.html_text import clean_html
from coldstart.core.values import is_missing_text, parse_list, split_media

_MARKS = (">", "»", "›", " / ", "/")
_DIGEST_LENGTH = 20
_NO_SCHEME = re.compile(r"//[\w-]+(\.[\w-]+)+/")


def is_plural(column: str) -> bool:
    """Return True for the name of a column of several values."""
    return column.strip().lower().endswith(("values", "value(s)"))


def no_file(text: str) -> bool:
    """Return False: no text is taken for the name of a file."""
    return False


def id_text(value: Any) -> str:
    """Format an id as text; whole floats lose their decimals."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value).strip()


def digest_of(values: Any) -> str:
    """Compute a short digest of values, nested ones too."""
    found = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, bytes):
            found.update(b"b" + hashlib.sha256(value).digest())
        elif isinstance(value, Mapping):
            for key in sorted(value, key=str):
                add(str(key))
                add(value[key])
        elif isinstance(value, list | tuple):
            found.update(b"[")
            for one in value:
                add(one)
        else:
            text = "" if value is None else str(value)
            found.update(b"\0" + text.strip().encode("utf-8", "surrogatepass"))

    add(values)
    return found.hexdigest()[:_DIGEST_LENGTH]


def first_value(values: Sequence[Any]) -> Any:
    """Return the first value that is not missing, None where all are."""
    return next((value for value in values if not is_missing_text(value)), None)


def distinct(values: Iterable[Any]) -> list[Any]:
    """List values, each once, in their order."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def tags_of(value: Any) -> list[Any]:
    """Split a cell of tags."""
    if not isinstance(value, str):
        return list(value) if isinstance(value, list | tuple) else [value]
    listed = parse_list(value)
    if listed is not None:
        return listed
    mark = next((mark for mark in "|,;" if mark in value), ",")
    return [part.strip() for part in clean_html(value).split(mark) if part.strip()]


def media_of(values: Sequence[Any], exists: Callable[[str], bool]) -> list[Any]:
    """List the media of cells, each once; objects of shops' programs, such as `{src: …}`, become their address."""
    found: list[Any] = []
    for value in values:
        parts = split_media(value, exists) if isinstance(value, str) else value if isinstance(value, list) else [value]
        for part in parts:
            if isinstance(part, Mapping) and not {"bytes", "path", "uri"} & part.keys():
                part = next((part[key] for key in ("src", "url", "href", "link") if part.get(key)), None)
            if isinstance(part, str):
                part = with_scheme(part.strip())
            if not is_missing_text(part) and part not in found:
                found.append(part)
    return found


def with_scheme(text: str) -> str:
    """Complete an address without a scheme, as in `//cdn.example/a.jpg`, which pages use."""
    return f"https:{text}" if _NO_SCHEME.match(text) else text


def count_hosts(value: Any, hosts: Counter[str]) -> None:
    """Count the web hosts of the media of a cell."""
    if isinstance(value, str):
        for url in re.findall(r"https?://[^\s|,;\"'<>\]]+", with_scheme(value[:5000])):
            if host := urlsplit(url).hostname:
                hosts[host] += 1
    elif isinstance(value, list):
        for one in value:
            count_hosts(one, hosts)


def category_mark(values: Iterable[Any]) -> str:
    """Find the mark between the levels of nested categories, "" where there is nothing."""
    texts = [value for value in values if isinstance(value, str) and value.strip()]
    for mark in _MARKS[:-1]:
        if sum(mark in text for text in texts) > 0.02 * len(texts):
            return mark
    slashed = [text for text in texts if "/" in text]
    roots = Counter(re.split(r"[/,]", text, maxsplit=1)[0] for text in slashed)
    shared = max(roots.values(), default=0)
    return "/" if len(slashed) > 1 and len(slashed) >= 0.8 * len(texts) and shared >= 0.5 * len(slashed) else ""


@lru_cache(maxsize=4096)
def category_paths(text: str, mark: str) -> tuple[list[str], list[str]]:
    """Split a nested category into the levels of its deepest path, and list other paths."""
    text = " ".join(text.split())
    if not mark or mark.strip() not in text:
        first, *others = distinct(part for part in re.split(r"\s*[;|]\s*", text) if part) or [text]
        return [first], others
    parts = re.split(r"\s*[;|]\s*", text) if mark != "|" else [text]
    paths = []
    for part in parts:
        split = re.split(r",\s*", part)
        paths += split if sum(mark in one for one in split) > 1 else [part]
    levels = [[level.strip() for level in path.split(mark) if level.strip()] for path in paths]
    levels = [path for path in levels if path]
    if not levels:
        return [], []
    best = max(levels, key=len)
    return best, [" > ".join(path) for path in levels if path is not best and path != best[: len(path)]]


def join_attributes(into: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Add attributes; where values differ, list them all."""
    for name, value in given.items():
        if name not in into:
            into[name] = value
        elif into[name] != value:
            known = into[name] if isinstance(into[name], list) else [into[name]]
            into[name] = distinct([*known, *(value if isinstance(value, list) else [value])])
