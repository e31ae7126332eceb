"""Peers answer line by line; whatever else happens to them is told with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.peers import process
from benchmarks.peers.process import Peer, PeerFailed, PeerMissing


def test_a_peer_answers_as_often_as_it_is_asked_whatever_it_prints() -> None:
    with Peer("tests.support.peer_answers", {"model": "m"}, threads=3) as peer:
        assert peer.about == {"versions": {"peer": "1"}}
        for _ in range(2):
            assert peer.ask(round=1) == {"seconds": 1.5, "threads": "3", "job": {"model": "m"}}


def test_a_peer_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(PeerFailed, match=r"^peer_answers: ValueError: no such model$"),
        Peer("tests.support.peer_answers", {"refuse": True}),
    ):
        pass


def test_a_round_that_fails_is_told() -> None:
    with (
        Peer("tests.support.peer_answers", {}) as peer,
        pytest.raises(PeerFailed, match=r"^peer_answers: RuntimeError: a round that fails$"),
    ):
        peer.ask(fail=True)


def test_a_peer_that_dies_is_told_with_what_it_said_last() -> None:
    with (
        Peer("tests.support.peer_answers", {}) as peer,
        pytest.raises(PeerFailed, match=r"^peer_answers ended: .*last words$"),
    ):
        peer.ask(die=True)


@pytest.mark.slow
def test_a_peer_that_hangs_is_stopped() -> None:
    with (
        pytest.raises(PeerFailed, match=r"^peer_answers: no answer in 0\.3 s: "),
        Peer("tests.support.peer_answers", {}) as peer,
    ):
        peer._limit_s = 0.3
        peer.ask(sleep=8)


def test_an_environment_that_is_not_there_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PEERS", tmp_path)
    with pytest.raises(PeerMissing, match=r"^somebody: not installed \(make peers\)$"):
        Peer("tests.support.peer_answers", {}, environment="somebody")
