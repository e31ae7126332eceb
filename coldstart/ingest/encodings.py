"""Find the encoding of a text file by its bytes, and read it as UTF-8. Knows no tables.

A file with UTF-8 in it is UTF-8: its rows that are not are rejected later, each by its number. Another encoding is
taken only for a file in which no line is UTF-8.
"""

from __future__ import annotations

import codecs
import io
import re
import unicodedata
from dataclasses import dataclass
from typing import Any, BinaryIO

_READ_BYTES = 2**20
_SCANNED_BYTES = 64 * 2**20
"""Bytes that are searched for letters; a file that is ASCII so far counts as UTF-8."""
_ENOUGH_LINES = 500
_SAMPLE_BYTES, _LONG_LINE = 2**15, 2**16

_USUAL_NAMES = {
    "cp1252": "Windows-1252 (Western)",
    "cp1250": "Windows-1250 (Central European)",
    "cp1251": "Windows-1251 (Cyrillic)",
    "cp1253": "Windows-1253 (Greek)",
    "cp1254": "Windows-1254 (Turkish)",
    "cp1257": "Windows-1257 (Baltic)",
    "iso8859-2": "ISO 8859-2 (Central European)",
    "koi8-r": "KOI8-R (Cyrillic)",
    "cp866": "DOS 866 (Cyrillic)",
    "cp850": "DOS 850 (Western)",
    "cp932": "Shift-JIS (Japanese)",
    "euc-jp": "EUC-JP (Japanese)",
    "gb18030": "GB 18030 (Chinese)",
    "big5": "Big5 (Chinese)",
    "cp949": "CP949 (Korean)",
    "mac-roman": "Mac Roman (Western)",
}
"""Encodings that are looked for, and their usual names."""
_SAME = {
    **dict.fromkeys(("iso8859-1", "iso8859_1", "latin-1"), "cp1252"),
    "euc_jis_2004": "euc-jp",
    "big5hkscs": "big5",
    "iso8859_2": "iso8859-2",
    "koi8_r": "koi8-r",
    "mac_roman": "mac-roman",
}
_WESTERN = frozenset("ÀÁÂÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüœŒ€£¥©®™°²³½¼¾«»‘’‚“”„–—…•·´§±×¿¡ºª\xa0µ")
_MARKS = frozenset("€£¥©®™°²³½¼¾«»‘’‚“”„–—…•·´§±×¿¡ºª\xa0µ№、。，・「」（）：％ー～！？")
_MIXED = re.compile(
    r"[A-Za-z][\u0370-\u04ff]|[\u0370-\u04ff][A-Za-z]|[a-z][\u00c0-\u00deŒŠŽ]|[A-Za-z][²³¹¼½¾°§¿¡±£¥][a-z]"
)
_KANA = re.compile(r"[\u3041-\u30ff].*[\u3041-\u30ff]", re.DOTALL)
_NOT_CJK = re.compile(r"[^\x00-\x7f\u3000-\u9fff\uf900-\ufaff\uff00-\uffef]")
_CLOSE, _TOO_CLOSE = 0.02, 0.8
_LEAST = 3


@dataclass(frozen=True)
class Encoding:
    """Encoding of a text file.

    Attributes:
        name: as Python's codecs know it.
        mark: bytes of a byte order mark that the text begins with.
        note: what was decided, with an example; "" for UTF-8.
        doubt: what speaks for another reading, with examples; "" where it is sure.
    """

    name: str = "utf-8"
    mark: int = 0
    note: str = ""
    doubt: str = ""

    def decode(self, head: bytes) -> str:
        """Decode the beginning of a file, with U+FFFD for what is none of it."""
        return head[self.mark :].decode(self.name, "replace")


UTF8 = Encoding()
_WIDE = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def find_encoding(stream: BinaryIO) -> Encoding:
    """Find the encoding of a file by its byte order mark, else by its lines that are not ASCII."""
    chunk = stream.read(_READ_BYTES)
    for mark, name in _WIDE:
        if chunk.startswith(mark):
            return Encoding(name, len(mark), "" if name == "utf-8" else f"read as {name[:6].upper()}, by its mark")
    if chunk[:200].count(0) * 3 > len(chunk[:200]):
        name = "utf-16-be" if chunk[:1] == b"\0" else "utf-16-le"
        return Encoding(name, 0, "read as UTF-16, which it has no mark of")
    lines = list[bytes]()
    rest, read = b"", 0
    while chunk and read < _SCANNED_BYTES and len(lines) < _ENOUGH_LINES:
        read += len(chunk)
        if chunk.isascii() and rest.isascii():
            rest = b""
        else:
            *whole, rest = re.split(rb"[\r\n]", rest + chunk)
            if len(rest) > _LONG_LINE:  # such as JSON in one line; no letter of any encoding has these bytes
                *more, rest = re.split(rb'[",]', rest)
                whole += more
            rest = b"" if len(rest) > _LONG_LINE else rest
            lines += [line for line in whole if not line.isascii()]
        chunk = stream.read(_READ_BYTES)
    if not rest.isascii() and not chunk:
        lines.append(rest)
    good = sum(map(_is_utf8, lines))
    bad = len(lines) - good
    if not bad or good * 20 >= bad:
        return _as_utf8([line for line in lines if _is_utf8(line)])
    return _other(b"\n".join(line for line in lines if not _is_utf8(line))[:_SAMPLE_BYTES])


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
        return True
    except UnicodeDecodeError:
        return False


