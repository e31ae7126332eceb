"""Methods that rerank lists: fit a model of lists, and certify rerankers of the lists that `recommend` gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.api.recommend import RecommendMethods
from coldstart.api.rerank_service import (
    RerankService,
    base_of,
    check_deadline,
    read_certificate,
    save_certificate,
)
from coldstart.api.union import check_rank
from coldstart.api.work import WorkMethods
from coldstart.core.progress import Progress, SilentProgress
from coldstart.engine.report import RunReport
from coldstart.errors import ColdstartError, NotFitted
from coldstart.rerank import DEADLINE_MS, KINDS
from coldstart.rerank.certificate import VALID_DAYS, RerankReport, why_not

if TYPE_CHECKING:
    from coldstart.recommend.service import Recommender
    from coldstart.store import Store

USERS = 500


class RerankMethods(RecommendMethods, WorkMethods):
    """Methods of a workspace about the order of a list as a whole."""

    def finetune_rerank(
        self,
        source: str | Path | Mapping[str, Any] | None = None,
        *,
        kind: str = "listwise",
        overrides: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> RunReport:
        """Fit `finetune.rerank`, a model of what is clicked in a list, where showings or interactions came, changed or
        went since the last fit.

        Args:
            source: the pipeline, as for `pipeline()`; one without such a stage gets it.
            kind: `listwise`, the only one that is fitted.

        Raises:
            ColdstartError: a fault that you can mend, such as too few requests with outcomes.
        """
        from coldstart.rerank.fit_stage import check_showings
        from coldstart.rerank.settings import RERANK, with_rerank

        if kind != "listwise":
            raise ColdstartError(f"rerank kind {kind!r} has nothing to fit: use listwise")
        overrides = list(overrides)
        raw = with_rerank(self.pipeline(source))
        (*_, stage) = self.pipeline(raw, overrides=overrides).of_kind(RERANK)
        check_showings(self._store, stage.name, stage.settings)
        return self.run(raw, overrides=overrides, only=[RERANK], refit=True, progress=progress)

    def evaluate_rerank(
        self,
        source: str | Path | Mapping[str, Any] | None = None,
        *,
        kinds: Iterable[str] = ("mmr", "dpp"),
        generator: str = "starter",
        mode: str = "pointwise",
        split: str = "last-out",
        users: int = USERS,
        deadline_ms: float = DEADLINE_MS,
        rank: str = "auto",
        recall: str | None = None,
        progress: Progress | None = None,
    ) -> RerankReport:
        """Measure rerankers against the lists that `recommend` gives, and save a certificate of each.

        Args:
            source: the pipeline, as for `pipeline()`.
            kinds: `mmr`, `dpp`, `listwise`, `llm`.
            generator: the language model of `llm`; mode: `pointwise` or `letters`.
            split: `last-out`, each user's last liked item is held out; or `time`, the first one after a cut, which
                `listwise` needs.
            users: measure so many, drawn by a hash of their ids; settings are chosen on half as many others, 200 at
                most.
            deadline_ms: after which a served list keeps its base order; here it is counted only.
            rank, recall: of which lists: those of `recommend` with these; with `recall` they are not ranked.

        Raises:
            ColdstartError: nothing is published, there are no interactions, nobody is left to measure, or a kind is
                unknown.
        """
        from coldstart.api.rerank_requests import LISTED, HeldOutRequests

        wanted = list(dict.fromkeys(kinds))
        if unknown := [kind for kind in wanted if kind not in KINDS[1:]]:
            raise ColdstartError(f"rerank kind {unknown[0]!r} is unknown: use {', '.join(KINDS[1:])}")
        check_deadline(deadline_ms)
        if split not in ("last-out", "time"):
            raise ColdstartError(f"split {split!r}: use last-out or time")
        check_rank(rank)
        if recall is not None and rank == "on":
            raise ColdstartError("rank on with recall: certificates are of ranked lists, or of those by recall")
        recommender, meters = self._listing(), progress or SilentProgress()
        channel = None if recall is None else self._recalling().channel(recall)
        ranked = channel is None and self._union_key(rank) is not None
        requests = HeldOutRequests(
            self._store,
            self.pipeline(source),
            recommender,
            split,
            users,
            meters,
            ranked=ranked,
            recall=channel,
        )
        found: dict[str, Any] = {}
        left_out: dict[str, str] = {}
        for kind in wanted:
            try:
                certificate = requests.certificate(kind, generator, mode, deadline_ms)
            except NotFitted as missing:
                left_out[kind] = str(missing)
                continue
            save_certificate(self._store, certificate)
            why = why_not(certificate, kind, requests.base, certificate["method"])
            found[kind] = {**certificate, "why_not": why, "days": VALID_DAYS}
        base = {
            "name": requests.base.name,
            "digest": requests.base.digest,
            "items": LISTED,
            "requests": len(requests.test),
            "valid": len(requests.valid),
            "window": requests.window,
        }
        return RerankReport(base, found, left_out, requests.notes)

    def rerank_certificates(self) -> dict[str, dict[str, Any]]:
        """Read the newest certificate of each kind that has one."""
        found = {kind: read_certificate(self._store, kind) for kind in KINDS[1:]}
        return {kind: own for kind, own in found.items() if own is not None}


def reranked_notes(
    store: Store, recommender: Callable[[], Recommender], union: Callable[[], str | None] = lambda: None
) -> list[str]:
    """Describe the certificates of rerankers, a sentence each, with what `auto` makes of them; nothing without one.

    A language model is not loaded for it: whether it is the certified one is seen where it orders a list.

    Args:
        recommender: builds the one that serves; it may raise.
        union: finds the key of the ranker of the union, where it orders what is served; it may raise.
    """
    found = []
    for kind in KINDS[1:]:
        own = read_certificate(store, kind)
        if own is None:
            continue
        try:
            given = recommender()
            base = base_of(given, union=union())
            own = read_certificate(store, kind, base) or own
            method = str(own.get("method")) if kind == "llm" else RerankService(given).method(kind, base)
            why = why_not(own, kind, base, method)
        except ColdstartError as error:
            why = str(error)
        state = "auto serves it" if why is None else f"auto does not serve it: {why}"
        try:
            of_base, difference, count = own["ndcg_base"], own["difference"], int(own["n"])
            measured = (
                f"NDCG@10 {float(of_base['value']):.4f} without, {float(difference['value']):+.4f} "
                f"({float(difference['low']):+.4f} to {float(difference['high']):+.4f}) with it, {count:,} requests of "
                "another split than this one; "
            )
        except (KeyError, TypeError, ValueError):
            measured = ""
        found.append(f"reranked by {kind}: {measured}{state}")
    return found
