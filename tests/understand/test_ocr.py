"""Text on the screen: lines of one frame, lines through time, and what is read of a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from coldstart.core.pipeline import load
from coldstart.core.stage import MapStage, Reject, Row
from coldstart.engine.run import build
from coldstart.media.image import Pixels
from coldstart.media.limits import Limits
from coldstart.media.loaders import ProbeMedia
from coldstart.media.video_loaders import LoadScreenFrames, change, outline
from coldstart.store import Store
from coldstart.understand.ocr import FakeReader, TextBox, TextRules, join_words, similarity
from coldstart.understand.ocr_lines import Frame, ScreenLine, picture_lines, picture_texts, track, track_texts
from coldstart.understand.scripts import ScriptClassifier, known_scripts

STEP_S = 0.5
RULES = TextRules()
ASPECT = 0.5
LOAD = LoadScreenFrames(Limits(), side=256, fps=2.0, max_frames=240, still=24.0, pictures=2)


def box(text: str, left: float = 0.2, top: float = 0.8, confidence: float = 0.95, height: float = 0.05) -> TextBox:
    """A text of square letters half as wide as high, in a frame twice as high as wide."""
    right, bottom = left + len(text) * height, top + height
    quad = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    return TextBox(text, confidence, quad)


def film(*frames: Sequence[TextBox] | str | None) -> list[Frame]:
    """Frames half a second apart; a text stands for a box of it, None for nothing to read."""
    given = [[box(entry)] if isinstance(entry, str) else entry or [] for entry in frames]
    return [Frame(i * STEP_S, (i + 1) * STEP_S, ASPECT, boxes) for i, boxes in enumerate(given)]


def spans(lines: Sequence[ScreenLine]) -> list[tuple[str, float | None, float | None]]:
    return [(line.text, line.start_s, line.end_s) for line in lines]


def test_a_caption_of_three_seconds_is_one_line() -> None:
    (line,) = track(film(None, *["Pink Lady"] * 6, None), RULES)
    assert (line.text, line.start_s, line.end_s, line.frames) == ("Pink Lady", 0.5, 3.5, 6)
    assert line.confidence == pytest.approx(0.95)
    assert line.box == pytest.approx((0.2, 0.8, 0.65, 0.85))


def test_one_missed_frame_is_bridged_and_two_are_not() -> None:
    assert spans(track(film("Sale", "Sale", None, "Sale"), RULES)) == [("Sale", 0.0, 2.0)]
    assert spans(track(film("Sale", "Sale", None, None, "Sale"), RULES)) == [("Sale", 0.0, 1.0), ("Sale", 2.0, 2.5)]


def test_a_line_that_another_replaces_is_over() -> None:
    lines = track(film("Sale", "Bottle", "Sale"), RULES)
    assert spans(lines) == [("Sale", 0.0, 0.5), ("Bottle", 0.5, 1.0), ("Sale", 1.0, 1.5)]
    garbled = [box("B0??", confidence=0.6)]
    assert spans(track(film("Sale", garbled, "Sale"), RULES)) == [("Sale", 0.0, 1.5)]


def test_the_reading_that_most_confidence_speaks_for_is_the_text() -> None:
    worse = [box("Pimk Lady", confidence=0.85)]
    (line,) = track(film(worse, "Pink Lady", worse, "Pink Lady", "Pink Lady"), RULES)
    assert (line.text, line.frames) == ("Pink Lady", 5)
    assert line.confidence == pytest.approx(0.91)


def test_a_price_that_changes_in_its_place_is_a_second_line() -> None:
    lines = track(film(*["23.90 kr"] * 3, *["27.90 kr"] * 3), RULES)
    assert spans(lines) == [("23.90 kr", 0.0, 1.5), ("27.90 kr", 1.5, 3.0)]


def test_a_slip_of_one_frame_cuts_no_line() -> None:
    assert spans(track(film("23.90 kr", "23.90 kr", "28.90 kr", "23.90 kr"), RULES)) == [("23.90 kr", 0.0, 2.0)]


def test_what_is_doubtful_between_two_texts_goes_to_the_likelier() -> None:
    late = [box("Pink Ladi", confidence=0.7)]
    lines = track(film("Pink Rose", "Pink Rose", late, "Pink Lady", "Pink Lady"), RULES)
    assert spans(lines) == [("Pink Rose", 0.0, 1.0), ("Pink Lady", 1.0, 2.5)]


def test_other_words_in_the_same_place_are_another_line() -> None:
    assert spans(track(film("Golden", "Bottle"), RULES)) == [("Golden", 0.0, 0.5), ("Bottle", 0.5, 1.0)]


def test_text_that_moves_is_followed() -> None:
    moving = [[box("Fresh fish", top=0.1 + 0.12 * i)] for i in range(6)]
    assert spans(track(film(*moving), RULES)) == [("Fresh fish", 0.0, 3.0)]
    jumping = [[box("Fresh fish", top=top)] for top in (0.1, 0.9)]
    assert len(track(film(*jumping), RULES)) == 2


def test_equal_texts_side_by_side_stay_apart() -> None:
    pair = [box("28", left=0.1, top=0.3), box("28", left=0.7, top=0.3)]
    assert spans(track(film(pair, pair), RULES)) == [("28", 0.0, 1.0)] * 2


def test_doubtful_lines_are_dropped() -> None:
    assert track(film([box("Hmm", confidence=0.89)]), RULES) == []
    assert track(film(*[[box("Hmm", confidence=0.79)]] * 4), RULES) == []
    assert len(track(film(*[[box("Hmm", confidence=0.81)]] * 2), RULES)) == 1


def test_leaving_out_equal_frames_changes_no_line_but_its_readings() -> None:
    for words in ([box("Sale now")], [box("Sale now", confidence=0.85)], [box("Sale now", confidence=0.75)]):
        read = film(*[words] * 4, None)
        left_out = [Frame(f.time_s, f.until_s, ASPECT, f.boxes, fresh=i in (0, 4)) for i, f in enumerate(read)]
        assert spans(track(left_out, RULES)) == spans(track(read, RULES))
        assert [line.frames for line in track(left_out, RULES)] == [1] * len(track(read, RULES))
        assert [line.frames for line in track(read, RULES)] == [4] * len(track(read, RULES))


def test_words_of_a_line_are_joined_from_left_to_right() -> None:
    words = [box("Lady", left=0.48), box("Pink", left=0.2), box("21.90", left=0.2, top=0.7), box("far", left=0.8)]
    joined = {word.text for word in join_words(words, ASPECT, RULES)}
    assert joined == {"Pink Lady", "21.90", "far"}


@pytest.mark.parametrize("turns", range(4))
def test_words_of_a_turned_line_are_joined_in_its_direction(turns: int) -> None:
    def turned(quad: np.ndarray) -> np.ndarray:
        for _ in range(turns):  # a quarter turn clockwise of a square picture
            quad = np.stack([1 - quad[:, 1], quad[:, 0]], axis=1)
        return quad

    words = [box("Lady", left=0.44, top=0.4), box("Pink", left=0.2, top=0.4)]
    given = [TextBox(word.text, word.confidence, turned(word.quad)) for word in words]
    assert [word.text for word in join_words(given, 1.0, RULES)] == ["Pink Lady"]


@pytest.mark.parametrize(
    "unwanted",
    [
        box("tiny print", height=0.015),
        box("X", confidence=0.99),
        box("...", confidence=0.99),
        box("AB", height=0.6, top=0.1),
        box("noise", confidence=0.4),
    ],
    ids=lambda unwanted: unwanted.text,
)
def test_what_is_no_line_is_dropped(unwanted: TextBox) -> None:
    (line,) = picture_lines([unwanted, box("kept", top=0.9)], ASPECT, RULES)
    assert line.text == "kept"


def test_lines_of_a_picture_have_no_times_and_stand_from_the_top() -> None:
    lines = picture_lines([box("below"), box("above", top=0.1), box("unsure", top=0.4, confidence=0.85)], 0.5, RULES)
    assert spans(lines) == [("above", None, None), ("below", None, None)]


TEXTS = st.text(st.sampled_from("abc 19"), max_size=8)


@given(TEXTS, TEXTS)
def test_similarity_is_a_symmetric_share(one: str, other: str) -> None:
    assert 0.0 <= similarity(one, other) <= 1.0
    assert similarity(one, other) == similarity(other, one)
    assert similarity(one, one.upper() + " ") == 1.0


def test_similarity_counts_edits() -> None:
    assert similarity("23.90 kr", "27.90 kr") == pytest.approx(1 - 1 / 7)
    assert similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)


@given(st.lists(st.sampled_from([None, "Pink Lady", "Pink Ladi", "19.90 kr", "79.90 kr", "Bottle"]), max_size=30))
def test_lines_tile_what_was_seen(texts: list[str | None]) -> None:
    frames = film(*texts)
    lines = track(frames, RULES)
    assert [line.start_s for line in lines] == sorted(line.start_s or 0.0 for line in lines)
    for line in lines:
        assert line.start_s is not None and line.end_s is not None and line.start_s < line.end_s
        assert line.text in texts
    # the fake boxes are all sure and in one place, so every frame is in one line, and no two lines meet in a frame
    for frame, text in zip(frames, texts, strict=True):
        holding = sum((line.start_s or 0.0) <= frame.time_s < (line.end_s or 0.0) for line in lines)
        assert holding == 1 if text else holding <= 1


def write_clip(path: Path, pictures: Sequence[tuple[Pixels, float]], fps: int = 10) -> Path:
    """Each picture for so many seconds."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "30", "preset": "veryfast"})
        stream.height, stream.width = pictures[0][0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture, seconds in pictures:
            for _ in range(round(seconds * fps)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path


def card(text: str, shade: int = 90) -> Pixels:
    picture = Image.effect_noise((192, 256), 40).convert("RGB").point(lambda value: value // 3 + shade)
    ImageDraw.Draw(picture).text((20, 200), text, fill="white", font=ImageFont.load_default(14), stroke_width=1)
    return np.asarray(picture)


def item(*media: tuple[str, Path]) -> Row:
    entries = [{"role": role, "uri": str(path)} for role, path in media]
    return ProbeMedia(Limits())({"item_id": "a", "record": {}, "media": entries})[0]


def test_frames_in_which_nothing_changes_are_left_out(tmp_path: Path) -> None:
    before = card("only 23.90")
    after = before.copy()
    after[190:230] = card("only 23.99")[190:230]
    clip = write_clip(tmp_path / "clip.mp4", [(before, 2.0), (after, 1.5)])
    screen, cost = LOAD(item(("video", clip)))
    assert screen.times_s == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5, 3])
    assert screen.shown == [0, 0, 0, 0, 1, 1, 1]
    assert (len(screen.images), cost, screen.end_s, screen.step_s) == (2, 2.0, pytest.approx(3.5), 0.5)


def test_a_changed_letter_counts_and_a_coders_noise_does_not() -> None:
    rng = np.random.default_rng(0)
    plain = np.full((64, 64, 3), 120, np.uint8)
    noisy = (plain + rng.integers(-12, 13, plain.shape)).astype(np.uint8)
    stroke = plain.copy()
    stroke[20:30, 20:23] = 255
    assert change(outline(plain), outline(noisy)) < 24 < change(outline(plain), outline(stroke))
    assert change(outline(plain), outline(plain[:32])) == 255


def test_a_long_video_is_seen_less_often_all_along(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [(card("a", shade), 2.0) for shade in (0, 60, 120, 170)])
    few = LoadScreenFrames(Limits(), side=64, fps=2.0, max_frames=4, still=24.0, pictures=1)
    screen, _ = few(item(("video", clip)))
    assert screen.times_s == pytest.approx([1.0, 3.0, 5.0, 7.0])
    assert (screen.shown, screen.step_s, screen.end_s) == ([0, 1, 2, 3], 2.0, pytest.approx(8.0))
    assert max(screen.images[0].shape) == 64


def test_an_item_without_pictures_is_filtered() -> None:
    with pytest.raises(Reject) as refused:
        LOAD({"item_id": "a", "media": []})
    assert (refused.value.reason, refused.value.detail, refused.value.state) == (
        "no_media",
        "no image or video",
        "filtered",
    )


def stage(**own: object) -> MapStage:
    stages = {"screen": {"stage": "understand.screen", "reader": "fake", **own}}
    pipeline = load({"stages": stages}, media_roots=[Path.cwd().anchor])
    made = build(pipeline.stages[0], pipeline)
    assert isinstance(made, MapStage)
    return made


def row_of(made: MapStage, item_row: Row) -> Row:
    (row,) = made.compute([made.preparer()(item_row)[0]])
    assert not isinstance(row, Reject)
    pa.Table.from_pylist([{"item_id": "a", "row_key": "k", **row}], schema=made.schema)
    return row


def flat(shade: int) -> Pixels:
    return np.full((64, 64, 3), shade, np.uint8)


def test_a_video_becomes_a_row_of_lines(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", [(flat(0), 1.0), (flat(112), 3.0), (flat(240), 1.0)])
    row = row_of(stage(), item(("video", clip)))
    assert [
        (line["text"], line["start_s"], line["end_s"], line["medium"], line["frames"]) for line in row["lines"]
    ] == [
        ("shade 3", 1.0, 4.0, 0, 1),
        ("shade 7", 4.0, 5.0, 0, 1),
    ]
    assert row["lines"][0]["box"] == pytest.approx([0.25, 0.4, 0.75, 0.6])
    assert (row["frames_read"], row["frames_skipped"], row["step_s"]) == (3, 7, 0.5)


def test_lines_of_pictures_say_which_picture(tmp_path: Path) -> None:
    paths = []
    for shade in (10, 112, 240):
        paths.append(tmp_path / f"{shade}.png")
        Image.fromarray(flat(shade)).save(paths[-1])
    row = row_of(stage(pictures=2), item(*(("image", path) for path in paths)))
    assert [(line["text"], line["start_s"], line["end_s"], line["medium"]) for line in row["lines"]] == [
        ("shade 3", None, None, 1)
    ]
    assert (row["frames_read"], row["frames_skipped"], row["step_s"]) == (2, 0, None)


def test_only_what_changes_lines_is_in_the_fingerprint() -> None:
    plain = stage().fingerprint()
    assert stage(threads=1).fingerprint() == plain
    for own in ({"fps": 1}, {"side": 512}, {"detect_side": 320}, {"still": 0}, {"min_height": 0.1}, {"max_frames": 9}):
        assert stage(**own).fingerprint() != plain


# -- lines in scripts that the reader cannot write


def away(script: str, top: float = 0.8) -> TextBox:
    return replace(box("caption", top=top), text="", confidence=1.0, script=script)


def test_an_unread_line_is_named_with_its_times_and_is_no_text() -> None:
    sale = box("Sale", top=0.2)
    lines, unread = track_texts(film([sale], [sale, away("Arabic")], [sale, away("Arabic")], None), RULES)
    assert spans(lines) == [("Sale", 0.0, 1.5)]
    assert [(one.script, one.start_s, one.end_s, one.frames) for one in unread] == [("Arabic", 0.5, 1.5, 2)]


def test_most_frames_say_whether_a_line_was_read() -> None:
    junk = box("cartion")
    lines, unread = track_texts(film([away("Thai")], [away("Thai")], [junk], [away("Thai")]), RULES)
    assert lines == [] and [one.script for one in unread] == ["Thai"]
    sure, slips = track_texts(film([junk], [junk], [away("Thai")], [junk]), RULES)
    assert [line.text for line in sure] == ["cartion"] and slips == []


def test_an_unread_line_of_a_picture_has_no_time() -> None:
    lines, unread = picture_texts([box("Sale", top=0.1), away("Arabic"), away("Arabic", top=0.5)], ASPECT, RULES)
    assert [line.text for line in lines] == ["Sale"]
    assert [(one.script, one.start_s) for one in unread] == [("Arabic", None)] * 2
    assert unread[0].box[1] < unread[1].box[1]


def test_the_row_and_the_notes_name_what_was_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(flat(112)).save(tmp_path / "a.png")
    made = stage()
    monkeypatch.setattr(FakeReader, "_boxes", staticmethod(lambda shade: [away("Arabic"), box("Sale", top=0.1)]))
    row = row_of(made, item(("image", tmp_path / "a.png")))
    assert [line["text"] for line in row["lines"]] == ["Sale"]
    assert [(line["script"], line["medium"], line["start_s"]) for line in row["unread"]] == [("Arabic", 0, None)]
    store = Store(tmp_path / "workspace", create=True)
    assert made.notes(store) == []
    entries = [{"item_id": name, "row_key": "k", **row} for name in "ab"]
    with store.lock():
        store.merge(made.table, pa.Table.from_pylist(entries, schema=made.schema))
    assert made.notes(store) == [
        "perhaps text in a script that is not read: Arabic (2 items): `coldstart show ITEM` names the lines; where "
        "they are text, give screen.recognition a model that reads them"
    ]


def test_scripts_are_known_by_the_alphabet() -> None:
    letters = {"Latin": {"a": 0.6, "b": 0.37, "ß": 0.03}, "Greek": {"α": 0.5, "ά": 0.1}, "Thai": {"ก": 1.0}}
    assert known_scripts("abα", letters) == {"Latin"}
    assert known_scripts("abαάก", letters) == {"Latin", "Greek", "Thai"}


def test_a_dense_sure_reading_outweighs_a_doubtful_network() -> None:
    classifier = ScriptClassifier("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    names = classifier._names
    arabic = np.full(len(names), 0.02 / (len(names) - 1))
    arabic[names.index("Arabic")] = 0.98
    latin = np.roll(arabic, names.index("Latin") - names.index("Arabic"))
    assert classifier.judge(arabic, 0.2, 0.5) == "Arabic"
    assert classifier.judge(latin, 1.5, 0.99) == "" == classifier.judge(latin, 0.2, 0.4)
    doubtful = 0.5 * arabic + 0.5 * latin
    assert classifier.judge(doubtful, 2.0, 0.99) == ""
