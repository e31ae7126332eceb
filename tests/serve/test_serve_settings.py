"""Who may reach the server, and what tokens allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from coldstart.errors import ColdstartError
from coldstart.serve.settings import ServeSettings, parse_token, read_tokens

SECRET = "0123456789abcdef0123"


def token_file(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_tokens_have_the_scopes_of_their_line(tmp_path: Path) -> None:
    text = f"# of the shop\nread {SECRET} shop\nread,write {SECRET}w\n\nreview,read {SECRET}r anna # reviews\n"
    settings = ServeSettings("w", tokens=read_tokens(token_file(tmp_path / "tokens", text)))
    shop, writer, anna = (settings.identify(SECRET + end) for end in ("", "w", "r"))
    assert shop and writer and anna
    assert (shop.name, sorted(shop.scopes)) == ("shop", ["read"])
    assert sorted(writer.scopes) == ["read", "write"]
    assert (anna.name, sorted(anna.scopes)) == ("anna", ["read", "review"])
    assert [settings.identify(secret) for secret in (None, "", SECRET[:-1], SECRET + "x")] == [None] * 4
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no token"),
        ("read\n", "line 1: write SCOPES TOKEN"),
        (f"read {SECRET} a b\n", "line 1: write SCOPES TOKEN"),
        (f"\nadmin {SECRET}\n", "line 2: no scope 'admin'"),
        ("read short\n", "line 1: a token of 5 characters can be guessed"),
    ],
)
def test_faults_of_a_token_file_name_the_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ColdstartError, match=words):
        read_tokens(token_file(tmp_path / "tokens", text))


def test_a_token_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = token_file(tmp_path / "tokens", f"read {SECRET}\n")
    path.chmod(0o644)
    with pytest.raises(ColdstartError, match="chmod 600"):
        read_tokens(path)


def test_without_tokens_only_this_machine_may_listen() -> None:
    local = ServeSettings("w").identify(None)
    assert local and sorted(local.scopes) == ["read", "review", "write"]
    with pytest.raises(ColdstartError, match=r"--host 0\.0\.0\.0: .* --token-file"):
        ServeSettings("w", host="0.0.0.0")
    with pytest.raises(ColdstartError, match="--allow-host"):
        ServeSettings("w", host="0.0.0.0", tokens=(parse_token(SECRET),))
    ServeSettings("w", host="0.0.0.0", tokens=(parse_token(SECRET),), allowed_hosts=("shop.example",))


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost:8123", True),
        ("127.0.0.1:8123", True),
        ("[::1]:8123", True),
        ("shop.example", True),
        ("SHOP.example:80", True),
        ("evil.example", False),
        ("shop.example.evil.example", False),
        ("", False),
        ("10.0.0.3:8123", False),
    ],
)
def test_only_names_of_the_server_are_answered(host: str, allowed: bool) -> None:
    assert ServeSettings("w", allowed_hosts=("shop.example",)).is_allowed_host(host) is allowed
