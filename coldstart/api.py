"""The Python face of coldstart: what notebooks and services use, and what the command line is a shell over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coldstart.align.settings import KIND as ALIGN
from coldstart.align.settings import with_align
from coldstart.core import pipeline as pipelines
from coldstart.core.interactions import Interactions
from coldstart.core.pipeline import Pipeline
from coldstart.describe.finetune.settings import FINETUNE, with_finetune
from coldstart.embed.spaces import encoder_of, spaces_of, table_of
from coldstart.encoders import Encoder, Passport
from coldstart.engine.estimate.estimate import estimate
from coldstart.engine.estimate.forecast import machine
from coldstart.engine.estimate.report import Asked, Estimate, keep
from coldstart.engine.progress import Progress, SilentProgress
from coldstart.engine.report import RunReport, StageReport
from coldstart.engine.run import run_pipeline, status
from coldstart.errors import ColdstartError
from coldstart.recommend.inputs import FIT as BEHAVIOUR
from coldstart.recommend.settings import with_behaviour
from coldstart.search.item_report import Dossier, collect
from coldstart.search.notebook import Hits, ItemView
from coldstart.store import ITEMS, LEDGER, Store
from coldstart.store.catalog import Catalog
from coldstart.store.fits import bound
from coldstart.store.freshness import build
from coldstart.store.interactions import INTERACTIONS, InteractionTable, Summary

if TYPE_CHECKING:
    from coldstart.ablation.report import LadderReport
    from coldstart.align.evaluate import AlignReport
    from coldstart.describe.evaluate.report import DescribeReport
    from coldstart.ingest.load_interactions import InteractionReport
    from coldstart.recommend.audience import Audience
    from coldstart.recommend.batch import Written
    from coldstart.recommend.evaluate import RecommendReport
    from coldstart.recommend.service import Lister, Recommended
    from coldstart.search.match import Answer
    from coldstart.search.match_service import Matcher
    from coldstart.search.search import Query
    from coldstart.store.published import Publication, Published

DEFAULT_PIPELINE = "starter"


def open(uri: str | Path, *, create: bool = False) -> Workspace:
    """Open a workspace.

    Args:
        uri: a folder, or any URI LanceDB takes.
        create: make it where it is missing.

    Raises:
        ColdstartError: there is no workspace at `uri`.
    """
    return Workspace(Store(uri, create=create))


class Workspace:
    """One catalogue: its items, vectors, ledger and served index. Made by `coldstart.open`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._encoders: dict[str, Encoder] = {}
        self._published: Published | None = None
        self._lister: Lister | None = None

    def __repr__(self) -> str:
        return f"coldstart.open({self._store.uri!r})"

    @property
    def uri(self) -> str:
        return self._store.uri

    def size_bytes(self) -> int:
        """Bytes on disk; 0 for a remote store."""
        return self._store.size_bytes()

    # -- work

    def pipeline(
        self,
        source: str | Path | Mapping[str, Any] | None = None,
        *,
        manifest: str | Path | None = None,
        media_roots: Iterable[str | Path] = (),
        overrides: Iterable[str] = (),
        spaces: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Pipeline:
        """The settings that a command runs with.

        Args:
            source: a path, the name of a packaged pipeline, or settings as plain data; by default those that this
                workspace ran with last, or the packaged `starter`.
            manifest: takes the place of the pipeline's.
            media_roots: folders besides the manifest's own that media may come from, added to the pipeline's.
            overrides: `stage.key=value`, the value in YAML.
            spaces: settings of embed stages by name, changed in place or added before the index.

        Raises:
            ColdstartError: with every fault of the settings.
        """
        if source is None:
            source = self._store.pipeline() or DEFAULT_PIPELINE
        loaded = pipelines.load(source, overrides, manifest=manifest, media_roots=media_roots, spaces=spaces)
        return bound(loaded, self._store)

    def run(
        self,
        pipeline: Pipeline | str | Path | Mapping[str, Any] | None = None,
        *,
        only: Iterable[str] = (),
        start: str | None = None,
        limit: int | None = None,
        retry: Iterable[str] = (),
        refit: bool = False,
        progress: Progress | None = None,
        **settings: Any,
    ) -> RunReport:
        """Do what is stale and skip the rest.

        Args:
            pipeline: a `Pipeline`, or what `pipeline()` takes; further keywords go there too.
            only: names or kinds of the stages to run; `start`: the stage to begin with.
            limit: at most so many items a stage.
            retry: with states (`failed`, …) given, only items in one of them are done, changed or not.
            refit: let fit stages learn from what came or changed since they last did.

        Raises:
            ColdstartError: a fault that you can mend; what was finished before it is kept.
        """
        if not isinstance(pipeline, Pipeline):
            pipeline = self.pipeline(pipeline, **settings)
        self._published = None
        return run_pipeline(
            self._store, pipeline, only=only, start=start, limit=limit, retry=retry, refit=refit, progress=progress
        )

    def ingest_interactions(
        self,
        path: str | Path,
        *,
        columns: Mapping[str, str] | None = None,
        event_weights: Mapping[str, float | None] | None = None,
        time_unit: str = "auto",
        max_failed: float = 0.01,
        progress: Progress | None = None,
    ) -> InteractionReport:
        """Read who did what with which item, and when; rows that are there already are added no second time.

        Args:
            path: a CSV, TSV, JSONL or Parquet file, one interaction a row.
            columns: `user_id`, `item_id`, `timestamp`, `event`, `weight` -> the file's column, "" for none; fields that
                are left out are recognised by name where that is plain.
            event_weights: event -> the weight of its rows, None for that of the weight column, or 1; rows with another
                event are turned away. By default all weigh as the column says, or 1.
            time_unit: `s`, `ms`, `us`, `iso`, or `auto`, by the first times.
            max_failed: share of rows that may be turned away before the report is `over_budget`.

        Raises:
            ColdstartError: a fault in the file or its columns, or another process writes to the workspace.
        """
        from coldstart.ingest.load_interactions import take_interactions

        return take_interactions(
            self._store,
            Path(path),
            columns=columns,
            event_weights=event_weights,
            time_unit=time_unit,
            max_failed=max_failed,
            progress=progress,
        )

    def interactions(self, start: int | None = None, end: int | None = None) -> Interactions:
        """The interactions with start <= time < end, in seconds since 1970 in UTC; none where none were ingested."""
        return InteractionTable(self._store).read(start, end)

    def interaction_summary(self) -> Summary | None:
        """How many interactions, users and items there are, and from when to when; None where none were ingested."""
        return InteractionTable(self._store).summary() if self._store.has(INTERACTIONS) else None

    def finetune_align(
        self,
        source: str | Path | Mapping[str, Any] | None = None,
        *,
        image: str | None = None,
        text: str | None = None,
        overrides: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> RunReport:
        """Fit `align.text_image` on what there is now, where anything came, changed or went since it was fitted last.

        Args:
            source: the pipeline, as for `pipeline()`; one without such a stage gets it before its index.
            image: the space of pictures to learn from; by default the stage's own, for a new one the pipeline's first.
            text: the encoder of words; by default the stage's own, for a new one as its settings choose it.

        Raises:
            ColdstartError: a fault that you can mend, such as too few items to learn from.
        """
        raw, changes = with_align(self.pipeline(source), image, text)
        return self.run(raw, overrides=[*changes, *overrides], only=[ALIGN], refit=True, progress=progress)

    def finetune_behaviour(
        self,
        source: str | Path | Mapping[str, Any] | None = None,
        *,
        spaces: Sequence[str] | None = None,
        overrides: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> RunReport:
        """Fit `align.behaviour` on what there is now, where items or interactions came, changed or went since it was
        fitted last. `run` then fills the space `behaviour`.

        Args:
            source: the pipeline, as for `pipeline()`; one without such a stage gets it, and the space.
            spaces: the spaces that say what an item is; by default the stage's own, for a new one all before it.

        Raises:
            ColdstartError: a fault that you can mend, such as too few interactions to learn from.
        """
        raw, changes = with_behaviour(self.pipeline(source), spaces)
        return self.run(raw, overrides=[*changes, *overrides], only=[BEHAVIOUR], refit=True, progress=progress)

    def finetune_describe(
        self,
        source: str | Path | Mapping[str, Any] | None = None,
        *,
        generator: str | None = None,
        method: str | None = None,
        overrides: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> RunReport:
        """Tune a generator on what there is now, where anything came, changed or went since it was tuned last.

        Args:
            source: the pipeline, as for `pipeline()`; one without a stage `finetune.describe` gets it.
            generator: what is tuned; by default the stage's own, for a new one `starter`.
            method: `sft`, or `dpo` to go on from the last fit.

        Raises:
            ColdstartError: a fault that you can mend, such as too few items to learn from.
        """
        raw, changes = with_finetune(self.pipeline(source), {"generator": generator, "method": method})
        return self.run(raw, overrides=[*changes, *overrides], only=[FINETUNE], refit=True, progress=progress)

    def compare_descriptions(
        self, pipeline: Pipeline | str | Path | Mapping[str, Any] | None = None, *, limit: int = 5
    ) -> list[dict[str, Any]]:
        """What the base and the tuned generator write of some items, side by side, by `item_id`, `title`, `written`.

        Of each writer the raw `text`, what the checks `kept`, and the claims that they `cut`. Nothing is stored.

        Raises:
            ColdstartError: the pipeline describes nothing, or its generator is tuned by nothing.
        """
        from coldstart.describe.evaluate.workspace import compared

        if not isinstance(pipeline, Pipeline):
            pipeline = self.pipeline(pipeline)
        return compared(self._store, pipeline, limit)

    def export_adapter(
        self,
        out: str | Path,
        pipeline: Pipeline | str | Path | Mapping[str, Any] | None = None,
        *,
        prompts: int = 20,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Write what `finetune.describe` made, merged into its base, as a folder that transformers and vLLM load.

        Args:
            prompts: so many are written through the adapter, the merged model and in batches, and must agree.

        Raises:
            ColdstartError: nothing was fitted, `out` exists, the base cannot be merged, or the three ways disagree.
        """
        from coldstart.describe.finetune.export import exported

        if not isinstance(pipeline, Pipeline):
            pipeline = self.pipeline(pipeline)
        return exported(self._store, pipeline, Path(out), prompts, progress or SilentProgress())

    def evaluate_align(
        self,
        pipeline: Pipeline | str | Path | Mapping[str, Any] | None = None,
        *,
        split: str = "test",
        classes: str | Path | None = None,
        view: str | None = None,
        progress: Progress | None = None,
    ) -> AlignReport:
        """How well the last fit brings pictures and words together, on items that it has not seen.

        Args:
            pipeline: a `Pipeline`, or what `pipeline()` takes.
            split: `test`; or `valid` or `train`, which the fit has seen.
            classes: a classes file, to tell pictures apart by name; by default by the categories of the items.
            view: which texts are asked, such as `description`; by default titles.

        Raises:
            ColdstartError: nothing is fitted yet, or nothing of that split can be asked.
        """
        from coldstart.align.evaluate import evaluate_store

        if not isinstance(pipeline, Pipeline):
            pipeline = self.pipeline(pipeline)
        meters = progress or SilentProgress()
        return evaluate_store(self._store, pipeline, meters, split=split, classes=classes, view=view)

    def evaluate_describe(
        self,
        pipeline: Pipeline | str | Path | Mapping[str, Any] | None = None,
        *,
        split: str = "test",
        limit: int | None = None,
        given: Iterable[str] | None = None,
        writers: Iterable[str] | None = None,
        gallery: str = "held-out",
        progress: Progress | None = None,
    ) -> DescribeReport:
        """How true what the tuned writer writes of new items is, before and after the checks, and how they are found.

        Args:
            pipeline: a `Pipeline`, or what `pipeline()` takes.
            split: `test`; or `valid` or `train`, which the fit has seen.
            limit: at most so many items, drawn at random.
            given: the fields that are shown; by default those that the fit showed.
            writers: `base`, `adapter` and names of generators; by default the first two.
            gallery: `held-out`, or `all` to look for the items among all others as well.

        Raises:
            ColdstartError: no writer is tuned yet, or nothing of that split is left to judge by.
        """
        from coldstart.describe.evaluate.workspace import evaluate_store

        if not isinstance(pipeline, Pipeline):
            pipeline = self.pipeline(pipeline)
        return evaluate_store(
            self._store,
            pipeline,
            progress or SilentProgress(),
            split=split,
            limit=limit,
            given=None if given is None else list(given),
            writers=None if writers is None else list(writers),
            gallery=gallery,
        )

    def evaluate_recommend(
        self,
        pipeline: Pipeline | str | Path | Mapping[str, Any] | None = None,
        *,
        split: str | Path = "time",
        methods: Iterable[str] | None = None,
        spaces: Iterable[str] | None = None,
        part: str = "test",
        seeds: int = 5,
        min_weight: float | None = None,
        warm_min: int | None = None,
        folder: str | Path | None = None,
        progress: Progress | None = None,
    ) -> RecommendReport:
        """How well new items find who will like them, by every method, each fitted inside one split.

        Args:
            pipeline: a `Pipeline`, or what `pipeline()` takes.
            split: `time`, `items` or `coldrec`; or a folder that holds a split which was written before.
            methods: names of methods; by default all.
            spaces: what says what items are; by default the spaces that `align.behaviour` learns from, or all.
            part: `test`; or `valid`, by which one may choose.
            seeds: fits of each trained method.
            min_weight: interactions of at least this weight speak for their item; by default as `align.behaviour` has
                it, or those above 0.
            warm_min: users that an item needs in the training window; by default 5 in a split by time, else 1.
            folder: where the split is written.

        Raises:
            LeakError: something that is asked was known to a fit.
            ColdstartError: there are no interactions, or none on one side of the split.
        """
        from coldstart.recommend.evaluate import EvaluateSettings
        from coldstart.recommend.evaluate.workspace import evaluate_store

        if not isinstance(pipeline, Pipeline):
            pipeline = self.pipeline(pipeline)
        settings = EvaluateSettings(
            methods=None if methods is None else tuple(methods),
            part=part,
            seeds=seeds,
            min_weight=min_weight,
            warm_min=warm_min,
        )
        return evaluate_store(
            self._store,
            pipeline,
            progress or SilentProgress(),
            split=split,
            settings=settings,
            spaces=None if spaces is None else list(spaces),
            folder=None if folder is None else Path(folder),
        )

    def evaluate_stages(
        self,
        pipeline: Pipeline | str | Path | Mapping[str, Any] | None = None,
        *,
        seeds: int = 1,
        write: int | str | None = None,
        min_weight: float | None = None,
        warm_min: int = 1,
        labels: bool = False,
        held_out: Iterable[str] | None = None,
        progress: Progress | None = None,
    ) -> LadderReport:
        """Whether each stage pays its way: what it adds to the finding of new items, and the seconds that it takes.

        Args:
            pipeline: a `Pipeline`, or what `pipeline()` takes.
            seeds: so many times other items are held out as if they were new.
            write: `all`, or for how many items the writer that the workspace has no descriptions by (the tuned one, or
                its base) writes them now, to be judged too.
            min_weight: interactions of at least this weight speak for their item; by default as `align.behaviour`
                has it, or those above 0.
            warm_min: users that an item needs to be learnt from.
            labels: let every step have category, tags and attributes beside what it adds.
            held_out: ids of the items that are new, in place of some drawn at random.

        Raises:
            ColdstartError: there are no interactions, or too few to hold items out.
        """
        from coldstart.ablation.workspace import evaluate_store

        if not isinstance(pipeline, Pipeline):
            pipeline = self.pipeline(pipeline)
        return evaluate_store(
            self._store,
            pipeline,
            progress or SilentProgress(),
            seeds=seeds,
            write=write,
            min_weight=min_weight,
            warm_min=warm_min,
            labels=labels,
            held_out=None if held_out is None else list(held_out),
        )

    def estimate(
        self,
        pipeline: Pipeline | str | Path | None = None,
        *,
        only: Iterable[str] = (),
        start: str | None = None,
        limit: int | None = None,
        on: str | None = None,
        uri: str | None = None,
        **settings: Any,
    ) -> Estimate:
        """Rows, time, memory and disk that `run` would take, from a probe of a few items; writes nothing here.

        What it says is kept in the user's cache folder, and the `run` that follows is compared with it.

        Args:
            only, start, limit: as for `run`.
            on: another machine to tell the time of too: a name such as `h100x8` or `cpu16`, `gpus=1,tflops=300,…`, or a
                YAML file; see `coldstart.engine.estimate.forecast`.
            uri: the workspace that the run will be in, where that is to be made yet.

        Raises:
            ColdstartError: a set-up fault, such as missing weights, or no such machine.
        """
        there = None if on is None else machine(on)
        if not isinstance(pipeline, Pipeline):
            pipeline = self.pipeline(pipeline, **settings)
        only = tuple(only)
        found = estimate(self._store, pipeline, only=only, start=start, limit=limit, on=there)
        keep(Asked(uri or self.uri, pipeline, only, start, limit), found.to_dict())
        return found

    def status(self, pipeline: Pipeline | None = None) -> list[StageReport]:
        """Where every item is, stage by stage."""
        return status(self._store, pipeline or self.pipeline())

    def failures(self) -> list[dict[str, Any]]:
        """The ledger: every item that did not make it in a stage of the pipeline, why, and when; by stage and item."""
        if not self._store.has(LEDGER):
            return []
        stages = {spec.name for spec in self.pipeline().stages}
        rows = self._store.read(LEDGER).sort_by([("stage", "ascending"), ("item_id", "ascending")]).to_pylist()
        return [row for row in rows if row["stage"] in stages]

    # -- serving

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
    ) -> Hits:
        """The items nearest to one text, picture, video or item.

        Args:
            text, image, video, item: exactly one of them.
            kind: `video` or `product`.
            where: an SQL condition over the catalog's columns, such as `price < 20`.
            spaces: the spaces to search; by default all that the query fits, but for those whose pipeline sets
                `text_queries: false`, which a text asks only by name.
            hybrid: let a text query match words as well as vectors.
            copies: find items that are linked to an original beside it too.

        Raises:
            ColdstartError: nothing is published, no space fits the query, or a fault in it.
        """
        from coldstart.search.search import Query

        given = {"text": text, "image": image, "video": video, "item": item}
        query = Query("query", **{name: None if value is None else str(value) for name, value in given.items()})
        options = {"top_k": top_k, "kind": kind, "where": where, "spaces": spaces, "hybrid": hybrid, "copies": copies}
        return next(self.search_many([query], **options))[1]

    def search_many(self, queries: Iterable[Query], **options: Any) -> Iterator[tuple[str, Hits]]:
        """Answers to many queries in their order, encoders loaded once; options as for `search`."""
        from coldstart.search.search import search_many

        apart = [spec.name for spec in self.pipeline().of_kind("embed") if not spec.settings.text_queries]
        answers = search_many(
            self.published(), self.encoder_for, queries, frames_of=self._frames_of, apart=apart, **options
        )
        for query_id, hits in answers:
            yield query_id, Hits(hits)

    def match(
        self,
        *,
        item: str | None = None,
        video: str | Path | None = None,
        title: str | None = None,
        listen: bool = False,
        spaces: Iterable[str] | None = None,
        **options: Any,
    ) -> Answer:
        """The products that a video shows or speaks of, each with the frame and the words that say so.

        Args:
            item: an item of the catalog; video: or a file, with `title` for its words, and its speech and text on
                screen where `listen` is true.
            spaces: the spaces to compare in; by default all.
            options: `top_k`, `kind`, `where`, `exclude`, `copies` as for `search`.

        Raises:
            ColdstartError: nothing is published, there is no such item or file, or nothing of it can be compared.
        """
        return self._matcher().match(item, video, title, listen, spaces, **options)

    def fit_match(
        self,
        pairs: Mapping[str, Iterable[str]],
        *,
        spaces: Iterable[str] | None = None,
        kind: str | None = "product",
        where: str | None = None,
    ) -> dict[str, Any]:
        """Fit the weights of `match` on videos whose products are known, judge them on a part that is held out, and
        keep them where the held-out videos find no less, and no later, with them.

        Args:
            pairs: item_id of a video -> ids of the products that it shows.

        Returns:
            The report: `channels` with weights, `before` and `after` of the held-out videos, `gain`, `kept`, …

        Raises:
            ColdstartError: nothing is published, or too few of the videos are in the catalog.
        """
        return self._matcher().fit(pairs, spaces, kind, where)

    def _matcher(self) -> Matcher:
        from coldstart.search.match_service import Matcher

        return Matcher(self._store, self.pipeline, self.published, self.encoder_for)

    def _frames_of(self, space: str, item_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Unit vectors [T, D] of the frames of those items that are videos."""
        table = table_of(space, Passport.from_json(self.published().passports[space]))
        if not self._store.has(table) or "frame_vectors" not in self._store.columns(table):
            return {}
        rows = self._store.read(table, ["item_id", "frame_vectors"], ids=item_ids).to_pylist()
        frames = {row["item_id"]: np.asarray(row["frame_vectors"], np.float32) for row in rows if row["frame_vectors"]}
        return {item: vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for item, vectors in frames.items()}

    def published(self) -> Published:
        """The catalog that is served.

        Raises:
            ColdstartError: none is published yet.
        """
        if self._published is None:
            self._published = Catalog(self._store.db).published()
        if self._published is None:
            raise ColdstartError(
                f"nothing is published in workspace {self.uri}: run `coldstart run --workspace {self.uri}`"
            )
        return self._published

    def publications(self) -> list[Publication]:
        """Published versions that are kept, newest first."""
        return Catalog(self._store.db).publications()

    def rollback(self) -> Publication:
        """Serve the publication before the current one again."""
        with self._store.lock():
            publication = Catalog(self._store.db).rollback()
        self._published = None
        return publication

    def encoder_for(self, passport: Passport) -> Encoder:
        """The encoder that made the vectors of a space, loaded once; if none has that passport any more, the one of its
        name, whose queries the search refuses.

        Raises:
            ColdstartError: its weights are not on this machine.
        """
        if passport.digest not in self._encoders:
            self._encoders[passport.digest] = encoder_of(passport, self.pipeline(), self._store)
        return self._encoders[passport.digest]

    def recommend(
        self,
        user: str | None = None,
        *,
        history: str | Sequence[Any] | None = None,
        kind: str | None = None,
        where: str | None = None,
        fresh_days: float | None = None,
        seen: str = "drop",
        interests: int = 1,
        half_life_days: float | None = None,
        reasons: bool = True,
        **rules: Any,
    ) -> Recommended:
        """Items for one user of the workspace, or for whoever has a history.

        Args:
            history: what was liked: item ids, or objects with `item_id`, `timestamp`, `event`, `weight`, or that as
                JSON; of a `user`, in place of what the workspace knows.
            kind: `video` or `product`; where: an SQL condition over the catalog's columns; fresh_days: created at most
                so many days ago.
            seen: `drop` or `keep` what the user has met.
            interests: how many a history is asked for; half_life_days: what was liked so long ago counts half.
            reasons: say why each item is there.
            rules: `top_k`, `per_creator`, `cold_share`, `cold_boost`, `explore`, `seed`, `diversity`, `diversify`,
                `merge` as `coldstart.recommend.lists.Rules` has them.

        Raises:
            ColdstartError: nothing is published, neither user nor history is given, nothing is known of the user, or a
                fault in what is asked.
        """
        from coldstart.recommend.lists import Rules
        from coldstart.recommend.service import Asking, Filters
        from coldstart.recommend.users import from_json

        if user is None and history is None:
            raise ColdstartError("recommend: give a user or a history")
        wanted = Rules(**rules), Filters(kind, where, fresh_days, seen), Asking(interests, half_life_days)
        lister = self._listing()
        known = from_json(history, weight=lister.liked_weight) if history is not None else lister.history_of(str(user))
        return lister.one(user, known, *wanted, reasons)

    def recommend_many(
        self,
        users: Iterable[str] | Path,
        out: str | Path,
        *,
        kind: str | None = None,
        where: str | None = None,
        fresh_days: float | None = None,
        seen: str = "drop",
        interests: int = 1,
        half_life_days: float | None = None,
        progress: Progress | None = None,
        **rules: Any,
    ) -> Written:
        """Write the lists of many users as Parquet: user_id, item_id, rank, score, cold, explored, propensity.

        Args:
            users: their ids, or a CSV, JSONL, Parquet or text file of them.
            The others are those of `recommend`.

        Raises:
            ColdstartError: as for `recommend`, or a file that cannot be read or written.
        """
        from coldstart.recommend.batch import read_users, write_lists
        from coldstart.recommend.lists import Rules
        from coldstart.recommend.service import Asking, Filters

        wanted = Rules(**rules), Filters(kind, where, fresh_days, seen), Asking(interests, half_life_days)
        asked = read_users(users) if isinstance(users, Path) else list(users)
        return write_lists(self._listing(), asked, Path(out), *wanted, progress or SilentProgress())

    def audience(self, item: str, *, top_k: int = 100, by: str = "score", reasons: bool = True) -> Audience:
        """The users of the greatest score for an item that have not met it yet, and what of theirs it is like.

        Args:
            by: rank users by `score`; or by `lift`, how far it stands above what a user scores on average.

        Raises:
            ColdstartError: nothing is published, there is no such item, it has no vector, or nobody did anything yet.
        """
        from coldstart.recommend.audience import audience

        return audience(self._listing(), item, top_k=top_k, by=by, reasons=reasons)

    def _listing(self) -> Lister:
        """What makes lists out of the catalog that is served; vectors are read once for each publication."""
        from coldstart.recommend.service import Lister

        catalog = self.published()
        if self._lister is None or self._lister.catalog is not catalog:
            self._lister = Lister(self._store, self.pipeline(), catalog)
        return self._lister

    # -- looking

    def items(self, limit: int | None = None) -> list[ItemView]:
        """The items, in table order; each shows as a card in a notebook."""
        rows = self._store.read(ITEMS)
        return [ItemView(row) for row in rows.slice(0, limit).to_pylist()]

    def item(self, item_id: str) -> ItemView:
        """One item.

        Raises:
            ColdstartError: the workspace has no such item.
        """
        rows = self._store.read(ITEMS, ids=[item_id]).to_pylist() if self._store.has(ITEMS) else []
        if not rows:
            raise self._no_item(item_id)
        return ItemView(rows[0])

    def dossier(self, item_id: str) -> Dossier:
        """All that is known of one item: its timeline, copies, quality, findings, and where it stands in every stage.

        Raises:
            ColdstartError: the workspace has no such item, not even one that ingest turned away.
        """
        found = collect(self._store, self.pipeline(), item_id)
        if found is None:
            raise self._no_item(item_id)
        return found

    def _no_item(self, item_id: str) -> ColdstartError:
        return ColdstartError(f"no item {item_id!r} in workspace {self.uri}: see `coldstart status`")

    def fitted(self, stage: str) -> dict[str, str]:
        """item -> `train`, `valid` or `test`, as the last fit of a stage had it; empty where nothing was fitted."""
        from coldstart.store.fits import items_of

        made = self._store.artifacts.newest(stage)
        return {} if made is None else {item: side for item, (_, side) in items_of(made).items()}

    def fit_report(self, stage: str) -> dict[str, Any]:
        """How the last fit of a stage was made, and how good it is; empty where nothing was fitted."""
        made = self._store.artifacts.newest(stage)
        return {} if made is None else dict(made.report)

    def tables(self) -> list[str]:
        """Names of the workspace's tables."""
        return self._store.tables()

    def table(self, name: str, columns: list[str] | None = None, where: str | None = None) -> pa.Table:
        """A table as Arrow; `.to_pandas()` makes a data frame of it."""
        return self._store.read(name, columns, where=where)

    def vectors(self, space: str) -> pa.Table:
        """`item_id`, `vector` and, for pictures, the frames' seconds and vectors of a space of the pipeline; in a space
        of behaviour also `norm`, the length that scores need, and whether the item was `warm`.

        Raises:
            ColdstartError: the pipeline has no such space, or it has no rows yet.
        """
        pipeline = self.pipeline()
        for spec in spaces_of(pipeline):
            if spec.name == space:
                stage: Any = build(spec, pipeline)
                return self._store.read(stage.table)
        raise ColdstartError(f"no space {space!r}: the pipeline has {', '.join(s.name for s in spaces_of(pipeline))}")
