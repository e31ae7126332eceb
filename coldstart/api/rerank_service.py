"""Serve the rerankers of a workspace: read certificates, choose the kind of `auto`, and order the head of a list.

A certificate belongs to one method over one kind of base list, by the digests of both.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.keys import digest
from coldstart.core.pipeline import Pipeline
from coldstart.errors import ColdstartError, NotFitted
from coldstart.rerank import DEADLINE_MS, KINDS, LIKED, MOST_ITEMS, Guard, Reordered, RerankItems, RerankRequest
from coldstart.rerank.certificate import FILE, NAME, Base, why_not

if TYPE_CHECKING:
    from coldstart.generators import Generator
    from coldstart.recommend.lists import Rules
    from coldstart.recommend.service import QuerySettings, Recommended, Recommender
    from coldstart.recommend.users import History
    from coldstart.rerank import Reranker
    from coldstart.rerank.features import ListFeatures
    from coldstart.rerank.fit_stage import RerankFitStage
    from coldstart.store import Store
    from coldstart.store.artifacts import Artifact

CHOICES = ("auto", *KINDS)


def check_deadline(deadline_ms: float) -> None:
    """Check a deadline.

    Raises:
        ColdstartError: it is not from 1 to 600,000.
    """
    if not 1 <= deadline_ms <= 600_000:
        raise ColdstartError(f"deadline {deadline_ms:g} ms: give 1 to 600,000")


def save_certificate(store: Store, certificate: Mapping[str, Any]) -> None:
    """Save a certificate as the newest of its kind, and as that of its base."""
    text = json.dumps(certificate, sort_keys=True, allow_nan=False).encode()
    difference = certificate["difference"]
    key = digest([certificate["method"], certificate["base"]["digest"]])
    for name in (_name(certificate["kind"]), _name(certificate["kind"], certificate["base"]["digest"])):
        store.artifacts.save(name, key, {FILE: text}, {"difference": difference, "n": certificate["n"]})


def read_certificate(store: Store, kind: str, base: Base | None = None) -> dict[str, Any] | None:
    """Read the newest certificate of a kind, of a base where there is one; None where none is, or it cannot be read."""
    made = newest_certificate(store, kind, base)
    if made is None:
        return None
    try:
        found = json.loads(made.files()[FILE])
    except (KeyError, ValueError, RecursionError, ColdstartError):
        return None
    return found if isinstance(found, dict) and found.get("kind") == kind else None


def newest_certificate(store: Store, kind: str, base: Base | None = None) -> Artifact | None:
    """Find the newest certificate of a kind and a base, else the newest of the kind."""
    own = None if base is None else store.artifacts.newest(_name(kind, base.digest))
    return own if own is not None else store.artifacts.newest(_name(kind))


def _name(kind: str, base: str | None = None) -> str:
    return f"{NAME}{kind}" if base is None else f"{NAME}{kind}.{base[:16]}"


def base_of(
    recommender: Recommender,
    scored_by: str | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    union: str | None = None,
    recall: str | None = None,
) -> Base:
    """Name the lists of a recommender, with the digest of their method and settings, whatever data it had.

    Args:
        scored_by: what scored them, by default the model of behaviour, or content without one.
        options: of the list, where they are not the default; union: key of the ranker of the union that ordered them;
            recall: of the sequence model that scored them.
    """
    from coldstart.recommend.inputs import load_newest_fit

    model, given = recommender.scoring_model, dict(options or {})
    name = model.name if scored_by is None else scored_by
    own: list[Any] = [name]
    if name == model.name and model.is_fitted:
        own.append(load_newest_fit(recommender.store, recommender.pipeline)[1].report.get("settings_key"))
    elif name == model.name:
        spaces = [spec.name for spec in recommender.pipeline.of_kind("embed")]
        embeds: list[Any] = [recommender.pipeline_state.stage(space) for space in spaces]
        own += [stage.passport.digest for stage in embeds]
    if recall is not None:
        own += ["sequence model", recall]
    if union is not None:
        own += ["ranked union", union]
        name = f"ranked union, over {name}"
    name += "".join(f", {option} {value}" for option, value in sorted(given.items()))
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
        self._guards: dict[tuple[str, str, str], tuple[str, Guard]] = {}
        self._features: ListFeatures | None = None
        self._vectors: dict[str, NDArray[np.float32]] = {}

    def reordered(
        self,
        found: Recommended,
        history: History,
        requested: str,
        base: Base,
        *,
        generator: str = "starter",
        deadline_ms: float = DEADLINE_MS,
    ) -> Recommended:
        """Order the first 30 items of a list anew, or leave it as it is and say why.

        Args:
            requested: `auto`, or a kind; base: of the list.

        Raises:
            ColdstartError: what the kind needs is not fitted or installed.
        """
        kind, why = self.choose(requested, base, generator)
        ids = [one.item_id for one in found.items]
        order = self.order(kind, base, ids, history, generator=generator, deadline_ms=deadline_ms)
        about: dict[str, Any] = {
            "requested": requested,
            "kind": "none" if order.fault else kind,
            "why": fault_text(kind, order.fault, deadline_ms) if order.fault else why,
            "fault": order.fault,
            "ms": round(order.ms, 1),
        }
        listed = tuple(replace(found.items[place], rank=slot) for slot, place in enumerate(order.places.tolist(), 1))
        notes = found.notes if about["why"] is None else (*found.notes, f"not reranked: {about['why']}")
        return replace(found, items=listed, notes=notes, rerank=about)

    def order(
        self,
        kind: str,
        base: Base,
        item_ids: Sequence[str],
        history: History,
        *,
        generator: str = "starter",
        deadline_ms: float = DEADLINE_MS,
    ) -> Reordered:
        """Order the first 30 items of one list of a base by a kind."""
        guard = self._guard(kind, base, generator)
        items = self._items(item_ids, history, kind)
        liked: tuple[str, ...] = ()
        if kind == "llm":
            liked = self._titles(history.in_order(self._recommender.min_weight)[::-1][:LIKED])
        scores = -np.arange(len(item_ids), dtype=np.float64)
        return guard.order(RerankRequest(liked), items, scores, deadline_ms=deadline_ms)

    def choose(self, requested: str, base: Base, generator: str) -> tuple[str, str | None]:
        """Choose the kind that orders lists of a base, and why it is not another; see `reordered`."""
        return (requested, None) if requested != "auto" else self._chosen(base, generator)

    def read_content(self, kind: str, item_ids: Iterable[str]) -> None:
        """Read what a kind compares of items that are listed next, at once: many times as quick as a list at a time."""
        self._vectors = dict(self._read(list(dict.fromkeys(item_ids)))) if kind in ("mmr", "dpp") else {}

    def _read(self, item_ids: list[str]) -> Iterator[tuple[str, NDArray[np.float32]]]:
        from coldstart.recommend.inputs import load_content
        from coldstart.recommend.users import joined_vectors

        own = self._recommender
        content = load_content(self._store, own.pipeline, items=item_ids, pipeline_state=own.pipeline_state)
        return zip(content.item_ids, joined_vectors(content), strict=True)

    def _chosen(self, base: Base, generator: str) -> tuple[str, str | None]:
        """Choose the kind of the best valid certificate; or `none`, and the reason."""
        certificates = [(kind, read_certificate(self._store, kind, base)) for kind in KINDS[1:]]
        known = [(kind, own) for kind, own in certificates if own is not None]
        if not known:
            return "none", "no certificate: `coldstart evaluate rerank` measures what reranking gains here"
        reasons = []
        allowed: list[tuple[float, str]] = []
        for kind, own in known:
            why = why_not(own, kind, base, str(own.get("method")))  # cheap: before any model is loaded
            if why is None:
                try:
                    why = why_not(own, kind, base, self._guard(kind, base, generator).reranker.digest)
                except ColdstartError as error:
                    why = str(error)
            if why is None:
                allowed.append((float(own["difference"]["low"]), kind))
            else:
                reasons.append(why)
        return (max(allowed)[1], None) if allowed else ("none", "; ".join(reasons))

    def method(self, kind: str, base: Base) -> str:
        """Compute the digest of the method that serves a kind, but `llm`.

        Raises:
            ColdstartError: what it needs is not fitted.
        """
        return self._guard(kind, base, "").reranker.digest

    def _guard(self, kind: str, base: Base, generator: str) -> Guard:
        key = (kind, generator if kind == "llm" else "", base.digest)
        certificate = newest_certificate(self._store, kind, base)
        made = "" if certificate is None else certificate.digest
        if kind == "listwise":
            made += listwise_stage(self._recommender.pipeline).newest(self._store).digest
        if key not in self._guards or self._guards[key][0] != made:  # measured or fitted anew since
            self._guards[key] = made, Guard(self._reranker(kind, base, generator))
        return self._guards[key][1]

    def _reranker(self, kind: str, base: Base, generator: str) -> Reranker:
        from coldstart.rerank.diverse import DIAL, Diverse, Unchanged

        known = (read_certificate(self._store, kind, base) or {}).get("settings")
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

    def _items(self, ids: Sequence[str], history: History, kind: str) -> RerankItems:
        titles = self._titles(ids) if kind == "llm" else ("",) * len(ids)
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
            head = list(ids[:MOST_ITEMS])
            known = self._vectors if all(item in self._vectors for item in head) else dict(self._read(head))
            dim = next((len(own) for own in known.values()), 1)
            vectors = np.zeros((len(ids), dim), np.float32)
            for row, item in enumerate(head):
                if item in known:
                    vectors[row] = known[item]
        return RerankItems(tuple(ids), titles, vectors)

    def _titles(self, item_ids: Sequence[str]) -> tuple[str, ...]:
        records = self._recommender.catalog.items(item_ids, ["title"])
        return tuple(str(records.get(item, {}).get("title") or "") for item in item_ids)


def list_options(rules: Rules, query: QuerySettings) -> dict[str, Any]:
    """Collect what makes a list another than the plain one that certificates are about."""
    plain = {"per_creator": None, "cold_share": 0.0, "cold_boost": 0.0, "diversity": 0.0}
    found = {name: getattr(rules, name) for name, value in plain.items() if getattr(rules, name) != value}
    if query.interests != 1:
        found["interests"] = query.interests
    if query.half_life_days is not None:
        found["half_life_days"] = query.half_life_days
    return found


def check_rerank(kind: str, deadline_ms: float = DEADLINE_MS, explore: float = 0.0) -> None:
    """Check the options of a reranker.

    Raises:
        ColdstartError: the kind is unknown, the deadline out of range, or slots are for exploration.
    """
    if explore and kind != "none":
        raise ColdstartError(
            f"rerank {kind!r} and explore {explore:g} exclude each other: a propensity is of an item at its slot"
        )
    if kind not in CHOICES:
        raise ColdstartError(f"rerank {kind!r}: use {', '.join(CHOICES)}")
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
