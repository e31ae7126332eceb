"""Errors that a user can mend, states that a later run mends by itself, and faults of the machine."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


_SCHEME = r"(?:https?|ftps?|sftp|ssh|s3a?|gs|gcs|az|abfss?|webdavs?|hdfs)"
_LINK = re.compile(
    rf"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{{0,40}}://|\b{_SCHEME}:/?(?=[^\s/?#\"'<>]*[:@])|(?<![\w:/.])//(?=[^\s/?#\"'<>]*[:@]))"
    # a password may hold what no URL may, such as a space or a quote; a port before a path is none
    r"(?P<user>(?![\w-]+(?:\.[\w-]+)+:\d{1,5}[/?#])[^\s/?#@:\"'<>]+:"
    r"(?!\s|//|\d{1,5}(?:[/?#][^\s@\"'<>]*)?(?:[\s\"'<>),;.]|$))(?:(?!://)[^@]){1,200}@(?:[^\s/?#\"'<>]*@)?"
    r"|[^\s/?#\"'<>]*@)?"
    r"(?P<place>[^\s?#\"'<>]*)(?P<query>\?[^\s#\"'<>]*)?(?P<fragment>#[^\s\"'<>]*)?"
)
_VALUE = re.compile(r"=([^&;]*)")
_SENTENCE_ENDS = ":,.)"  # no part of the value before them


def redact_urls(text: str) -> str:
    """Replace by `***` what may be secret in the URLs of a text: user and password, values of query and fragment.

    A URL that is misspelt (`http:/`, `//host`) may hold a password as well.
    """
    return _LINK.sub(_redacted, text) if ":" in text or "//" in text else text


def _redacted(found: re.Match[str]) -> str:
    user, query, fragment = ("***@" if found["user"] else ""), found["query"] or "", found["fragment"] or ""
    return f"{found['scheme']}{user}{found['place']}{_redacted_part(query)}{_redacted_part(fragment)}"


def _redacted_part(part: str) -> str:
    if "=" in part:
        return _VALUE.sub(_redacted_value, part)
    return f"{part[0]}***{_sentence_end(part)}" if len(part) > 1 else part


def _redacted_value(found: re.Match[str]) -> str:
    return f"=***{_sentence_end(found[1])}"


def _sentence_end(text: str) -> str:
    return text[len(text.rstrip(_SENTENCE_ENDS)) :]


class ColdstartError(Exception):
    """A fault the user can mend.

    The message is one line that names the value, the place and the next step, without secrets of URLs. The command
    line prints it and exits with 1; the Python API raises it.

    Attributes:
        kind: usage, settings, input, not_found, not_ready, busy, damaged, machine or failed; None where not stated.
        where, next: parts of the message, where the one who raises it can tell them apart.
        result: found before it failed; `--json` prints it beside the error.
    """

    kind: str | None = None
    where: str | None = None
    next: str | None = None
    result: Mapping[str, Any] | None = None

    def __init__(
        self,
        *given: object,
        kind: str | None = None,
        where: str | None = None,
        next: str | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(*(redact_urls(one) if isinstance(one, str) else one for one in given))
        stated = {"kind": kind, "where": where, "next": next, "result": result}
        self.__dict__.update({name: value for name, value in stated.items() if value is not None})


class NotFitted(ColdstartError):  # noqa: N818  (a state that a run mends by itself)
    """A stage needs an artifact that an earlier stage has not fitted yet."""

    kind = "not_ready"


class NothingToLearn(NotFitted):
    """A fit has too little training data so far; runs go on without its stage until there is enough."""


class LeakError(ColdstartError):
    """Something that a fit or a list reads lies at or after what it is measured on, so that no figure would be true.

    Attributes:
        leaks: each by itself, where the evaluation lists them.
    """

    kind = "failed"

    def __init__(self, message: str, leaks: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.leaks = tuple(leaks)


class MissingModel(ColdstartError):  # noqa: N818  (a state of the machine that `coldstart models pull` mends)
    """A model of the starter set is not on this machine, or its files are not as they should be."""


class MachineFault(ColdstartError):  # noqa: N818  (a state of the machine)
    """A fault of the machine, such as a full disk: no fault of an item, of the settings or of the program.

    Finished rows are stored, and the same command goes on once it is mended. The command line exits with 3.
    """

    kind = "machine"


def machine_fault(error: BaseException) -> MachineFault | None:
    """Describe the fault of the machine that an error, or one that it came from, states; None where it is none.

    Native libraries state one in their text alone: LanceDB raises RuntimeError for a full disk, and a Rust panic for
    too many open files.
    """
    for cause in _causes(error):
        if isinstance(cause, MachineFault):
            return cause
        for matches, describe in _MACHINE_FAULTS:
            if matches(cause):  # an error of ours says what it means for the command, and what to do
                return MachineFault(str(error) if isinstance(error, ColdstartError) else describe(cause))
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it came from, newest first."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        handled = None if isinstance(found, ColdstartError) else found.__context__  # one of ours names its cause
        found = found.__cause__ or handled


def _states(*errnos: int, texts: tuple[str, ...] = ()) -> Callable[[BaseException], bool]:
    def matches(error: BaseException) -> bool:
        if isinstance(error, ColdstartError):  # it says what to do already, and may quote a stranger's text
            return False
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno in errnos
        return any(text in str(error) for text in texts)

    return matches


def _is_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or _states(
        errno.ENOMEM,
        texts=("annot allocate memory", "can't allocate memory", "failed to map segment", "can't start new thread"),
    )(error)


def _place(error: BaseException) -> str:
    name = getattr(error, "filename", None)
    return f" ({name})" if isinstance(name, str) and name else ""


def _disk_full(error: BaseException) -> str:
    return (
        f"the disk is full{_place(error)}: free some space, or put the workspace or TMPDIR on another disk; finished "
        "rows are stored, run the same command again to go on"
    )


def _too_many_files(error: BaseException) -> str:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if resource else 0
    return (
        f"this process may not open more files{f' than {limit}' if limit else ''}: raise the limit with "
        "`ulimit -n 4096`, then run the same command again to go on"
    )


def _out_of_memory(error: BaseException) -> str:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0] if resource else -1
    bound = f" (`ulimit -v` allows this process {limit / 1e9:.1f} GB)" if 0 < limit < 1 << 60 else ""
    return (
        f"memory ran out{bound}: close other programs, take fewer workers (--set engine.workers=1) or a smaller model; "
        "finished rows are stored, run the same command again to go on"
    )


def _no_temporary_folder(error: BaseException) -> str:
    folder = os.environ.get("TMPDIR", "")
    return (
        f"TMPDIR={folder} is no folder that can be written: make it, or unset TMPDIR"
        if folder
        else "there is no folder for temporary files: set TMPDIR to one that can be written"
    )


def _cannot_write(error: BaseException) -> str:
    reason = getattr(error, "strerror", None) or "Permission denied"
    return f"cannot write{_place(error)}: {reason}; take another folder, or make this one writable"


def _no_permission(error: BaseException) -> str:
    return f"no permission{_place(error)}: run it as the owner, or let this user read and write there"


def _no_home(error: BaseException) -> str:
    return f"cannot write{_place(error)}, below HOME: set HOME or XDG_CACHE_HOME to a folder that can be written"


def _below_home(error: BaseException) -> bool:
    """Tell whether a file of the user's cache or configuration could not be made."""
    name = getattr(error, "filename", None)
    if not isinstance(error, OSError) or not isinstance(name, str) or error.errno not in _CANNOT_MAKE:
        return False
    homes = [os.environ.get("XDG_CACHE_HOME", ""), os.environ.get("XDG_CONFIG_HOME", ""), os.environ.get("HOME", "")]
    return any(home and Path(name).is_relative_to(home) for home in homes) and (".cache" in name or "coldstart" in name)


def _disk_failed(error: BaseException) -> str:
    return f"the disk cannot be read{_place(error)}: Input/output error; look at the disk, or restore a copy"


_CANNOT_MAKE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)

_MACHINE_FAULTS: tuple[tuple[Callable[[BaseException], bool], Callable[[BaseException], str]], ...] = (
    (_states(errno.ENOSPC, errno.EDQUOT, texts=("No space left on device", "Disk quota exceeded")), _disk_full),
    (_states(errno.EMFILE, errno.ENFILE, texts=("Too many open files",)), _too_many_files),
    (_is_memory, _out_of_memory),
    (_states(texts=("Failed to create temp dir", "No usable temporary directory")), _no_temporary_folder),
    (_below_home, _no_home),
    (_states(errno.EROFS, texts=("Read-only file system",)), _cannot_write),
    (_states(errno.EACCES, errno.EPERM, texts=("Permission denied",)), _no_permission),
    (_states(errno.EIO, texts=("Input/output error",)), _disk_failed),
)
