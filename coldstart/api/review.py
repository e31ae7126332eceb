"""Methods of a workspace by which people review it: the queue, decisions, and their undoing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coldstart.api.add_items import AddMethods
from coldstart.core.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from coldstart.core.pipeline import Pipeline
    from coldstart.review.decide import DecisionPage, DecisionReport
    from coldstart.review.queue import ReviewPage
    from coldstart.store.decisions import Decision


class ReviewMethods(AddMethods):
    """Methods of a workspace by which people review it."""

    def review(
        self,
        state: str | None = None,
        stage: str | None = None,
        reason: str | None = None,
        item_id: str | None = None,
        limit: int = 50,
        after: str | None = None,
    ) -> ReviewPage:
        """List what waits for a person: items that failed, were filtered or are copies, and removed claims.

        An item stands where it was turned away first; what was decided on is left out. Claims come last, and without
        `item_id` only those that a person can judge: values, and sentences of some words.

        Args:
            state: `failed`, `filtered`, `duplicate` or `claim`; stage, reason: of the verdict.
            limit: entries of a page, up to 500; after: as the page before it says.

        Raises:
            ColdstartError: there is no such state, stage or item.
        """
        from coldstart.review.queue import review_page

        return review_page(
            self._store,
            self._reading_pipeline(),
            state=state,
            stage=stage,
            reason=reason,
            item_id=item_id,
            limit=limit,
            after=after,
        )

    def decide(
        self,
        item_id: str,
        action: str,
        *,
        reason: str,
        by: str,
        stage: str | None = None,
        claim: str | None = None,
        field: str | None = None,
        value: Any = None,
        progress: Progress | None = None,
    ) -> DecisionReport:
        """Decide on an item: the decision is recorded, and in effect and published when the call returns.

        - `reject` takes the item out of searches, lists and fits; with `claim` and `value`, that claim alone.
        - `approve` lets it pass the gate `stage` as long as the fields that the gate reads stay the same; with `claim`
          and `value`, that removed claim is served.
        - `correct` sets a `field` of its record, `title`, `description`, `category`, `creator`, `tags`, `price`
          or `attributes.NAME`, to `value`, whatever manifests say later; None empties it.

        The same decision given again is the same row.

        Args:
            reason: why; by: who decides. Both are kept with the time.

        Raises:
            ColdstartError: no such item, stage, claim or field; nothing to approve; or another process writes to the
                workspace.
            coldstart.review.decide.NotInEffect: the decision is recorded, and a stage of the item cannot be done now.
        """
        row = {"item_id": item_id, "action": action, "reason": reason, "by": by, "stage": stage, "claim": claim}
        return self.decide_many([{**row, "field": field, "value": value}], progress=progress)[0]

    def decide_many(
        self, rows: Iterable[Mapping[str, Any]], *, progress: Progress | None = None
    ) -> list[DecisionReport]:
        """Decide on several items, each row with the parts of `decide`; all are checked before one is recorded."""
        from coldstart.review.decide import make_drafts
        from coldstart.store import decisions
        from coldstart.store.item_keys import carry_over

        listed = list(rows)
        pipeline = self._pipeline_of_arrivals()
        with self._store.lock():
            carry_over(self._store)
            found = decisions.record(self._store, make_drafts(self._store, pipeline, listed))
            return self._bring_into_effect(pipeline, found, progress)

    def decisions(self, item_id: str | None = None, limit: int = 50, after: str | None = None) -> DecisionPage:
        """List decisions, the newest first, those that were undone too.

        Raises:
            ColdstartError: `after` is no decision of the workspace.
        """
        from coldstart.review.decide import list_decisions

        return list_decisions(self._store, item_id=item_id, limit=limit, after=after)

    def decision_counts(self) -> dict[str, int]:
        """Count the decisions by what became of them.

        Those in force by action, `undone` ones, and `lapsed` approvals: what the gate reads has changed since.
        """
        from coldstart.review.decide import count_decisions

        return count_decisions(self._store, self._reading_pipeline())

    def undo_decision(
        self, decision_id: str, *, reason: str, by: str, progress: Progress | None = None
    ) -> DecisionReport:
        """Undo a decision: it stays as a row, marked with reason, name and time, and no longer holds.

        One that was undone before stays as it is.

        Raises:
            ColdstartError: there is no such decision, or another process writes to the workspace.
        """
        from coldstart.review.decide import checked_text
        from coldstart.store import decisions

        reason, by = checked_text("reason", reason), checked_text("by", by)
        pipeline = self._pipeline_of_arrivals()
        with self._store.lock():
            found = decisions.undo(self._store, [decision_id], reason=reason, by=by)
            return self._bring_into_effect(pipeline, found, progress)[0]

    def _bring_into_effect(
        self, pipeline: Pipeline, found: Sequence[Decision], progress: Progress | None
    ) -> list[DecisionReport]:
        from coldstart.engine.arrivals import warm_engine
        from coldstart.review.decide import DecisionReport, bring_into_effect
        from coldstart.store.catalog import Catalog

        items = list(dict.fromkeys(one.item_id for one in found))
        self._published = None
        with warm_engine(self._warm) as warm:
            done = bring_into_effect(self._store, pipeline, items, warm, progress or SilentProgress())
        self._published = None
        outcomes = {one.item_id: one for one in done.items}
        published = Catalog(self._store.reader).published()
        tag = None if published is None else published.publication.tag
        return [DecisionReport(one, outcomes.get(one.item_id), tag) for one in found]
