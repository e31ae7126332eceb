"""The container files name what is there; `make check` lints them. No engine builds the image here."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import yaml
from paths import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))


def test_the_image_copies_what_is_there_and_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert copied == allowed
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_image_has_what_the_wheel_is_built_from() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    folders = re.findall(r'^"(\w+)" = "coldstart/_files/', pyproject, re.MULTILINE)
    assert sorted(folders) == ["pipelines", "policies", "prompts"]
    for folder in folders:
        assert f"COPY {folder} {folder}\n" in DOCKERFILE


def test_pytorch_comes_in_the_pinned_release() -> None:
    command = re.search(r"sed -nE '([^']+)'", DOCKERFILE)
    assert command
    lock = str(ROOT / "requirements-run.lock")
    found = subprocess.run(["sed", "-nE", command[1], lock], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"torch==[\d.]+\ntorchvision==[\d.]+\n", found)


def test_catalogues_are_read_without_a_network() -> None:
    services = COMPOSE["services"]
    assert services["coldstart"]["network_mode"] == "none"
    assert services["models"]["command"] == ["models", "pull", "starter"]
    for service in services.values():
        assert service["cap_drop"] == ["ALL"]
        assert {volume.split(":")[0] for volume in service["volumes"]} <= {"./shop", *COMPOSE["volumes"]}
