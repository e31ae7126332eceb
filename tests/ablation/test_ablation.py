"""Ablation on a made-up world: informative content gains, noise does not, steps that cannot be evaluated are named."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from behaviour_world import world
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from coldstart.ablation.report import Cost, LadderReport, build_report, markdown, seconds
from coldstart.ablation.steps import LadderSettings, Lists, MissingStep, SplitResult, Step, evaluate_steps
from coldstart.errors import ColdstartError
from coldstart.metrics.two_way import holm
from coldstart.recommend.evaluate.splits import Split, split_by_items
from coldstart.recommend.model.fusion import Content

CHOICE = {"candidates": {"ridge": {"target": "users"}}, "weights": {"weak": 1.0, "text": 1.0}, "dim": 16, "folds": 1}
SETTINGS = LadderSettings(choice={**CHOICE, "warm_min": 2})
STEPS = (
    Step("weak", "a little", ("weak",), frozenset({"weak"})),
    Step("noise", "and noise", ("weak", "noise"), frozenset({"weak", "noise"})),
    Step("text", "and the truth", ("weak", "text"), frozenset({"weak", "text"})),
    Step("behaviour", "and who liked what", ("weak", "text"), frozenset({"weak", "text"}), is_behaviour=True),
)
COSTS = {
    "weak": Cost("weak", 0.5, 0.0, "recorded"),
    "noise": Cost("noise", 0.25, 10.0, "recorded"),
    "text": Cost("text", 0.125, 0.0, "timed"),
}


def made(items: int = 240) -> tuple[Split, Content]:
    found = world(items=items, per_user=24, noise=0.1)
    rng = np.random.default_rng(5)

    def unit(block: NDArray[np.floating]) -> NDArray[np.float32]:
        return np.asarray(block / np.linalg.norm(block, axis=1, keepdims=True), np.float32)

    text = found.content.blocks["text"]
    blocks = {
        "weak": unit(text + 0.5 * rng.normal(size=text.shape)),
        "noise": unit(rng.normal(size=(items, 16))),
        "text": text,
    }
    content = Content(found.content.item_ids, blocks, found.content.records)
    return split_by_items(found.interactions, valid=0.0, test=0.25, warm_min=2, seed=0), content


@pytest.fixture(scope="module")
def found() -> LadderReport:
    split, content = made()
    return build_report(
        [evaluate_steps(split, content, STEPS, SETTINGS)],
        STEPS,
        SETTINGS,
        missing=[MissingStep("evidence", "nobody listened | or read")],
        costs=COSTS,
        catalogue=240,
        order=("weak", "noise", "evidence", "text", "behaviour"),
        resamples=400,
    )


@pytest.mark.slow
def test_a_step_with_informative_content_gains_and_one_with_noise_does_not(found: LadderReport) -> None:
    weak, noise, text, behaviour = found.steps
    assert text.gain is not None and text.gain.low > 0 and text.gain.holm < 0.05
    assert noise.gain is not None and noise.gain.low <= 0
    assert text.aligned_gain is not None and text.aligned_gain.low > 0
    assert noise.aligned_gain is not None and noise.aligned_gain.low <= 0
    assert weak.gain is None and weak.before is None
    assert [one.before for one in found.steps[1:]] == ["weak", "noise", "text"]
    assert behaviour.recall.value == behaviour.aligned.value > weak.recall.value
    assert found.chosen == ("ridge",)


@pytest.mark.slow
def test_what_a_step_gains_is_the_difference_of_what_the_two_find(found: LadderReport) -> None:
    for before, after in zip(found.steps[:-1], found.steps[1:], strict=True):
        assert after.gain is not None
        assert after.gain.value == pytest.approx(after.recall.value - before.recall.value)
        assert after.gain.p <= after.gain.holm <= 1


def test_p_values_are_corrected_for_all_gains_of_their_column(found: LadderReport) -> None:
    gains = [one.gain for one in found.steps[1:] if one.gain is not None]
    aligned = [one.aligned_gain for one in found.steps[1:] if one.aligned_gain is not None]
    assert len(gains) == len(aligned) == 3
    for column in (gains, aligned):
        assert [one.holm for one in column] == pytest.approx(holm([one.p for one in column]))
    assert any(one.holm > one.p for one in gains)


def test_seconds_are_of_the_work_that_the_step_before_does_not_do(found: LadderReport) -> None:
    weak, noise, text, behaviour = found.steps
    assert (weak.seconds, weak.per_thousand_s, weak.total_s) == (120.0, 500.0, 120.0)
    assert (noise.seconds, noise.once_s, noise.per_thousand_s) == (70.0, 10.0, 250.0)
    assert (text.seconds, text.total_s) == (30.0, 150.0)
    assert text.gain is not None and text.gain_per_thousand_s == pytest.approx(text.gain.value / 30 * 1000)
    assert behaviour.per_thousand_s == 0.0
    assert behaviour.seconds == behaviour.once_s > 0
    assert found.costs[-1].known_by == "measured"


def test_seconds_that_are_not_known_are_not_guessed() -> None:
    split, content = made()
    evaluated = [evaluate_steps(split, content, STEPS[:2], SETTINGS)]
    costs = {**COSTS, "noise": Cost("noise", None, 0.0, "no run of it is recorded")}
    own = build_report(evaluated, STEPS[:2], SETTINGS, costs=costs, catalogue=240, resamples=50)
    assert [one.seconds for one in own.steps] == [120.0, None]
    assert [one.total_s for one in own.steps] == [120.0, None]
    assert own.steps[1].gain_per_thousand_s is None


def test_a_missing_step_is_in_the_table_with_its_reason(found: LadderReport) -> None:
    known = json.loads(json.dumps(found.to_dict()))
    assert known["missing"] == [{"name": "evidence", "reason": "nobody listened | or read"}]
    lines = markdown(known).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["weak", "noise", "evidence", "text", "behaviour"]
    assert lines[4] == "| evidence | not evaluated: nobody listened \\| or read |" + " |" * 8
    assert {line.replace("\\|", "").count("|") for line in lines} == {11}


def test_a_step_that_cannot_be_fitted_is_named_and_the_others_are_evaluated() -> None:
    split, content = made()
    settings = replace(SETTINGS, choice={"candidates": {"nothing": {}}})
    own = build_report([evaluate_steps(split, content, STEPS, settings)], STEPS, settings, catalogue=1, resamples=50)
    assert [one.name for one in own.steps] == ["weak", "noise", "text"]
    (missing,) = own.missing
    assert missing.name == "behaviour"
    assert missing.reason.startswith("candidate 'nothing': no mapper 'nothing'; choose among ")


def test_items_that_are_held_out_change_no_fit() -> None:
    """Other content of the new items changes what is found of them and nothing that was fitted: the lists of a step
    whose new items are as before stay the same."""
    split, content = made()
    rng = np.random.default_rng(0)
    cold = np.flatnonzero(split.cold("test"))
    noise = content.blocks["noise"].copy()
    noise[cold] = rng.normal(size=noise[cold].shape) + 3
    changed = Content(content.item_ids, {**content.blocks, "noise": noise}, content.records)
    before, after = (evaluate_steps(split, own, STEPS[1:3], SETTINGS) for own in (content, changed))
    assert (before.lists["noise"].hits != after.lists["noise"].hits).nnz > 0
    assert (before.lists["text"].hits != after.lists["text"].hits).nnz == 0
    assert (before.aligned["text"].hits != after.aligned["text"].hits).nnz == 0


def test_lists_of_several_splits_are_put_together_by_user_and_by_item() -> None:
    """Recall of a user is the mean over its lists: by hand."""

    def evaluated(users: list[int], relevant: list[list[int]], hits: list[list[int]]) -> SplitResult:
        lists = {"one": Lists(csr_matrix(np.array(hits, np.float32)), np.zeros(len(users)), 0.0)}
        right = csr_matrix(np.array(relevant, np.float32))
        return SplitResult(np.array(users), right, lists, lists, (), items=2, training=3)

    first = evaluated([0, 1], [[1, 1, 0, 0], [1, 0, 0, 0]], [[1, 0, 0, 0], [1, 0, 0, 0]])
    second = evaluated([1], [[0, 0, 1, 1]], [[0, 0, 0, 0]])
    own = build_report([first, second], [Step("one", "", ())], LadderSettings(k=20), catalogue=4, resamples=50)
    assert own.steps[0].recall.value == pytest.approx((0.5 + (1.0 + 0.0) / 2) / 2)
    assert own.counts == {
        "users": 2, "lists": 3, "new_items": 4, "training_items": 3, "catalogue": 4, "splits": 2
    }  # fmt: skip


def test_content_must_hold_the_blocks_of_all_steps() -> None:
    split, content = made()
    with pytest.raises(KeyError, match="nowhere"):
        evaluate_steps(split, content, [Step("nowhere", "", ("nowhere",))], SETTINGS)


def test_a_split_without_query_users_is_refused() -> None:
    split, content = made()
    with pytest.raises(ColdstartError, match="no user can be evaluated in part test of split items"):
        evaluate_steps(split, content, STEPS, replace(SETTINGS, min_weight=9.0))


@pytest.mark.parametrize(
    ("value", "expected"), [(None, "?"), (0, "0"), (0.0123, "0.012"), (7.25, "7.2"), (1234.5, "1,234")]
)
def test_seconds_in_words(value: float | None, expected: str) -> None:
    assert seconds(value) == expected
