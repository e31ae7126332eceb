"""Make the environments of the peers: `python -m benchmarks.peers.install [NAME ...]`, or `make peers`.

One environment a requirement file, in `.peers/NAME`. What a peer does not bring itself it finds in our environment,
behind its own packages, so that torch stands on the disk once and is the same for every contender. A peer that cannot
be installed is named with the reason, and the rest is made.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from benchmarks.peers.process import PEERS

HERE = Path(__file__).resolve().parent
NAMES = sorted(path.stem for path in HERE.glob("*.txt"))
OURS = Path(sysconfig.get_path("purelib"))


def install(name: str) -> str | None:
    """Make one environment unless it stands already with the same requirements; the reason where that fails."""
    folder, wanted = PEERS / name, HERE / f"{name}.txt"
    done = folder / ".installed"
    if done.is_file() and done.read_text() == wanted.read_text():
        return None
    done.unlink(missing_ok=True)
    venv.create(folder, with_pip=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    (site / "zz_ours.pth").write_text(f"{OURS}\n")  # read last: the peer's own packages come first
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    environ = {"CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1), **os.environ}
    ran = subprocess.run([*pip, "-r", str(wanted)], env=environ, capture_output=True, text=True)
    if ran.returncode:
        told = [line for line in ran.stderr.splitlines() if "ERROR" in line or "error:" in line]
        return " | ".join(told[-3:]) or ran.stderr[-300:]
    if name == "video":
        ffmpeg(folder / "ffmpeg")
    done.write_text(wanted.read_text())
    return None


def ffmpeg(folder: Path) -> None:
    """FFmpeg's libraries as PyAV brings them, under the plain names by which torchcodec asks for them.

    So both decode with the same FFmpeg. A process that is to find them starts with LD_LIBRARY_PATH naming this folder.
    """
    folder.mkdir(exist_ok=True)
    for file in (OURS / "av.libs").iterdir():
        plain = re.sub(r"-[0-9a-f]{8}(\.so\.\d+).*", r"\1", file.name)
        for name in {file.name, plain}:
            link = folder / name
            link.unlink(missing_ok=True)
            link.symlink_to(file)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.install", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help=f"some of {', '.join(NAMES)}")
    failed = False
    for name in parser.parse_args().names or NAMES:
        reason = install(name)
        print(f"{name}: {reason or 'installed'}", flush=True)
        failed |= reason is not None
    sys.exit(failed)


if __name__ == "__main__":
    main()
