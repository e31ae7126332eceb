"""Inspect a folder of model files before any library reads it: nothing in it may run, or lead out of it.

A folder from a stranger is data. Libraries are told beside this to run no code and to read no pickles; here are refused
the settings by which a folder would ask for either, files and names that lead elsewhere, headers that lie about their
file, and patterns that never end. A folder of the hub's cache consists of links into its own `blobs`, which are right.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from coldstart.errors import ColdstartError

MOST_FILES = 10_000
MOST_JSON_BYTES = 256 * 2**20
"""Size of the largest vocabularies, several times over."""
MOST_HEADER_BYTES = 100_000_000
"""Longest header of a safetensors file, as its own library has it."""

_VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json", "vocabulary.json")
"""Files of words, not of settings."""
_READ = ("config.json", "tokenizer.json", "modules.json", "tokenizer_config.json", "open_clip_config.json")
"""Files without which a model cannot be read."""
_INFORMATION = ("_name_or_path", "name_or_path", "base_model_name_or_path", "special_tokens_map_file")
"""Keys with a path of the machine that wrote the file; libraries read none of them."""
_OWN_MODULES = "sentence_transformers."
_DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


def check_folder(folder: Path, name: str, *, adapter: bool = False, own_code: bool = True) -> None:
    """Refuse a folder of model files that would run something or that leads elsewhere.

    Args:
        folder: what a library is about to read.
        name: what it belongs to, for the message, such as `encoder 'hf:FOLDER'`.
        adapter: whether an `adapter_config.json` is expected; in a folder of a model it names another one to load.
        own_code: whether the library can be told not to run the classes that `auto_map` names; else they are refused.

    Raises:
        ColdstartError: with the file and what is wrong with it.
    """
    root = folder.resolve()
    blobs = root.parent.parent / "blobs" if root.parent.name == "snapshots" else None
    for path in _files(root, name):
        place = path.relative_to(root)
        real = path.resolve()
        if not (real.is_relative_to(root) or (blobs is not None and real.is_relative_to(blobs))):
            raise _fault(name, folder, place, f"is a link that leads to {real}: put a copy of that file in its place")
        if not stat.S_ISREG(real.stat().st_mode):
            raise _fault(name, folder, place, "is no file")
        if path.suffix == ".safetensors":
            if fault := _safetensors_fault(real):
                raise _fault(name, folder, place, fault)
        elif path.suffix == ".json":
            if path.name == "adapter_config.json" and not adapter:
                raise _fault(name, folder, place, "makes it an adapter of another model: merge the two and name that")
            if adapter and path.name != "adapter_config.json":
                continue  # a report of the fit, for people
            if fault := _json_fault(real, path.name, root, own_code):
                raise _fault(name, folder, place, fault)


def check_weights(path: Path, name: str) -> None:
    """Refuse a safetensors file whose header does not fit it.

    Raises:
        ColdstartError: as `check_folder`.
    """
    if path.suffix == ".safetensors" and (fault := _safetensors_fault(path)):
        raise ColdstartError(f"{name}: {path} {fault}")


def _fault(name: str, folder: Path, place: Path, words: str) -> ColdstartError:
    return ColdstartError(f"{name}: {folder / place} {words}")


def _files(root: Path, name: str) -> Iterator[Path]:
    """List the files of a folder, links among them; folders that are links are listed, and not entered."""
    count = 0
    for here, folders, files in os.walk(root):
        linked = [each for each in folders if Path(here, each).is_symlink()]
        for each in sorted([*files, *linked]):
            count += 1
            if count > MOST_FILES:
                raise ColdstartError(f"{name}: {root} holds more than {MOST_FILES:,} files, which no model does")
            path = Path(here, each)
            if each in linked:
                if not path.resolve().is_relative_to(root):
                    raise _fault(name, root, path.relative_to(root), f"is a link that leads to {path.resolve()}")
                continue
            if not path.exists():
                raise _fault(name, root, path.relative_to(root), "is a link that leads nowhere")
            yield path


def _json_fault(path: Path, file: str, root: Path, own_code: bool) -> str | None:
    """Return what is wrong with the settings of one file; None if nothing is, or if it is no JSON for any library."""
    if path.stat().st_size > MOST_JSON_BYTES:
        return f"has more than {MOST_JSON_BYTES:,} bytes"
    try:
        content = json.loads(path.read_bytes())
        if file == "tokenizer.json":
            return _patterns_fault(content)
        if file in _VOCABULARIES:
            return None
        if file == "modules.json":
            return _modules_fault(content)
        if file.endswith(".index.json"):
            return _index_fault(content)
        return _settings_fault(content, root, own_code)
    except ValueError as error:
        return f"is no JSON ({str(error).splitlines()[0][:100]})" if file in _READ else None
    except RecursionError:
        return "is nested too deep"


def _settings_fault(content: Any, root: Path, own_code: bool, key: str = "") -> str | None:
    if isinstance(content, Mapping):
        for inner, value in content.items():
            if fault := _settings_fault(value, root, own_code, inner):
                return fault
        if not own_code and content.get("auto_map"):
            return "names classes of its own to be run (auto_map)"
    if isinstance(content, list | tuple):
        return next((fault for value in content if (fault := _settings_fault(value, root, own_code, key))), None)
    if key == "trust_remote_code" and content:
        return "asks for code of its own to be run (trust_remote_code)"
    if not isinstance(content, str):
        return None
    if key.endswith("_implementation") and "/" in content:
        return f"asks for code from the hub to be run ({key}: {content[:80]})"
    if key == "activation_function" and "." in content and not content.startswith("torch.nn.modules."):
        return f"names a class to be run ({key}: {content[:80]})"
    if key not in _INFORMATION and (there := _leads_out(content, root)):
        return f"leads to {there} ({key}: {content[:80]})"
    return None


def _leads_out(value: str, root: Path) -> Path | None:
    """Return the existing file or folder outside `root` that a text names by its whole path or by `..`."""
    if not value or len(value) > 1000 or "\0" in value or "\n" in value:
        return None
    path = Path(value)
    if not (path.is_absolute() or ".." in path.parts or value.startswith("~")):
        return None
    try:
        real = (root / path.expanduser()).resolve()
        return real if real.exists() and not real.is_relative_to(root) else None
    except (OSError, RuntimeError):
        return None


def _modules_fault(content: Any) -> str | None:
    """Check `modules.json` of sentence-transformers: its own classes alone, in folders of this one."""
    if not isinstance(content, list) or not all(isinstance(entry, Mapping) for entry in content):
        return "is no list of modules"
    for entry in content:
        kind, place = str(entry.get("type", "")), str(entry.get("path", ""))
        if not kind.startswith(_OWN_MODULES):
            return f"names a class to be run ({kind[:80]}): only those of sentence-transformers are"
        if Path(place).is_absolute() or ".." in Path(place).parts:
            return f"leads out of the folder (path: {place[:80]})"
    return None


def _index_fault(content: Any) -> str | None:
    """Check an index of weight files: every name is that of a file beside it."""
    places = content.get("weight_map", {}) if isinstance(content, Mapping) else None
    if not isinstance(places, Mapping):
        return "is no index of weights"
    wrong = next((one for one in places.values() if not isinstance(one, str) or Path(one).name != one), None)
    return None if wrong is None else f"leads out of the folder (weight_map: {str(wrong)[:80]})"


def _patterns_fault(content: Any) -> str | None:
    """Check the patterns of a tokenizer."""
    if isinstance(content, Mapping):
        pattern = content.get("Regex")
        if isinstance(pattern, str) and (fault := pattern_fault(pattern)):
            return f"has a pattern that {fault} ({pattern[:80]})"
        values = [value for key, value in content.items() if key not in ("vocab", "merges")]
        return next((fault for value in values if (fault := _patterns_fault(value))), None)
    if isinstance(content, list):
        return next((fault for value in content if (fault := _patterns_fault(value))), None)
    return None


_LONGEST_PATTERN = 20_000
_REPEAT = re.compile(r"[*+]|\{\d*,\d*\}")


def pattern_fault(pattern: str) -> str | None:
    """Say what makes a regular expression dangerous: it repeats what repeats itself, so that time grows without bound.

    Patterns are those of any dialect; only groups, classes and repeats are read.
    """
    if len(pattern) > _LONGEST_PATTERN:
        return f"has more than {_LONGEST_PATTERN:,} characters"
    inside = [False]  # for each open group, whether something in it repeats without bound
    place, closed = 0, False  # closed: what stands just before is a group with a repeat in it
    while place < len(pattern):
        mark = pattern[place]
        repeat = _REPEAT.match(pattern, place)
        if mark == "\\":
            step = re.compile(r"\\[pPxuk]\{[^}]*\}|\\.", re.DOTALL).match(pattern, place)
            place, closed = step.end() if step else place + 1, False
        elif mark == "[":
            place, closed = _class_end(pattern, place), False
        elif mark == "(":
            inside.append(False)
            place, closed = place + 1, False
        elif mark == ")":
            closed = inside.pop() if len(inside) > 1 else False
            inside[-1] = inside[-1] or closed
            place += 1
        elif repeat:
            if not repeat[0].startswith("{") or repeat[0].endswith(",}"):
                if closed:
                    return "repeats what repeats itself"
                inside[-1] = True
            elif closed and int(repeat[0].strip("{}").rpartition(",")[2] or 0) > 8:
                return "repeats what repeats itself"
            place = repeat.end()
            closed = False
            while place < len(pattern) and pattern[place] in "+?":  # possessive or lazy
                place += 1
        else:
            place, closed = place + 1, False
    return None


def _class_end(pattern: str, start: int) -> int:
    """Return the place behind a class such as `[^a-z\\]]`, classes within it and intersections included."""
    place, depth = start, 0
    while place < len(pattern):
        mark = pattern[place]
        if mark == "\\":
            place += 2
            continue
        if mark == "[":
            depth += 1
        elif mark == "]" and place > start + 1:
            depth -= 1
            if depth == 0:
                return place + 1
        place += 1
    return place


def _safetensors_fault(path: Path) -> str | None:
    """Compare the header of a safetensors file with its size: places, shapes and types.

    The format: https://github.com/huggingface/safetensors#format
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MOST_HEADER_BYTES, size - 8):
            return f"is no safetensors file: its header would take {length:,} of {size:,} bytes"
        try:
            header = json.loads(file.read(length))
            places = [
                (*(int(edge) for edge in entry["data_offsets"]), _bytes_of(entry))
                for name, entry in header.items()
                if name != "__metadata__"
            ]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            return f"is no safetensors file: its header cannot be read ({type(error).__name__})"
    end = 0
    for first, last, wanted in sorted(places):
        if first != end or last - first != wanted:
            return "is damaged: its tensors overlap, or their shapes do not fit their bytes"
        end = last
    return None if end == size - 8 - length else f"is damaged: it holds {size - 8 - length:,} bytes of {end:,}"


def _bytes_of(entry: Mapping[str, Any]) -> int:
    count = 1
    for side in entry["shape"]:
        if not isinstance(side, int) or side < 0:
            raise ValueError(f"side {side!r}")
        count *= side
    return -(-count * _DTYPE_BITS[entry["dtype"]] // 8)
