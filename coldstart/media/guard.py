"""Check which media may be read, from where and how much of it, and open them as ingest saw them.

Local files must lie, with every link resolved, under the manifest's folder or a folder the user named. Web media come
from permitted hosts alone (`coldstart.media.fetch`), media of other schemes through fsspec where their scheme is
permitted. The check cannot see hard links, and a file may change between the check and the read: the digest taken at
ingest shows that. Formats are told by their first bytes, never by names; only the common ones are known. Workers import
this module: it needs neither torch nor Arrow.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

from coldstart.core import scratch
from coldstart.core.stage import Reject, Row
from coldstart.core.trust import own_upload
from coldstart.media.faults import costs_the_run
from coldstart.media.limits import Limits as Limits

# A URI is `scheme://...`, a chain of fsspec schemes such as `zip::s3://...`, `file:/...` or `data:...`; anything else
# is a path, colons included.
_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)(?:://|::.*://|(?<=file):/|(?<=data):)", re.DOTALL)


_NEVER_THROUGH_FSSPEC = ("file", "local", "http", "https")
"""Schemes with checks of their own, which they would evade inside an fsspec URI."""


def resolve_uri(
    uri: str, base: Path, roots: Sequence[Path], limits: Limits, known: dict[str, str] | None = None
) -> str:
    """Resolve a manifest's media reference to its canonical URI or path, and check that it may be read.

    Args:
        uri: a path (absolute or relative to `base`), `file://`, `http(s)://` or a permitted fsspec URI.
        base: the manifest's folder.
        roots: further folders that media may lie in.
        known: folder -> real path, of folders resolved before in one pass over many references; filled here.

    Returns:
        The absolute real path of a local file; any other URI as it is. Nothing is fetched.

    Raises:
        Reject: `not_found`, `not_a_file`, `empty_file`, `outside_media_roots`, `host_not_allowed`, `private_address`,
            `scheme_not_allowed`.
    """
    scheme = _scheme(uri)
    if scheme in ("http", "https"):
        _web().check_url(uri, limits)
        return uri
    if scheme not in (None, "file"):
        _check_fsspec(uri, limits)
        return uri
    path = _file_uri_path(uri) if scheme == "file" else uri
    if not path or "\0" in path:
        raise Reject("not_found", f"{path!r} is not a path")
    if path.startswith("\\\\") or (os.name == "nt" and path.startswith("//")):
        raise Reject("scheme_not_allowed", f"{uri}: a file on another host")
    known = {} if known is None else known
    real = _real(own_upload(str(base / path), roots), known)
    allowed = [_looked_up(str(folder), known) for folder in (base, *roots)]
    if not any(Path(real).is_relative_to(folder) for folder in allowed):
        raise Reject("outside_media_roots", f"{uri} leads to {real}, outside the manifest's folder and media roots")
    if _stat_file(real).st_size == 0:
        raise Reject("empty_file", f"{real}: 0 bytes")
    return real


def _real(path: str, known: dict[str, str]) -> str:
    """Resolve every link of a path; the folder's only if it is not in `known`."""
    folder, name = os.path.split(path)
    if name in ("", ".", ".."):
        return os.path.realpath(path)
    place = Path(_looked_up(folder, known), name)
    try:
        linked = place.is_symlink()
    except OSError:  # a name too long, say: whoever opens it says so
        linked = False
    return os.path.realpath(place) if linked else str(place)


def _looked_up(folder: str, known: dict[str, str]) -> str:
    if folder not in known:
        known[folder] = os.path.realpath(folder)
    return known[folder]


@contextmanager
def local_path(canonical: str, limits: Limits, *, max_bytes: int | None = None) -> Iterator[Path]:
    """Open a local file with the bytes of `canonical` (from `resolve_uri`) for the length of the block.

    Remote media are copied to a temporary file, which is gone when the block ends. A file that came with an item is
    opened in the present folder of its workspace (`coldstart.core.trust.own_upload`).

    Args:
        max_bytes: stop the copy there; the larger of the two byte limits by default.

    Raises:
        Reject: as `resolve_uri`, and `media_changed`, `fetch_failed`, `too_many_bytes`, `empty_file`.
    """
    scheme = _scheme(canonical)
    if scheme is None:
        canonical = own_upload(canonical, limits.roots)
        _stat_file(canonical)
        if os.path.realpath(canonical) != canonical:
            raise Reject("media_changed", f"{canonical} leads to another place since it was checked")
        if limits.roots is not None and not any(
            Path(canonical).is_relative_to(os.path.realpath(root)) for root in limits.roots
        ):
            raise Reject(
                "outside_media_roots",
                f"{canonical} is in none of the folders named for media: name its own with --media-root",
            )
        yield Path(canonical)
        return
    budget = max_bytes if max_bytes is not None else max(limits.max_image_bytes, limits.max_video_bytes)
    with scratch.scratch_folder("media") as folder:
        path = folder / "media"
        with path.open("wb") as file:
            if scheme in ("http", "https"):
                _web().fetcher().get(canonical, limits, file, budget)
            else:
                _copy_fsspec(canonical, limits, file, budget)
        if path.stat().st_size == 0:
            raise Reject("empty_file", f"{canonical}: 0 bytes")
        yield path


