"""Machines that an estimate can be asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from coldstart.engine.estimate.forecast import parse_machine
from coldstart.errors import ColdstartError


def test_a_name_has_gpus_with_their_share_of_the_host() -> None:
    one, eight = parse_machine("h100"), parse_machine("h100x8")
    assert (one.gpus, one.tflops, one.gpu_gb, one.cores) == (1, 495, 80, 16)
    assert (eight.name, eight.gpus, eight.tflops, eight.cores) == ("h100x8", 8, 495, 128)
    assert parse_machine("8xh100").gpus == 8
    assert parse_machine("rtx4090x2").gpus == 2
    assert parse_machine("l40s").gpus == parse_machine("L4").gpus == 1


def test_cores_alone() -> None:
    assert [(m.cores, m.gpus) for m in (parse_machine("cpu16"), parse_machine("2xcpu"))] == [(16, 0), (2, 0)]


def test_a_machine_of_ones_own(tmp_path: Path) -> None:
    made = parse_machine("gpus=2,tflops=300,gpu_gb=40,cores=32,price=2.5")
    assert made.facts == "2 GPU of 300 TFLOP/s and 40 GB, 32 cores at 1 of a core here, disk 500 MB/s, 2.5 an hour"
    path = tmp_path / "box.yaml"
    path.write_text("from: a100x2\ndecode: 1.3\nname: box\n", "utf-8")
    made = parse_machine(str(path))
    assert (made.name, made.gpus, made.tflops, made.decode) == ("box", 2, 156, 1.3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "h10",
            "--on 'h10': no such machine (did you mean 'h100'?): use one of a100, a10g, h100, h200, l4, l40s, rtx4090, "
            "cpuN, each with xN for several GPUs (h100x8), or describe one: gpus=1,tflops=300,gpu_gb=80,cores=32",
        ),
        ("h100x0", "--on 'h100x0': a machine has at least one"),
        ("gpus=1", "--on gpus=1: gpus=1 needs tflops, what models reach on one of them, or from=h100"),
        ("cores=x", "--on cores=x: cores='x': give a whole number from 1"),
        ("cores=4,fast", "--on 'cores=4,fast': 'fast' is no key=value"),
        (
            "core=4",
            "--on core=4: unknown field 'core' (did you mean 'cores'?); there is name, gpus, tflops, gpu_gb, cores, "
            "decode, memory_gb, disk_mb_s, price, source",
        ),
        ("/nowhere/box.yaml", "cannot read machine /nowhere/box.yaml: No such file or directory"),
    ],
)
def test_faults_say_what_to_give(text: str, message: str) -> None:
    with pytest.raises(ColdstartError) as caught:
        parse_machine(text)
    assert str(caught.value) == message
