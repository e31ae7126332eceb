"""Items and hits as a notebook shows them; titles and fields of sellers never become markup."""

from __future__ import annotations

import pickle
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from coldstart import Hit, Hits, ItemView
from coldstart.media.limits import Limits

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> & {{ 7 * 7 }} {% raw %}"


class Reader(HTMLParser):
    """Collects the tags, their attributes' names and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 20), "red").save(path)
    return str(path)


def item(**fields: Any) -> ItemView:
    columns = ("item_id", "kind", "title", "description", "category", "price", "tags", "media")
    return ItemView({**dict.fromkeys(columns), "item_id": "a", "kind": "product", **fields}, Limits())


def entry(uri: str, role: str = "image", duration_s: float | None = None) -> dict[str, Any]:
    return {"role": role, "uri": uri, "duration_s": duration_s}


def hit(**fields: Any) -> Hit:
    values: dict[str, Any] = dict.fromkeys(Hit.__dataclass_fields__)
    return Hit(**{**values, "item_id": "a", "score": 0.5, "ranks": {}, "distances": {}, **fields})


def test_columns_are_attributes() -> None:
    view = item(title="Soap", price=2.0)
    assert (view.item_id, view.title, view.price, view.category) == ("a", "Soap", 2.0, None)
    assert repr(view) == "<product 'a': Soap>"
    with pytest.raises(AttributeError) as caught:
        _ = view.titel
    assert str(caught.value) == (
        "an item has no field 'titel': it has item_id, kind, title, description, category, price, tags, media"
    )


def test_an_item_can_be_pickled() -> None:
    view = pickle.loads(pickle.dumps(item(title="Soap")))
    assert view.fields == item(title="Soap").fields


def test_the_uri_is_that_of_the_first_picture_or_video() -> None:
    assert item().uri is None
    assert item(media=[]).uri is None
    assert item(media=[entry("a.mp3", "audio"), entry("b.mp4", "video", 6.0), entry("c.png")]).uri == "b.mp4"


def test_a_tile_has_the_title_or_the_id() -> None:
    assert item(title="Soap", category="Bath").tile().title == "Soap"
    assert item(title="Soap", category="Bath").tile().caption == "Bath"
    assert item(title="Soap", category="Bath").tile("first").caption == "first"
    assert item().tile().title == "a"


def test_an_item_is_a_card_with_its_picture_and_what_is_known(picture: str) -> None:
    page = Reader(item(title="Soap", price=2.5, tags=["x", "y"], media=[entry(picture)])._repr_html_())
    assert page.tags.count("img") == 1
    assert "Soap" in page.text
    assert "x, y" in page.text
    assert "price2.5" in page.text
    assert "description" not in page.text


def test_hostile_fields_stay_text(picture: str) -> None:
    fields = dict.fromkeys(("item_id", "title", "description", "category"), HOSTILE)
    tame = item(title="t", description="d", category="c", tags=["x"], media=[entry(picture)])._repr_html_()
    html = item(**fields, tags=[HOSTILE], media=[entry(picture)])._repr_html_()
    page, expected = Reader(html), Reader(tame)
    assert page.tags == expected.tags
    assert page.attributes == expected.attributes
    assert page.text.count(HOSTILE) == 6  # title, category below it, and the four rows of the table besides price
    assert "<script" not in html


def test_a_picture_that_is_gone_is_a_card_with_the_reason(tmp_path: Path) -> None:
    page = Reader(item(title=HOSTILE, media=[entry(str(tmp_path / "<b>.png"))])._repr_html_())
    assert "img" not in page.tags
    assert "b" in page.tags  # the title's own; the one in the path is text
    assert page.tags.count("b") == 1


def test_hits_are_a_row_of_cards(picture: str) -> None:
    hits = Hits([hit(title=HOSTILE, uri=picture, kind="product"), hit(item_id=HOSTILE, score=0.25)], Limits())
    page = Reader(hits._repr_html_())
    assert set(page.tags) <= {"div", "img", "b", "small"}
    assert page.tags.count("img") == 1
    assert page.text.count(HOSTILE) == 2
    assert "0.50" in page.text
    assert "0.25" in page.text
    assert Reader(Hits()._repr_html_()).tags == ["div"]


def test_hits_become_a_data_frame() -> None:
    pytest.importorskip("pandas")
    hits = Hits([hit(ranks={"image": 1, "text": 3}), hit(item_id="b", ranks={"text": 1})])
    frame = hits.to_pandas()
    assert list(frame["item_id"]) == ["a", "b"]
    assert frame.loc[0, "rank_image"] == 1
    assert list(frame["rank_text"]) == [3, 1]
    assert not {"ranks", "distances"} & set(frame.columns)
    assert len(Hits().to_pandas()) == 0
