"""Find the `build` function behind the name of an encoder or generator: in this package, else in another installed one.

Another package adds one by an entry point in its `pyproject.toml`, such as

    [project.entry-points."coldstart.encoders"]
    acme = "acme_coldstart.encoder:build"

Knows no encoder and no generator, and reads entry points only for a name that this package does not have.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import wraps
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from coldstart.errors import ColdstartError

Build = Callable[..., Any]
Kind = Literal["encoder", "generator"]


def find_build(
    kind: Kind, name: str, own: Sequence[str], parameters: Sequence[str], options: Iterable[str] = ()
) -> Build:
    """Find the function that builds an encoder or a generator by its name.

    Args:
        kind: the entry point group is `coldstart.encoders` or `coldstart.generators`, where the own modules stand too.
        name: `PREFIX` or `PREFIX:REST`.
        own: the prefixes of this package; another package cannot replace them.
        parameters: what every `build` takes, the first by place and the others by name.
        options: further settings that it must take.

    Raises:
        ColdstartError: no package has that name, or two others do; the other one cannot be imported, or its function
            does not take those parameters; an option is unknown.
    """
    prefix = name.partition(":")[0]
    build: Build | None
    if prefix in own or prefix.replace("-", "_") in own:
        build = importlib.import_module(f"coldstart.{kind}s.{prefix.replace('-', '_')}").build
    else:
        installed = entry_points(group=f"coldstart.{kind}s")
        others = [entry for entry in installed if _spelling(entry.name) not in map(_spelling, own)]
        matching = [entry for entry in others if _spelling(entry.name) == _spelling(prefix)]
        if not matching:
            names = sorted({*own, *(entry.name for entry in others)})
            near = get_close_matches(prefix, names, n=2, cutoff=0.5) or [name for name in names if name != "fake"]
            raise ColdstartError(f"{kind} {name!r} is unknown: nearest are {', '.join(near)}")
        build = _load(kind, prefix, matching, parameters)
    taken = [parameter for parameter in inspect.signature(build).parameters if parameter not in parameters]
    for option in options:
        if option not in taken:
            raise ColdstartError(
                f"option {option!r} is unknown to {kind} {name!r}: it takes {', '.join(taken) or 'none'}"
            )
    return build


def _load(kind: Kind, prefix: str, entries: Sequence[EntryPoint], parameters: Sequence[str]) -> Build:
    """Load the function of an entry point; every fault of it names the distribution."""
    owners = sorted({_distribution(entry) for entry in entries})
    if len(owners) > 1:
        raise ColdstartError(f"{kind} {prefix!r} is registered by {' and by '.join(owners)}: uninstall all but one")
    place = f"{kind} {prefix!r} of {owners[0]} ({entries[0].value})"
    try:
        build = entries[0].load()
    except Exception as error:  # another package's code may raise anything while it is imported
        raise ColdstartError(f"{place} cannot be imported: {_line(error)}; repair or uninstall {owners[0]}") from error
    if not callable(build):
        raise ColdstartError(f"{place} is no function: its entry point must name one, as in MODULE:build")
    try:
        inspect.signature(build).bind("", **dict.fromkeys(parameters[1:]))
    except TypeError as error:
        raise ColdstartError(f"{place} must take {parameters[0]}, *, {', '.join(parameters[1:])}: {error}") from error

    @wraps(build)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return build(*args, **kwargs)
        except ColdstartError:
            raise
        except Exception as error:
            raise ColdstartError(f"{place} failed: {_line(error)}; report it to its authors") from error

    return guarded


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _spelling(name: str) -> str:
    return name.replace("_", "-")


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unnamed distribution"
