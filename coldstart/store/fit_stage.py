"""Read and save what fit stages share: the items that a fit takes, its artifacts, and what changed since the last one.

Stages hold these and call them; they do not inherit them. Knows no encoder, no generator and no way of training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

from coldstart.core.keys import chain, digest
from coldstart.core.stage import LedgerRow, Reject
from coldstart.errors import NotFitted
from coldstart.store import ITEMS, Store
from coldstart.store.fits import read_fit_items

if TYPE_CHECKING:
    from coldstart.store.artifacts import Artifact


def fit_in_use(fit: Artifact, since: str, summary: str) -> str:
    """Write the note of a run that leaves a fit as it is.

    The first line, which a terminal shows, has the date of the fit and `since`, what came after it; the second, for
    JSON, has its summary, which is not of this run.
    """
    return f"{_dated(fit)} in use{since}\n{summary}"


def fit_unchanged(fit: Artifact, summary: str) -> str:
    """Write the note of a refit that found nothing new: the date of the fit and its summary."""
    return f"{_dated(fit)} in use: {summary}; nothing came or changed since"


def _dated(fit: Artifact) -> str:
    return f"fit of {fit.made_at:%Y-%m-%d %H:%M UTC}"


@dataclass(frozen=True)
class FitInputs:
    """Items of one fit: those it takes, and those it leaves out.

    Attributes:
        stage: name of the fit stage.
        keys: item -> key of its training data; empty while a row that it is read from is still to come.
        verdicts: item -> ledger row of every item that is left out.
    """

    stage: str
    keys: dict[str, str] = field(default_factory=dict)
    verdicts: dict[str, LedgerRow] = field(default_factory=dict)

    def take(self, item: str, key: str, *, ready: bool = True) -> None:
        """Add an item of the fit, `ready` once every row that it is read from is fresh."""
        self.keys[item] = key if ready else ""

    def leave_out(self, item: str, key: str, why: Reject) -> None:
        """Add an item that is left out of the fit, with its verdict under a key of its own."""
        row_key = chain(key, str(why))
        self.verdicts[item] = LedgerRow(self.stage, item, row_key, why.state, why.reason, why.detail)

    @property
    def ready(self) -> dict[str, str]:
        """Item -> key of those whose rows are all fresh."""
        return {item: key for item, key in self.keys.items() if key}


def expected_or_waiting(
    store: Store, inputs: Callable[[Store], FitInputs]
) -> tuple[dict[str, str], dict[str, LedgerRow]]:
    """Read keys and verdicts of a fit's items; all items wait while an earlier fit is missing."""
    try:
        found = inputs(store)
    except NotFitted:
        return dict.fromkeys(store.keys(ITEMS), ""), {}
    return found.keys, found.verdicts


@dataclass(frozen=True)
class Changes:
    """Numbers of items that came and that changed since a fit."""

    new: int
    changed: int

    def note(self, command: str) -> str:
        """Write what follows the date of a fit: the changes, and the command that counts them in; empty without any."""
        if not self.new + self.changed:
            return ""
        return f"; {self.new} items came and {self.changed} changed since: `{command}`"


@dataclass(frozen=True)
class SavedFits:
    """Artifacts of one fit stage under its present settings.

    Attributes:
        stage: name of the stage.
        key: builds the key of its settings; raises NotFitted while an encoder that they name is not fitted.
        entry: entry of the artifact's report that holds this key.
        reads: reads from an artifact's report all that the stage wants of it; a fit whose report has something else,
            as in a stranger's workspace, counts as none.
    """

    stage: str
    key: Callable[[], str]
    entry: str = "settings"
    reads: Callable[[Artifact], object] = bool

    def newest(self, store: Store) -> Artifact | None:
        """Find the newest artifact; None where it was fitted under other settings, has another report, or is none.

        Raises:
            NotFitted: as `key`.
        """
        newest = store.artifacts.newest(self.stage)
        if newest is not None and newest.report.get(self.entry) == self.key():
            with suppress(KeyError, TypeError, ValueError, AttributeError):
                self.reads(newest)
                return newest
        return None

    def required(self, store: Store, command: str) -> Artifact:
        """Find the newest artifact under these settings.

        Args:
            command: that makes one, as the next step.

        Raises:
            NotFitted: there is none, and why.
        """
        if (newest := self.newest(store)) is not None:
            return newest
        older = store.artifacts.newest(self.stage)
        if older is None:
            raise NotFitted(f"stage {self.stage!r} has fitted nothing: run `{command}`")
        raise NotFitted(
            f"stage {self.stage!r} has no fit of its settings: the newest, of {older.made_at:%Y-%m-%d %H:%M UTC}, is "
            f"of other settings or of another version: run `{command}`, or give the settings that it was fitted by"
        )

    def present(self, store: Store) -> dict[str, str]:
        """Read the keys of the items that the newest artifact was fitted on, stopped by or evaluated by."""
        try:
            newest = self.newest(store)
        except NotFitted:
            return {}
        return {} if newest is None else {item: key for item, (key, _) in read_fit_items(newest).items()}

    def parts(self, store: Store) -> dict[str, str]:
        """Read item -> part of the split of the newest artifact."""
        newest = self.newest(store)
        return {} if newest is None else {item: part for item, (_, part) in read_fit_items(newest).items()}

    def changes(self, artifact: Artifact, keys: Mapping[str, str]) -> Changes:
        """Count the items that came or changed since an artifact; one whose rows are still to come has not changed."""
        present = read_fit_items(artifact)
        new = sum(item not in present for item in keys)
        changed = sum(bool(key) and item in present and present[item][0] != key for item, key in keys.items())
        return Changes(new, changed)

    def save(
        self, store: Store, fitted_on: Iterable[Any], files: Mapping[str, bytes], report: Mapping[str, Any]
    ) -> Artifact:
        """Save a fit as the newest artifact, with the key of its settings in the report.

        Args:
            fitted_on: keys of items and of other data that the fit read, as JSON values, in a fixed order.
        """
        key = self.key()
        return store.artifacts.save(self.stage, digest([key, *fitted_on]), files, {**report, self.entry: key})

    def scratch(self, store: Store, suffix: str = "", *, of_settings: bool = False) -> Path:
        """Return the path where a fit saves the state that it resumes from after a kill.

        Args:
            of_settings: other settings get a path of their own.
        """
        parts = [store.uri, self.stage, *([self.key()] if of_settings else [])]
        return store.cache / "fitting" / f"{digest(parts)}{suffix}"


def remove_scratch(path: Path) -> None:
    """Delete a file or folder of `SavedFits.scratch`, where it is present."""
    if path.is_dir():
        rmtree(path, ignore_errors=True)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
