"""Read the place of a workspace as it is given: a folder, or a URI of an object store or a server."""

from __future__ import annotations

import re
from pathlib import Path

from coldstart.core.spelling import similar_path
from coldstart.errors import ColdstartError

_FILE = re.compile(r"(file|file-object-store|file\+uring)://", re.IGNORECASE)
"""Start of the URLs that LanceDB opens as a folder of this machine."""
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
"""Start of a URI; one letter is a drive of Windows."""


def plain_uri(uri: str) -> str:
    """Turn the URL of a folder on this machine into its path, so that both are the same workspace; keep any other URI.

    Raises:
        ColdstartError: it is a `file://` URL of no whole path on this machine.
    """
    if not _FILE.match(uri):
        # LanceDB takes any other text for a path, so no path may look like a URI
        return uri if _URI.match(uri) else re.sub(":/+", ":/", uri)
    from urllib.parse import urlsplit  # few places are URLs, and this imports clients of HTTP
    from urllib.request import url2pathname

    found = urlsplit(f"file{uri[uri.index('://') :]}".replace("?", "%3F").replace("#", "%23"))
    if found.netloc not in ("", "localhost") or not found.path:
        raise ColdstartError(f"workspace {uri} is no whole path: write file:///FOLDER, or the folder itself")
    return url2pathname(found.path)


def find_folder(uri: str, *, create: bool = False) -> Path | None:
    """Find the folder of a workspace before anything of it is opened; None for a place that is no folder.

    Args:
        uri: as `plain_uri` returns it.
        create: it may be missing; it is not made here.

    Raises:
        ColdstartError: there is none, or a file in its place, or the text can be none.
    """
    if not uri.strip():
        raise ColdstartError("the workspace is an empty text: give a folder or a LanceDB URI")
    if "://" in uri:
        return None
    try:
        folder = Path(uri).expanduser().resolve()
        if not create and not folder.exists():
            raise ColdstartError(
                f"no workspace at {uri}{similar_path(uri, _has_tables)}: make one with `coldstart run PIPELINE "
                f"--workspace {uri}`"
            )
        if folder.exists() and not folder.is_dir():
            raise ColdstartError(f"{uri} is a file, not a workspace: give a folder")
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: the ~name of nobody
        raise cannot_open(uri, error) from error
    return folder


def _has_tables(folder: Path) -> bool:
    """Tell whether a folder holds tables, as a workspace does, and a folder of sources does not."""
    try:
        return next(folder.glob("*.lance"), None) is not None
    except OSError:
        return False


def cannot_open(uri: str, error: Exception) -> ColdstartError:
    """Build the error about a workspace that the system, or LanceDB, does not open."""
    reason = (getattr(error, "strerror", None) or str(error)).partition("\n")[0].rstrip(".")
    return ColdstartError(f"cannot open workspace {uri}: {reason}: give a folder that can be made and written")
