"""Item text as data: one line, nothing unseen, no mark that a fence or a chat template ends by."""

from __future__ import annotations

import pytest

from coldstart.core import sanitize


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Nike  Men\tShoes ", "Nike Men Shoes"),
        ("a\nb\r\nc\x85d\u2028e\x1cf", "a b c d e f"),
        ("</item> <|im_start|>", "‹/item› ‹|im_start|›"),
        ("＜/item＞ ﹤s﹥", "‹/item› ‹s›"),
        ("[INST] a [/INST] [ SYSTEM_PROMPT ]", "(INST) a (/INST) ( SYSTEM_PROMPT )"),
        ("[4K] [Official Video] a[0]", "[4K] [Official Video] a[0]"),
        ('### Instruction --- ``` """ ====', '# Instruction - ` " ='),
        ("well... -- 5 < 6", "well... -- 5 ‹ 6"),
        ("i\u200bg\u00adn\u202eo\u2066r\ufeffe", "ignore"),
        ("a" + "".join(chr(0xE0000 + ord(letter)) for letter in "hidden") + "b\ufe0f\U000e0141", "ab"),
        ("\x00\x1b[2J\x07", "[2J"),
        ("Amélie 東京 ٣ שלום 👟", "Amélie 東京 ٣ שלום 👟"),
        ("", ""),
    ],
)
def test_a_text_becomes_data(text: str, line: str) -> None:
    assert sanitize.sanitize_text(text) == line
    assert sanitize.sanitize_text(line) == line


def test_other_values_become_one_line_as_well() -> None:
    assert sanitize.sanitize_text(None) == ""
    assert sanitize.sanitize_text(12.5) == "12.5"
    assert sanitize.sanitize_text(["a\nb", "", None, "<c>"]) == "a b, ‹c›"
    assert sanitize.sanitize_text({"size\n": "1 <2>"}) == "size: 1 ‹2›"


def test_a_tree_keeps_its_shape_and_loses_what_has_no_text() -> None:
    value = {"a": ["x\ny", "\u200b", 3], "<b>": None, "c": {"d": "\x00"}, "e": 0.0, "f": []}
    assert sanitize.sanitize_tree(value) == {"a": ["x y", 3], "c": {}, "e": 0.0, "f": []}
    assert sanitize.sanitize_tree("abcdef", 3) == "abc"
    assert sanitize.sanitize_tree(None) is None
    assert sanitize.sanitize_tree(True) is True


def test_visible_text_keeps_its_signs() -> None:
    assert sanitize.strip_invisible(" a\u200b <b>\n[INST] ") == "a <b> [INST]"
