"""Read product feeds in XML, entry by entry: RSS 2.0 and Atom, as Google Merchant and its like take them.

Feeds come from strangers: no entity but those of HTML is expanded, and the depth and size of an entry have limits. What
is no XML but usual (control characters, `&nbsp;`, another encoding than the one it states) does not stop a feed.
"""

from __future__ import annotations

import io
import re
from codecs import lookup
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from html.entities import html5
from itertools import islice
from typing import Any
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import DefusedXMLParser  # type: ignore[import-untyped]

from coldstart.errors import ColdstartError
from coldstart.ingest.encodings import AsUtf8, Encoding, find_encoding
from coldstart.ingest.files import TableFile, open_bytes
from coldstart.ingest.header import check_columns
from coldstart.ingest.table import Row, Table, blocks_of_rows

MAX_ENTRY_BYTES = 16 * 2**20
"""Bytes of one entry, its markup included."""
MAX_DEPTH = 20

_READ_BYTES = 2**16
_PEEKED_ROWS = 1000
_PEEKED_ELEMENTS = 5000
_ENTRIES = {"rss": "item", "rdf": "item", "feed": "entry"}
_KINDS = {"rss": "rss", "rdf": "rss", "feed": "atom"}
_GOOGLE = "http://base.google.com/"
_MANY = ("additional_image_link",)
_DAMAGED = "\ufffd"
_DECLARED = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})")
_ENTITY = re.compile(rb"&([A-Za-z][A-Za-z0-9]{1,30};)")
_CUT_ENTITY = re.compile(rb"&[A-Za-z0-9]{0,31}$")
_OWN = frozenset((b"amp;", b"lt;", b"gt;", b"quot;", b"apos;"))
_SPACES = bytes.maketrans(bytes({*range(32)} - {9, 10, 13}), b" " * 29)
"""Control characters, which are none of XML, as spaces."""
_IGNORED_ATTRIBUTES = ("isPermaLink", "type", "{http://www.w3.org/XML/1998/namespace}lang")


def open_feed(file: TableFile) -> Table:
    """Open a feed; its columns are those of its first entries, without the prefix `g:`.

    Raises:
        ColdstartError: it is no feed, or its beginning is no XML.
    """
    file = replace(file, encoding=_encoding(file))
    names = _element_names(file)
    root = next(names).lower()
    if root == "workbook":
        raise ColdstartError(f"{file.path} is a workbook of Excel 2003 in XML: save it as .xlsx")
    if root not in _ENTRIES:
        counts = Counter(islice(names, _PEEKED_ELEMENTS))
        listed = ", ".join(f"<{name}> ({count} times)" for name, count in counts.most_common(5) if count > 1)
        raise ColdstartError(
            f"{file.path} is XML of <{root}>, no product feed{f'; it repeats {listed}' if listed else ''}: "
            "give RSS, Atom, CSV or JSON"
        )
    seen: dict[str, None] = {}
    for _, found in islice(_entries(file, root), _PEEKED_ROWS):
        if isinstance(found, dict):
            seen.update(dict.fromkeys(found))
    check_columns(file.path, seen)
    return Table(
        file.path,
        _KINDS[root],
        list(seen),
        rows=lambda: _entries(file, root),
        blocks=lambda columns: blocks_of_rows(_entries(file, root), columns),
        notes=[*file.notes, *([file.encoding.note] if file.encoding.note else [])],
        doubts=[file.encoding.doubt] if file.encoding.doubt else [],
        same_columns=False,
    )


def _encoding(file: TableFile) -> Encoding:
    """Find the encoding: the one that the file states; where that is UTF-8 or none, the one that its bytes are in."""
    with open_bytes(file) as stream:
        stated = _DECLARED.match(stream.peek(300).lstrip())
        found = find_encoding(stream)
    if stated is None or found.mark or found.name.startswith(("utf-16", "utf-32")):
        return found
    try:
        name = lookup(stated[1].decode()).name
    except LookupError:
        return found
    if name in ("utf-8", "ascii"):
        return found
    return Encoding("cp1252" if name == "iso8859-1" else name)


def _entries(file: TableFile, root: str) -> Iterator[Row]:
    target = _Feed(_ENTRIES[root])
    number = 0
    for _ in _parse(file, target):
        for fields in target.take():
            number += 1
            damaged = [name for name, value in fields.items() if target.damaged and _DAMAGED in str(value)]
            yield number, f"not UTF-8 in {', '.join(damaged)}: save the file as UTF-8" if damaged else fields


def _element_names(file: TableFile) -> Iterator[str]:
    target = _Names()
    for _ in _parse(file, target):
        yield from target.names
        target.names.clear()


def _parse(file: TableFile, target: _Feed | _Names) -> Iterator[None]:
    """Parse a file part by part.

    Raises:
        ColdstartError: it is no XML, declares entities, or an entry is too large.
    """
    path, parser = file.path, DefusedXMLParser(target=target, encoding="utf-8")
    unfinished, seen, rest = 0, 0, b""
    with open_bytes(file) as source:
        source.read(file.encoding.mark)
        stream = io.BufferedReader(AsUtf8(source, file.encoding.name, _DAMAGED.encode()), _READ_BYTES)
        try:
            while chunk := stream.read(_READ_BYTES):
                chunk = rest + chunk
                cut = _CUT_ENTITY.search(chunk, max(0, len(chunk) - 32))
                rest = chunk[cut.start() :] if cut and len(chunk) > 32 else b""
                target.damaged = target.damaged or _DAMAGED.encode() in chunk
                parser.feed(_mended(chunk[: len(chunk) - len(rest)]))
                unfinished = unfinished + len(chunk) if target.finished == seen else 0
                seen = target.finished
                if unfinished > MAX_ENTRY_BYTES:
                    raise ColdstartError(f"{path}: after entry {seen} comes one of more than {MAX_ENTRY_BYTES} bytes")
                yield
            parser.feed(rest)
            parser.close()
        except DefusedXmlException as error:
            raise ColdstartError(f"{path} declares entities ({type(error).__name__}): save it without") from error
        except _TooDeepError as error:
            raise ColdstartError(f"{path}: after entry {target.finished} comes one nested too deep") from error
        except (ParseError, ValueError, LookupError) as error:
            raise ColdstartError(f"{path} is no whole XML after entry {target.finished}: {error}") from error
    yield


