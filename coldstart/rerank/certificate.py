"""Judge a reranker against its base on held-out requests, and write what was found as a certificate.

Requests are split by users: settings are chosen on some, figures are those of the others, seen once. A certificate
holds for one method on one kind of base list, by their digests, and for 30 days: what it says was measured on the data
of then. Tables, page and JSON are made of it alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldstart.core.progress import Progress, SilentProgress
from coldstart.metrics.intervals import FEWEST_COMPARED
from coldstart.metrics.ranking import bootstrap, paired
from coldstart.rerank import DEADLINE_MS, Guard, Reranker, RerankItems, RerankRequest, kendall_tau

K = 10
VALID_DAYS = 30
SHUFFLES = 3
_SHUFFLED = 20
"""Requests whose items are given in other orders."""
NAME = "certificate.rerank."
"""Beginning of the name of the artifact of a kind."""
FILE = "certificate.json"


@dataclass(frozen=True)
class Base:
    """Base of lists: `name` for people, `digest` of method and settings."""

    name: str
    digest: str


@dataclass(frozen=True)
class LabeledRequest:
    """Request whose right items are known.

    Attributes:
        items: in base order; scores: of the base, [N]; relevant: bool [N].
        all_relevant: number of right items, also of those that the base does not list.
        new: which items had no interaction before, bool [N].
        target: names of the right items; requests of the same are no independent evidence.
    """

    request: RerankRequest
    items: RerankItems
    scores: NDArray[np.float64]
    relevant: NDArray[np.bool_]
    all_relevant: int = 1
    new: NDArray[np.bool_] | None = None
    target: str = ""


@dataclass(frozen=True)
class RerankReport:
    """Result of `evaluate rerank`.

    Attributes:
        base: name, digest, and measures of its lists; certificates: kind -> its certificate.
        left_out: kind -> reason; notes.
    """

    base: Mapping[str, Any]
    certificates: Mapping[str, Mapping[str, Any]]
    left_out: Mapping[str, str]
    notes: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values."""
        return dict(self.__dict__)

    def to_markdown(self) -> str:
        """Write the table and its notes as Markdown."""
        from coldstart.rerank.report import markdown

        return markdown(self.to_dict())


def ndcg(request: LabeledRequest, order: Sequence[int] | NDArray[np.int64], k: int = K) -> float:
    """Compute NDCG@k of an order."""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    own = request.relevant[np.asarray(order, np.int64)[:k]]
    ideal = discounts[: min(k, max(1, request.all_relevant))].sum()
    return float(discounts[: len(own)][own].sum() / ideal)


