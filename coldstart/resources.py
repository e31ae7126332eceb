"""Where pipeline, prompt and policy files lie: beside the package in a checkout, inside it when from a wheel."""

from pathlib import Path

PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder `pipelines`, `prompts` or `policies`."""
    installed = PACKAGE / "_files" / name
    return installed if installed.is_dir() else PACKAGE.parent / name


def files(name: str, pattern: str) -> dict[str, Path]:
    """File stem -> path of the files of such a folder, sorted by name."""
    return {path.stem: path for path in sorted(folder(name).glob(pattern))}
