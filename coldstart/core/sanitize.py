"""Make item text safe as data in a prompt: one line, without anything that could end a chat template or a fence.

Removed are control, format, private and unassigned characters (zero-width ones, direction marks, tags) and variation
selectors. `<` and `>` in all their widths become `‹` and `›`, so that neither a tag such as `</item>` nor a special
token such as `<|im_start|>` can occur; marks in brackets such as `[INST]` get round brackets; runs of `#`, `=`, `-`,
`_`, `*`, `~`, backticks and quotes become one. The meaning of the text is left as it is: the checks of a description
decide whether a model obeyed it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from coldstart.errors import ColdstartError

_ANGLES = str.maketrans({**dict.fromkeys("<＜﹤⟨〈〈⧼❮", "‹"), **dict.fromkeys(">＞﹥⟩〉〉⧽❯", "›")})
_DROPPED = frozenset({"Cc", "Cf", "Co", "Cn", "Cs"})
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef\u034f\u115f\u1160\u3164\uffa0\u180b-\u180f]")
_MARK = re.compile(r"\[(\s*/?\s*[A-Za-z_]{2,24}\s*)\]")
_RULE = re.compile(r"([#=\-_*~`\"'])\1{2,}")


def sanitize_text(value: Any) -> str:
    """Write a value as one safe line: "" for None, the entries of a list joined by commas. Idempotent."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(sanitize_text, value)))
    if isinstance(value, Mapping):
        return ", ".join(f"{sanitize_text(name)}: {sanitize_text(one)}" for name, one in value.items())
    return _line(str(value))


def sanitize_tree(value: Any, most: int | None = None) -> Any:
    """Sanitize every text in a nested value; numbers stay, and entries without any text left are dropped.

    Args:
        most: characters of each text that are read, so that a long one costs no more; None: all.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        pairs = ((sanitize_text(name), sanitize_tree(one, most)) for name, one in value.items())
        return {name: one for name, one in pairs if name and one not in (None, "")}
    if isinstance(value, list | tuple):
        return [one for one in (sanitize_tree(entry, most) for entry in value) if one not in (None, "")]
    return _line(str(value)[:most])


def strip_invisible(text: str) -> str:
    """Remove characters that no reader sees and put the text on one line; punctuation stays."""
    if not text.isascii() or not text.isprintable():
        text = "".join(map(_visible, _SELECTORS.sub("", text)))
    return " ".join(text.split())


def _line(text: str) -> str:
    return _MARK.sub(r"(\1)", _RULE.sub(r"\1", strip_invisible(text).translate(_ANGLES)))


def _visible(letter: str) -> str:
    if letter.isascii():
        return letter if letter.isprintable() else " "
    if letter.isspace():
        return " "
    return "" if unicodedata.category(letter) in _DROPPED else letter


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


def without_controls(text: str) -> str:
    """Replace control characters, which would steer a terminal, by spaces."""
    return _CONTROL.sub(" ", text)


_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line break, and those that turn the direction of writing."""