def signature(canonical: str, limits: Limits) -> str:
    """Return a short text that changes when the media do, without reading their bytes.

    Size and modification time for files; ETag, date and size for web media; fsspec's own key for the rest. A web
    server that states none of these gets a new signature every time, so that its media are read again.

    Raises:
        Reject: as `local_path`.
    """
    scheme = _scheme(canonical)
    if scheme is None:
        status = _stat_file(canonical)
        return f"{status.st_size}-{status.st_mtime_ns}"
    if scheme in ("http", "https"):
        return str(_web().fetcher().signature(canonical, limits))
    filesystem, path = _filesystem(canonical, limits)
    with _fsspec_errors(canonical):
        key: str = filesystem.ukey(path)
    return key


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _web() -> ModuleType:
    from coldstart.media import fetch  # brings an HTTP client, which most catalogues never need

    return fetch


def _scheme(uri: str) -> str | None:
    match = _URI.match(uri)
    return match[1].lower() if match else None


def _file_uri_path(uri: str) -> str:
    parts = urllib.parse.urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise Reject("scheme_not_allowed", f"{uri}: a file on another host")
    return urllib.request.url2pathname(parts.path)


def _stat_file(path: str) -> os.stat_result:
    """Call `stat` on a regular file; never open it, so that a FIFO cannot block."""
    try:
        status = Path(path).stat()
    except OSError as error:  # missing, a link in a circle, a name too long, a folder we may not enter
        raise Reject("not_found", f"{path[:500]}: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        raise Reject("not_a_file", f"{path} is a {_file_kind(status.st_mode)}")
    return status


def _file_kind(mode: int) -> str:
    kinds = {"folder": stat.S_ISDIR, "pipe": stat.S_ISFIFO, "socket": stat.S_ISSOCK}
    return next((kind for kind, test in kinds.items() if test(mode)), "device")


def _check_fsspec(uri: str, limits: Limits) -> None:
    """Refuse a URI if any part of its chain, such as `zip://a.jpg::s3://b/c.zip`, is not permitted."""
    for link in uri.split("::"):
        scheme = link.partition(":")[0].lower()
        if scheme in _NEVER_THROUGH_FSSPEC or not (scheme in limits.allowed_schemes or _in_bucket(link, limits)):
            permitted = ", ".join((*limits.allowed_buckets, *limits.allowed_schemes)) or "none"
            place = f"{scheme[:50]}://{_bucket(link)[:100]}".rstrip("/")
            raise Reject("scheme_not_allowed", f"{uri[:500]}: {place} is not among allowed_buckets ({permitted})")


def _bucket(link: str) -> str:
    return re.split(r"[/?#]", link.partition("://")[2], maxsplit=1)[0]


def _in_bucket(link: str, limits: Limits) -> bool:
    """Tell whether a URI lies in a bucket that is permitted, without `..` on its way."""
    scheme, _, path = link.partition("://")
    if ".." in path.split("/"):
        return False
    for permitted in limits.allowed_buckets:
        wanted, _, place = permitted.rstrip("/").partition("://")
        if place and wanted.lower() == scheme.lower() and f"{path}/".startswith(f"{place}/"):
            return True
    return False


def _filesystem(uri: str, limits: Limits) -> tuple[Any, str]:
    _check_fsspec(uri, limits)
    import fsspec

    try:
        filesystem, path = fsspec.url_to_fs(uri)
    except Exception as error:  # a library that is missing, credentials, a form of URI that its own package refuses
        raise Reject("fetch_failed", f"{uri}: {error}"[:500]) from error
    return filesystem, str(path)


def _copy_fsspec(uri: str, limits: Limits, file: BinaryIO, max_bytes: int) -> None:
    filesystem, path = _filesystem(uri, limits)
    with _fsspec_errors(uri), filesystem.open(path, "rb") as source:
        copied = 0
        while chunk := source.read(2**20):
            copied += len(chunk)
            if copied > max_bytes:
                raise Reject("too_many_bytes", f"{uri}: more than {max_bytes} bytes")
            file.write(chunk)


@contextmanager
def _fsspec_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise Reject("not_found", uri) from error
    except IsADirectoryError as error:
        raise Reject("not_a_file", uri) from error
    except (Reject, MemoryError):
        raise
    except Exception as error:  # each library has errors of its own
        if costs_the_run(error):  # a full disk, say, which is no fault of this item
            raise
        raise Reject("fetch_failed", f"{uri}: {error}"[:500]) from error


@contextmanager
def open_medium(entry: Mapping[str, Any], limits: Limits) -> Iterator[Path]:
    """Open a medium of an item as a local file for the length of the block; refuse bytes other than ingest saw.

    Of a picture the digest is compared; of a video or sound the size must do, since reading all of it costs its length.

    Args:
        entry: a medium of an item's row: `role`, `uri`, `digest`, `size_bytes`.

    Raises:
        Reject: `media_changed`, and as `coldstart.media.guard.local_path`.
    """
    with local_path(entry["uri"], limits) as path:
        size_bytes = path.stat().st_size
        if size_bytes != entry["size_bytes"]:
            found = f"{size_bytes} bytes, {entry['size_bytes']} at ingest"
            raise Reject("media_changed", f"{entry['uri']}: {found}; run ingest again")
        if entry["role"] == "image" and file_sha256(path) != entry["digest"]:
            raise Reject("media_changed", f"{entry['uri']}: other bytes than at ingest; run ingest again")
        yield path


def visual_media(row: Row, pictures: int) -> Sequence[Mapping[str, Any]]:
    """Return the media that show an item: its first video alone, or else its pictures, `pictures` of them at most.

    Raises:
        Reject: `no_media` (filtered) where it has neither.
    """
    found = media_of_role(row, "video")[:1] or media_of_role(row, "image")[:pictures]
    if not found:
        raise Reject("no_media", "no image or video", state="filtered")
    return found


def media_of_role(row: Row, role: str) -> Sequence[Mapping[str, Any]]:
    """Return the media of an item that have a role (`image`, `video`, `audio`), in the order of its manifest."""
    return [entry for entry in row["media"] or [] if entry["role"] == role]


IMAGE_FORMATS = ("jpeg", "png", "gif", "webp", "bmp", "tiff", "jpeg2000", "avif", "heic")

VIDEO_FORMATS = ("mp4", "matroska", "avi", "flv", "asf", "mpeg-ps", "gif")

_HEAD_BYTES = 512

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (8, b"WEBP", "webp"),
    (0, b"II*\x00", "tiff"),
    (0, b"MM\x00*", "tiff"),
    (0, b"\x00\x00\x00\x0cjP  ", "jpeg2000"),
    (0, b"\xff\x4f\xff\x51", "jpeg2000"),
    (4, b"ftypavif", "avif"),
    (4, b"ftypavis", "avif"),
    (4, b"ftyphei", "heic"),
    (4, b"ftyphev", "heic"),
    (4, b"ftyp", "mp4"),
    (4, b"moov", "mp4"),
    (4, b"mdat", "mp4"),
    (0, b"\x1a\x45\xdf\xa3", "matroska"),
    (8, b"AVI ", "avi"),
    (0, b"FLV\x01", "flv"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "asf"),
    (0, b"\x00\x00\x01\xba", "mpeg-ps"),
    (0, b"OggS", "ogg"),
    (0, b"ID3", "mp3"),
    (0, b"fLaC", "flac"),
    (8, b"WAVE", "wav"),
    (0, b"BM", "bmp"),
    (0, b"%PDF", "pdf"),
    (0, b"PK\x03\x04", "zip"),
)


def sniff_format(path: Path) -> str | None:
    """Name the format of a file by its first bytes: `jpeg`, `mp4`, `svg`, `text` and so on; None if unknown."""
    with path.open("rb") as file:
        return format_of(file.read(_HEAD_BYTES))


def format_of(head: bytes) -> str | None:
    """Name the format of a file by its first 512 bytes, as `sniff_format`."""
    if head[4:12] in (b"ftypmif1", b"ftypmsf1"):  # pictures of any codec; the brands after it say which
        brands = head[16 : int.from_bytes(head[:4])]
        return "avif" if b"avif" in brands or b"avis" in brands else "heic"
    for offset, magic, name in _SIGNATURES:
        if head.startswith(magic, offset):
            return name
    return _text_format(head)


def _text_format(head: bytes) -> str | None:
    if not head or b"\x00" in head:
        return None
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if len(head) < _HEAD_BYTES or error.start < len(head) - 3:  # a character may be cut at the end of the head
            return None
        text = head[: error.start].decode("utf-8")
    start = text.lstrip("\ufeff \t\r\n").lower()
    if start.startswith(("<!doctype html", "<html")):
        return "html"
    return "svg" if "<svg" in start else "text"
