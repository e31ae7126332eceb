"""The container of multilingual-e5-small: what is read of it, and files that are cut short or lie."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import tiny_e5

from coldstart.errors import ColdstartError
from coldstart.models.e5_file import read_e5


def test_settings_pieces_and_tensors(tmp_path: Path) -> None:
    found = read_e5(tiny_e5.write(tmp_path / "x.bin"))
    assert (found.hidden, found.layers, found.heads, found.feed_forward) == (32, 2, 2, 64)
    assert [piece for piece, _ in found.tokens.pieces] == tiny_e5.PIECES
    assert found.tokens.pieces[5][1] == -1.125
    special = found.tokens.begin, found.tokens.end, found.tokens.padding, found.tokens.unknown
    assert special == (0, 2, 1, 3)
    assert found.tokens.characters == {1: "", 0xA0: " ", 0xFB01: "fi"}
    words = found.tensor("emb.word")
    assert words.shape == (len(tiny_e5.PIECES) + 2, 32)
    np.testing.assert_array_equal(found.rows("emb.word", np.array([[5, 0], [5, 15]])), words[[[5, 0], [5, 15]]])
    assert found.tensor("l1.fo.b").shape == (32,)


def test_a_block_of_four_bits_has_low_nibbles_first(tmp_path: Path) -> None:
    found = read_e5(tiny_e5.write(tmp_path / "x.bin"))
    _, _, offset = found.places["l0.q.w"]
    block = found.data[offset : offset + 18].tobytes()
    scale = struct.unpack("<e", block[:2])[0]
    expected = [((byte & 15) - 8) * scale for byte in block[2:]] + [((byte >> 4) - 8) * scale for byte in block[2:]]
    np.testing.assert_allclose(found.tensor("l0.q.w")[0], expected, rtol=1e-6)


def test_a_file_that_is_cut_anywhere_is_damaged(tmp_path: Path) -> None:
    whole = tiny_e5.container()[0]
    path = tmp_path / "cut.bin"
    for size in [0, 3, *range(4, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(ColdstartError, match=r"cut\.bin is (damaged at byte \d+: |no container)"):
            read_e5(path)


@pytest.mark.parametrize(
    ("place", "shift", "form", "value", "message"),
    [
        ("settings", 0, "i", -1, "hidden -1, not 1 to 4096"),
        ("settings", 0, "i", 2**31 - 1, "hidden 2147483647, not 1 to 4096"),
        ("settings", 4, "i", 10**6, "layers 1000000, not 1 to 96"),
        ("settings", 8, "i", 3, "32 numbers in 3 heads"),
        ("settings", 16, "i", 2**30, "vocabulary 1073741824, not 1 to 2000000"),
        ("settings", 32, "i", 16, "blocks of 16, not 32"),
        ("pieces", 0, "i", 2**31 - 1, "pieces 2147483647, not 1 to 16"),
        ("pieces", 8, "i", 14, "special token 14, not 0 to 13"),
        ("pieces", 20, "Q", 2**63, "9223372036854775808 bytes wanted, "),
        ("offsets", 4, "I", 2**32 - 1, "offsets of pieces do not rise from the start to the end of their text"),
        ("offsets", 60, "f", float("nan"), "a score of a piece is no number"),
        ("characters", 0, "i", 2**31 - 1, "mapped characters 2147483647, not 0 to 100000"),
        ("characters", 0, "i", 2, "13 bytes behind the map of characters"),
        ("characters", 4, "I", 2**32 - 1, "4294967295 bytes wanted, "),
        ("characters", 8, "I", 0x110000, "a character 1114112"),
        ("directory", 0, "i", 2**31 - 1, "tensors 2147483647, not 0 to 74"),
        ("directory", 0, "i", 3, "34 tensors are missing, such as emb.ln.b"),
        ("directory", 4, "H", 65535, "65535 bytes wanted, "),
        ("directory", 6, "B", 0x7A, "a tensor 'zmb.word', which such a model has not"),
        ("entry emb.word", 0, "B", 7, "tensor emb.word of kind 7"),
        ("entry l0.q.b", 0, "B", 1, "tensor l0.q.b of kind 1"),
        ("entry emb.word", 1, "I", 2**32 - 1, "4294967295 numbers in tensor emb.word, not 512"),
        ("entry emb.word", 5, "Q", 2**64 - 1, "tensor emb.word would end behind the file"),
        ("entry emb.word", 13, "Q", 2**40, "tensor emb.word has 1099511627776 bytes for 512 numbers"),
    ],
)
def test_a_number_that_lies_is_named(
    tmp_path: Path, place: str, shift: int, form: str, value: float, message: str
) -> None:
    whole, places = tiny_e5.container()
    path = tmp_path / "lies.bin"
    start = places[place] + shift
    number = struct.pack(f"<{form}", value)
    path.write_bytes(whole[:start] + number + whole[start + len(number) :])
    with pytest.raises(ColdstartError) as caught:
        read_e5(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path} is damaged at byte ")
