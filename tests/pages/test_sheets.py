"""Contact sheets and pages: what is drawn where, and that no text of an item becomes markup."""

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import Mock

import av
import numpy as np
import pytest
from PIL import Image

from coldstart.errors import ColdstartError
from coldstart.media.image import ImageTransform, load_image
from coldstart.media.limits import Limits
from coldstart.media.video import sample_frames
from coldstart.pages import SheetRow, Tile, contact_sheet, neighbours_html, sheet, tile_html
from coldstart.pages import page as tiles

HOSTILE = "<script>alert(1)</script>\"><img src=x onerror='alert(2)'> {{ 7*7 }} & co"
ODD = "日本語 مرحبا 👩‍🍳 \ud800 \x00 \u202e nul\nnew line"
RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 220)


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.text.append(data.strip())


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path.resolve() / "red.png"
    Image.new("RGB", (300, 200), RED).save(path)
    return str(path)


@pytest.fixture
def video(tmp_path: Path) -> str:
    """Six seconds: two red, two green, two blue."""
    path = tmp_path.resolve() / "colours.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"
        for colour in (RED, GREEN, BLUE):
            for _ in range(20):
                container.mux(stream.encode(av.VideoFrame.from_image(Image.new("RGB", (96, 96), colour))))
        container.mux(stream.encode(None))
    return str(path)


def is_near(pixel: object, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(np.array(pixel) - np.array(colour)).max() < 30)


def draw(rows: list[SheetRow], tmp_path: Path) -> Image.Image:
    contact_sheet(rows, tmp_path / "out/sheet.png")
    with Image.open(tmp_path / "out/sheet.png") as image:
        assert image.format == "PNG"
        return image.convert("RGB")


def test_sheet_places_query_and_hits(tmp_path: Path, picture: str, video: str) -> None:
    hit = Tile("hit", picture, "product", "score 0.5\nimage #1")
    image = draw([SheetRow(Tile("query", video, "video", ""), [hit, hit]), SheetRow(hit, [hit])], tmp_path)
    assert image.size == (28 * 2 + 330 + 2 * (200 + 18), 28 * 2 + 2 * sheet._ROW_HEIGHT - 36)
    middle = 28 + 60
    for x, colour in ((28 + 55, RED), (28 + 165, GREEN), (28 + 275, BLUE)):
        assert is_near(image.getpixel((x, middle)), colour)
    for x in (28 + 330 + 18 + 100, 28 + 330 + 18 + 218 + 100):
        assert is_near(image.getpixel((x, middle)), RED)
    assert is_near(image.getpixel((28 + 165, sheet._ROW_HEIGHT + middle)), RED)


def test_sheet_shows_the_wanted_seconds(tmp_path: Path, video: str) -> None:
    image = draw([SheetRow(Tile("query", video, "video", "", [5.0, 0.5]), [])], tmp_path)
    assert is_near(image.getpixel((28 + 55, 88)), BLUE)
    assert is_near(image.getpixel((28 + 165, 88)), RED)


def test_times_are_those_of_the_frames(video: str) -> None:
    load = tiles.loader(Limits(), 64)
    assert [picture.clock for picture in load(Tile("v", video, "video", "")).pictures] == ["0:01", "0:03", "0:05"]
    assert tiles.Picture(Image.new("RGB", (1, 1)), 754.9).clock == "12:34"


def test_the_moments_that_a_model_sees_are_shown_exactly(video: str) -> None:
    seen = sample_frames(Path(video), Limits(), ImageTransform((64, 64), "longest"), count=8).times_s
    load = tiles.loader(Limits(), 64)
    for moments in (seen[:3], seen[3:6], seen[6:]):
        assert [picture.time_s for picture in load(Tile("v", video, "video", "", moments)).pictures] == moments


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: None, "no media"),
        (lambda folder: str(folder / "gone.jpg"), "not_found"),
        (lambda folder: "https://example.com/a.jpg", "host_not_allowed"),
        (lambda folder: str(folder), "not_a_file"),
    ],
    ids=["none", "gone", "web", "folder"],
)
def test_media_that_cannot_be_shown_have_a_reason(
    make: Callable[[Path], str | None], reason: str, tmp_path: Path
) -> None:
    tile = Tile("broken", make(tmp_path.resolve()), "product", "")
    assert tiles.loader(Limits(), 64)(tile) == tiles.Thumbnails([], reason)
    image = draw([SheetRow(tile, [tile])], tmp_path)
    assert image.getpixel((28 + 20, 28 + 20)) == (0xEC, 0xEE, 0xF1)
    neighbours_html([SheetRow(tile, [])], tmp_path / "page.html", "t")
    assert reason.replace("_", " ") in Page((tmp_path / "page.html").read_text(encoding="utf-8")).text


