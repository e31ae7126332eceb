"""Client of a served workspace: `coldstart.connect` has the methods of `coldstart.open` that a server can answer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from coldstart.api.connection import TIMEOUT_S, Connection, open_file
from coldstart.core.values import unix_seconds
from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from coldstart.embed.label_items import Labelled
    from coldstart.engine.report import StageReport
    from coldstart.rank.service import Ranked
    from coldstart.recommend.audience import Audience
    from coldstart.recommend.service import Recommended
    from coldstart.review.decide import DecisionPage
    from coldstart.review.queue import ReviewPage
    from coldstart.search.match import Answer
    from coldstart.search.notebook import Hits, ItemView
    from coldstart.store.impressions import ImpressionSummary

MOST_RESULTS = 10_000
_PAGE, _LONG_PAGE = 100, 1000
_ENDED = ("done", "failed")
_DETAILS = ("sources", "nearest", "p")
"""What a ranked list says of an item."""


def connect(url: str, *, token: str | None = None, timeout_s: float = TIMEOUT_S) -> RemoteWorkspace:
    """Connect to a workspace that `coldstart serve` serves.

    Args:
        url: as in `http://127.0.0.1:8123`.
        token: one of the server's token file.
        timeout_s: seconds for one answer.

    Raises:
        ColdstartError: it cannot be reached, or is no such server.
    """
    workspace = RemoteWorkspace(url, token=token, timeout_s=timeout_s)
    workspace.health()
    return workspace


class RemoteWorkspace(Connection):
    """Workspace that a server has: searches, lists and items as the methods of `coldstart.Workspace` return them.

    `uri` of hits and media of items are addresses on the server. Use it in a `with` block, or `close` it.
    """

    # -- items

    def search(
        self,
        *,
        text: str | None = None,
        image: str | Path | None = None,
        video: str | Path | None = None,
        item: str | None = None,
        top_k: int = 10,
        kind: str | None = None,
        where: str | None = None,
        spaces: Iterable[str] | None = None,
        hybrid: bool = True,
        copies: bool = False,
        exact: bool = False,
    ) -> Hits:
        """Find the items nearest to one text, picture, video or item; arguments as for `Workspace.search`.

        Raises:
            ColdstartError: as there; or the server does not answer.
        """
        from coldstart.search.notebook import Hits

        given = {"text": text, "image": image, "video": video, "item": item}
        named = [name for name, value in given.items() if value is not None]
        if len(named) != 1:
            raise ColdstartError(
                f"give exactly one of {', '.join(given)}, not {' and '.join(named) or 'none'}", kind="usage"
            )
        if not 1 <= top_k <= MOST_RESULTS:
            raise ColdstartError(f"top_k {top_k}: give 1 to {MOST_RESULTS:,}", kind="usage")
        if (file := image if image is not None else video) is not None:
            if top_k > _PAGE:
                raise ColdstartError(f"top_k {top_k}: a server finds at most {_PAGE} for a file", kind="usage")
            chosen = None if spaces is None else list(spaces)
            fields = {"kind": kind, "where": where, "space": chosen, "exact": _form(exact), "limit": top_k}
            found = self._send("/v1/search/media", Path(file), fields, named[0])
            return Hits([self._hit(hit) for hit in found["hits"]], None, found["notes"])
        body = {
            "text": text,
            "item": item,
            "kind": kind,
            "where": where,
            "hybrid": hybrid,
            "copies": copies,
            "exact": exact,
            "spaces": None if spaces is None else list(spaces),
        }
        hits: list[Any] = []
        cursor = None
        while True:
            found = self._post("/v1/search", {**body, "limit": min(_PAGE, top_k - len(hits)), "cursor": cursor})
            hits += [self._hit(hit) for hit in found["hits"]]
            cursor = found["next_cursor"]
            if cursor is None or len(hits) >= top_k:
                return Hits(hits, None, found["notes"])

    def match(
        self,
        *,
        item: str | None = None,
        video: str | Path | None = None,
        title: str | None = None,
        listen: bool = False,
        kind: str = "product",
        where: str | None = None,
        top_k: int = 5,
        exact: bool = False,
    ) -> Answer:
        """Find the products that a video shows or names; arguments as for `Workspace.match`."""
        from coldstart.search.match import Answer, ChannelScore, Evidence, Match

        if (item is None) == (video is None):
            raise ColdstartError("match: give exactly one of item and video", kind="usage")
        if item is not None:
            given = {"kind": kind, "where": where, "limit": top_k, "exact": _form(exact)}
            found = self._get(f"/v1/items/{_part(item)}/match", given)
        else:
            fields = {"title": title, "listen": _form(listen), "kind": kind, "where": where, "exact": _form(exact)}
            found = self._send("/v1/match/media", Path(str(video)), {**fields, "limit": top_k}, "video")

        def evidence(one: Mapping[str, Any] | None) -> Evidence | None:
            return None if one is None else Evidence(**one)

        matches = [
            Match(
                **{name: one[name] for name in ("item_id", "score", "kind", "title", "category", "price")},
                uri=self._uri(one),
                frame=evidence(one["frame"]),
                words=evidence(one["words"]),
                channels={name: ChannelScore(**score) for name, score in one["channels"].items()},
                copies=one["copies"],
            )
            for one in found["matches"]
        ]
        kept = {name: found[name] for name in ("used", "channels", "weights", "candidates", "exact", "notes")}
        return Answer(asked=item or str(video), matches=matches, **kept)

    def item(self, item_id: str) -> ItemView:
        """Read one item as it is published.

        Raises:
            ColdstartError: it is not in the published catalogue.
        """
        from coldstart.search.notebook import ItemView

        found = self._get(f"/v1/items/{_part(item_id)}")
        media = [{"role": one["role"], "uri": self._client.base_url.join(one["href"])} for one in found["media"]]
        return ItemView({**found["item"], "media": [{**one, "uri": str(one["uri"])} for one in media]})

    def dossier(self, item_id: str) -> dict[str, Any]:
        """Collect all that is known of one item, as `Workspace.dossier(item_id).to_dict()` has it, without places of
        media."""
        return dict(self._get(f"/v1/items/{_part(item_id)}/report")["report"])

    def label(
        self,
        classes: Sequence[str] | Mapping[str, Sequence[str]],
        *,
        items: Sequence[str] | None = None,
        where: str | None = None,
        kind: str | None = None,
        spaces: Sequence[str] | None = None,
        threshold: float | None = None,
        limit: int = 1000,
    ) -> Labelled:
        """Label published items with classes that are given now; arguments as for `Workspace.label`."""
        from coldstart.embed.label_items import ItemLabel, Labelled

        chosen = {"items": items and list(items), "where": where, "kind": kind, "spaces": spaces and list(spaces)}
        found = self._post("/v1/label", {"classes": classes, **chosen, "threshold": threshold, "limit": limit})
        names = ("item_id", "label", "best", "score", "second", "margin")
        labels = [ItemLabel(**{name: one[name] for name in names}) for one in found["labels"]]
        used, spaces_used = (tuple(found[name]) for name in ("classes", "spaces"))
        return Labelled(used, spaces_used, found["threshold"], labels, tuple(found["notes"]))

    # -- users

    def recommend(
        self, user: str | None = None, *, history: Sequence[Any] | None = None, top_k: int = 10, **options: Any
    ) -> Recommended:
        """List items for a user or a history; options as for `Workspace.recommend`, but for files and generators."""
        from coldstart.recommend.service import Recommendation, Recommended

        found = self._post("/v1/recommend", {"user": user, "history": history, "limit": top_k, **options})
        names = ("item_id", "rank", "score", "cold", "explored", "propensity", "kind", "title", "category", "price")
        items = tuple(
            Recommendation(
                **{name: one[name] for name in names},
                reason=_reason(one),
                details=_details(one),
            )
            for one in found["items"]
        )
        return Recommended(
            found["user_id"],
            found["scored_by"],
            found["history"],
            items,
            tuple(found["notes"]),
            found.get("rerank"),
            _ranked_by(found.get("ranked")),
        )

    def rank(
        self,
        user: str,
        items: Sequence[str] | None = None,
        *,
        at: int | datetime | None = None,
        events: Sequence[str] | Mapping[str, float] | None = None,
        kind: str | None = None,
        where: str | None = None,
    ) -> Ranked:
        """Rank items for a user, as `Workspace.rank`; or what of the catalogue is of a kind and meets a condition.

        Args:
            items: ids; None: the catalogue.
            events: outcomes to rank by, perhaps with their weights; by default all of the fit.

        Raises:
            ColdstartError: as there; the catalogue has too many candidates, or the fit has no such outcome.
        """
        from coldstart.rank.service import Ranked, RankedItem

        when = unix_seconds(at) if isinstance(at, datetime) else at
        body: dict[str, Any] = {"user": user, "at": when, "kind": kind, "where": where, "limit": _LONG_PAGE}
        body["items"] = None if items is None else list(items)
        body["events"] = dict(events) if isinstance(events, Mapping) else events and list(events)
        found = page = self._post("/v1/rank", body)
        rows = list(page["items"])
        while page["next_cursor"] is not None:
            page = self._post("/v1/rank", {**body, "at": found["at"], "cursor": page["next_cursor"]})
            rows += page["items"]
        kept = {name: found[name] for name in ("model", "calibrated", "weights", "known_user", "actions", "dropped")}
        ranked = tuple(
            RankedItem(
                **{**_own(RankedItem, one), "interval": {name: tuple(ends) for name, ends in one["interval"].items()}}
            )
            for one in rows
        )
        return Ranked(user, int(datetime.fromisoformat(found["at"]).timestamp()), items=ranked, **kept)

    def audience(self, item: str, *, top_k: int = 100, by: str = "score", reasons: bool = True) -> Audience:
        """List the users who are most likely to like an item; arguments as for `Workspace.audience`."""
        from coldstart.recommend.audience import Audience, Person

        given = {"limit": top_k, "by": by, "reasons": _form(reasons)}
        found = self._get(f"/v1/items/{_part(item)}/audience", given)
        people = tuple(Person(one["user_id"], one["rank"], one["score"], _reason(one)) for one in found["people"])
        kept = {name: found[name] for name in ("item_id", "scored_by", "by", "cold", "users", "met")}
        return Audience(**kept, people=people, notes=tuple(found["notes"]))

    # -- the workspace

    def status(self) -> list[StageReport]:
        """Count the items in each state, stage by stage."""
        from coldstart.engine.report import StageReport
        from coldstart.store.freshness import Balance

        states = ("fresh", "failed", "filtered", "duplicate", "pending", "reasons")
        return [
            StageReport(
                one["stage"],
                one["kind"],
                Balance(**{name: one[name] for name in states}),
                notes=one["notes"],
                fault=one["fault"],
            )
            for one in self._get("/v1/status")["stages"]
        ]

    def impression_summary(self) -> ImpressionSummary | None:
        """Count the showings that were logged, as `Workspace.impression_summary`; None where there are none."""
        from coldstart.store.impressions import ImpressionSummary

        found = self._get("/v1/impressions")
        if not any(found[name] for name in ("rows", "early", "rejected")):
            return None
        signals = {name: (one["stated"], one["above_zero"]) for name, one in found["outcomes"].items()}
        edges = {name: found[name] and datetime.fromisoformat(found[name]) for name in ("first", "last")}
        return ImpressionSummary(**{**_own(ImpressionSummary, found), **edges, "signals": signals})

    def failures(self) -> list[dict[str, Any]]:
        """Read the ledger: every item without a row in a stage, why, and when; by stage and item."""
        rows: list[dict[str, Any]] = []
        cursor = None
        while True:
            found = self._get("/v1/ledger", {"limit": _PAGE, "cursor": cursor})
            rows += [{**row, "at": row["at"] and datetime.fromisoformat(row["at"])} for row in found["entries"]]
            cursor = found["next_cursor"]
            if cursor is None:
                return rows

    def publications(self) -> list[dict[str, Any]]:
        """List the published versions that are stored, newest first."""
        return list(self._get("/v1/publications")["publications"])

    def evaluations(self, limit: int = 10) -> list[dict[str, Any]]:
        """List the last evaluations that were kept, newest first."""
        return list(self._get("/v1/evaluations", {"limit": limit})["evaluations"])

    # -- changes

    def add_items(
        self,
        rows: Iterable[Mapping[str, Any]],
        *,
        files: Mapping[str, str | Path] | None = None,
        key: str | None = None,
        wait_s: float | None = 300.0,
    ) -> dict[str, Any]:
        """Add items, or change those of the same ids, and wait until they are found.

        Args:
            rows, files: as for `Workspace.add_items`.
            key: a request that is sent again under the same key adds nothing twice.
            wait_s: seconds to wait for the job; None: return at once.

        Returns:
            The job: `job_id`, `state`, `results` with the state of each item, and `publication`.

        Raises:
            ColdstartError: rows are at fault, the server takes nothing in, or it is not done in time.
        """
        headers = {} if key is None else {"Idempotency-Key": key}
        listed = [dict(row) for row in rows]
        if not files:
            return self._wait(self._post("/v1/items", {"items": listed}, headers), wait_s)
        with ExitStack() as stack:
            parts = [
                ("files", (name, stack.enter_context(open_file(Path(path), "file")))) for name, path in files.items()
            ]
            form = {"items": json.dumps(listed)}
            job = self._request("POST", "/v1/items/media", data=form, files=parts, headers=headers)
        return self._wait(job, wait_s)

    def add_interactions(
        self, rows: Iterable[Mapping[str, Any]], *, key: str | None = None, wait_s: float | None = 300.0
    ) -> dict[str, Any]:
        """Add rows to the interaction log, as `Workspace.add_interactions`; returns the job as `add_items`."""
        headers = {} if key is None else {"Idempotency-Key": key}
        body = {"interactions": [dict(row) for row in rows]}
        return self._wait(self._post("/v1/interactions", body, headers), wait_s)

    def add_impressions(
        self, rows: Iterable[Mapping[str, Any]], *, key: str | None = None, wait_s: float | None = 300.0
    ) -> dict[str, Any]:
        """Add what was shown to whom, as `Workspace.add_impressions`; returns the job as `add_items`."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return self._wait(self._post("/v1/impressions", {"impressions": [dict(row) for row in rows]}, headers), wait_s)

    def remove(self, item: str, *, wait_s: float | None = 300.0) -> dict[str, Any]:
        """Remove one item from every table and from the served catalogue; returns the job as `add_items`."""
        return self._wait(self._request("DELETE", f"/v1/items/{_part(item)}"), wait_s)

    # -- review

    def review(
        self,
        state: str | None = None,
        stage: str | None = None,
        reason: str | None = None,
        item_id: str | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> ReviewPage:
        """List what waits for a person; arguments as for `Workspace.review`, `limit` at most 100."""
        from coldstart.review.queue import ReviewEntry, ReviewPage

        given = {"state": state, "stage": stage, "reason": reason, "item_id": item_id, "limit": limit, "cursor": after}
        found = self._get("/v1/review", given)
        entries = [
            ReviewEntry(**{**_own(ReviewEntry, one), "actions": tuple(one["actions"])}) for one in found["entries"]
        ]
        return ReviewPage(entries, found["counts"], found["next_cursor"], found["notes"])

    def decide(
        self,
        item_id: str,
        action: str,
        *,
        reason: str,
        by: str | None = None,
        stage: str | None = None,
        claim: str | None = None,
        field: str | None = None,
        value: Any = None,
        key: str | None = None,
        wait_s: float | None = 300.0,
    ) -> dict[str, Any]:
        """Decide on an item, as `Workspace.decide`, and wait until that is in effect.

        Args:
            by: who decides; a server with tokens keeps the name of the token.
            key, wait_s: as for `add_items`.

        Returns:
            The job: `results` with the decision, its `state` (`decided`) and that of the item.

        Raises:
            ColdstartError: the decision is refused, or not done in time.
        """
        row = {"item_id": item_id, "action": action, "reason": reason, "by": by, "stage": stage, "claim": claim}
        headers = {} if key is None else {"Idempotency-Key": key}
        job = self._post("/v1/decisions", {**row, "field": field, "value": value}, headers)
        return _decided(self._wait(job, wait_s))

    def decide_many(
        self, rows: Iterable[Mapping[str, Any]], *, key: str | None = None, wait_s: float | None = 300.0
    ) -> dict[str, Any]:
        """Decide on several items, each row with the parts of `decide`; returns the job, whose `results` tell of each
        whether it was refused."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return self._wait(self._post("/v1/decisions", {"decisions": [dict(row) for row in rows]}, headers), wait_s)

    def decisions(self, item_id: str | None = None, limit: int = 50, after: str | None = None) -> DecisionPage:
        """List decisions, newest first; arguments as for `Workspace.decisions`, `limit` at most 100."""
        from coldstart.review.decide import DecisionPage
        from coldstart.store.decisions import Decision

        found = self._get("/v1/decisions", {"item_id": item_id, "limit": limit, "cursor": after})
        times = ("at", "undone_at")
        rows = [
            Decision(
                **{**_own(Decision, one), **{name: one[name] and datetime.fromisoformat(one[name]) for name in times}}
            )
            for one in found["decisions"]
        ]
        return DecisionPage(rows, found["next_cursor"])

    def undo_decision(
        self, decision_id: str, *, reason: str, by: str | None = None, wait_s: float | None = 300.0
    ) -> dict[str, Any]:
        """Undo a decision, as `Workspace.undo_decision`, and wait until that is in effect; returns as `decide`."""
        body = {"reason": reason, **({} if by is None else {"by": by})}
        job = self._request("DELETE", f"/v1/decisions/{_part(decision_id)}", json=body)
        return _decided(self._wait(job, wait_s))

    def job(self, job_id: str) -> dict[str, Any]:
        """Read the state of a job."""
        return self._get(f"/v1/jobs/{_part(job_id)}")

    # -- parts

    def _wait(self, job: dict[str, Any], wait_s: float | None) -> dict[str, Any]:
        if wait_s is None:
            return job
        until, pause = time.monotonic() + wait_s, 0.1
        while job["state"] not in _ENDED:
            if time.monotonic() > until:
                raise ColdstartError(
                    f"job {job['job_id']} is {job['state']} after {wait_s:g} s: read it later with "
                    f"`job({job['job_id']!r})`",
                    kind="busy",
                    result=job,
                )
            time.sleep(pause)
            pause = min(1.0, pause * 1.5)
            job = self.job(job["job_id"])
        return job

    def _hit(self, given: Mapping[str, Any]) -> Any:
        from coldstart.search.search import Hit

        names = ("item_id", "score", "kind", "title", "category", "price", "ranks", "distances", "copies", "creator")
        return Hit(**{name: given[name] for name in names}, uri=self._uri(given))

    def _uri(self, given: Mapping[str, Any]) -> str | None:
        return str(self._client.base_url.join(given["media"][0]["href"])) if given["media"] else None


def _decided(job: dict[str, Any]) -> dict[str, Any]:
    """Return a job of one decision; raises `ColdstartError` where that was refused."""
    refused = next((one for one in job["results"] if one["state"] == "refused"), None)
    if refused is not None:
        raise ColdstartError(refused["detail"], kind=refused["reason"], result=job)
    if job["state"] == "failed":
        raise ColdstartError(job["detail"], result=job)
    return job


def _own(made: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Choose the fields of a dataclass: a newer server may send others."""
    return {name: value for name, value in given.items() if name in made.__dataclass_fields__}


def _details(given: Mapping[str, Any]) -> dict[str, Any]:
    """Choose what a ranked list says of an item: where it came from, what spoke for it, its probabilities."""
    found = {name: given[name] for name in _DETAILS if given.get(name) is not None}
    if "nearest" in found:
        found["nearest"] = [{name: one[name] for name in ("item_id", "by", "weight")} for one in found["nearest"]]
    return found


def _ranked_by(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Say whether a ranker ordered a list; whether its `p` are calibrated only where there are any."""
    return None if given is None else {name: value for name, value in given.items() if value is not None}


def _reason(given: Mapping[str, Any]) -> Any:
    from coldstart.recommend.reasons import Fact, Reason

    if given.get("reason") is None:
        return None
    evidence = given.get("evidence") or {}
    shared = tuple(Fact(**fact) for fact in evidence.get("shared") or ())
    return Reason(given["reason"], evidence.get("because"), shared, evidence.get("cosines") or {})


def _form(value: bool) -> str:
    """Write a truth value as queries and forms have it."""
    return "true" if value else "false"


def _part(text: str) -> str:
    return quote(text, safe="")
