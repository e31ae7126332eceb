"""Follow the publications of a workspace: requests are answered by one version each, and never wait for the next.

A thread looks every second whether something else is published. It then opens the workspace anew, reads what searches
need and makes one search, and only then lets new requests have it; those under way end on the version before.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from coldstart.api.opened import PipelineSource, is_in_memory
from coldstart.api.workspace import Workspace
from coldstart.core.device import usable_cores
from coldstart.core.error_fields import error_fields
from coldstart.encoders import Encoder, Passport
from coldstart.errors import ColdstartError
from coldstart.rank.settings import RANK
from coldstart.search.notebook import Hits
from coldstart.search.queries import Query
from coldstart.serve.batching import Batcher
from coldstart.store import Store
from coldstart.store.freshness import PipelineState
from coldstart.store.impressions import IMPRESSIONS
from coldstart.store.interactions import INTERACTIONS
from coldstart.store.memory_graph import import_faiss
from coldstart.store.publications import Publication

if TYPE_CHECKING:
    from coldstart.rank.service import RankService
    from coldstart.rank.union_service import UnionService

T = TypeVar("T")

LOG = logging.getLogger("coldstart.serve")
POLL_S = 1.0
_GRAPH_BLOCK_S = 15.0
"""Seconds in which a block of rows is added to a graph, after which building ends when it should."""
LOOK_S = 0.2
"""Seconds after which a name that is not found is looked for in the next publication, if there is one."""
QUICKLY_ADDED = 0.01
"""Share of the items that may have to be added to a graph before a publication is served; with more, the index of the
workspace answers until its graph is there."""
_RENEWAL_SHARE = 20.0
"""Times that a load of the ranker takes, after which it is looked for again whether what it reads has changed."""
LISTS_WAIT_S = 10.0
"""Seconds that a request for a list waits for what is being loaded, before it is told to ask again."""
_WARM_TEXT = "warm up"
LISTS_ARE_LOADED = "the models of lists are being loaded"
_CHANGED = ("*.lance/_versions", "*.lance/_refs/tags")
"""Folders of a workspace in which a commit, or a publication, makes a file."""
_LOOK_ANYWAY_S = 10.0


class EncoderPool:
    """Query encoders by passport: loaded once, for all publications that they fit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._encoders: dict[str, Encoder] = {}

    def encoder(self, passport: Passport, load: Callable[[], Encoder]) -> Encoder:
        """Return the encoder of a passport, loaded by `load` where it is not there yet."""
        with self._lock:
            if passport.digest not in self._encoders:
                self._encoders[passport.digest] = load()
            return self._encoders[passport.digest]


