"""Methods that rerank lists: fit a model of lists, judge rerankers, and order the head of a list that is given out.

A certificate belongs to one method over one kind of base list. Where it is judged, whatever learnt from interactions is
fitted again inside the split by the same settings, so that method and base have the digests that serving has.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coldstart.api.work import WorkMethods
from coldstart.core.keys import digest
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress, SilentProgress
from coldstart.engine.report import RunReport
from coldstart.errors import ColdstartError, NotFitted
from coldstart.rerank import DEADLINE_MS, KINDS, MOST_ITEMS, Guard, RerankItems, RerankRequest
from coldstart.rerank.certificate import FILE, NAME, VALID_DAYS, Base, RerankReport, why_not

if TYPE_CHECKING:
    from coldstart.generators import Generator
    from coldstart.recommend.lists import Rules
    from coldstart.recommend.service import QuerySettings, Recommended, Recommender
    from coldstart.recommend.users import History
    from coldstart.rerank import Reranker
    from coldstart.rerank.features import ListFeatures
    from coldstart.rerank.fit_stage import RerankFitStage
    from coldstart.store import Store

CHOICES = ("auto", *KINDS)
USERS = 500
LIKED = 10
"""Latest liked titles that a reranker is told."""


class RerankMethods(WorkMethods):
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
        from coldstart.rerank.settings import RERANK, with_rerank

        if kind != "listwise":
            raise ColdstartError(f"rerank kind {kind!r} has nothing to fit: use listwise")
        raw = with_rerank(self.pipeline(source))
        return self.run(raw, overrides=list(overrides), only=[RERANK], refit=True, progress=progress)

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
        progress: Progress | None = None,
    ) -> RerankReport:
        """Judge rerankers against the lists that `recommend` gives, and save a certificate of each.

        Args:
            source: the pipeline, as for `pipeline()`.
            kinds: `mmr`, `dpp`, `listwise`, `llm`.
            generator: the language model of `llm`; mode: `pointwise` or `letters`.
            split: `last-out`, each user's last liked item is asked for; or `time`, the first one after a cut, which
                `listwise` needs.
            users: judge so many, drawn by a hash of their ids; settings are chosen on half as many others, at most 200.
            deadline_ms: after which a served list keeps its base order; here it is counted only.

        Raises:
            ColdstartError: nothing is published, there are no interactions, nobody is left to judge, or a kind is
                unknown.
        """
        from coldstart.api.rerank_judging import LISTED, Judging

        wanted = list(dict.fromkeys(kinds))
        if unknown := [kind for kind in wanted if kind not in KINDS[1:]]:
            raise ColdstartError(f"rerank kind {unknown[0]!r} is unknown: use {', '.join(KINDS[1:])}")
        check_deadline(deadline_ms)
        if split not in ("last-out", "time"):
            raise ColdstartError(f"split {split!r}: use last-out or time")
        recommender = self._listing()  # type: ignore[attr-defined]
        judging = Judging(self._store, self.pipeline(source), recommender, split, users, progress or SilentProgress())
        found: dict[str, Any] = {}
        left_out: dict[str, str] = {}
        for kind in wanted:
            try:
                certificate = judging.certificate(kind, generator, mode, deadline_ms)
            except NotFitted as missing:
                left_out[kind] = str(missing)
                continue
            save_certificate(self._store, certificate)
            why = why_not(certificate, kind, judging.base, certificate["method"])
            found[kind] = {**certificate, "why_not": why, "days": VALID_DAYS}
        base = {
            "name": judging.base.name,
            "digest": judging.base.digest,
            "items": LISTED,
            "requests": len(judging.test),
            "valid": len(judging.valid),
            "window": judging.window,
        }
        return RerankReport(base, found, left_out, judging.notes)

    def rerank_certificates(self) -> dict[str, dict[str, Any]]:
        """Read the newest certificate of each kind that has one."""
        found = {kind: read_certificate(self._store, kind) for kind in KINDS[1:]}
        return {kind: own for kind, own in found.items() if own is not None}


def check_deadline(deadline_ms: float) -> None:
    """Check a deadline.

    Raises:
        ColdstartError: it is not from 1 to 600,000.
    """
    if not 1 <= deadline_ms <= 600_000:
        raise ColdstartError(f"deadline {deadline_ms:g} ms: give 1 to 600,000")


def save_certificate(store: Store, certificate: Mapping[str, Any]) -> None:
    """Save a certificate as the newest of its kind."""
    name = f"{NAME}{certificate['kind']}"
    text = json.dumps(certificate, sort_keys=True, allow_nan=False).encode()
    difference = certificate["difference"]
    store.artifacts.save(name, digest([certificate["method"], certificate["base"]["digest"]]), {FILE: text},
                         {"difference": difference, "n": certificate["n"]})  # fmt: skip


def read_certificate(store: Store, kind: str) -> dict[str, Any] | None:
    """Read the newest certificate of a kind; None where there is none, or it cannot be read."""
    newest = store.artifacts.newest(f"{NAME}{kind}")
    if newest is None:
        return None
    try:
        found = json.loads(newest.files()[FILE])
    except (KeyError, ValueError, RecursionError, ColdstartError):
        return None
    return found if isinstance(found, dict) and found.get("kind") == kind else None


def base_of(recommender: Recommender, scored_by: str, options: Mapping[str, Any] | None = None) -> Base:
    """Name the lists of a recommender, with the digest of their method and settings, whatever data it had.

    Args:
        options: of the list, where they are not the default.
    """
    from coldstart.recommend.inputs import load_newest_fit

    model, given = recommender.scoring_model, dict(options or {})
    own: list[Any] = [scored_by]
    if scored_by == model.name and model.is_fitted:
        own.append(load_newest_fit(recommender.store, recommender.pipeline)[1].report.get("settings_key"))
    elif scored_by == model.name:
        spaces = [spec.name for spec in recommender.pipeline.of_kind("embed")]
        embeds: list[Any] = [recommender.pipeline_state.stage(space) for space in spaces]
        own += [stage.passport.digest for stage in embeds]
    name = scored_by + "".join(f", {option} {value}" for option, value in sorted(given.items()))
    return Base(name, digest([*own, given]))


def load_scorer(name: str, mode: str) -> Generator:
    """Load a generator for `llm`.

    Raises:
        ColdstartError: it is unknown or not on this machine, the mode is unknown, or it scores no texts.
    """
    from coldstart import generators
    from coldstart.rerank.language import MODES

    if mode not in MODES:
        raise ColdstartError(f"mode {mode!r}: use {' or '.join(MODES)}")
    found = generators.load(name)
    if mode == "pointwise" and not isinstance(found, generators.TextScorer):
        raise ColdstartError(f"generator {name!r} scores no texts: use mode letters, or starter or hf:NAME")
    return found


def listwise_stage(pipeline: Pipeline) -> RerankFitStage:
    """Build the last stage `finetune.rerank` of a pipeline.

    Raises:
        NotFitted: it has none.
    """
    from coldstart.rerank.settings import RERANK
    from coldstart.store.freshness import build

    specs = pipeline.of_kind(RERANK)
    if not specs:
        raise NotFitted("no model of lists is fitted: run `coldstart finetune rerank`")
    stage: Any = build(specs[-1], pipeline)
    found: RerankFitStage = stage
    return found


class RerankService:
    """Rerankers of one publication, each loaded once."""

    def __init__(self, recommender: Recommender) -> None:
        self._recommender, self._store = recommender, recommender.store
        self._guards: dict[tuple[str, str], tuple[str, Guard]] = {}
        self._features: ListFeatures | None = None

    def reordered(
        self,
        found: Recommended,
        history: History,
        asked: str,
        *,
        options: Mapping[str, Any] | None = None,
        generator: str = "starter",
        deadline_ms: float = DEADLINE_MS,
    ) -> Recommended:
        """Order the first 30 items of a list anew, or leave it as it is and say why.

        Args:
            asked: `auto`, or a kind; options: of the list, where they are not the default.

        Raises:
            ColdstartError: what the kind needs is not fitted or installed.
        """
        base = base_of(self._recommender, found.scored_by, options)
        kind, why = (asked, None) if asked != "auto" else self._chosen(base, generator)
        guard = self._guard(kind, generator)
        guard.deadline_ms = deadline_ms
        items = self._items(found, history, kind)
        scores = -np.arange(len(found.items), dtype=np.float64)
        order = guard.order(RerankRequest(self._titles(history)), items, scores)
        about: dict[str, Any] = {
            "asked": asked,
            "kind": "none" if order.fault else kind,
            "why": fault_text(kind, order.fault, deadline_ms) if order.fault else why,
            "fault": order.fault,
            "ms": round(order.ms, 1),
        }
        listed = tuple(replace(found.items[place], rank=slot) for slot, place in enumerate(order.places.tolist(), 1))
        notes = found.notes if about["why"] is None else (*found.notes, f"not reranked: {about['why']}")
        return replace(found, items=listed, notes=notes, rerank=about)

    def _chosen(self, base: Base, generator: str) -> tuple[str, str | None]:
        """Choose the kind of the best valid certificate; or `none`, and the reason."""
        certificates = [(kind, read_certificate(self._store, kind)) for kind in KINDS[1:]]
        known = [(kind, own) for kind, own in certificates if own is not None]
        if not known:
            return "none", "no certificate: `coldstart evaluate rerank` judges what reranking is worth here"
        reasons = []
        allowed: list[tuple[float, str]] = []
        for kind, own in known:
            why = why_not(own, kind, base, str(own.get("method")))  # cheap: before any model is loaded
            if why is None:
                try:
                    why = why_not(own, kind, base, self._guard(kind, generator).reranker.digest)
                except ColdstartError as error:
                    why = str(error)
            if why is None:
                allowed.append((float(own["difference"]["low"]), kind))
            else:
                reasons.append(why)
        return (max(allowed)[1], None) if allowed else ("none", "; ".join(reasons))

    def method(self, kind: str) -> str:
        """Compute the digest of the method that serves a kind, but `llm`.

        Raises:
            ColdstartError: what it needs is not fitted.
        """
        return self._guard(kind, "").reranker.digest

    def _guard(self, kind: str, generator: str) -> Guard:
        key = (kind, generator if kind == "llm" else "")
        judged = self._store.artifacts.newest(f"{NAME}{kind}")
        made = "" if judged is None else judged.digest
        if kind == "listwise":
            made += listwise_stage(self._recommender.pipeline).newest(self._store).digest
        if key not in self._guards or self._guards[key][0] != made:  # judged or fitted anew since
            self._guards[key] = made, Guard(self._reranker(kind, generator))
        return self._guards[key][1]

    def _reranker(self, kind: str, generator: str) -> Reranker:
        from coldstart.rerank.diverse import DIAL, Diverse, Unchanged

        known = (read_certificate(self._store, kind) or {}).get("settings")
        settings = known if isinstance(known, dict) else {}
        if kind == "none":
            return Unchanged()
        if kind in ("mmr", "dpp"):
            return Diverse(kind, _number(settings.get("dial"), DIAL, 0, 1))
        if kind == "llm":
            from coldstart.generators import Request
            from coldstart.rerank.language import MODES, LanguageReranker

            # The generator is the caller's, never the certificate's: that may be a stranger's, and titles go to it.
            mode = settings.get("mode") if settings.get("mode") in MODES else MODES[0]
            own = load_scorer(generator, str(mode))
            if hasattr(own, "log_probabilities"):
                own.log_probabilities(Request("a"), ["a"])  # weights load here, and not within a deadline
            weight, prior = _number(settings.get("weight"), 0.1, 0, 10), _number(settings.get("prior"), 0.5, 0, 10)
            return LanguageReranker(own, mode=str(mode), weight=weight or 0.1, prior=prior)
        from coldstart.rerank.listwise import ListwiseReranker

        stage = listwise_stage(self._recommender.pipeline)
        return ListwiseReranker(stage.model(self._store), stage.key)

    def _items(self, found: Recommended, history: History, kind: str) -> RerankItems:
        ids = [one.item_id for one in found.items]
        titles = [one.title or "" for one in found.items]
        if kind == "listwise":
            if self._features is None:
                self._features = listwise_stage(self._recommender.pipeline).features(self._store)
            places = {item: place for place, item in enumerate(self._features.known.item_ids)}
            past = np.array([places[item] for item in history.in_order(self._recommender.min_weight) if item in places],
                            np.int64)  # fmt: skip
            own = np.array([places[item] for item in ids], np.int64)
            return self._features.items(own, titles, past, int(time.time()))
        vectors = None
        if kind in ("mmr", "dpp") and ids:
            from coldstart.recommend.inputs import load_content
            from coldstart.recommend.users import joined_vectors

            head = ids[:MOST_ITEMS]
            recommender = self._recommender
            content = load_content(
                self._store, recommender.pipeline, items=head, pipeline_state=recommender.pipeline_state
            )
            joined, at = joined_vectors(content), {item: place for place, item in enumerate(content.item_ids)}
            vectors = np.zeros((len(ids), joined.shape[1]), np.float32)
            for row, item in enumerate(head):
                if item in at:
                    vectors[row] = joined[at[item]]
        return RerankItems(tuple(ids), tuple(titles), vectors)

    def _titles(self, history: History) -> tuple[str, ...]:
        latest = history.in_order(self._recommender.min_weight)[::-1][:LIKED]
        records = self._recommender.catalog.items(latest, ["title"])
        return tuple(str(records.get(item, {}).get("title") or "") for item in latest)


def reranked_notes(store: Store, recommender: Callable[[], Recommender]) -> list[str]:
    """Describe the certificates of rerankers, a sentence each, with what `auto` makes of them; nothing without one.

    A language model is not loaded for it: whether it is the certified one is seen where it orders a list.

    Args:
        recommender: builds the one that serves; it may raise.
    """
    known = [(kind, own) for kind in KINDS[1:] if (own := read_certificate(store, kind)) is not None]
    found = []
    for kind, own in known:
        try:
            given = recommender()
            base = base_of(given, given.scoring_model.name)
            method = str(own.get("method")) if kind == "llm" else RerankService(given).method(kind)
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


def list_options(rules: Rules, query: QuerySettings) -> dict[str, Any]:
    """Collect what makes a list another than the plain one that certificates are about."""
    plain = {"per_creator": None, "cold_share": 0.0, "cold_boost": 0.0, "diversity": 0.0}
    found = {name: getattr(rules, name) for name, value in plain.items() if getattr(rules, name) != value}
    if query.interests != 1:
        found["interests"] = query.interests
    if query.half_life_days is not None:
        found["half_life_days"] = query.half_life_days
    return found


def check_rerank(asked: str, deadline_ms: float = DEADLINE_MS, explore: float = 0.0) -> None:
    """Check what is asked of a reranker.

    Raises:
        ColdstartError: the kind is unknown, the deadline out of range, or slots are for exploration.
    """
    if explore and asked != "none":
        raise ColdstartError(
            f"rerank {asked!r} and explore {explore:g} exclude each other: a propensity is of an item at its slot"
        )
    if asked not in CHOICES:
        raise ColdstartError(f"rerank {asked!r}: use {', '.join(CHOICES)}")
    check_deadline(deadline_ms)


def fault_text(kind: str, fault: str, deadline_ms: float) -> str:
    """Say why the base order stands after all."""
    from coldstart.rerank import FAULTS

    limit = f" of {deadline_ms:g} ms" if fault == "late" else ""
    return f"{kind} {FAULTS[fault]}{limit}"


def _number(value: Any, default: float, least: float, most: float) -> float:
    """Read a setting of a certificate, which may be a stranger's."""
    usable = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
    return float(value) if usable else default
