import errno
import hashlib
import io
import os
import pickle
import socket
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from coldstart.core.stage import Reject
from coldstart.media import guard
from coldstart.media.guard import sniff_format
from coldstart.media.limits import Limits

LIMITS = Limits()


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "catalogue"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(b"photo")
    return folder


def refuse(uri: str, base: Path, roots: list[Path] | None = None, limits: Limits = LIMITS) -> str:
    with pytest.raises(Reject) as caught:
        guard.resolve_uri(uri, base, roots or [], limits)
    return str(caught.value)


def test_local_references_get_one_name(base: Path) -> None:
    real = os.path.realpath(base / "photo.jpg")
    (base / "sub").mkdir()
    (base / "link.jpg").symlink_to("photo.jpg")
    for uri in ("photo.jpg", "./sub/../photo.jpg", "link.jpg", real, f"file://{real}", f"file://localhost{real}"):
        assert guard.resolve_uri(uri, base, [], LIMITS) == real
    assert guard.resolve_uri(f"file:{real}", base, [], LIMITS) == real


@pytest.mark.parametrize("name", ["写真 🎁.jpg", "a:b.jpg", "a::b.jpg", "100%25.jpg", "q?x=1#y.jpg", "-rf", "é.jpg"])
def test_any_file_name(base: Path, name: str) -> None:
    (base / name).write_bytes(b"x")
    assert guard.resolve_uri(name, base, [], LIMITS) == os.path.realpath(base / name)
    assert guard.resolve_uri((base / name).as_uri(), base, [], LIMITS) == os.path.realpath(base / name)


def test_outside_the_roots(base: Path, tmp_path: Path) -> None:
    outside = tmp_path / "catalogue-private" / "secret.jpg"
    outside.parent.mkdir()
    outside.write_bytes(b"secret")
    (base / "link.jpg").symlink_to(outside)
    (base / "folder").symlink_to(outside.parent)
    rule = f"leads to {os.path.realpath(outside)}, outside the manifest's folder and media roots"
    for uri in (
        "../catalogue-private/secret.jpg",
        str(outside),
        outside.as_uri(),
        "link.jpg",
        "folder/secret.jpg",
    ):
        assert refuse(uri, base) == f"outside_media_roots: {uri} {rule}"
        assert guard.resolve_uri(uri, base, [outside.parent], LIMITS) == os.path.realpath(outside)


def test_a_missing_file_outside_is_not_told_from_one_that_exists(base: Path) -> None:
    assert refuse("/nowhere/at/all.jpg", base).startswith("outside_media_roots: ")


def test_not_found(base: Path) -> None:
    (base / "circle").symlink_to("circle")
    real = os.path.realpath(base)
    assert refuse("missing.jpg", base) == f"not_found: {real}/missing.jpg: No such file or directory"
    assert refuse("photo.jpg/x", base) == f"not_found: {real}/photo.jpg/x: Not a directory"
    assert refuse("circle", base) == f"not_found: {real}/circle: Too many levels of symbolic links"
    assert refuse("x" * 5000, base).startswith("not_found: ")
    assert refuse("", base) == "not_found: '' is not a path"
    assert refuse("photo.jpg\0.png", base) == "not_found: 'photo.jpg\\x00.png' is not a path"


