"""Files under the other Unicode form of their names."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from coldstart.core import class_file, pipeline, prompts
from coldstart.core.spelling import existing_path
from coldstart.understand import policy


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


def test_files_that_settings_name_are_found(tmp_path: Path) -> None:
    there, asked = "cafe\u0301", "caf\u00e9"
    (tmp_path / f"{there}.txt").write_text("a\nb\n", "utf-8")
    assert class_file.load(tmp_path / f"{asked}.txt").names == ("a", "b")
    (tmp_path / f"{there}.md").write_text("---\nname: x\nversion: 1\ninputs: []\n---\nWords.\n", "utf-8")
    assert prompts.load(str(tmp_path / f"{asked}.md")).name == "x"
    (tmp_path / f"{there}.yaml").write_text("stages: {ingest: {}}\n", "utf-8")
    assert pipeline.find(tmp_path / f"{asked}.yaml") == tmp_path / f"{there}.yaml"
    (tmp_path / f"{there}.yaml").write_text("- no policy\n", "utf-8")
    with pytest.raises(policy.PolicyError):
        policy.load(str(tmp_path / f"{asked}.yaml"))
