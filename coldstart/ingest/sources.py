"""Find the tables of a catalogue by what a user names: files, folders, or addresses on the web, which are fetched."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote, urlsplit

from coldstart.core.spelling import existing_path
from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError, redact_urls
from coldstart.ingest.dataset_folder import dataset_tables
from coldstart.ingest.folder import list_folder
from coldstart.media.limits import Limits

MAX_FETCHED_BYTES = 2 * 2**30
"""Bytes that a fetched table may have."""
_FETCH_S = 600.0
_DIGITS = 12
TABLE_SUFFIXES = frozenset(
    (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".parquet", ".pq", ".xlsx", ".xls", ".ods", ".arrow")
)
"""Suffixes of files that are tables, whatever else is in their folder."""
_PERHAPS = frozenset((".json", ".xml", ".rss", ".atom"))
_USUAL = frozenset(("manifest", "products", "items", "catalog", "catalogue", "feed", "metadata"))
"""Names of tables that are taken where a folder has several."""
_SHOWN = 5


def is_url(source: str) -> bool:
    """Return True for an address on the web."""
    return re.match(r"https?:", source.strip(), re.IGNORECASE) is not None


def find_tables(path: Path) -> list[Path]:
    """Find the manifests at a path: a file itself, of a folder its table or tables, else the folder of media.

    Raises:
        ColdstartError: there is nothing, or a folder has media and several tables.
    """
    path = existing_path(path)
    try:
        if not path.is_dir():
            return [path]
        if dataset_tables(path):
            return [path]
        found = sorted(child for child in path.iterdir() if child.is_file() and not child.name.startswith("."))
    except OSError as error:
        raise ColdstartError(f"cannot read {path}: {error.strerror or error}") from error
    tables = [child for child in found if _suffix(child) in TABLE_SUFFIXES] or [
        child for child in found if _suffix(child) in _PERHAPS
    ]
    if usual := [table for table in tables if table.name.partition(".")[0].lower() in _USUAL]:
        tables = usual if len(usual) == 1 else tables
    if len(tables) < 2:
        return tables or [path]
    if list_folder(path).media:
        names = ", ".join(table.name for table in tables[:_SHOWN])
        raise ColdstartError(
            f"{path} has {len(tables)} tables beside its media: {names}: name the one of the items, such as "
            f"{path / tables[0].name}"
        )
    return tables


def _suffix(path: Path) -> str:
    name = path.name.lower()
    for packed in (".gz", ".gzip", ".zip"):
        name = name.removesuffix(packed)
    return Path(name).suffix


def fetch_table(url: str, folder: Path) -> Path:
    """Fetch a table from the host that the user named by its address, and from no other.

    Args:
        folder: made where it is missing; in it each address has a folder of its own, since feeds of two shops are
            often named the same. A file that was fetched from the same address before is replaced.

    Raises:
        ColdstartError: it is no https, leads to a private address or another host, is too large or cannot be had.
    """
    from coldstart.media.fetch import fetcher

    url = url.strip()
    parts = urlsplit(url)
    if parts.scheme.lower() != "https" or not parts.hostname:
        raise ColdstartError(
            f"{redact_urls(url)}: tables are fetched over https alone: give an https address or a file"
        )
    limits = Limits(allowed_hosts=(parts.hostname,), deadline_s=_FETCH_S)
    path = folder / sha256(url.encode()).hexdigest()[:_DIGITS] / _file_name(parts.path)
    draft = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            fetcher().get(url, limits, file, MAX_FETCHED_BYTES)
        draft.replace(path)
    except Reject as reject:
        other = " (an address leads to another host: give that one)" if reject.reason == "host_not_allowed" else ""
        raise ColdstartError(f"cannot fetch {redact_urls(url)}: {reject.reason}: {reject.detail}{other}") from reject
    except OSError as error:
        raise ColdstartError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def _file_name(path: str) -> str:
    name = re.sub(r"[^\w.-]+", "-", unquote(path).rpartition("/")[2]).strip(".-")[-100:]
    return name or "catalogue"