def test_not_a_file_never_blocks(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(base / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(base)  # the path of a socket must be short
        listener.bind("door")
        real = os.path.realpath(base)
        assert refuse("pipe.mp4", base) == f"not_a_file: {real}/pipe.mp4 is a pipe"
        assert refuse("door", base) == f"not_a_file: {real}/door is a socket"
    assert refuse(".", base) == f"not_a_file: {real} is a folder"
    assert refuse("/dev/zero", base, [Path("/dev")]) == "not_a_file: /dev/zero is a device"


def test_empty_file(base: Path) -> None:
    (base / "empty.jpg").touch()
    assert refuse("empty.jpg", base) == f"empty_file: {os.path.realpath(base)}/empty.jpg: 0 bytes"


def test_file_never_goes_through_fsspec_even_if_named(base: Path) -> None:
    limits = Limits(allowed_schemes=("simplecache", "file", "local", "https"))
    for uri in ("simplecache::file:///etc/hostname", "local:///etc/hostname", "simplecache::https://10.0.0.1/x"):
        assert refuse(uri, base, limits=limits).startswith("scheme_not_allowed: ")


def test_file_on_another_host(base: Path) -> None:
    assert refuse("file://server/x.jpg", base) == "scheme_not_allowed: file://server/x.jpg: a file on another host"


@pytest.mark.parametrize(
    "uri, verdict",
    [
        ("http://127.0.0.1/x.jpg", "private_address: http://127.0.0.1/x.jpg: 127.0.0.1 is not a public address"),
        (
            "http://169.254.169.254/",
            "private_address: http://169.254.169.254/: 169.254.169.254 is not a public address",
        ),
        ("HTTP://[::1]:80/x", "private_address: HTTP://[::1]:80/x: ::1 is not a public address"),
        (
            "https://cdn.example/x.jpg",
            "host_not_allowed: https://cdn.example/x.jpg: cdn.example is not among allowed_hosts (img.example)",
        ),
        (
            "https://img.example@evil.example/x",
            "host_not_allowed: https://***@evil.example/x: evil.example is not among allowed_hosts (img.example)",
        ),
        (
            "https://img.example.evil.example/x",
            "host_not_allowed: https://img.example.evil.example/x: "
            "img.example.evil.example is not among allowed_hosts (img.example)",
        ),
        ("http:///x", "host_not_allowed: http:///x: no host is not among allowed_hosts (img.example)"),
    ],
)
def test_web_hosts(base: Path, uri: str, verdict: str) -> None:
    assert refuse(uri, base, limits=Limits(allowed_hosts=("img.example",))) == verdict


def test_allowed_web_hosts_keep_their_uri(base: Path) -> None:
    limits = Limits(allowed_hosts=("img.example", "*.cdn.example", "bücher.example"))
    for uri in ("https://IMG.example/a?b=c#d", "http://eu.cdn.example:8080/x", "https://xn--bcher-kva.example/x"):
        assert guard.resolve_uri(uri, base, [], limits) == uri
    assert refuse("https://cdn.example/x", base, limits=limits).startswith("host_not_allowed: ")


def test_local_path_checks_again(base: Path, tmp_path: Path) -> None:
    real = guard.resolve_uri("photo.jpg", base, [], LIMITS)
    with guard.local_path(real, LIMITS) as path:
        assert path.read_bytes() == b"photo"
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    Path(real).unlink()
    Path(real).symlink_to(secret)
    with pytest.raises(Reject) as caught, guard.local_path(real, LIMITS):
        pass
    assert str(caught.value) == f"media_changed: {real} leads to another place since it was checked"


def test_signature_and_digest_of_a_file(base: Path) -> None:
    path = base / "photo.jpg"
    before = guard.signature(str(path), LIMITS)
    assert before == f"5-{path.stat().st_mtime_ns}"
    os.utime(path, ns=(1, 1))
    assert guard.signature(str(path), LIMITS) == "5-1"
    assert guard.file_sha256(path) == hashlib.sha256(b"photo").hexdigest()


def test_fsspec_media_are_copied_and_cleared_away(base: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/coldstart-test/photo.jpg", b"0123456789")
    memory.pipe_file("/coldstart-test/empty.jpg", b"")
    permitted = Limits(allowed_buckets=("memory://coldstart-test",))
    uri = guard.resolve_uri("memory://coldstart-test/photo.jpg", base, [], permitted)
    assert uri == "memory://coldstart-test/photo.jpg"
    with guard.local_path(uri, permitted) as path:
        assert path.read_bytes() == b"0123456789"
    assert not path.exists()
    assert guard.signature(uri, permitted) == guard.signature(uri, permitted)
    small = replace(permitted, max_image_bytes=9, max_video_bytes=9)
    for place, limits, verdict in (
        ("photo.jpg", small, f"too_many_bytes: {uri}: more than 9 bytes"),
        ("empty.jpg", permitted, "empty_file: memory://coldstart-test/empty.jpg: 0 bytes"),
        ("missing.jpg", permitted, "not_found: memory://coldstart-test/missing.jpg"),
    ):
        with pytest.raises(Reject) as caught, guard.local_path(f"memory://coldstart-test/{place}", limits):
            pass
        assert str(caught.value) == verdict
    memory.rm("/coldstart-test", recursive=True)


def test_limits_pickle_and_stay() -> None:
    limits = Limits(allowed_hosts=("img.example",))
    assert pickle.loads(pickle.dumps(limits)) == limits


@pytest.mark.parametrize(
    "head, name",
    [
        (b"\xff\xd8\xff\xe0....", "jpeg"),
        (b"RIFF\0\0\0\0WEBP", "webp"),
        (b"RIFF\0\0\0\0AVI ", "avi"),
        (b"\0\0\0\x20ftypisom", "mp4"),
        (b"\0\0\0\x20ftypavif", "avif"),
        (b"\0\0\0\x20ftypheic", "heic"),
        (b"\xef\xbb\xbf<!DOCTYPE html><html>", "html"),
        (b'<?xml version="1.0"?>\n<svg>', "svg"),
        ("naïve".encode() * 200, "text"),
        (b"\x01\x02\xff\xfe", None),
        (b"", None),
    ],
)
def test_sniff(tmp_path: Path, head: bytes, name: str | None) -> None:
    path = tmp_path / "file"
    path.write_bytes(head)
    assert sniff_format(path) == name


def test_a_full_disk_is_no_fault_of_the_item_that_was_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.filesystem("memory").pipe_file("/coldstart-full/photo.jpg", b"bytes")
    permitted = Limits(allowed_buckets=("memory://coldstart-full",))

    class Full(io.BytesIO):
        def write(self, *_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda *_: Full())
    with (
        pytest.raises(OSError, match="No space left"),
        guard.local_path("memory://coldstart-full/photo.jpg", permitted),
    ):
        pass
    fsspec.filesystem("memory").rm("/coldstart-full", recursive=True)


def test_an_upload_is_opened_in_the_present_folder_of_its_workspace_alone(tmp_path: Path) -> None:
    name = f"ab/ab{'0' * 62}.jpg"
    there = tmp_path / "ws/uploads" / name
    there.parent.mkdir(parents=True)
    there.write_bytes(b"bytes")
    limits = Limits(roots=(str(tmp_path / "ws/uploads"),))
    with guard.local_path(f"/where/it/was/uploads/{name}", limits) as path:
        assert path == there
    assert guard.resolve_uri(f"/where/it/was/uploads/{name}", tmp_path, [tmp_path / "ws/uploads"], limits) == str(there)
    for other in (f"/where/uploads/{name}x/y", "/where/uploads/ab/other.jpg", f"/where/uploads/cd/{name[3:]}"):
        with pytest.raises(Reject, match="No such file"), guard.local_path(other, limits):
            pass
    there.unlink()
    there.symlink_to(__file__)  # of a stranger
    with pytest.raises(Reject) as refused, guard.local_path(f"/where/it/was/uploads/{name}", limits):
        pass
    assert refused.value.reason == "media_changed"
