"""Items drawn for a probe."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

from coldstart.engine.estimate.sandbox import LEAST, ItemPool, kind_and_size


def test_every_kind_and_every_size_is_drawn_and_any_start_is_spread() -> None:
    pool: ItemPool[tuple[str, int]] = ItemPool(Random(1))
    for number in range(900):
        pool.add("product", number, ("product", number))
    for number in range(20):
        pool.add("video", number, ("video", number))
    drawn = pool.draw(100)
    assert drawn.counts == {"product": 900, "video": 20}
    by_kind = Counter(kind for kind, _ in drawn.entries)
    assert by_kind == {"product": 98, "video": LEAST}
    tenths = Counter(number * 98 // 900 for kind, number in drawn.entries if kind == "product")
    assert len(tenths) >= 90, "one of each part of the sizes"
    assert {kind for kind, _ in drawn.entries[:30]} == {"product", "video"}


def test_a_long_list_is_sampled_and_counted() -> None:
    pool: ItemPool[int] = ItemPool(Random(0))
    for number in range(10_000):
        pool.add("video", 0, number)
    drawn = pool.draw(50)
    assert drawn.counts == {"video": 10_000}
    assert len(set(drawn.entries)) == 50
    assert max(drawn.entries) > 5000


def test_nothing_drawn_of_nothing() -> None:
    assert ItemPool[int](Random(0)).draw(10).entries == []


def test_size_is_length_then_bytes_then_letters(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"12345")
    media = [{"role": "image", "uri": str(path)}]
    assert kind_and_size({"kind": "product", "media": media}) == ("product", 5.0)
    assert kind_and_size({"kind": "product", "media": [{"uri": "s3://b/x.jpg"}]}) == ("product", 0.0)
    lengths = [{"uri": "x", "duration_s": 4.0, "size_bytes": 9}, {"uri": "y", "duration_s": None, "size_bytes": 1}]
    assert kind_and_size({"kind": "video", "media": lengths}) == ("video", 4.0)
    assert kind_and_size({"kind": "product", "title": "abc", "description": None, "media": []}) == ("product", 3.0)
