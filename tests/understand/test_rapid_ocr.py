"""The packaged reader on real pixels, and on the sample videos whose captions are known."""

from __future__ import annotations

import json
import logging
import shutil
import socket
from pathlib import Path
from typing import Any

import cv2
import jiwer
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from coldstart import sample
from coldstart.core.pipeline import load
from coldstart.core.stage import MapStage, Reject, Row
from coldstart.engine.run import build
from coldstart.errors import ColdstartError
from coldstart.media.limits import Limits
from coldstart.media.loaders import ProbeMedia
from coldstart.understand.ocr import Pixels
from coldstart.understand.rapid_ocr import RapidReader, _tensor, execution_providers, find_models

TRUTH = [json.loads(line) for line in (sample.path() / "truth.jsonl").read_text("utf-8").splitlines()]
CAPTIONED = [entry for entry in TRUTH if entry["captions"]]
TEXT = "Vine tomato 41.90 kr/kg"
STEP_S = 0.5


def card(text: str = TEXT, ink: str = "white", back: str = "#203040") -> Pixels:
    picture = Image.new("RGB", (512, 384), back)
    ImageDraw.Draw(picture).text((40, 150), text, fill=ink, font=ImageFont.load_default(32))
    return np.asarray(picture)


@pytest.fixture(scope="module")
def reader() -> RapidReader:
    return RapidReader(find_models(), threads=2)


def accuracy(text: str, readings: list[str]) -> float:
    """1 minus the character error rate of the best of them."""
    return max((1 - jiwer.cer(text, reading) for reading in readings), default=0.0)


@pytest.mark.slow
def test_a_line_is_read_and_placed(reader: RapidReader) -> None:
    [[found]] = reader.read([card()])
    assert found.text == TEXT
    assert found.confidence > 0.95
    assert found.quad.dtype == np.float32 and found.quad.shape == (4, 2)
    left, top = found.quad[0]
    right, bottom = found.quad[2]
    assert (left, top) == pytest.approx((40 / 512, 150 / 384), abs=0.05)
    assert 0 < right - left < 0.85 and 0.05 < bottom - top < 0.2


@pytest.mark.slow
def test_reading_leaves_the_arithmetic_of_its_caller_alone(reader: RapidReader) -> None:
    smallest = np.full(1, 1e-40, np.float32)
    reader.read([card()])
    assert (smallest * np.float32(1))[0] > 0


def test_pixels_become_the_numbers_that_the_models_were_trained_on() -> None:
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    image[0, 0, 0] = 255, 0, 51
    found = _tensor(image)
    assert found.shape == (1, 3, 16, 16) and found.dtype == np.float32 and found.flags.c_contiguous
    assert found[0, :, 0, 0] == pytest.approx([-0.6, -1.0, 1.0])  # blue first
    assert found[0, 0, 15, 15] == 1.0


@pytest.mark.slow
def test_no_result_depends_on_its_neighbours(reader: RapidReader) -> None:
    pictures = [card(), card("Hi"), card("a much longer line of text"), np.zeros((64, 64, 3), np.uint8)]
    together = reader.read(pictures)
    for picture, boxes in zip(pictures, together, strict=True):
        [alone] = reader.read([picture])
        assert [box.text for box in alone] == [box.text for box in boxes]
        np.testing.assert_allclose([box.confidence for box in alone], [box.confidence for box in boxes], atol=1e-4)
    assert together[3] == []
    assert reader.read([]) == []


@pytest.mark.slow
@pytest.mark.parametrize("turns", range(4))
def test_turned_text_is_read_and_its_box_begins_where_it_begins(reader: RapidReader, turns: int) -> None:
    [[found]] = reader.read([np.ascontiguousarray(np.rot90(card(), -turns))])
    assert found.text == TEXT
    along = (found.quad[1] - found.quad[0]) / np.linalg.norm(found.quad[1] - found.quad[0])
    assert along == pytest.approx([(1, 0), (0, 1), (-1, 0), (0, -1)][turns], abs=0.1)


@pytest.mark.slow
def test_red_and_blue_are_not_swapped(reader: RapidReader, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[np.ndarray] = []
    run = reader._detector.run
    monkeypatch.setattr(reader._detector, "run", lambda values: given.append(values) or run(values))
    reader.read([np.full((64, 64, 3), (255, 128, 0), np.uint8)])
    np.testing.assert_allclose(given[0][0, :, 5, 5], [-1, 128 / 127.5 - 1, 1], atol=1e-6)  # PP-OCR takes BGR


@pytest.mark.slow
def test_the_parts_agree_with_the_package_itself(reader: RapidReader) -> None:
    from rapidocr.ch_ppocr_det.utils import DetPreProcess

    picture = card()
    theirs = DetPreProcess(736, "max")(np.ascontiguousarray(picture[..., ::-1]))
    boxes, _ = reader._decode_boxes(reader._detector.run(theirs), picture.shape[:2])
    [[ours]] = reader.read([picture])
    np.testing.assert_allclose(ours.quad * [512, 384], boxes[0], atol=1)


@pytest.mark.slow
def test_nothing_is_fetched_or_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with caplog.at_level(logging.DEBUG):
        [[found]] = RapidReader(find_models(), threads=1).read([card()])
    assert found.text == TEXT
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.lower().startswith("rapid")]


