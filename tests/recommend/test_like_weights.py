"""The least weight of a like in lists: the fit's own, the settings', or by the scale of the log."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from coldstart.core.interactions import interactions
from coldstart.recommend import service
from coldstart.recommend.service import Recommender, _unliked_note
from coldstart.recommend.users import History

RATINGS = np.array([1, 2, 3, 4, 5, 5] * 4, np.float32)


def _recommender(monkeypatch: pytest.MonkeyPatch, *, fitted: float | str | None, setting: float | None) -> Recommender:
    """A recommender over ratings; `fitted` is the least weight that a fit was made with, `no` where nothing is."""
    stage = SimpleNamespace(settings=SimpleNamespace(min_weight=setting))
    pipeline: Any = SimpleNamespace(of_kind=lambda kind: [stage])
    found = Recommender(None, pipeline, None)  # type: ignore[arg-type]
    found.__dict__["scoring_model"] = SimpleNamespace(is_fitted=fitted != "no")
    rows = interactions([f"u{place}" for place in range(24)], ["a"] * 24, weights=RATINGS)
    monkeypatch.setattr(Recommender, "interactions", lambda self: rows)
    fit = SimpleNamespace(min_weight=fitted)
    monkeypatch.setattr(service, "load_newest_fit", lambda store, pipeline: (fit, None))
    return found


@pytest.mark.parametrize(
    ("fitted", "setting", "least"),
    [
        pytest.param("no", None, 3.5, id="no fit: the scale"),
        pytest.param("no", 2.0, 2.0, id="no fit: the setting"),
        pytest.param(None, None, None, id="an earlier fit, on every weight above 0"),
        pytest.param(None, 4.0, 4.0, id="an earlier fit, and a setting"),
        pytest.param(3.5, None, 3.5, id="a fit by the scale"),
    ],
)
def test_lists_go_by_the_likes_that_the_scores_were_fitted_on(
    monkeypatch: pytest.MonkeyPatch, fitted: float | str | None, setting: float | None, least: float | None
) -> None:
    assert _recommender(monkeypatch, fitted=fitted, setting=setting).min_weight == least


def test_rows_of_a_history_that_are_no_likes_are_noted() -> None:
    history = History(("a", "b", "c"), np.zeros(3, np.int64), np.array([5, 3, 1], np.float32), ("", "", ""))
    assert _unliked_note(history, 3.5) == ["1 of 3 rows of the history count as likes (3.5 or more)"]
    assert _unliked_note(history, 1.0) == _unliked_note(history, None) == []