def certify(
    candidates: Sequence[tuple[Mapping[str, Any], Reranker]],
    valid: Sequence[LabeledRequest],
    test: Sequence[LabeledRequest],
    base: Base,
    window: Mapping[str, Any],
    *,
    measured: Callable[[Mapping[str, Any]], Reranker] | None = None,
    deadline_ms: float = DEADLINE_MS,
    progress: Progress | None = None,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Choose settings of a kind on the validation requests, and measure them on the test requests.

    No deadline holds here, so that what the method is worth and how often it is late are told apart.

    Args:
        candidates: settings and the reranker of each, all of one kind; equal ones: the first.
        window: what the data are: `start`, `end`, `split`.
        measured: builds the reranker of chosen settings for the test, where those of `candidates` share answers.
    """
    progress = progress or SilentProgress()
    kind = candidates[0][1].kind
    scores: list[float] = []
    with progress.meter(f"{kind}: settings", len(candidates) * len(valid)) as meter:
        for _, own in candidates:
            guard = Guard(own, None)
            gains = []
            for one in valid:
                gains.append(ndcg(one, guard.order(one.request, one.items, one.scores).places))
                meter.advance(1, 0, 0.0)
            scores.append(float(np.mean(gains)) if gains else 0.0)
    best = max(range(len(candidates)), key=lambda place: scores[place])
    settings = candidates[best][0]
    reranker = candidates[best][1] if measured is None else measured(settings)
    reranker.counts.clear()
    inner: list[float] = getattr(reranker, "agreement", [])
    inner.clear()
    guard = Guard(reranker, None)
    orders, times = [], []
    with progress.meter(f"{kind}: requests", len(test)) as meter:
        for one in test:
            found = guard.order(one.request, one.items, one.scores)
            orders.append(found.places)
            times.append(found.ms)
            meter.advance(1, 0, 0.0)
    counts, agreement = Counter(reranker.counts), float(np.mean(inner)) if inner else None
    return {
        "kind": kind,
        "settings": dict(settings),
        "method": reranker.digest,
        "base": {"name": base.name, "digest": base.digest},
        "window": dict(window),
        "made_at": (now or datetime.now(UTC)).isoformat(timespec="seconds"),
        "n": len(test),
        "n_valid": len(valid),
        "chosen": [{"settings": dict(own), "ndcg": value} for (own, _), value in zip(candidates, scores, strict=True)],
        **measures_of(test, orders),
        "order": {**_sensitivity(reranker, test, orders), "inner": agreement},
        "parse_failures": int(counts["parse_failures"]),
        "faults": dict(guard.faults),
        "deadline_ms": deadline_ms,
        "late": float(np.mean(np.array(times) > deadline_ms)) if times else 0.0,
        "ms": {"p50": float(np.quantile(times, 0.5)), "p95": float(np.quantile(times, 0.95))} if times else None,
        "tokens": counts["tokens"] / max(1, len(test)),
    }


def measures_of(test: Sequence[LabeledRequest], orders: Sequence[NDArray[np.int64]]) -> dict[str, Any]:
    """Measure orders beside the base: NDCG@10, their paired difference, and which items are shown to anyone."""
    before = np.array([ndcg(one, np.arange(len(one.items))) for one in test])
    after = np.array([ndcg(one, order) for one, order in zip(test, orders, strict=True)])
    targets = [one.target or str(place) for place, one in enumerate(test)]
    different = len(set(targets))
    found: dict[str, Any] = {"items": different, "few": min(len(test), different) < FEWEST_COMPARED}
    if not len(test):
        return {**found, "ndcg_base": None, "ndcg": None, "difference": None, "exposed": None}
    for name, values in (("ndcg_base", before), ("ndcg", after)):
        own = bootstrap(values)
        found[name] = {"value": own.value, "low": own.low, "high": own.high}
    both = [paired(before, after), paired(before, after, groups=targets)]
    widest = max(both, key=lambda one: one.high - one.low)
    found["difference"] = {"value": widest.value, "low": widest.low, "high": widest.high}
    shown = {"base": _shown(test, [np.arange(len(one.items)) for one in test]), "reranked": _shown(test, orders)}
    found["exposed"] = shown
    return found


def _shown(test: Sequence[LabeledRequest], orders: Sequence[NDArray[np.int64]]) -> dict[str, float]:
    """Count the different items in the first ten of anyone, and the share of slots there that new items have."""
    items: set[str] = set()
    new = slots = 0
    for one, order in zip(test, orders, strict=True):
        head = order[:K]
        items.update(one.items.item_ids[place] for place in head.tolist())
        slots += len(head)
        new += 0 if one.new is None else int(one.new[head].sum())
    return {"items": len(items), "new_share": new / max(1, slots)}


def _sensitivity(
    reranker: Reranker, test: Sequence[LabeledRequest], orders: Sequence[NDArray[np.int64]]
) -> dict[str, Any]:
    """Compare orders with those of the same items given in other orders: Kendall's tau, its mean and least.

    A method that shuffles by itself agrees with itself here; `inner` is the agreement of the orders that it sums up.
    """
    found = []
    for number, (one, order) in enumerate(zip(test[:_SHUFFLED], orders, strict=False)):
        rng = np.random.default_rng(number)
        for _ in range(SHUFFLES):
            mixed = rng.permutation(len(one.items))
            given = Guard(reranker, None).order(one.request, one.items.take(mixed), one.scores[mixed])
            found.append(kendall_tau(order, mixed[given.places]))
    if not found:
        return {"tau": None, "least": None, "requests": 0}
    return {"tau": float(np.mean(found)), "least": float(min(found)), "requests": min(len(test), _SHUFFLED)}


def why_not(
    certificate: Mapping[str, Any] | None, kind: str, base: Base, method: str | None, now: datetime | None = None
) -> str | None:
    """Say why a certificate does not allow a reranker, in a few words; None where it does.

    A certificate may come from a stranger's workspace: what cannot be read allows nothing.

    Args:
        method: digest of the method that would serve; None where it cannot serve.
    """
    if certificate is None:
        return f"{kind} has no certificate"
    try:
        low = float(certificate["difference"]["low"])
        value, high = float(certificate["difference"]["value"]), float(certificate["difference"]["high"])
        age = (now or datetime.now(UTC)) - datetime.fromisoformat(certificate["made_at"])
        measured, on = str(certificate["method"]), certificate["base"]
        few, count = bool(certificate["few"]), int(certificate["n"])
        named = str(on["digest"]), str(on["name"])
    except (LookupError, TypeError, ValueError, OverflowError):
        return f"the certificate of {kind} cannot be read"
    if few:
        return f"the certificate of {kind} rests on {count} requests: too few to judge"
    if not low > 0:
        return f"the certificate of {kind} shows no gain: NDCG@10 {value:+.4f} ({low:+.4f} to {high:+.4f}), n = {count}"
    if named[0] != base.digest:
        return f"the certificate of {kind} is about lists of {named[1][:80]}, and these are of {base.name}"
    if method is None or measured != method:
        return f"the certificate of {kind} is about another model or other settings"
    if not timedelta(0) <= age + timedelta(minutes=5) <= timedelta(days=VALID_DAYS, minutes=5):
        return f"the certificate of {kind} is {age.days} days old, and {VALID_DAYS} count"
    return None
