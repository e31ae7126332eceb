"""A hand-made catalog of products in two spaces, and the sides of a query to match with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa

from coldstart.core.items import CONTENT_FIELDS
from coldstart.encoders import Passport
from coldstart.search.channels import Moment, QuerySide
from coldstart.store.catalog import Catalog
from coldstart.store.published import Published

LOOKS, WORDS = Passport("looks", "a", "none", 4), Passport("words", "b", "none", 3)
IMAGE, TEXT = LOOKS.digest, WORDS.digest
INPUTS: dict[str, Any] = {"image": "image", "text": "text"}


def unit(rows: Any) -> np.ndarray:
    found = np.asarray(rows, np.float32)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


class Made:
    """A catalog of products with vectors in `image` and `text`, some of which lack one or the other."""

    def __init__(
        self, folder: Path, vectors: Mapping[str, Sequence[Any]], passports: Mapping[str, Passport], **values: Any
    ) -> None:
        count = len(next(iter(vectors.values())))
        self.ids = [f"p{number:03d}" for number in range(count)]
        self.vectors = vectors
        columns: dict[str, Any] = {"item_id": pa.array(self.ids)}
        given = {"kind": ["product"] * count, "title": [f"product {n}" for n in range(count)], **values}
        for entry in CONTENT_FIELDS:
            columns[entry.name] = pa.array(given.get(entry.name, [None] * count), entry.type)
        columns["row_key"] = columns["index_key"] = pa.array(self.ids)
        for name in ("transcript", "screen_text", "language", "duplicate_of"):
            columns[name] = pa.array(given.get(name, [None] * count), pa.string())
        columns["text"] = pa.array(given["title"])
        for space, rows in vectors.items():
            columns[f"vector_{space}"] = pa.array(list(rows), pa.list_(pa.float32(), passports[space].dim))
        writer = Catalog(lancedb.connect(str(folder)))
        writer.write(pa.table(columns), passports)
        writer.publish(writer.build_indexes())
        published = writer.published()
        assert published is not None
        self.catalog: Published = published


def frames(vectors: Any, passport: str = IMAGE) -> QuerySide:
    rows = unit(vectors)
    return QuerySide("image", passport, "image", rows, [Moment("frame", second + 0.5) for second in range(len(rows))])


def words(vector: Any) -> QuerySide:
    return QuerySide("text", TEXT, "text", unit([vector]), [Moment("text", None, "a title")])
