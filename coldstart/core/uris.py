"""Read the place of a workspace as it is given: a folder, or a URI of an object store or a server."""

from __future__ import annotations

import re
from urllib.parse import urlsplit
from urllib.request import url2pathname

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
    found = urlsplit(f"file{uri[uri.index('://') :]}".replace("?", "%3F").replace("#", "%23"))
    if found.netloc not in ("", "localhost") or not found.path:
        raise ColdstartError(f"workspace {uri} is no whole path: write file:///FOLDER, or the folder itself")
    return url2pathname(found.path)
