"""Make the TypeScript client of the server from its OpenAPI: a package in a folder, with types, as a file for npm.

    python tools/typescript_client.py OUT

It needs node and npm. `openapi-typescript` writes the types, `openapi-fetch` sends the requests and `tsc` compiles; all
are pinned in `tools/typescript_client/package-lock.json`. `src/client.ts` there is the part that is written by hand.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent / "typescript_client"
FILES = ("package.json", "package-lock.json", "tsconfig.json", "src/client.ts")


def describe() -> dict[str, Any]:
    """Return the OpenAPI of a server that takes in changes, too."""
    import coldstart
    from coldstart.serve.http import create_app
    from coldstart.serve.jobs import JobQueue
    from coldstart.serve.readers import Readers
    from coldstart.serve.settings import ServeSettings

    with tempfile.TemporaryDirectory() as folder:
        uri = f"{folder}/shop"
        coldstart.open(uri, create=True)
        queue = JobQueue(f"{folder}/queue", uri)
        described: dict[str, Any] = create_app(ServeSettings(uri), Readers(uri), queue).openapi()
        queue.close()
    return described


def make(out: Path) -> None:
    """Write the sources of the client, its types and the compiled package into a folder.

    The packages of node that it takes are those that `fetch` left beside its sources.

    Raises:
        subprocess.CalledProcessError: the generator or the compiler finds a fault.
    """
    for name in FILES:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SOURCE / name, out / name)
    described = describe()
    (out / "openapi.json").write_text(json.dumps(described, indent=1) + "\n", "utf-8")
    package = json.loads((out / "package.json").read_text("utf-8"))
    package["version"] = described["info"]["version"]
    (out / "package.json").write_text(json.dumps(package, indent=2) + "\n", "utf-8")
    (out / "node_modules").unlink(missing_ok=True)
    (out / "node_modules").symlink_to((SOURCE / "node_modules").absolute(), target_is_directory=True)
    _run(out, "npm", "run", "--silent", "build")


def fetch() -> None:
    """Fetch the packages that the lock file names.

    Raises:
        subprocess.CalledProcessError: npm cannot.
    """
    _run(SOURCE, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    fetch()
    make(folder)
    _run(folder, "npm", "pack", "--silent", "--ignore-scripts")
