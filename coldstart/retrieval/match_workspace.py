"""`match` over an opened workspace: what its videos ask with, the weights that it keeps, and new ones fitted and kept.

Parts of the workspace that take time, or can be missing, are asked for when they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coldstart.encoders import Encoder, Passport
from coldstart.errors import ColdstartError
from coldstart.pipeline import Pipeline
from coldstart.retrieval import known_pairs
from coldstart.retrieval.asked import Asker
from coldstart.retrieval.channels import FILE, MATCH, Learnt
from coldstart.retrieval.match import Answer, match
from coldstart.workspace import Store

if TYPE_CHECKING:
    from coldstart.workspace.published import Published


@dataclass(frozen=True)
class Matcher:
    """Videos of one workspace compared with its products.

    Attributes:
        pipeline: gives the settings of the workspace; published: gives the catalog that it serves.
        encoder_for: gives the encoder that made the vectors of a space.
    """

    store: Store
    pipeline: Callable[[], Pipeline]
    published: Callable[[], Published]
    encoder_for: Callable[[Passport], Encoder]

    def asker(self, spaces: Iterable[str] | None = None) -> Asker:
        """What collects what videos ask with.

        Args:
            spaces: the spaces to compare in; by default all.

        Raises:
            ColdstartError: nothing is published, or not with such a space.
        """
        chosen = None if spaces is None else tuple(spaces)
        return Asker(self.store, self.pipeline(), self.published(), self.encoder_for, chosen)

    def learnt(self) -> Learnt | None:
        """The weights that were fitted and kept last."""
        kept = self.store.artifacts.newest(MATCH)
        return None if kept is None else Learnt.from_bytes(kept.files()[FILE])

    def match(
        self,
        item: str | None,
        video: str | Path | None,
        title: str | None,
        listen: bool,
        spaces: Iterable[str] | None,
        **options: Any,
    ) -> Answer:
        """The products of an item of the catalog or of a video file; `options`: as for `retrieval.match.match`.

        Raises:
            ColdstartError: not one of item and video is given, what goes with a file is given with an item, there is
                no such item or file, or nothing of it can be compared.
        """
        if (item is None) == (video is None):
            raise ColdstartError("match: give exactly one of item and video")
        if item is not None and (title is not None or listen):
            raise ColdstartError("match: title and listen are for a video file; an item has its own words")
        asker = self.asker(spaces)
        if item is not None:
            found = asker.items([item])
            if item not in found:
                raise ColdstartError(f"item {item!r} is not in the published catalog: see `coldstart show {item}`")
            question = found[item]
            options["exclude"] = [*options.get("exclude", ()), item]
        else:
            question = asker.file(Path(str(video)), title, listen)
        return match(asker.catalog, question, asker.inputs, learnt=self.learnt(), **options)

    def fit(
        self, pairs: Mapping[str, Iterable[str]], spaces: Iterable[str] | None, kind: str | None, where: str | None
    ) -> dict[str, Any]:
        """Fit weights on known pairs, and keep them where they help the videos that are held out.

        Returns:
            The report, as `known_pairs.report` gives it.

        Raises:
            ColdstartError: too few of the videos are in the catalog, or nothing of them can be compared.
        """
        shown = {video: frozenset(products) for video, products in pairs.items() if products}
        gathered = known_pairs.gather(self.asker(spaces), shown, kind=kind, where=where)
        fit = known_pairs.fit_weights(gathered)
        report = known_pairs.report(gathered, fit)
        if fit.helps:
            files = {FILE: Learnt.of(gathered.channels, fit.weights).to_bytes()}
            with self.store.lock():
                self.store.artifacts.save(MATCH, known_pairs.key_of(gathered, shown), files, report)
        return report
