"""Media of buckets, other schemes and other hosts: none unless named, and a row's scheme costs that row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import catalogue
import fsspec
import pytest

import coldstart
from coldstart.core.stage import Reject
from coldstart.media import guard
from coldstart.media.limits import Limits


def refuse(uri: str, base: Path, limits: Limits | None = None) -> str:
    with pytest.raises(Reject) as caught:
        guard.resolve_uri(uri, base, [], limits or Limits())
    return str(caught.value)


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        ("s3://bucket/x.jpg", "s3://bucket"),
        ("gs://bucket/x.jpg", "gs://bucket"),
        ("az://container/x.jpg", "az://container"),
        ("memory://x", "memory://x"),
        ("ftp://host/x.jpg", "ftp://host"),
        ("sftp://host/x.jpg", "sftp://host"),
        ("local:///etc/hostname", "local:"),
        ("simplecache::file:///etc/hostname", "simplecache:"),
        ("zip://x.jpg::/etc/archive.zip::s3://bucket/y", "zip://x.jpg"),
        ("data:image/png;base64,AAAA", "data:"),
    ],
)
def test_no_scheme_is_permitted_unless_named(tmp_path: Path, uri: str, place: str) -> None:
    assert refuse(uri, tmp_path) == f"scheme_not_allowed: {uri}: {place} is not among allowed_buckets (none)"


@pytest.mark.parametrize(
    ("uri", "permitted"),
    [
        ("s3://photos/a/x.jpg", True),
        ("S3://photos/x.jpg", True),
        ("s3://photos", True),
        ("gs://shop/spring/x.jpg", True),
        ("gs://shop/summer/x.jpg", False),
        ("gs://shop/spring/../summer/x.jpg", False),
        ("gs://shop/spring-2/x.jpg", False),
        ("s3://photos-of-others/x.jpg", False),
        ("gs://photos/x.jpg", False),
        ("simplecache::s3://photos/x.jpg", False),
        ("zip://x.jpg::s3://photos/a.zip", False),
        ("s3://photos/x.jpg::file:///etc/hostname", False),
    ],
)
def test_a_bucket_permits_what_lies_in_it(tmp_path: Path, uri: str, permitted: bool) -> None:
    limits = Limits(allowed_buckets=("s3://photos", "gs://shop/spring/"))
    if permitted:
        assert guard.resolve_uri(uri, tmp_path, [], limits) == uri
    else:
        assert refuse(uri, tmp_path, limits).endswith("is not among allowed_buckets (s3://photos, gs://shop/spring/)")


def test_a_file_on_another_host_is_refused(tmp_path: Path) -> None:
    for uri in ("file://server/x.jpg", r"\\server\share\x.jpg", "file:%5C%5Cserver/x.jpg"):
        assert refuse(uri, tmp_path) in (
            f"scheme_not_allowed: {uri}: a file on another host",
            f"scheme_not_allowed: {uri}: file: is not among allowed_buckets (none)",
        ) or refuse(uri, tmp_path).startswith("not_found: ")


@pytest.mark.slow
def test_a_row_of_a_scheme_costs_that_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(uri: str, **_: Any) -> Any:
        raise ImportError("Install s3fs to access S3")

    entries = catalogue.rows(tmp_path, 4)
    entries[1]["image"] = "s3://shop/p1.jpg"
    entries[2]["image"] = "gs://shop/p2.jpg"
    manifest = catalogue.write_manifest(tmp_path / "items.jsonl", entries)
    monkeypatch.setattr(fsspec, "url_to_fs", missing)
    settings = {**catalogue.settings(manifest), "media": {"allowed_buckets": ["s3://shop"]}, "max_failed": 1.0}
    report = coldstart.open(tmp_path / "w", create=True).run(settings)
    assert report.stages[0].balance.fresh == 2
    failures = {row["item_id"]: (row["reason"], row["detail"]) for row in coldstart.open(tmp_path / "w").failures()}
    assert failures == {
        "p1": ("fetch_failed", "s3://shop/p1.jpg: Install s3fs to access S3"),
        "p2": (
            "scheme_not_allowed",
            "gs://shop/p2.jpg: gs://shop is not among allowed_buckets (s3://shop)",
        ),
    }


def test_errors_of_a_bucket_s_own_library_cost_the_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bucket:
        def open(self, path: str, mode: str) -> Any:
            raise RuntimeError("NoCredentialsError")

    monkeypatch.setattr(fsspec, "url_to_fs", lambda uri: (Bucket(), "x"))
    limits = Limits(allowed_buckets=("s3://shop",))
    with pytest.raises(Reject) as caught, guard.local_path("s3://shop/x.jpg", limits):
        pass
    assert str(caught.value) == "fetch_failed: s3://shop/x.jpg: NoCredentialsError"
