"""Name faults of settings with the setting that has them, and the line and column of it in a pipeline file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coldstart.core.yaml_text import Path, Place, YamlText
from coldstart.errors import ColdstartError


class Fault(str):
    """A fault in words.

    Attributes:
        path: keys that lead to the setting, such as `stages`, `text`, `encoder`; empty for none.
        of_value: the value is at fault, not the key.
        place: line and column in the pipeline file; None for a setting from elsewhere.
    """

    path: Path
    of_value: bool
    place: Place | None

    def __new__(cls, text: str, path: Path = (), *, of_value: bool = False, place: Place | None = None) -> Fault:
        made = super().__new__(cls, text)
        made.path, made.of_value, made.place = path, of_value, place
        return made

    def placed(self, places: Places) -> Fault:
        """Return the same fault with its place."""
        if self.place is not None:
            return self
        return Fault(self, self.path, of_value=self.of_value, place=places.find(self.path, of_value=self.of_value))

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON: `setting`, `line`, `column` (None where not known) and `fault`."""
        names = self.path[1:] if self.path[:1] == ("stages",) else self.path
        place = self.place
        return {
            "setting": ".".join(names) or None,
            "line": place and place.line,
            "column": place and place.column,
            "fault": str(self),
        }

    def shown(self) -> str:
        """Return it with line and column before it, where they are known."""
        return str(self) if self.place is None else f"{self.place}: {self}"


class Places:
    """Places of the settings of a pipeline file, without those that were given elsewhere."""

    def __init__(self, text: YamlText | None = None, elsewhere: Iterable[Path] = ()) -> None:
        self._keys: Mapping[Path, Place] = {} if text is None else text.places
        self._values: Mapping[Path, Place] = {} if text is None else text.values
        self._elsewhere = tuple(elsewhere)

    def find(self, path: Path, *, of_value: bool = False) -> Place | None:
        """Find the place of a setting, or of the one that it would stand in."""
        if not path or any(path[: len(other)] == other for other in self._elsewhere):
            return None
        if of_value and path in self._values:
            return self._values[path]
        while path and path not in self._keys:
            path = path[:-1]
        return self._keys.get(path)


class PipelineError(ColdstartError):
    """A pipeline file with faults; `faults` lists them all."""

    kind = "settings"

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        self.source = source
        self.faults = [fault if isinstance(fault, Fault) else Fault(fault) for fault in faults]
        if len(self.faults) == 1 and self.faults[0].place is not None:
            text = f"{source}:{self.faults[0].shown()}"
        else:
            count = f"{len(faults)} faults" if len(faults) > 1 else "1 fault"
            text = f"{source}: {count}: " + "; ".join(fault.shown() for fault in self.faults)
        super().__init__(text)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.source, self.faults)
