"""A user is erased: searched for in every file of the workspace, in its caches and in the user's state; 0 hits."""

from __future__ import annotations

from pathlib import Path

import pytest
from behaviour_shop import batch, entries, met, settings, small_world, teach
from stored_words import places_of

import coldstart
from coldstart.errors import ColdstartError
from coldstart.store.interactions import InteractionTable

PERSON = "person-8f31c0a97b"


@pytest.mark.slow
def test_a_person_who_was_fitted_on_and_recommended_to_is_in_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = {"COLDSTART_MODELS": "models", "XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache"}
    for variable, name in homes.items():
        monkeypatch.setenv(variable, str(tmp_path / "home" / name))
    known = small_world()
    raw = settings(tmp_path / "media", entries(tmp_path / "media", known))
    workspace = coldstart.open(tmp_path / "home" / "w", create=True)
    workspace.run(raw, only=["ingest", "picture", "text"])
    teach(workspace, known)
    InteractionTable(workspace._store).append([batch(met(known))])
    log = tmp_path / "log.csv"
    liked = "".join(f"{PERSON},{item},17000000{place:02}\n" for place, item in enumerate(known.content.item_ids[:30]))
    log.write_text(f"user_id,item_id,timestamp\n{liked}{PERSON},a\tb\0,1700000099\nanother,x,soon\n")
    workspace.ingest_interactions(log, max_failed=1.0)
    shown = tmp_path / "shown.csv"
    shown.write_text(
        "user_id,item_id,timestamp,click,outcome_at\n"
        f"{PERSON},{known.content.item_ids[0]},1700000000,1,1700000001\n{PERSON},x,1700000000,1,1600000000\n"
        f"another,x,1700000000,1,\n{PERSON},a\tb\0,1700000000,1,\n"
    )
    workspace.ingest_impressions(shown, max_failed=1.0)
    workspace.run()
    assert workspace.recommend(PERSON, top_k=5).items
    workspace.recommend_many([PERSON], tmp_path / "lists.parquet", top_k=3)

    control = places_of(PERSON, tmp_path / "home")
    assert any("interactions.lance/data/" in place for place in control)
    assert places_of(known.content.item_ids[0], tmp_path / "home"), "fits and tables are read as well"
    rows = InteractionTable(workspace._store).count()
    report = workspace.remove_users([PERSON])
    assert (report.removed, report.rows["interactions"]) == (1, 30)
    logs = ("impressions", "impressions_early", "impressions_rejected")
    assert [report.rows[name] for name in logs] == [2, 1, 1]
    assert [fit.name for fit in report.fits] == ["align.behaviour"]
    assert places_of(PERSON, tmp_path / "home") == []
    assert InteractionTable(workspace._store).count() == rows - 30

    assert workspace.ingest_interactions(log, max_failed=1.0).rejected["removed_user"] >= 30
    assert workspace.ingest_impressions(shown, max_failed=1.0).rejected == {"removed_user": 3}
    assert len(workspace.impressions()) == 1
    assert any("finetune behaviour" in note for note in workspace.removal_notes())
    with pytest.raises(ColdstartError):
        workspace.remove_users(["person-8f31"])
    workspace._store.maintain()
    assert places_of(PERSON, tmp_path / "home") == []
