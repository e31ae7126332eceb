"""From seconds of probed items to seconds of all: arithmetic of known costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coldstart.core.pipeline import Engine
from coldstart.core.stage import Work
from coldstart.engine.estimate.forecast import DRAWS, StageNeeds, ThisMachine, parse_machine, stage_needs
from coldstart.engine.estimate.probe import Probe, ProbedItem


def of(decode_s: float, model_s: float, **changes: object) -> StageNeeds:
    known = StageNeeds(
        rows=1000,
        decode_s=np.full(1 + DRAWS, decode_s),
        dispatch_s=0.0,
        model_s=np.full(1 + DRAWS, model_s),
        busy=2.0,
        once_s=5.0,
        isolated=True,
        workers=2,
        commit_s=0.0,
        commit_rows=1000,
        commit_every_s=10.0,
        on_device=True,
    )
    return replace(known, **changes)  # type: ignore[arg-type]


def test_on_a_cpu_decoders_and_model_share_the_cores() -> None:
    took = of(20.0, 100.0).here(ThisMachine(2))
    assert took.seconds == pytest.approx(5 + 10 + 100)
    assert (took.bottleneck, took.parts) == ("model", {"decode": 10.0, "model": 100.0, "commit": 0.0, "start": 5.0})
    assert took.low == took.high == took.seconds


def test_a_model_of_one_core_leaves_the_other_to_decoders() -> None:
    assert of(20.0, 100.0, busy=1.0).here(ThisMachine(2)).seconds == pytest.approx(5 + 100)


def test_without_workers_one_comes_after_the_other() -> None:
    assert of(20.0, 100.0, isolated=False).here(ThisMachine(2)).seconds == pytest.approx(5 + 20 + 100)


def test_on_a_gpu_the_slower_of_the_two_counts_and_what_feeds_it_needs_a_core() -> None:
    here = ThisMachine(2, tflops=50.0, gpus=1)
    assert of(10.0, 100.0, busy=0.5).here(here).seconds == pytest.approx(5 + 100)
    took = of(300.0, 100.0, busy=0.5).here(here)
    assert took.seconds == pytest.approx(5 + (300 + 50) / 2)
    assert took.bottleneck == "decode"
    assert of(10.0, 100.0, busy=0.5).here(replace(here, gpus=2)).seconds == pytest.approx(5 + 50)


def test_another_machine_has_its_own_cores_and_its_own_products() -> None:
    here = ThisMachine(2, tflops=1.0)
    there = of(160.0, 990.0).on(parse_machine("h100"), here)
    assert there.seconds == pytest.approx(5 + 160 / 16)
    assert there.parts["model"] == pytest.approx(2.0)
    assert there.bottleneck == "decode"
    cores = of(160.0, 800.0).on(parse_machine("cpu16"), here)
    assert cores.seconds == pytest.approx(5 + 160 / 16 + 800 * 2 / 16)
    no_device = of(160.0, 800.0, on_device=False).on(parse_machine("h100x8"), here)
    assert no_device.seconds == pytest.approx(5 + (160 + 800 * 2) / 128)


def test_cores_that_decode_faster_take_less_time() -> None:
    slow, quick = (replace(parse_machine("cpu16"), decode=rate) for rate in (1.0, 2.0))
    took = [of(160.0, 0.0).on(other, ThisMachine(2)).parts["decode"] for other in (slow, quick)]
    assert took == pytest.approx([160 / 16, 160 / 32])


def test_what_waits_for_somebody_else_is_as_long_anywhere() -> None:
    waits = of(0.0, 100.0, busy=0.01)
    assert waits.here(ThisMachine(2)).bottleneck == "wait"
    assert waits.on(parse_machine("cpu16"), ThisMachine(2)).seconds == pytest.approx(105)


def test_commits_are_by_rows_or_by_time() -> None:
    assert of(0.0, 1.0, rows=5000, commit_s=0.5).here(ThisMachine(2)).parts["commit"] == 2.5
    assert of(0.0, 1000.0, commit_s=0.5).here(ThisMachine(2)).parts["commit"] == 50.0


def test_each_kind_counts_by_its_own_items_and_the_range_by_their_spread() -> None:
    items = [ProbedItem(Work(f"p{n}", "", {}), 0.1, 1.0, False) for n in range(10)]
    items += [ProbedItem(Work(f"v{n}", "", {}), 1.0 + n, 8.0, False) for n in range(10)]
    kinds = {item.work.item_id: {"p": "product", "v": "video"}[item.work.item_id[0]] for item in items}
    probe = Probe(items, [], start_s=1.0, load_s=2.0, dispatch_s=0.001, rates=[0.01])
    known = stage_needs(
        probe, {"product": 900, "video": 100}, kinds, Engine(workers=2), isolated=True, on_device=False, commit_s=0.0
    )
    assert known.decode_s[0] == pytest.approx(900 * 0.1 + 100 * 5.5)
    assert known.model_s[0] == pytest.approx((900 * 1 + 100 * 8) * 0.01)
    assert (known.dispatch_s, known.once_s) == (1.0, 3.0)
    took = known.here(ThisMachine(2))
    assert took.low < took.seconds < took.high