def test_a_truncated_picture_has_a_reason(tmp_path: Path, picture: str) -> None:
    Path(picture).write_bytes(Path(picture).read_bytes()[:60])
    assert tiles.loader(Limits(), 64)(Tile("cut", picture, "product", "")).reason == "corrupt_image"


def test_each_medium_is_decoded_once(tmp_path: Path, picture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Mock(side_effect=load_image)
    monkeypatch.setattr(tiles, "load_image", spy)
    hit = Tile("hit", picture, "product", "")
    neighbours_html([SheetRow(hit, [hit, hit])] * 3, tmp_path / "page.html", "t")
    assert spy.call_count == 1


def test_sheet_takes_any_text(tmp_path: Path, picture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        SheetRow(
            Tile(ODD * 20, None, "text", ODD), [Tile("W" * 500, picture, "product", HOSTILE), Tile("", None, "", "")]
        )
    ]
    with_matplotlib = draw(rows, tmp_path)
    monkeypatch.setattr(sheet, "find_spec", lambda name: None)
    without = draw(rows, tmp_path)
    assert with_matplotlib.size == without.size
    assert with_matplotlib.tobytes() != without.tobytes()


def test_long_words_and_lines_are_cut() -> None:
    font = sheet._font(12)
    assert sheet._wrap("one two", font, 500, 2) == ["one two"]
    assert sheet._wrap("one\ntwo\nthree", font, 500, 2) == ["one", "two …"]
    (line,) = sheet._wrap("x" * 200, font, 100, 2)
    assert line.endswith("x…")
    assert font.getlength(line) <= 100


def test_empty_sheet_and_too_long_sheet(tmp_path: Path) -> None:
    assert draw([], tmp_path).size == (28 * 2 + 330 + 218, 28 * 2 + sheet._ROW_HEIGHT - 36)
    row = SheetRow(Tile("q", None, "text", ""), [])
    with pytest.raises(ColdstartError) as error:
        contact_sheet([row] * 201, tmp_path / "long.png")
    assert str(error.value) == (
        f"201 rows are too many for the picture {tmp_path}/long.png: give at most 200, or write an HTML page"
    )


def test_clean_keeps_lines_and_joined_emoji() -> None:
    assert tiles.clean("a\x00b\r\n 👩‍🍳 \ud800\u202e") == "a b\n👩‍🍳 ?"


def test_page_escapes_every_text(tmp_path: Path, picture: str) -> None:
    tile = Tile(HOSTILE, picture, HOSTILE, HOSTILE)
    words = Tile(HOSTILE, None, "text", HOSTILE)
    neighbours_html([SheetRow(tile, [tile]), SheetRow(words, [])], tmp_path / "out/page.html", HOSTILE)
    source = (tmp_path / "out/page.html").read_text(encoding="utf-8")
    page = Page(source)
    assert "script" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    sources = [value or "" for name, value in page.attributes if name == "src"]
    assert len(sources) == page.tags.count("img") == 2
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert page.text.count(HOSTILE) == 8  # title twice, then title and caption of three tiles
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in page.attributes
    assert "http" not in source.replace("http-equiv", "")


def test_page_shows_film_places_and_odd_text(tmp_path: Path, picture: str, video: str) -> None:
    film = Tile("film", video, "video", "score 0.5\nimage #1")
    neighbours_html([SheetRow(film, [Tile(ODD, picture, "product", ""), film])], tmp_path / "page.html", "Neighbours")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.tags.count("img") == 7
    assert [text for text in page.text if text in ("1", "2", "0:01", "0:03", "0:05", "score 0.5", "image #1")] == [
        *("0:01", "0:03", "0:05", "score 0.5", "image #1", "1", "2", "0:01", "0:03", "0:05", "score 0.5", "image #1")
    ]
    assert ("alt", "film, at 0:03") in page.attributes


def test_page_without_rows_or_hits(tmp_path: Path) -> None:
    neighbours_html([], tmp_path / "empty.html", "t")
    assert Page((tmp_path / "empty.html").read_text(encoding="utf-8")).text[-1] == "No results"
    neighbours_html([SheetRow(Tile("q", None, "text", ""), [])], tmp_path / "no.html", "t")
    assert Page((tmp_path / "no.html").read_text(encoding="utf-8")).text[-1] == "No hits"


def test_tile_for_a_notebook(picture: str, video: str) -> None:
    still = Page(tile_html(Tile(HOSTILE, picture, "product", HOSTILE)))
    assert "script" not in still.tags
    assert still.tags.count("img") == 1
    assert still.text == [HOSTILE, HOSTILE]
    assert Page(tile_html(Tile("film", video, "video", ""))).tags.count("img") == 3
    assert Page(tile_html(Tile("none", None, "product", "a\nb"))).text == ["no media", "none", "a", "b"]
