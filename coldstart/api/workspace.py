"""The class of workspaces; its methods come from the family files beside this one."""

from __future__ import annotations

from coldstart.api.evaluate import EvaluateMethods
from coldstart.api.import_catalogue import ImportMethods
from coldstart.api.recommend import RecommendMethods
from coldstart.api.search import SearchMethods
from coldstart.api.take_away import TakeAwayMethods


class Workspace(ImportMethods, SearchMethods, RecommendMethods, EvaluateMethods, TakeAwayMethods):
    """One catalogue: its items, vectors, ledger and served index. Created by `coldstart.open`."""