def _as_utf8(lines: list[bytes]) -> Encoding:
    """Look for texts that another program took for Windows-1252 before it wrote them as UTF-8."""
    twice = []
    for line in lines:
        text = line.decode("utf-8")
        try:
            again = text.encode("cp1252").decode("utf-8")
        except UnicodeError:
            continue
        twice.append((text, again))
    if not lines or len(twice) * 2 < len(lines):
        return UTF8
    wrong, right = (_example(text) for text in twice[0])
    return Encoding(
        doubt=f"its texts look as if they were converted twice: {wrong!r} for {right!r}; export it again as UTF-8"
    )


def _other(sample: bytes) -> Encoding:
    import chardet

    found = chardet.detect_all(sample, include_encodings=list(_USUAL_NAMES), compat_names=False)
    ranked: list[tuple[str, float, str]] = []
    western_text = sample.decode("cp1252", "ignore")
    japanese = [(name, 1.0) for name in ("cp932", "euc-jp") if _is_japanese(sample, name)]
    guessed = [(str(one["encoding"] or "cp1252"), float(one["confidence"])) for one in found]
    for codec, confidence in [*japanese, *guessed, ("cp1252", 0.0)]:
        name = _SAME.get(codec, codec)
        text = sample.decode(name, "ignore")  # the sample may end inside a letter
        if text == western_text:
            name = "cp1252"
        if _is_plausible(text) and text not in [known for _, _, known in ranked]:
            ranked.append((name, confidence, text))
    western = {name for name, _, text in ranked if _is_western(text)}
    if len(re.findall(rb"[\x80-\xff]", sample)) < _LEAST and western.isdisjoint(("cp1252", "mac-roman")):
        return UTF8  # so little may be damage; its rows are rejected
    if not ranked:
        text = sample.decode("cp1252", "replace")
        return Encoding(
            "cp1252",
            0,
            doubt=f"its encoding is unknown; read as Windows-1252, such as {_example(text)!r}: save it as UTF-8",
        )
    if "cp1252" in western:
        place = next(place for place, (name, _, _) in enumerate(ranked) if name == "cp1252")
        if ranked[0][1] - ranked[place][1] < _CLOSE:
            ranked.insert(0, ranked.pop(place))
    name, sure, text = ranked[0]
    usual, example = _USUAL_NAMES.get(name, name), _example(text)
    for other, confidence, its in ranked[1:2]:
        if confidence > _TOO_CLOSE * sure:
            return Encoding(
                name,
                0,
                doubt=f"it is not UTF-8: read as {usual}, such as {example!r}; as "
                f"{_USUAL_NAMES.get(other, other)} it were "
                f"{_example(its)!r}: save it as UTF-8 if that is wrong",
            )
    return Encoding(name, 0, f"not UTF-8: read as {usual}, such as {example!r}")


def _is_japanese(sample: bytes, name: str) -> bool:
    """Return True where a text has syllables of Japanese, which no text of single bytes gives by chance."""
    text = sample.decode(name, "replace")
    return _KANA.search(text) is not None and not _NOT_CJK.search(text.rstrip("\ufffd"))  # cut inside a letter


def _is_plausible(text: str) -> bool:
    """Return True where all that is not ASCII are letters or usual marks, and no word mixes scripts."""
    wide = {character for character in text if character > "\x7f"}
    if any(one not in _MARKS and unicodedata.category(one) not in ("Lu", "Ll", "Lo", "Mn", "Nd", "Lm") for one in wide):
        return False
    return not ({"ˆ", "ˇ", "ʼ"} & wide) and not _MIXED.search(text)


def _is_western(text: str) -> bool:
    return all(character in _WESTERN for character in text if character > "\x7f")


def _example(text: str) -> str:
    """Find the cell with the first letter that is not ASCII; of a long one, the text around the letter."""
    found = re.search(r"[^\x00-\x7f]", text)
    if found is None:
        return text[:30]
    line = text[text.rfind("\n", 0, found.start()) + 1 :].split("\n", 1)[0]
    at = found.start() - text.rfind("\n", 0, found.start()) - 1
    word = re.compile(r"[^;,\t|\"\r{}:<>]+")
    near = next((part for part in word.finditer(line) if part.start() <= at < part.end()), None)
    cell = near[0].strip() if near else line
    return cell if len(cell) <= 40 else line[max(0, at - 15) : at + 20].strip()


MARK = "\U0010ffff"
"""Stands for bytes that cannot be decoded, by the handler of errors `coldstart-mark`; no text has this character."""
codecs.register_error("coldstart-mark", lambda error: (MARK, getattr(error, "end")))  # noqa: B009  (of any subclass)


class AsUtf8(io.RawIOBase):
    """A stream of another encoding as UTF-8; `damage` stands for what cannot be decoded: 0xFF, which is no UTF-8."""

    def __init__(self, source: BinaryIO, encoding: str, damage: bytes = b"\xff") -> None:
        self._source, self._rest, self._damage = source, memoryview(b""), damage
        self._decoder = codecs.getincrementaldecoder(encoding)("coldstart-mark")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._rest:
            chunk = self._source.read(_READ_BYTES)
            found = self._decoder.decode(chunk, final=not chunk).encode("utf-8", "replace")
            self._rest = memoryview(found.replace(MARK.encode(), self._damage))
            if not chunk:
                break
        size = min(len(target), len(self._rest))
        target[:size], self._rest = self._rest[:size], self._rest[size:]
        return size
