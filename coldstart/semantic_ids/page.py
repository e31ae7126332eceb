"""HTML page of semantic IDs: a tree of codes that opens, with example pictures, and the health card.

One file without scripts that fetches nothing. Pictures are decoded in this process, at most `MOST_PICTURES`; items
without one are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coldstart.media.limits import Limits
from coldstart.metrics.intervals import FEWEST_COMPARED
from coldstart.pages.page import Tile, card, environment, loader
from coldstart.semantic_ids.health import Agreement, Health
from coldstart.semantic_ids.read import SemanticIds, text_of
from coldstart.semantic_ids.workspace import Branch, branches, read_records
from coldstart.store import Store

MOST_BRANCHES, MOST_GROUPS, MOST_ITEMS = 300, 24, 8
MOST_PICTURES, _PICTURES = 600, 4
_SIDE = 84
_WORDS = 2


def write_page(
    store: Store, ids: SemanticIds, path: Path, *, health: Health | None = None, limits: Limits | None = None
) -> None:
    """Write the page as one HTML file; its folder is created where missing.

    Args:
        limits: as for ingest; the default lets no web media in.

    Raises:
        OSError: the file cannot be written.
    """
    page = page_html(store, ids, health=health, limits=limits)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def page_html(store: Store, ids: SemanticIds, *, health: Health | None = None, limits: Limits | None = None) -> str:
    """Render the page as an HTML document; arguments as for `write_page`."""
    first = branches(ids)
    shown = first[:MOST_BRANCHES]
    records = read_records(store, ids.item_ids, ("title", "category", "kind", "media"))
    pictures = _Pictures(limits or Limits())
    return environment().get_template("sids.html").render(
        items=len(ids.item_ids),
        version=ids.version,
        sizes=" x ".join(map(str, ids.sizes)),
        space=ids.space,
        rule=ids.rule,
        warnings=list(health.warnings) if health else [],
        card=_card(health) if health else None,
        hidden=len(first) - len(shown),
        branches=[_branch(ids, one, records, pictures) for one in shown],
    )  # fmt: skip


class _Pictures:
    """Small pictures of items as data URIs, until there are `MOST_PICTURES`."""

    def __init__(self, limits: Limits) -> None:
        self._load = loader(limits, _SIDE)
        self._left = MOST_PICTURES

    def of(self, records: Sequence[Mapping[str, Any]]) -> list[str]:
        """Load pictures of the first of these that have one, spread over them."""
        found: list[str] = []
        step = max(1, len(records) // _PICTURES)
        for record in [*records[::step], *records][: 3 * _PICTURES]:
            if len(found) == _PICTURES or not self._left:
                break
            uri = next((one["uri"] for one in record.get("media") or () if one.get("role") in ("image", "video")), None)
            if uri is None:
                continue
            tile = Tile("", uri, record.get("kind") or "", "")
            own = card(tile, self._load(tile))["pictures"][:1]
            if own and own[0]["source"] not in found:
                found.append(own[0]["source"])
                self._left -= 1
        return found


def _branch(
    ids: SemanticIds, branch: Branch, records: Mapping[str, Mapping[str, Any]], pictures: _Pictures
) -> dict[str, Any]:
    """Prepare a first code: what its items are, example pictures, and the items by the next code."""
    own = [records.get(ids.item_ids[place], {}) for place in branch.places]
    kinds = Counter(str(record["category"]) for record in own if record.get("category"))
    words = [f"{name} ({count})" if len(kinds) > 1 else name for name, count in kinds.most_common(_WORDS)]
    what = ", ".join(words) or str(next((one["title"] for one in own if one.get("title")), ""))
    groups = branches(ids, branch.prefix) if ids.codes.shape[1] > 1 else []
    return {
        "code": text_of(branch.prefix),
        "count": branch.items,
        "what": what,
        "pictures": pictures.of(own),
        "groups": [_group(ids, one, records) for one in (groups or [branch])[:MOST_GROUPS]],
        "more": max(0, len(groups) - MOST_GROUPS),
    }


def _group(ids: SemanticIds, branch: Branch, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    shown = []
    for place in branch.places[:MOST_ITEMS]:
        item = ids.item_ids[place]
        title = records.get(item, {}).get("title") or item
        shown.append({"sid": text_of(ids.codes[place].tolist()), "title": title})
    return {
        "prefix": text_of(branch.prefix),
        "count": branch.items,
        "shown": shown,
        "more": max(0, branch.items - MOST_ITEMS),
    }


def _card(health: Health) -> dict[str, Any]:
    """Put the health card into words and cells."""
    reached = {one.level: one.measure for one in health.reach}
    moved = health.churn.refit if health.churn else ()
    levels = []
    for place, level in enumerate(health.levels, 1):
        reach = reached.get(place)
        levels.append(
            [
                place,
                f"{level.perplexity:.0f} of {level.codes}",
                f"{level.largest:,}",
                "" if level.variance_left is None else f"{level.variance_left:.0%}",
                f"{level.prefixes:,}",
                "" if reach is None else f"{reach.value:.2f} ({reach.low:.2f}–{reach.high:.2f})",
                *([f"{moved[place - 1]:.0%}"] if moved else []),
            ]
        )
    churn = health.churn
    columns, rows = agreement_cells(health.agreement)
    return {
        "unique": f"{health.unique_share:.1%}",
        "nearest_unique": f"{health.nearest_unique_share:.1%}",
        "sharing": f"{health.colliding_share:.1%}",
        "nearest_sharing": f"{health.nearest_colliding_share:.1%}",
        "largest": f"{health.nearest_largest_bucket:,}",
        "churn": None if churn is None else f"{churn.moved:,} of {churn.items:,} old items move",
        "emitted": "not measured: no model decodes these IDs yet"
        if health.emitted is None
        else f"{health.emitted:.0%}",
        "levels": levels,
        "refit": bool(moved),
        "new": new_items_text(health),
        "agreement": rows,
        "agreement_columns": columns,
        "agreement_note": agreement_note(health),
    }


def new_items_text(health: Health) -> str:
    """Write how many new items were held out, and whether these are too few."""
    count = health.reach[0].measure.n if health.reach else 0
    return f"{count:,}" + f" (fewer than {FEWEST_COMPARED} are too few to judge)" * (count < FEWEST_COMPARED)


def agreement_cells(agreement: Sequence[Agreement]) -> tuple[list[str], list[list[str]]]:
    """Lay out the agreement of groupings, each beside its shuffled self: columns that have a value, and rows."""
    columns = ["prefix", "groups", "pairs", "lift", "purity", "NMI"]
    rows = []
    for one in agreement:
        if one.shuffled:
            continue
        other = next(two for two in agreement if two.shuffled and two.name == one.name)
        pairs = one.pairs
        rows.append(
            [
                one.name,
                f"{one.groups:,}",
                "" if pairs is None else f"{pairs.value:.3f} ({pairs.low:.3f}–{pairs.high:.3f})",
                _beside(one.lift, other.lift, 1),
                _beside(one.purity, other.purity, 2),
                _beside(one.nmi, other.nmi, 2),
            ]
        )
    kept = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    return [columns[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _beside(value: float | None, shuffled: float | None, digits: int) -> str:
    if value is None or shuffled is None:
        return ""
    return f"{value:.{digits}f} (shuffled {shuffled:.{digits}f})"


def agreement_note(health: Health) -> str:
    """Explain the columns of `agreement_cells`."""
    purity = "purity: share of items of the commonest category of their group"
    shuffled = "shuffled: the same of groups dealt out anew among the items; IDs that are no better carry nothing"
    if not health.users:
        return f"{purity}. There are no interactions to compare with. {shuffled}."
    return (
        f"pairs: of items that follow each other in the history of one of {health.users:,} users, the share in one "
        f"group; lift: over that of any two; {purity}; NMI: with clusters of items of like users. {shuffled}."
    )
