"""Passwords and signatures in URLs stay out of the ledger, reports, errors, JSON and pages; a fetch has them."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path
from typing import Any

import catalogue
import pytest

import coldstart
from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError, redact_urls
from coldstart.media import guard
from coldstart.media.limits import Limits

SECRETS = ("hunter2", "c2lnbmF0dXJl", "t0ken")
SIGNED = "https://me:hunter2@img.example/a/p1.jpg?X-Amz-Signature=c2lnbmF0dXJl&w=30#access_token=t0ken"
SHOWN = "https://***@img.example/a/p1.jpg?X-Amz-Signature=***&w=***#access_token=***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (SIGNED, SHOWN),
        (f"a {SIGNED}: HTTP status 403", f"a {SHOWN}: HTTP status 403"),
        ("(https://h/x?sig): a", "(https://h/x?***): a"),
        ("https://u:p@ss@host/x", "https://***@host/x"),
        ("https://host/x?bare", "https://host/x?***"),
        ("https://host/x?a=b=c;d=e", "https://host/x?a=***;d=***"),
        ("s3://key:secret@bucket/x", "s3://***@bucket/x"),
        ("openai:m@http://127.0.0.1:8000/v1", "openai:m@http://127.0.0.1:8000/v1"),
        ("'https://h/x?a=1' and <https://h/y?b=2>", "'https://h/x?a=***' and <https://h/y?b=***>"),
        ("a?b=c and no URL", "a?b=c and no URL"),
        ("https://h/x#t0ken99", "https://h/x#***"),
        (" http://bob:hunter2@h/x.png", " http://***@h/x.png"),
        ("http://bob:hun ter2@h/x", "http://***@h/x"),
        ("http://bob:hun\nter2@h/x", "http://***@h/x"),
        ("http://bob:hun'ter2@h/x", "http://***@h/x"),
        ('http://bob:hun"ter2@h/x', "http://***@h/x"),
        ("http://bob:hun/ter2@h/x", "http://***@h/x"),
        ("http://bob:12/34@h/x", "http://***@h/x"),
        ("http://bob:hun#ter2@h/x", "http://***@h/x"),
        ("http://bob:hun?ter2@h/x", "http://***@h/x"),
        ("//bob:hunter2@h/x", "//***@h/x"),
        ("no manifest at /w/https:/bob:hunter2@h/x", "no manifest at /w/https:/***@h/x"),
        ("http:bob:hunter2@h/x", "http:***@h/x"),
        ("http:hunter2@h/x", "http:***@h/x"),
        (
            "openai:a@http://v:8000/v1, openai:b@http://w:8000/v1",
            "openai:a@http://v:8000/v1, openai:b@http://w:8000/v1",
        ),
        ("http://v:8000/v1: ask a@b", "http://v:8000/v1: ask a@b"),
        ("http://img.example:80/x@2x.png", "http://img.example:80/x@2x.png"),
        ("https://h: ask a@b", "https://h: ask a@b"),
        ("open_clip:hf-hub:a/b@c", "open_clip:hf-hub:a/b@c"),
    ],
)
def test_what_may_be_secret_is_replaced(text: str, shown: str) -> None:
    found = redact_urls(text)
    assert not any(secret in found for secret in SECRETS)
    assert found == shown
    assert redact_urls(found) == found


@pytest.mark.parametrize(
    "text",
    [
        f"{'a' * 10**6} x://y",
        f"x://y?a={':' * 10**6}x",
        f"x://y?a=b#c={'.' * 10**6}x",
        "http://a:b" * 10**5,
        "//a:" * 10**5,
        f"http://a:{'b' * 10**6}",
    ],
)
def test_the_time_grows_with_the_length_alone(text: str) -> None:
    began = time.process_time()
    redact_urls(text)
    assert time.process_time() - began < 5.0  # a square of the length would take hours


def test_verdicts_and_errors_say_no_secrets() -> None:
    reject = Reject("not_found", SIGNED)
    assert (reject.detail, str(reject)) == (SHOWN, f"not_found: {SHOWN}")
    assert repr(reject) == f"Reject('not_found', '{SHOWN}', 'failed')"
    assert pickle.loads(pickle.dumps(reject)).detail == SHOWN
    assert str(ColdstartError(f"cannot read {SIGNED}")) == f"cannot read {SHOWN}"


@pytest.mark.slow
def test_a_refused_url_is_in_the_ledger_without_its_secrets(tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = catalogue.rows(tmp_path, 3)
    entries[1]["image"] = SIGNED
    manifest = catalogue.write_manifest(tmp_path / "items.jsonl", entries)
    file = catalogue.write_pipeline(tmp_path / "shop.yaml", {**catalogue.settings(manifest), "max_failed": 1.0})
    done = catalogue.coldstart("run", file, "--workspace", tmp_path / "w")
    for words in (
        ("status", "--failed"),
        ("status", "--failed", "--json"),
        ("show", "p1", "--out", tmp_path / "p.html"),
    ):
        shown = catalogue.coldstart(*words, "--workspace", tmp_path / "w")
        assert not any(secret in shown.stdout + shown.stderr for secret in SECRETS)
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS)
    assert not any(secret in (tmp_path / "p.html").read_text() for secret in SECRETS)
    opened = coldstart.open(tmp_path / "w")
    (row,) = [row for row in opened.failures() if row["stage"] == "ingest"]
    assert row["detail"].startswith(SHOWN) and row["reason"] == "host_not_allowed"
    stored = opened._store.read("ledger").to_pylist()
    assert not any(secret in json.dumps(stored, default=str) for secret in SECRETS)


@pytest.mark.slow
def test_the_key_of_a_verdict_follows_the_whole_url(tmp_path: Path) -> None:
    keys = set()
    for signature in ("a", "b"):
        entries: list[dict[str, Any]] = catalogue.rows(tmp_path, 2)
        entries[1]["image"] = f"https://img.example/p1.jpg?sig={signature}"
        manifest = catalogue.write_manifest(tmp_path / "items.jsonl", entries)
        opened = coldstart.open(tmp_path / "w", create=True)
        opened.run({**catalogue.settings(manifest), "max_failed": 1.0}, only=["ingest"])
        keys.add(opened._store.verdicts("ingest")["p1"].row_key)
    assert len(keys) == 2


def test_a_served_url_is_fetched_whole_and_shown_without_its_secrets(tmp_path: Path) -> None:
    from coldstart.cli import output
    from coldstart.pages.item import facts_of

    known = {
        "item": {"media": [{"role": "image", "uri": SIGNED, "width": 2, "height": 2}]},
        "spoken_language": None, "spoken_language_confidence": None, "coverage": {},
    }  # fmt: skip
    assert ("image", f"2 × 2, {SHOWN}") in facts_of(known)
    assert json.loads(output._json_text({"item_id": SIGNED, "uri": SIGNED, "media": [{"uri": SIGNED}]})) == {
        "item_id": SIGNED,  # an id stays what it is
        "uri": SHOWN,
        "media": [{"uri": SHOWN}],
    }
    assert guard.resolve_uri(SIGNED, tmp_path, [], Limits(allowed_hosts=("img.example",))) == SIGNED


@pytest.mark.parametrize("url", ["https://bob:hunter2@img.example/items.jsonl", "s3://bob:hunter2@b/items.jsonl"])
def test_a_manifest_that_is_a_url_is_refused_without_its_secrets(tmp_path: Path, url: str) -> None:
    file = catalogue.write_pipeline(tmp_path / "shop.yaml", {**catalogue.settings(Path("none")), "manifest": url})
    for words in (("ingest", url), ("run", "starter", "--manifest", url), ("run", file)):
        done = catalogue.coldstart(*words, "--workspace", tmp_path / "w")
        assert done.returncode == 1
        assert not any(secret in done.stdout + done.stderr for secret in SECRETS)
        assert done.stderr.endswith("items.jsonl: manifests are read from files: fetch it first, then give its path\n")
        assert not (tmp_path / "w").exists()
    opened = coldstart.open(tmp_path / "w", create=True)
    with pytest.raises(ColdstartError, match="manifests are read from files"):
        opened.run({**catalogue.settings(Path("none")), "manifest": url}, only=["ingest"])
    assert opened._store.pipeline() is None


def test_a_long_password_is_left_out_before_a_value_is_cut() -> None:
    from coldstart.core.settings import show_value

    assert show_value(f"https://bob:{'hunter2' * 20}@h/x") == "'https://***@h/x'"


def test_a_workspace_whose_stored_manifest_is_a_url_can_be_read(tmp_path: Path) -> None:
    opened = coldstart.open(tmp_path / "w", create=True)
    stored = {**catalogue.settings(Path("none")), "manifest": "https://bob:hunter2@img.example/items.jsonl"}
    with opened._store.lock():
        opened._store.save_pipeline("planted", stored)
    assert [report.stage for report in opened.status()] == ["ingest", "image", "text", "index"]
