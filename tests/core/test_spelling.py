"""Files under the other Unicode form of their names."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from coldstart.core.spelling import existing_path


@pytest.mark.parametrize(("there", "asked"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_a_name_is_found_in_the_other_form(tmp_path: Path, there: str, asked: str) -> None:
    own = unicodedata.normalize(there, "é/ü")  # type: ignore[arg-type]
    (tmp_path / own).mkdir(parents=True)
    file = tmp_path / own / unicodedata.normalize(there, "café.jpg")  # type: ignore[arg-type]
    file.touch()
    wanted = tmp_path / unicodedata.normalize(asked, "é/ü/café.jpg")  # type: ignore[arg-type]
    assert wanted != file
    assert existing_path(wanted) == file
    assert existing_path(file) == file


def test_other_names_stay_as_they_are(tmp_path: Path) -> None:
    for name in ("none.jpg", "ä.jpg", "ä/b.jpg", "é/../x"):
        assert existing_path(tmp_path / name) == tmp_path / name
