"""What fit stages made, kept in the workspace."""

from __future__ import annotations

from pathlib import Path

import pytest

from coldstart.errors import ColdstartError
from coldstart.store import Store
from coldstart.store.artifacts import ARTIFACTS, FILES, KEEP


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("COLDSTART_MODELS", str(tmp_path / "models"))
    return Store(tmp_path / "w", create=True)


def test_files_come_back_byte_for_byte_from_the_table_and_as_a_folder(store: Store) -> None:
    files = {"heads.json": b"{}", "before/heads.bin": bytes(range(256)) * 40}
    saved = store.artifacts.save("align", "k1", files, {"recall": 0.5})
    found = Store(store.uri).artifacts.newest("align")
    assert found is not None
    assert (found.digest, found.key, found.report) == (saved.digest, "k1", {"recall": 0.5})
    assert found.files() == files
    assert {str(p.relative_to(found.folder)): p.read_bytes() for p in found.folder.rglob("*") if p.is_file()} == files
    assert [path.name for path in found.folder.parent.iterdir()] == [found.digest]  # no draft is left


@pytest.mark.slow
def test_the_newest_counts_and_the_oldest_go_with_their_files(store: Store) -> None:
    made = [store.artifacts.save("align", f"k{n}", {"x": bytes([n])}, {}) for n in range(KEEP + 2)]
    other = store.artifacts.save("match", "m", {"x": b"other"}, {})
    assert [artifact.key for artifact in store.artifacts.all("align")] == [
        f"k{n}" for n in reversed(range(2, KEEP + 2))
    ]
    kept = {artifact.digest for artifact in [*made[2:], other]}
    assert set(store.read(FILES, ["digest"])["digest"].to_pylist()) == kept
    assert store.artifacts.newest("none") is None


def test_the_same_files_again_are_one_artifact_that_is_the_newest(store: Store) -> None:
    first = store.artifacts.save("align", "a", {"x": b"1"}, {"n": 1})
    store.artifacts.save("align", "b", {"x": b"2"}, {})
    again = store.artifacts.save("align", "c", {"x": b"1"}, {"n": 2})
    assert again.digest == first.digest
    newest = store.artifacts.newest("align")
    assert newest is not None
    assert (newest.key, newest.report) == ("c", {"n": 2})
    assert store.count(ARTIFACTS) == 2


def test_equal_files_of_two_names_do_not_share_a_row(store: Store) -> None:
    store.artifacts.save("align", "a", {"x": b"1"}, {})
    store.artifacts.save("match", "b", {"x": b"1"}, {})
    assert [store.artifacts.newest(name).key for name in ("align", "match")] == ["a", "b"]  # type: ignore[union-attr]


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x"])
def test_a_path_out_of_the_folder_is_refused(store: Store, path: str) -> None:
    with pytest.raises(ColdstartError) as caught:
        store.artifacts.save("align", "k", {path: b""}, {})
    assert str(caught.value) == f"artifact 'align': {path!r} leads out of its folder"
    assert not store.has(FILES)


def test_files_that_a_kill_left_without_a_name_go_with_the_next_save(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge = Store.merge

    def killed(self: Store, table: str, *args: object, **options: object) -> None:
        if table == ARTIFACTS:
            raise KeyboardInterrupt
        merge(self, table, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "merge", killed)
    with pytest.raises(KeyboardInterrupt):
        store.artifacts.save("align", "k", {"x": b"lost"}, {})
    monkeypatch.undo()
    saved = store.artifacts.save("align", "k", {"x": b"kept"}, {})
    assert set(store.read(FILES, ["digest"])["digest"].to_pylist()) == {saved.digest}
