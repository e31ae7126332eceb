"""A space that texts ask only by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
from catalogue import rows, settings, write_manifest

import coldstart


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> coldstart.Workspace:
    folder: Path = tmp_path_factory.mktemp("apart")
    raw = settings(write_manifest(folder / "items.jsonl", rows(folder, 12)))
    raw["stages"]["image"]["text_queries"] = False  # fake vectors of pictures take words too
    made = coldstart.open(folder / "w", create=True)
    made.run(raw)
    return made


def asked(workspace: coldstart.Workspace, **query: object) -> set[str]:
    return {space for hit in workspace.search(hybrid=False, **query) for space in hit.ranks}  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_text_asks_it_by_name_alone(workspace: coldstart.Workspace) -> None:
    assert asked(workspace, text="article 3") == {"text"}
    assert asked(workspace, text="article 3", spaces=["image"]) == {"image"}
    assert asked(workspace, text="article 3", spaces=["image", "text"]) == {"image", "text"}


@pytest.mark.slow
def test_other_queries_ask_it_as_any(workspace: coldstart.Workspace) -> None:
    assert asked(workspace, item="p3") == {"image", "text"}
    picture = Path(workspace.item("p3").media[0]["uri"].removeprefix("file://"))
    assert "image" in asked(workspace, image=picture)


@pytest.mark.slow
def test_a_text_asks_it_where_there_is_nothing_else(workspace: coldstart.Workspace) -> None:
    raw = {**workspace.pipeline().raw}
    raw["stages"] = {name: given for name, given in raw["stages"].items() if name != "text"}
    workspace.run(raw, drop_spaces=True)
    assert asked(workspace, text="article 3") == {"image"}
