"""Search: a text, picture, video or item in; items of the published catalog out, with the reasons for their order.

Spaces are searched one by one, and their rankings are joined by reciprocal rank (Cormack, Clarke and Büttcher 2009),
where no distance of one space meets a distance of another. Knows nothing of users or of past behaviour.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import fsum
from typing import TYPE_CHECKING

from coldstart.encoders import Encoder, Passport
from coldstart.errors import ColdstartError
from coldstart.media.limits import Limits
from coldstart.retrieval.ranking import FULL_TEXT, FramesOf, Pool, Query, Ranker, Ranking
from coldstart.stage import Reject

if TYPE_CHECKING:
    from coldstart.workspace.published import Published

__all__ = ["Hit", "Query", "fuse", "search_many"]

RRF_K = 60
DISPLAY = ("kind", "title", "category", "price", "media")


@dataclass(frozen=True)
class Hit:
    """One item found.

    Attributes:
        score: sum over the rankings of 1 / (60 + rank); the best first.
        uri: its first media file.
        ranks: space (or `full_text`) -> place there, from 1; a ranking that did not reach the item is left out.
        distances: space -> 1 - cosine, of the nearest query vector where a query has several.
        copies: items that are linked to it as its copies, and so are not found beside it.
    """

    item_id: str
    score: float
    kind: str | None
    title: str | None
    category: str | None
    price: float | None
    uri: str | None
    ranks: Mapping[str, int]
    distances: Mapping[str, float]
    copies: Sequence[str] = ()


def search_many(
    catalog: Published,
    encoder_for: Callable[[Passport], Encoder],
    queries: Iterable[Query],
    *,
    spaces: Iterable[str] | None = None,
    kind: str | None = None,
    where: str | None = None,
    top_k: int = 10,
    hybrid: bool = True,
    exclude: Iterable[str] = (),
    copies: bool = False,
    video_pool: Pool = "max",
    frames: int = 8,
    limits: Limits | None = None,
    batch_size: int = 64,
    frames_of: FramesOf | None = None,
    apart: Iterable[str] = (),
    on_error: Callable[[str, Reject], None] | None = None,
) -> Iterator[tuple[str, list[Hit]]]:
    """(query_id, hits) of each query, in order. Queries are encoded and searched in batches.

    Args:
        encoder_for: gives the encoder that made the vectors of a space; called once a passport.
        spaces: the spaces to search, each of which must fit every query; by default all that fit. Empty for words
            alone.
        kind: `video` or `product`.
        where: an SQL condition over the columns of the catalog.
        hybrid: let a text query match words as well as vectors.
        exclude: ids that are not wanted; an item that asks never finds itself.
        copies: find items that are linked to an original beside it too.
        video_pool: see `pool`.
        frames: frames sampled from each video that asks.
        frames_of: (space, item ids) -> unit vectors `[T, D]` of the frames of those that are videos; with it, a video
            that asks by its id asks by its frames, as a video file does.
        apart: spaces that a text asks only if `spaces` names them, or where no other fits.
        on_error: takes the id of a query that cannot be answered, such as a picture that cannot be read, and why;
            the rest goes on; without it, the first such query raises.

    Raises:
        ColdstartError: no space fits a query, a space that was named does not fit it, or a faulty condition.
    """
    ranker = Ranker(
        catalog=catalog,
        encoder_for=encoder_for,
        wanted=None if spaces is None else tuple(spaces),
        condition=catalog.condition(where=where, kind=kind, exclude=exclude, copies=copies),
        top_k=top_k,
        hybrid=hybrid,
        video_pool=video_pool,
        frames=frames,
        limits=limits or Limits(),
        batch_size=batch_size,
        frames_of=frames_of,
        apart=frozenset(apart),
    )
    pending = iter(queries)
    while batch := list(islice(pending, batch_size)):
        answered: list[tuple[Query, dict[str, Ranking]]] = []
        for query, found in zip(batch, ranker.rankings(batch), strict=True):
            if not isinstance(found, Reject):
                answered.append((query, found))
            elif on_error is None:
                raise ColdstartError(f"query {query.query_id!r}: {found}")
            else:
                on_error(query.query_id, found)
        yield from _hits(catalog, answered, top_k)


def fuse(rankings: Mapping[str, Sequence[str]]) -> list[tuple[str, float, dict[str, int]]]:
    """Join rankings by reciprocal rank.

    Args:
        rankings: name -> item ids, best first.

    Returns:
        (item_id, score, name -> rank from 1), by falling score, then item_id.
    """
    ranks: dict[str, dict[str, int]] = defaultdict(dict)
    for name, item_ids in rankings.items():
        for rank, item_id in enumerate(item_ids, start=1):
            ranks[item_id][name] = rank
    scored = [(item_id, fsum(1 / (RRF_K + rank) for rank in own.values()), own) for item_id, own in ranks.items()]
    return sorted(scored, key=lambda entry: (-entry[1], entry[0]))


def _hits(
    catalog: Published, answered: Sequence[tuple[Query, dict[str, Ranking]]], top_k: int
) -> Iterator[tuple[str, list[Hit]]]:
    """Fuse the rankings of each query, and look up what is shown of the items for all queries at once."""
    fused = [fuse({name: [item_id for item_id, _ in r] for name, r in own.items()})[:top_k] for _, own in answered]
    found = {item_id for hits in fused for item_id, _, _ in hits}
    shown, copies = catalog.items(found, DISPLAY), catalog.copies(found)
    for (query, rankings), entries in zip(answered, fused, strict=True):
        distances = {name: dict(ranking) for name, ranking in rankings.items() if name != FULL_TEXT}
        hits = []
        for item_id, score, ranks in entries:
            kind, title, category, price, media = (shown[item_id][column] for column in DISPLAY)
            near = {name: distances[name][item_id] for name in ranks if name in distances}
            uri = media[0]["uri"] if media else None
            own = copies.get(item_id, ())
            hits.append(Hit(item_id, score, kind, title, category, price, uri, ranks, near, own))
        yield query.query_id, hits