def test_a_model_that_is_not_there_is_a_fault_of_the_setup(tmp_path: Path) -> None:
    missing = tmp_path / "large.onnx"
    with pytest.raises(ColdstartError) as error:
        find_models(detection=str(missing))
    assert str(error.value) == f"no text reading model {missing}; give the path of an ONNX file"
    with pytest.raises(ColdstartError):
        stage(recognition=str(missing)).fingerprint()


@pytest.mark.slow
def test_a_recogniser_without_an_alphabet_is_a_fault_of_the_setup() -> None:
    models = find_models()
    with pytest.raises(ColdstartError) as error:
        RapidReader(find_models(recognition=str(models.detection))).read([card()])
    advice = "give a recogniser with `character` in its metadata"
    assert str(error.value) == f"{models.detection} holds no alphabet; {advice}"


def test_identity_follows_from_the_weights(tmp_path: Path) -> None:
    plain = RapidReader(find_models()).identity()
    copy = tmp_path / "detection.onnx"
    copy.write_bytes(find_models().detection.read_bytes())
    assert RapidReader(find_models(detection=str(copy)), threads=1).identity() == plain
    copy.write_bytes(copy.read_bytes() + b"\0")
    assert RapidReader(find_models(detection=str(copy))).identity() != plain


def stage(**own: Any) -> MapStage:
    pipeline = load({"stages": {"screen": {"stage": "understand.screen", "threads": 2, **own}}})
    made = build(pipeline.stages[0], pipeline)
    assert isinstance(made, MapStage)
    return made


@pytest.fixture(scope="module")
def screen() -> MapStage:
    return stage()


def lines_of(screen: MapStage, path: Path) -> list[Row]:
    item = ProbeMedia(Limits())({"item_id": "a", "record": {}, "media": [{"role": "video", "uri": str(path)}]})[0]
    (row,) = screen.compute([screen.preparer()(item)[0]])
    assert not isinstance(row, Reject)
    return list(row["lines"])


@pytest.mark.slow
@pytest.mark.parametrize("entry", CAPTIONED, ids=lambda entry: entry["item_id"])
def test_captions_of_the_sample_videos_are_read(screen: MapStage, entry: dict[str, Any]) -> None:
    lines = lines_of(screen, sample.path() / "videos" / f"{entry['item_id']}.mp4")
    for caption in entry["captions"]:
        (line,) = [line for line in lines if accuracy(caption["text"], [line["text"]]) == 1]
        assert line["start_s"] == pytest.approx(caption["start_s"], abs=STEP_S + 0.05)
        assert line["end_s"] == pytest.approx(caption["end_s"], abs=STEP_S + 0.05)
        assert line["confidence"] > 0.95


@pytest.mark.slow
def test_tiny_text_is_dropped_by_its_height(screen: MapStage, tmp_path: Path) -> None:
    from test_ocr import write_clip

    picture = cv2.resize(card(), (256, 192), interpolation=cv2.INTER_AREA)
    clip = write_clip(tmp_path / "clip.mp4", [(np.ascontiguousarray(picture), 2.0)])
    assert [line["text"] for line in lines_of(screen, clip)] == [TEXT]
    assert lines_of(stage(min_height=0.15), clip) == []


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("auto", ["CPUExecutionProvider"], ["CPUExecutionProvider"]),
        ("cuda", ["CPUExecutionProvider"], ["CPUExecutionProvider"]),
        ("cpu", ["CUDAExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]),
        ("mps", ["CoreMLExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]),
        (
            "cuda:1",
            ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"],
            [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"],
        ),
    ],
)
def test_a_graphics_processor_is_used_where_it_is_wanted_and_there(
    device: str, available: list[str], expected: list[Any]
) -> None:
    assert execution_providers(device, available) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "script"),
    [("Скидка на свежие лимоны сегодня", "Cyrillic"), ("Φρέσκα λεμόνια κάθε μέρα", "Greek"), (TEXT, "")],
)
def test_a_line_in_a_script_of_no_letter_of_the_alphabet_is_named(reader: RapidReader, text: str, script: str) -> None:
    try:
        face = ImageFont.truetype("DejaVuSans.ttf", 26)
    except OSError:
        pytest.skip("no font DejaVu Sans on this machine, which has letters of these scripts")
    picture = Image.new("RGB", (640, 360), "#203040")
    ImageDraw.Draw(picture).text((40, 150), text, fill="white", font=face)
    [[found]] = reader.read([np.asarray(picture)])
    assert found.script == script and found.text == ("" if script else text)


@pytest.mark.slow
def test_models_by_path_serve_as_the_packaged_ones_and_say_which_scripts_they_read(
    reader: RapidReader, tmp_path: Path
) -> None:
    packaged = find_models()
    paths = [str(shutil.copy(path, tmp_path / path.name)) for path in (packaged.detection, packaged.recognition)]
    own = RapidReader(find_models(*paths), threads=1)
    assert own.identity() == reader.identity()
    assert set(own._scripts.unwritten) == set(reader._scripts.unwritten)


@pytest.mark.slow
def test_scripts_that_the_packaged_reader_cannot_write(reader: RapidReader) -> None:
    unwritten = set(reader._scripts.unwritten)
    assert {"Arabic", "Cyrillic", "Devanagari", "Greek", "Hangul", "Hebrew", "Thai"} <= unwritten
    assert unwritten.isdisjoint({"Latin", "Han", "Kana"})
    assert reader.identity()["scripts"]
