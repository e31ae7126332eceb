"""Suggest stored ids that are nearly the same as one that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

_MOST_IDS = 500_000
_LENGTHS_APART = 2
_MOST_COMPARED = 5000


def similar_ids(wanted: str, batches: Iterable[pa.RecordBatch], column: str = "item_id") -> str:
    """Suggest up to three ids: ` (did you mean 'sku-10' or 'sku-01'?)`; where none is similar, show one as an example:
    ` (ids are such as 'sku-10')`, or "" where there are none.

    Args:
        batches: with the column of ids; of very many, the first ones alone are compared.
    """
    folded = wanted.casefold()
    found: dict[str, str] = {}
    read, first = 0, None
    for batch in batches:
        ids = batch.column(column)
        first = first or next((one for one in ids.to_pylist() if one), None)
        lengths = pc.utf8_length(ids)
        near = pc.and_(
            pc.greater_equal(lengths, len(wanted) - _LENGTHS_APART),
            pc.less_equal(lengths, len(wanted) + _LENGTHS_APART),
        )
        found |= {one.casefold(): one for one in pc.unique(ids.filter(near)).to_pylist() if one is not None}
        read += batch.num_rows
        if read > _MOST_IDS:
            break
    ends = (folded[:2], folded[-2:])
    likely = [one for one in found if one.startswith(ends[0]) or one.endswith(ends[1])] or list(found)
    close = difflib.get_close_matches(folded, sorted(likely)[:_MOST_COMPARED], n=3, cutoff=0.6)
    names = [repr(found[one]) for one in close]
    if names:
        return f" (did you mean {' or '.join(filter(None, (', '.join(names[:-1]), names[-1])))}?)"
    return "" if first is None else f" (ids are such as {first!r})"