def _mended(chunk: bytes) -> bytes:
    """Replace what is no XML but stands in feeds: control characters, and the names that HTML has for letters."""
    return _ENTITY.sub(_letter, chunk.translate(_SPACES))


def _letter(match: re.Match[bytes]) -> bytes:
    letter = html5.get(match[1].decode(), "")
    return letter.encode() if letter and match[1] not in _OWN and letter not in "<>&\"'" else match[0]


class _TooDeepError(Exception):
    """Elements are nested deeper than those of any feed."""


class _Names:
    """Gather the names of elements; `finished` counts them, as in `_Feed`."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.finished, self.damaged = 0, False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.finished += 1
        self.names.append(_local(tag))

    def end(self, tag: str) -> None:
        pass

    def close(self) -> None:
        pass


class _Feed:
    """Gather entries of a feed as fields; `finished` counts them, `damaged`: there were letters that could not be read.

    Repeated elements become lists, elements inside others a list of fields.
    """

    def __init__(self, entry: str) -> None:
        self._entry, self._stack = entry, list[_Element]()
        self._done: list[dict[str, Any]] = []
        self._depth, self.finished, self.damaged = 0, 0, False

    def take(self) -> list[dict[str, Any]]:
        """Return the entries that were finished since the last time."""
        done, self._done = self._done, []
        return done

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _TooDeepError
        if self._stack or _local(tag) == self._entry:
            self._stack.append(_Element(tag, attributes))

    def data(self, text: str) -> None:
        if self._stack:
            self._stack[-1].texts.append(text)

    def end(self, tag: str) -> None:
        self._depth -= 1
        if not self._stack:
            return
        element = self._stack.pop()
        if self._stack:
            self._stack[-1].children.append(element)
            return
        self.finished += 1
        self._done.append(element.fields())

    def close(self) -> None:
        pass


class _Element:
    """An element of an entry."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self.attributes = tag, attributes
        self.texts: list[str] = []
        self.children: list[_Element] = []

    @property
    def text(self) -> str:
        """Text of the element itself."""
        return "".join(self.texts).strip()

    def fields(self) -> dict[str, Any]:
        """Gather the elements inside by name; Google's own go before others of the same name."""
        plain: dict[str, Any] = {}
        for child in self.children:
            name = _local(child.tag)
            if child.children or child.attributes or name in plain or name in _MANY:
                break
            plain[name] = child.text
        else:  # as in most entries
            return plain
        gathered: dict[str, dict[int, list[Any]]] = {}
        for child in self.children:
            name = _local(child.tag)
            relation = child.attributes.get("rel", "alternate")
            if name == "link" and relation != "alternate":
                name = f"link {relation}"
            value = child.value()
            if value not in ("", None, []):
                gathered.setdefault(name, {}).setdefault(_rank(child.tag), []).append(value)
            elif name not in gathered:
                gathered[name] = {}
            for attribute, given in child.attributes.items():
                if (
                    value
                    and not child.children
                    and child.text
                    and attribute not in (*_IGNORED_ATTRIBUTES, "unit", "currency")
                ):
                    gathered.setdefault(f"{name}@{_local(attribute)}", {}).setdefault(0, []).append(given)
        found: dict[str, Any] = {}
        for name, ranked in gathered.items():
            alike: list[Any] = []
            for rank in sorted(ranked):
                values = _flat(ranked[rank]) if name in _MANY or len(ranked[rank]) > 1 else ranked[rank][0]
                if values not in alike:
                    alike.append(values)
            found[name] = alike[0] if alike else ""
            for place, value in enumerate(alike[1:], start=2):
                found[f"{name} ({place})"] = value
        return found

    def value(self) -> Any:
        """Return the text, the address it points at, or the fields inside."""
        if self.attributes.get("type") == "xhtml":
            return " ".join(self._all_texts())
        if self.children:
            return [self.fields()]
        if not self.text:
            given = self.attributes
            return next((given[name] for name in ("href", "url", "src", "term") if name in given), "")
        unit = self.attributes.get("unit") or self.attributes.get("currency")
        return f"{self.text} {unit}" if unit and unit not in self.text else self.text

    def _all_texts(self) -> Iterator[str]:
        if self.text:
            yield self.text
        for child in self.children:
            yield from child._all_texts()


def _flat(values: list[Any]) -> list[Any]:
    return [one for value in values for one in (value if isinstance(value, list) else [value])]


@lru_cache(maxsize=4096)
def _local(tag: str) -> str:
    return tag.rpartition("}")[2].rpartition(":")[2]


@lru_cache(maxsize=4096)
def _rank(tag: str) -> int:
    namespace = tag[1:].partition("}")[0] if tag.startswith("{") else ""
    return 0 if namespace.startswith(_GOOGLE) else 1 if not namespace or namespace.endswith("/Atom") else 2
