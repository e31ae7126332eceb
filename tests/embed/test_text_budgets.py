"""Text spaces read what was heard and read in the media, each source up to its budget of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from catalogue import rows, settings, write_manifest
from hypothesis import given
from hypothesis import strategies as st

from coldstart.core import pipeline as pipelines
from coldstart.core.prompts import cut_texts
from coldstart.embed.stage import EmbedStage
from coldstart.errors import ColdstartError
from coldstart.store.freshness import build

WORDS = st.lists(st.text("abcdefg", min_size=1, max_size=9), max_size=60)


def count(texts: Sequence[str]) -> list[int]:
    """Two marks, and a token for each three letters of a word."""
    return [2 + sum((len(word) + 2) // 3 for word in text.split()) for text in texts]


@given(st.lists(WORDS, max_size=4), st.integers(1, 40))
def test_a_cut_text_is_the_longest_start_that_fits(texts: list[list[str]], budget: int) -> None:
    given_texts = [" ".join(words) for words in texts]
    for words, text, kept in zip(texts, given_texts, cut_texts(given_texts, budget, count), strict=True):
        if count([text])[0] - 2 <= budget:
            assert kept == text
            continue
        size = len(kept.split())
        assert count([kept])[0] - 2 <= budget
        if kept.split() != words[:size]:  # not even the first word fits: its first letters do
            assert words[0].startswith(kept) and count([words[0][: len(kept) + 1]])[0] - 2 > budget
            continue
        assert count([" ".join(words[: size + 1])])[0] - 2 > budget


def space(folder: Path, evidence: bool = True, **own: Any) -> EmbedStage:
    manifest = write_manifest(folder / "items.jsonl", rows(folder, 1))
    parts = dict.fromkeys(("fingerprint", "duplicates", "quality", "screen", "speech", "safety"), False)
    understand = {"understand": {**parts, "shots": {}, "evidence": {}}} if evidence else {}
    text = {"text": {"stage": "embed", "encoder": "fake:16", "input": "text", "prompt": "item_evidence", **own}}
    pipeline = pipelines.load({**settings(manifest), "stages": {"ingest": {}, **understand, **text}})
    stage = build(pipeline.stages[-1], pipeline)
    assert isinstance(stage, EmbedStage)
    return stage


ROW = {
    "title": "Pears",
    "category": None,
    "description": None,
    "tags": [],
    "evidence": {"transcript": "one two three four five six", "screen_text": "49.90 kr", "language": "en"},
}


def test_a_prompt_with_evidence_reads_the_evidence_stage(tmp_path: Path) -> None:
    stage = space(tmp_path)
    assert stage.reads == {"evidence": "understand.evidence"}
    values, cost = stage.preparer()(ROW)
    assert cost == 1.0
    assert stage._prompt.render(values) == "Pears.\none two three four five six\n49.90 kr"
    assert space(tmp_path, prompt="item_text").reads == {}
    assert space(tmp_path, evidence=False).reads == {}


def test_an_item_without_evidence_is_its_own_words(tmp_path: Path) -> None:
    stage = space(tmp_path)
    values, _ = stage.preparer()({**ROW, "evidence": None})
    assert stage._prompt.render(values) == "Pears."


def test_budgets_change_the_vector_and_the_key(tmp_path: Path) -> None:
    plain, short = space(tmp_path), space(tmp_path, budgets={"transcript": 2})
    samples = [plain.preparer()(ROW)[0]]
    (whole,), (brief,) = plain.compute(samples), short.compute(samples)
    assert isinstance(whole, dict) and isinstance(brief, dict)
    assert (whole["vector"] != brief["vector"]).any()
    by_hand = {**samples[0], "transcript": "one two"}
    (same,) = plain.compute([by_hand])
    assert isinstance(same, dict) and (same["vector"] == brief["vector"]).all()
    assert plain.fingerprint() != short.fingerprint()
    assert samples[0]["transcript"] == ROW["evidence"]["transcript"], "samples stay as they are"  # type: ignore[index]


def test_a_budget_for_what_the_prompt_does_not_read(tmp_path: Path) -> None:
    with pytest.raises(ColdstartError) as error:
        space(tmp_path, budgets={"transcripts": 9})
    assert str(error.value) == (
        "space 'text': budgets has 'transcripts', and prompt 'item_evidence' reads title, description, category, "
        "tags, transcript, screen_text"
    )
