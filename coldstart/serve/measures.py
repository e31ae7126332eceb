"""Measures of the server in the text format of Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily

from coldstart.errors import ColdstartError

if TYPE_CHECKING:
    from coldstart.serve.readers import Readers

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Measures:
    """Counters and histograms of one server."""

    def __init__(self, readers: Readers, jobs: Any = None) -> None:
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "coldstart_request_seconds",
            "Seconds from the request to the end of the answer",
            ["method", "route", "status"],
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self.in_flight = Gauge("coldstart_requests_in_flight", "Requests being answered", registry=self._registry)
        self.failures = Counter(
            "coldstart_failures", "Requests that the server failed to answer", registry=self._registry
        )
        self._registry.register(_State(readers, jobs))
        ProcessCollector(registry=self._registry)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Record one request."""
        known = method if method in _METHODS else "other"  # each name is a series that stays in memory
        self._seconds.labels(known, route, str(status)).observe(seconds)
        if status >= 500 and status not in (503, 504):
            self.failures.inc()

    def text(self) -> bytes:
        """Write all measures."""
        return generate_latest(self._registry)


class _State:
    """Measures that are read when they are asked for."""

    def __init__(self, readers: Readers, jobs: Any) -> None:
        self._readers, self._jobs = readers, jobs

    def collect(self) -> Iterator[Any]:
        yield GaugeMetricFamily(
            "coldstart_publication_swaps", "Publications opened since the start", value=self._readers.swaps
        )
        yield GaugeMetricFamily(
            "coldstart_publication_check_age_seconds",
            "Seconds since it was looked whether something else is published",
            value=time.monotonic() - self._readers.checked_at,
        )
        try:
            reader = self._readers.current()
        except ColdstartError:
            return
        publication = reader.publication
        version = GaugeMetricFamily("coldstart_publication", "The version that is served", labels=["tag"])
        version.add_metric([publication.tag], publication.number)
        yield version
        yield GaugeMetricFamily("coldstart_items_served", "Items of the publication", value=publication.rows)
        yield GaugeMetricFamily(
            "coldstart_publication_age_seconds",
            "Seconds since it was published",
            value=(datetime.now(UTC) - publication.published_at).total_seconds(),
        )
        yield GaugeMetricFamily(
            "coldstart_text_search_batches", "Batches of text searches", value=reader.text_searches.batches
        )
        yield GaugeMetricFamily(
            "coldstart_text_searches", "Text searches in these batches", value=reader.text_searches.questions
        )
        graphs = GaugeMetricFamily(
            "coldstart_graph_in_memory", "1 where searches of a space go by a graph in memory", labels=["space"]
        )
        published = reader.published()
        for space in published.indexed_spaces:
            graphs.add_metric([space], float(published.has_graph(space)))
        yield graphs
        if self._jobs is not None:
            queue = GaugeMetricFamily("coldstart_jobs", "Jobs by state", labels=["state"])
            for state, count in self._jobs.counts().items():
                queue.add_metric([state], count)
            yield queue
