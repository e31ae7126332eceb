"""Convert HTML in texts to plain text. Knows no fields.

A text without tags and entities comes back as it is, byte by byte.
"""

from __future__ import annotations

import html
import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DROPPED = _words("script style template noscript head title iframe object embed svg math canvas audio video select")
_PARAGRAPHS = _words("blockquote dl h1 h2 h3 h4 h5 h6 ol p pre table ul")
_BLOCKS = _PARAGRAPHS | _words(
    "address article aside body caption center dd div dt fieldset figcaption figure footer form header hr html li main "
    "nav section summary details tbody tfoot thead tr br"
)
_INLINE = _words(
    "a abbr b bdi big button cite code del em font i img input ins kbd label link mark meta path q s small span strike "
    "strong sub sup td th tt u wbr"
)
_KNOWN = "|".join(sorted(_DROPPED | _BLOCKS | _INLINE))

_TAG = re.compile(rf"</?(?:{_KNOWN})(?:\s[^<>]*)?/?>|<!--|<!doctype\b|<!\[CDATA\[", re.IGNORECASE)
_BLOCK_TAG = re.compile(rf"</?(?:{'|'.join(sorted(_BLOCKS - {'html', 'body'}))})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_SCRIPT = re.compile(r"<(script|style)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_MOST_TAGS = 5000
"""Tags from which a text is not parsed: thousands inside each other take the parser seconds."""
_SPACE = re.compile(r"[ \t\r\f\n]+")


def clean_html(text: str) -> str:
    """Convert HTML to plain text: paragraphs and rows are lines, items of lists begin with "- "; no script stays.

    Tags that were escaped (`&lt;p&gt;`) count as tags too. Text in angle brackets that is no tag of HTML stays.
    """
    if "<" not in text and "&" not in text:
        return text
    tags = _TAG.search(text) is not None
    if not tags and _ENTITY.search(text) is None:
        return text
    if not tags:
        plain = _ENTITY.sub(_unescaped, text)
        return _plain(plain) if _TAG.search(plain) else _ENTITY.sub(_unescaped, plain) if "&amp;" in text else plain
    found = _plain(text)
    return _plain(found) if _TAG.search(found) else found


def _unescaped(match: re.Match[str]) -> str:
    return html.unescape(match[0]).replace("\xa0", " ")


def _plain(text: str) -> str:
    from selectolax.lexbor import LexborHTMLParser

    if not _BLOCK_TAG.search(text):  # its own line breaks are then all that parts it
        text = text.replace("\r\n", "\n").replace("\n", "<br>")
    text = _MARKS.sub("", text).replace("<![CDATA[", "").replace("]]>", "")
    if text.count("<") > _MOST_TAGS:
        return _joined(_TAG.sub(_LINE, _SCRIPT.sub("", text)))
    node = LexborHTMLParser(text).root
    parts: list[str] = []
    while node is not None:
        tag = node.tag or ""
        down = None
        if tag == "-text":
            parts.append(_SPACE.sub(" ", node.text_content or ""))
        elif tag not in _DROPPED and not tag.startswith(("-", "!", "_")):
            parts.append(_mark(tag))
            down = node.child
        if down is not None:
            node = down
            continue
        while node is not None:
            if node.tag != "br":
                parts.append(_END if node.tag == "li" else _mark(node.tag or "").strip())
            if node.next is not None:
                node = node.next
                break
            node = node.parent
    return _joined("".join(parts))


_LINE, _PARAGRAPH, _ITEM, _END = "\x01\x02\x03\x04"
"""Marks for what becomes one line break, an empty line, the beginning and the end of an item of a list."""
_MARKS = re.compile("[\x01-\x04]")


def _mark(tag: str) -> str:
    if tag == "br":
        return "\n"
    if tag == "li":
        return _ITEM
    if tag in _PARAGRAPHS:
        return _PARAGRAPH
    return _LINE if tag in _BLOCKS else " " if tag in ("td", "th") else ""


def _joined(text: str) -> str:
    text = re.sub(" {2,}", " ", text.replace("\xa0", " "))
    text = re.sub(f"{_ITEM}[\\s{_LINE}{_PARAGRAPH}]*{_END}", _LINE, text)  # empty
    text = re.sub(f"{_ITEM}[\\s{_LINE}{_PARAGRAPH}]*", f"{_LINE}- ", text)
    text = re.sub(
        f"[{_LINE}{_PARAGRAPH}{_END} ]*[{_LINE}{_PARAGRAPH}{_END}][{_LINE}{_PARAGRAPH}{_END} ]*", _break, text
    )
    text = re.sub(" ?\n ?", "\n", text)
    text = re.sub("\n{2,}(?=- )", "\n", text)
    return re.sub("\n{3,}", "\n\n", text).strip()


def _break(match: re.Match[str]) -> str:
    return "\n\n" if _PARAGRAPH in match[0] else "\n"