class Reader(Workspace):
    """Workspace frozen at one publication, whose methods may be called from many threads."""

    def __init__(self, store: Store, pool: EncoderPool, index: str = "disk") -> None:
        super().__init__(store, index)
        self._pool = pool
        self._cold_lock = threading.Lock()
        self._loading = threading.RLock()
        self._rank_again, self._rank_renewal = 0.0, threading.Thread()
        self._lists_due, self._lists_loaded = 0.0, threading.Event()
        self._lists_loaded.set()  # nobody loads them: the first request does
        self._cold: frozenset[str] | None = None
        self._cold_after = 0.0
        own = weakref.ref(self)  # no circle: what a publication holds in memory goes with the last request of it

        def answer(key: Hashable, texts: Sequence[str]) -> Sequence[Hits | Exception]:
            reader = own()
            assert reader is not None, "whoever asks holds it"
            return reader._search_texts(key, texts)

        self.text_searches: Batcher[str, Hits] = Batcher(answer)
        self.opened_at = datetime.now(UTC)
        self.version = self.serving_version()
        self.freeze()

    def encoder_for(self, passport: Passport) -> Encoder:
        """Load an encoder of queries, shared by all readers."""
        return self._pool.encoder(passport, lambda: super(Reader, self).encoder_for(passport))

    def search_text(self, text: str, **options: Any) -> Hits:
        """Search for a text as `search` does, together with the texts of other threads under the same options."""
        return self.text_searches.ask(tuple(sorted(options.items())), text)

    def _search_texts(self, key: Hashable, texts: Sequence[str]) -> list[Hits | Exception]:
        options: dict[str, Any] = dict(key)  # type: ignore[call-overload]  # the items of the options
        if len(texts) == 1:
            return [self.search(text=texts[0], **options)]
        answers: list[Hits | Exception] = []
        found: dict[int, Hits] = {}
        queries = []
        for place, text in enumerate(texts):
            with suppress(ColdstartError):
                queries.append(Query(str(place), text=text))
        for query_id, hits in self.search_many(queries, on_error=lambda *_: None, **options):
            found[int(query_id)] = hits
        for place in range(len(texts)):
            if place in found:
                answers.append(found[place])
            else:  # alone, it says what is wrong with it
                try:
                    answers.append(self.search(text=texts[place], **options))
                except Exception as error:
                    answers.append(error)
        return answers

    def _ranking(self, pipeline: PipelineSource = None) -> RankService:
        """Load the ranker of showings once; requests do not wait while it reads new interactions and showings."""
        if pipeline is not None:
            return super()._ranking(pipeline)
        with self._loading:
            if self._rank_service is None:
                self._load_ranker()
            elif time.monotonic() >= self._rank_again and not self._rank_renewal.is_alive():
                self._rank_renewal = threading.Thread(target=self._renew_ranker, name="coldstart-ranker", daemon=True)
                self._rank_renewal.start()
            assert self._rank_service is not None
            return self._rank_service[1]

    def _load_ranker(self) -> None:
        """Load the ranker where the tables that it reads have changed, and set when to look again."""
        began = time.monotonic()
        try:
            super()._ranking()
        finally:
            now = time.monotonic()
            self._rank_again = now + max(POLL_S, _RENEWAL_SHARE * (now - began))

    def _renew_ranker(self) -> None:
        try:
            self._load_ranker()
        except ColdstartError as error:  # the one before stays in use
            LOG.warning("ranker not loaded", extra={"fields": {"fault": str(error)}})

    @cached_property
    def _has_ranker(self) -> bool:
        stages = self._reading_pipeline().of_kind(RANK)
        return bool(stages) and self._store.artifacts.newest(stages[-1].name) is not None

    def _shown(self) -> RankService | None:
        """Return the ranker that `rank` has: it is read once, and renewed."""
        return self._ranking() if self._has_ranker else None

    def _union(self, rank: str) -> UnionService | None:
        with self._loading:
            return super()._union(rank)

    @property
    def publication(self) -> Publication:
        """Published version that answers are from."""
        return self.published().publication

    @property
    def tag(self) -> str:
        """Tag of the published version."""
        return self.publication.tag

    def warm(self) -> None:
        """Load what the first requests need: encoders of texts, and the scoring model of recommendations."""
        with suppress(ColdstartError):  # no space takes texts, or an encoder is missing: each request says so
            self.search(text=_WARM_TEXT, top_k=1)
        self.cold_items()

    def load_lists(self) -> threading.Thread:
        """Begin to load what lists for users need, if there is anything, in a thread; `await_lists` waits for it."""
        self._lists_due = time.monotonic()
        thread = threading.Thread(target=self._load_lists, name="coldstart-lists", daemon=True)
        if self._store.has(INTERACTIONS) or self._store.has(IMPRESSIONS):
            self._lists_loaded.clear()
            thread.start()
        return thread

    def _load_lists(self) -> None:
        """Make one list, and load the ranker of showings; what fails is said by each request."""
        try:
            with suppress(ColdstartError):
                self._make_list()
            with suppress(ColdstartError):
                self._shown()
        except Exception:
            LOG.exception("lists cannot be made")
        finally:
            self._lists_loaded.set()
        LOG.info("lists loaded", extra={"fields": {"seconds": round(time.monotonic() - self._lists_due, 1)}})

    def _make_list(self) -> None:
        """List items for a history of one item, one that the model of behaviour knows where there is any."""
        model = self._listing().scoring_model
        liked = [item for item, cold in zip(model.item_ids, model.cold, strict=True) if not cold] or model.item_ids
        if liked:
            self.recommend(history=[liked[0]], top_k=1)

    @property
    def has_lists(self) -> bool:
        """Tell whether nothing is being loaded for lists."""
        return self._lists_loaded.is_set()

    def await_lists(self) -> None:
        """Wait until what lists need is loaded.

        Raises:
            ColdstartError: that takes longer than `LISTS_WAIT_S`.
        """
        if not self._lists_loaded.wait(LISTS_WAIT_S):
            seconds = time.monotonic() - self._lists_due
            raise ColdstartError(f"{LISTS_ARE_LOADED}, since {seconds:.0f} s: ask again in a second", kind="busy")

    def cold_items(self) -> frozenset[str] | None:
        """Find the items with few or no interactions; None where the workspace has no interactions at all."""
        with self._cold_lock:
            if self._cold is None and time.monotonic() >= self._cold_after:
                if self.interaction_summary() is None:
                    self._cold_after = time.monotonic() + POLL_S  # each item of an answer would look for them again
                    return None
                try:
                    model = self._listing().scoring_model
                except ColdstartError:
                    return None
                self._cold = frozenset(
                    item for item, cold in zip(model.item_ids, model.cold.tolist(), strict=True) if cold
                )
            return self._cold

    def copy_links(self) -> dict[str, str]:
        """Read copy -> original, of items that are served and of those that are kept out as copies.

        A copy that a person approved as an item of its own is none.
        """
        links: dict[str, str] = {}
        tables = set(self.tables())
        pipeline = self._reading_pipeline()
        state = PipelineState(self._store, pipeline)
        for spec in pipeline.of_kind("understand.duplicates"):
            if f"stage.{spec.name}" in tables:
                where = "duplicate_of IS NOT NULL"
                rows = self.table(f"stage.{spec.name}", ["item_id", "duplicate_of"], where=where).to_pylist()
                approved = state.approved(spec.name, [row["item_id"] for row in rows])
                links |= {row["item_id"]: row["duplicate_of"] for row in rows if row["item_id"] not in approved}
        return links

    def is_cold(self, item_id: str) -> bool | None:
        """Tell whether an item is cold; None where no interactions are known."""
        cold = self.cold_items()
        return None if cold is None else item_id in cold or item_id not in self._listing().scoring_model.places


