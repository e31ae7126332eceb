"""Find model files by a hub name: in the local cache, else by one download, else refuse at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coldstart.errors import ColdstartError

PROBE_S = 3.0  # a hub that does not answer a first request within this time counts as unreachable


def hub_file(repo: str, filenames: Sequence[str], *, name: str, instead: str, what: str = "encoder") -> Path:
    """Find the first of `filenames` in the local hub cache, else download the first that the hub has.

    Args:
        repo: `ORGANISATION/NAME`.
        filenames: in order of preference.
        name: the requested name, for the message.
        instead: how to write it with local files, for the message.
        what: what the name is of, for the message.

    Raises:
        ColdstartError: not cached, and offline by choice or by circumstance; or the hub has none of them.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    for filename in filenames:
        cached = try_to_load_from_cache(repo, filename)
        if isinstance(cached, str):
            return Path(cached)
    _require_hub(repo, name, instead, what)
    for filename in filenames:
        try:
            return Path(hf_hub_download(repo, filename))
        except EntryNotFoundError:
            continue
        except OSError as error:  # the hub's own errors are OSErrors too
            raise ColdstartError(f"{what} {name!r}: cannot fetch {repo}: {_first_line(error)}") from error
    raise ColdstartError(f"{what} {name!r}: {repo} has no file {' or '.join(filenames)}")


def hub_folder(repo: str, patterns: Sequence[str], *, name: str, instead: str, what: str = "encoder") -> Path:
    """Find the folder of a hub model's files that match the globs; in the cache if it has any of them.

    Raises:
        ColdstartError: as `hub_file`, or `repo` cannot be a hub name.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repo, local_files_only=True))
        if any(path for pattern in patterns for path in folder.glob(pattern)):
            return folder
    except LocalEntryNotFoundError:
        pass  # nothing of it is cached: go on to the network
    except HFValidationError as error:
        raise ColdstartError(f"{what} {name!r}: {repo!r} is neither a folder nor a hub name") from error
    _require_hub(repo, name, instead, what)
    try:
        return Path(snapshot_download(repo, allow_patterns=list(patterns)))
    except OSError as error:
        raise ColdstartError(f"{what} {name!r}: cannot fetch {repo}: {_first_line(error)}") from error


def _require_hub(repo: str, name: str, instead: str, what: str = "encoder") -> None:
    """Raise at once if the hub cannot be reached."""
    import httpx
    from huggingface_hub import constants, is_offline_mode

    why = "HF_HUB_OFFLINE is set"
    if not is_offline_mode():
        try:
            httpx.head(constants.ENDPOINT, timeout=PROBE_S)
            return
        except httpx.HTTPError as error:
            why = f"{constants.ENDPOINT} does not answer ({_first_line(error)})"
    raise ColdstartError(
        f"{what} {name!r}: {repo} is not in the local hub cache and {why}; "
        f"run `hf download {repo}` on a connected machine, bring the files here and write {instead}"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
