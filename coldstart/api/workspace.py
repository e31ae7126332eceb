"""Open a workspace; its methods come from the family files beside this one."""

from __future__ import annotations

from pathlib import Path

from coldstart.api.evaluate import EvaluateMethods
from coldstart.api.import_catalogue import ImportMethods
from coldstart.api.recommend import RecommendMethods
from coldstart.api.search import SearchMethods
from coldstart.api.take_away import TakeAwayMethods
from coldstart.errors import ColdstartError
from coldstart.store import Store


def open(uri: str | Path, *, create: bool = False) -> Workspace:
    """Open a workspace.

    Args:
        uri: a folder, or any URI LanceDB takes.
        create: create it where it is missing.

    Raises:
        ColdstartError: there is no workspace at `uri`, or nothing is kept there.
    """
    if str(uri).lower().startswith("memory:"):
        raise ColdstartError(f"workspace {uri}: nothing is kept in memory: name a folder")
    return Workspace(Store(uri, create=create))


class Workspace(ImportMethods, SearchMethods, RecommendMethods, EvaluateMethods, TakeAwayMethods):
    """One catalogue: its items, vectors, ledger and served index. Created by `coldstart.open`."""