class Readers:
    """The reader of the present publication, replaced when another one is published.

    With `index="memory"` a second thread builds or opens the graphs of each publication; until it has them, the indexes
    of the workspace answer.

    Raises:
        ColdstartError: the workspace cannot be opened, there is no such index, or faiss is missing for it.
    """

    def __init__(self, uri: str, *, poll_s: float = POLL_S, index: str = "disk") -> None:
        from coldstart.core.uris import find_folder, plain_uri

        find_folder(plain_uri(uri), create=False)
        self._index, self._in_memory = index, is_in_memory(index)
        if self._in_memory:
            import_faiss()
        self.uri, self.pool = uri, EncoderPool()
        self._poll_s = poll_s
        self._reader: Reader | None = None
        self._fault: ColdstartError | None = None
        self._stopped = threading.Event()
        self._stamp: tuple[int, ...] = ()
        self._looked_at = -_LOOK_ANYWAY_S
        self._swapping = threading.Lock()
        self._thread = threading.Thread(target=self._follow, name="coldstart-publications", daemon=True)
        self._graphs_due = threading.Event()
        self._graphs_thread = threading.Thread(target=self._make_graphs, name="coldstart-graphs", daemon=True)
        self._lists_thread = threading.Thread()
        self._loads_lists, self._had_lists = False, False
        self.swaps = 0
        self.checked_at = 0.0

    def start(self) -> None:
        """Open the present publication, where there is one, and begin to follow; what lists need is loaded beside."""
        self._loads_lists = True
        self.refresh()
        self._thread.start()
        if self._in_memory:
            self._graphs_thread.start()

    def stop(self) -> None:
        """End following."""
        self._stopped.set()
        self._graphs_due.set()
        for thread in (self._thread, self._lists_thread):
            if thread.is_alive():
                thread.join(timeout=5)
        if self._graphs_thread.is_alive():  # a process that ends while faiss adds rows is aborted
            self._graphs_thread.join(timeout=_GRAPH_BLOCK_S)

    def current(self) -> Reader:
        """Return the reader of the present publication.

        Raises:
            ColdstartError: nothing is published yet, or it cannot be opened.
        """
        reader = self._reader
        if reader is None:
            raise self._fault or ColdstartError(
                f"workspace {self.uri} is being opened: try again in a second", kind="not_ready"
            )
        return reader

    @property
    def is_ready(self) -> bool:
        """Tell whether lists are answered as well as searches; once they are, a later publication changes nothing."""
        self._had_lists = self._had_lists or self.current().has_lists
        return self._had_lists

    def refresh(self, *, thorough: bool = True, wait_s: float = -1) -> bool:
        """Open what is published now, if that is something else; tells whether it was.

        Args:
            thorough: open the workspace to look; otherwise only where some table of it has changed, as far as the
                times of its folders tell, or `_LOOK_ANYWAY_S` after the last time.
            wait_s: seconds to wait while another thread opens one; by default until it is open.
        """
        if not self._swapping.acquire(timeout=wait_s):
            return False
        try:
            return self._swap(thorough)
        finally:
            self._swapping.release()

    def _swap(self, thorough: bool) -> bool:
        stamp, now = self._read_stamp(), time.monotonic()
        if not thorough and stamp and stamp == self._stamp and now < self._looked_at + _LOOK_ANYWAY_S:
            self.checked_at = now
            return False
        self._stamp, self._looked_at = stamp, now
        try:
            store = Store(self.uri)
            before = self._reader
            if before is not None and Workspace(store).serving_version() == before.version:
                return False
            reader = Reader(store, self.pool, self._index)
            # else the indexes of the workspace answer sooner: what was dropped reads nothing from disk any more
            if before is not None and any(kept.tag == before.tag for kept in reader.publications()):
                _open_graphs(reader, build=False, most_added=QUICKLY_ADDED)
            reader.warm()
        except ColdstartError as error:
            if self._reader is None:
                self._fault = error
            else:  # the one before stays in use
                LOG.warning("publication not opened", extra={"fields": {"fault": str(error)}})
            return False
        finally:
            self.checked_at = time.monotonic()
        if self._loads_lists:
            self._lists_thread = reader.load_lists()
        self._reader, self._fault = reader, None
        self.swaps += 1
        self._graphs_due.set()
        LOG.info("publication opened", extra={"fields": {"publication": reader.tag, "rows": len(reader.published())}})
        return True

    def answer(self, question: Callable[[Reader], T]) -> T:
        """Answer by the present publication; anew by the next one where it was dropped meanwhile."""
        reader = self.current()
        try:
            return question(reader)
        except (ColdstartError, OSError, RuntimeError, ValueError) as error:
            if self._is_of_request(error, reader):
                raise
            wait_s = LOOK_S if _kind(error) == "not_found" else -1  # most such names are in no publication
            if not self.refresh(wait_s=wait_s) and self._reader is reader:
                raise
            return question(self.current())

    def _is_of_request(self, error: Exception, reader: Reader) -> bool:
        """Tell whether no other publication can mend an error: looking for one costs more than most answers."""
        kind = _kind(error)
        just_looked = self._reader is reader and time.monotonic() - self.checked_at < LOOK_S
        return kind in ("usage", "input", "busy") or (kind == "not_found" and just_looked)

    def _read_stamp(self) -> tuple[int, ...]:
        """Read the times at which tables, and the names of their versions, last changed; empty for a remote one."""
        if "://" in self.uri:
            return ()
        folders = sorted(own for kind in _CHANGED for own in Path(self.uri).glob(kind))
        with suppress(OSError):
            return tuple(folder.stat().st_mtime_ns for folder in folders)
        return ()

    def _make_graphs(self) -> None:
        """Build or open the graphs of the present publication, then of the next."""
        threads = max(1, usable_cores() - 1)  # requests go on meanwhile
        while not self._stopped.is_set():
            self._graphs_due.wait()
            self._graphs_due.clear()
            reader = self._reader
            if reader is not None and not self._stopped.is_set():
                _open_graphs(reader, threads=threads, stopped=self._stopped.is_set)

    def _follow(self) -> None:
        while not self._stopped.wait(self._poll_s):
            try:
                self.refresh(thorough=False)
            except Exception:
                LOG.exception("publications cannot be read")


def _kind(error: Exception) -> str | None:
    return error_fields(error)["kind"] if isinstance(error, ColdstartError) else None


def _open_graphs(reader: Reader, **options: Any) -> None:
    """Open or build graphs and log their figures; where that fails, the indexes of the workspace answer on."""
    try:
        reports = reader.load_graphs(**options)
    except Exception:
        LOG.exception("graphs cannot be made")
        return
    for space, report in reports.items():
        fields = {
            "space": space,
            **{name: round(v, 3) if isinstance(v, float) else v for name, v in asdict(report).items()},
        }
        LOG.info("graph in memory" if report.made != "none" else "no graph", extra={"fields": fields})
