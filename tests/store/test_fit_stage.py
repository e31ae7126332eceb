"""Helpers of fit stages: keys and verdicts of their items, saved fits, and changes since."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from coldstart.core.stage import Reject
from coldstart.errors import NotFitted
from coldstart.models import install
from coldstart.store import Store
from coldstart.store.fit_stage import (
    Changes,
    FitInputs,
    SavedFits,
    expected_or_waiting,
    fit_in_use,
    fit_unchanged,
    remove_scratch,
)
from coldstart.store.fits import ITEMS_FILE, items_file


def _not_fitted() -> NoReturn:
    raise NotFitted("the encoder waits")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "workspace", create=True)


def _save(store: Store, fits: SavedFits) -> None:
    parts = {"train": np.array([0]), "test": np.array([1])}
    files = {ITEMS_FILE: items_file(["a", "b"], ["ka", "kb"], np.array([0, 1]), parts)}
    fits.save(store, ["ka", "kb"], files, {"n": 2})


def test_items_are_taken_waiting_or_left_out_under_a_key_of_their_own() -> None:
    inputs = FitInputs("fit")
    inputs.take("a", "ka")
    inputs.take("b", "kb", ready=False)
    for reason in ("no_text", "no_vector"):
        inputs.leave_out(reason, "kc", Reject(reason, "why", "filtered"))
    assert inputs.keys == {"a": "ka", "b": ""}
    assert inputs.ready == {"a": "ka"}
    row = inputs.verdicts["no_text"]
    assert (row.stage, row.item_id, row.state) == ("fit", "no_text", "filtered")
    assert (row.reason, row.detail) == ("no_text", "why")
    assert len({"kc", row.row_key, inputs.verdicts["no_vector"].row_key}) == 3


def test_a_fit_is_the_newest_only_under_its_settings(store: Store) -> None:
    fits = SavedFits("fit", lambda: "one")
    assert fits.newest(store) is None
    assert fits.present(store) == fits.parts(store) == {}
    _save(store, fits)
    newest = fits.newest(store)
    assert newest is not None
    assert newest.report == {"n": 2, "settings": "one"}
    assert fits.present(store) == {"a": "ka", "b": "kb"}
    assert fits.parts(store) == {"a": "train", "b": "test"}
    others = SavedFits("fit", lambda: "two")
    assert others.newest(store) is None
    assert others.present(store) == {}


def test_a_fit_whose_encoder_waits_has_no_items(store: Store) -> None:
    _save(store, SavedFits("fit", lambda: "one"))
    waiting = SavedFits("fit", _not_fitted)
    assert waiting.present(store) == {}
    with pytest.raises(NotFitted, match="waits"):
        waiting.newest(store)
    assert expected_or_waiting(store, lambda _: _not_fitted()) == ({}, {})


def test_items_that_came_or_changed_are_counted(store: Store) -> None:
    fits = SavedFits("fit", lambda: "one")
    _save(store, fits)
    newest = fits.newest(store)
    assert newest is not None
    assert fits.changes(newest, {"a": "ka", "b": "other", "c": "kc", "d": ""}) == Changes(new=2, changed=1)
    assert fits.changes(newest, {"a": "", "b": "kb"}) == Changes(0, 0), "a row that is still to come has not changed"
    assert Changes(0, 0).note("coldstart finetune align") == ""
    assert Changes(2, 1).note("coldstart fit") == "; 2 items came and 1 changed since: `coldstart fit`"


def test_a_fit_that_stays_is_named_by_its_date_and_not_reported_as_new(store: Store) -> None:
    fits = SavedFits("fit", lambda: "one")
    _save(store, fits)
    newest = fits.newest(store)
    assert newest is not None
    date = f"fit of {newest.made_at:%Y-%m-%d %H:%M UTC} in use"
    assert fit_in_use(newest, "; 2 items came", "recall 0.3") == f"{date}; 2 items came\nrecall 0.3"
    assert fit_unchanged(newest, "recall 0.3") == f"{date}: recall 0.3; nothing came or changed since"


def test_scratch_is_apart_by_workspace_stage_and_settings(store: Store, tmp_path: Path) -> None:
    one, two = SavedFits("fit", lambda: "one"), SavedFits("fit", lambda: "two")
    assert one.scratch(store, ".part") == two.scratch(store, ".part")
    assert one.scratch(store, of_settings=True) != two.scratch(store, of_settings=True)
    assert one.scratch(store) != SavedFits("other", lambda: "one").scratch(store)
    assert one.scratch(store) != one.scratch(Store(tmp_path / "other", create=True))
    assert one.scratch(store).is_relative_to(install.weights_dir())


def test_scratch_is_removed_whether_file_folder_or_absent(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    (folder / "inner").mkdir(parents=True)
    for path in (file, folder, tmp_path / "absent"):
        remove_scratch(path)
        assert not path.exists()
