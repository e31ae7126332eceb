"""The class of workspaces; its methods come from the family files beside this one, those of search by evaluation."""

from __future__ import annotations

from coldstart.api.evaluate import EvaluateMethods
from coldstart.api.import_catalogue import ImportMethods
from coldstart.api.impressions import ImpressionMethods
from coldstart.api.rank import RankMethods
from coldstart.api.rerank import RerankMethods
from coldstart.api.review import ReviewMethods
from coldstart.api.semantic_ids import SidMethods
from coldstart.api.take_away import TakeAwayMethods


class Workspace(
    ReviewMethods,
    ImportMethods,
    ImpressionMethods,
    EvaluateMethods,
    RerankMethods,
    SidMethods,
    RankMethods,
    TakeAwayMethods,
):
    """One catalogue: its items, vectors, ledger and served index. Created by `coldstart.open`."""
