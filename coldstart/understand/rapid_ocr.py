"""Read text in pictures by PP-OCRv6 small, the ONNX weights that come inside the `rapidocr` package.

Only the weights and the two decoders of `rapidocr` are used. The sessions are built here, from files that must be on
this machine, so the code of that package which fetches models is never reached. Detection is the differentiable
binarisation of Liao et al. (arXiv:1911.08947), recognition a CTC decoder over one line of text. A text is read the way
up that its box suggests, and turned where that reads badly: the angle classifier of the package is not needed (see
LOG.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from coldstart.core import device as cores
from coldstart.core.keys import version
from coldstart.errors import ColdstartError
from coldstart.models.install import file_digest
from coldstart.understand.ocr import MAX_HEIGHT, Pixels, Quad, TextBox, measure_quad
from coldstart.understand.scripts import PACKAGED as SCRIPTS
from coldstart.understand.scripts import ScriptClassifier

_DETECTION, _RECOGNITION = "rapidocr/models/PP-OCRv6_det_small.onnx", "rapidocr/models/PP-OCRv6_rec_small.onnx"
_STRIDE = 32  # the detector halves a picture five times
_BINARY, _BOX_SCORE, _UNCLIP = 0.3, 0.5, 1.6  # what the package sets for this detector
_LINE_HEIGHT, _MAX_WIDTH = 48, 1920  # pixels of a line as the recogniser takes it
_WIDTH_STEP = 32  # widths are rounded up to this, by each line's own, so that no result depends on its batch
_TALL = 1.5  # a box this many times as high as wide runs up or down
_TURN_BELOW = 0.9  # a reading less sure than this is tried the other way up
_WIDE = {0xFF01 + i: 0x21 + i for i in range(94)} | {0x3000: " "}
_EAST_ASIAN = "\u2e80"  # the first of the characters that wide marks belong to
_BATCH_WIDTH = 4800  # pixels of lines side by side that the recogniser takes at once
_LEVELS = np.arange(256, dtype=np.float32) / np.float32(127.5) - np.float32(1)


@dataclass(frozen=True)
class OcrModels:
    """Paths of the two ONNX files: a detector of text and a recogniser with its alphabet in its metadata."""

    detection: Path
    recognition: Path


def find_models(detection: str | None = None, recognition: str | None = None) -> OcrModels:
    """Find the models at these paths, or the packaged ones; nothing is ever downloaded.

    Raises:
        ColdstartError: there is no such file.
    """
    package = distribution("rapidocr")
    found = OcrModels(
        Path(detection or str(package.locate_file(_DETECTION))).expanduser(),
        Path(recognition or str(package.locate_file(_RECOGNITION))).expanduser(),
    )
    for path, given in ((found.detection, detection), (found.recognition, recognition)):
        if not path.is_file():
            step = "give the path of an ONNX file" if given else "install rapidocr again"
            raise ColdstartError(f"no text reading model {path}; {step}")
    return found


class RapidReader:
    """Reader on ONNX Runtime; see `coldstart.understand.ocr.Reader`."""

    def __init__(
        self,
        models: OcrModels,
        *,
        detect_side: int = 512,
        min_height: float = 0.0,
        device: str = "auto",
        threads: int = 0,
    ) -> None:
        """Weights load with the first picture.

        Args:
            detect_side: pictures are shrunk until their longer side is at most this for finding text; lines are read
                from the picture as given.
            min_height: texts lower than this share of the picture's height are not read, nor those over `MAX_HEIGHT`:
                `join_words` would drop them, and most are junk that is read a second time, turned.
            device: `auto`, `cpu`, `cuda` or `cuda:N`; a GPU is used where ONNX Runtime was installed for it
                (`onnxruntime-gpu`), else the processor.
            threads: pictures that are read side by side on the processor, each on a core of its own, which is a third
                faster than one after another on all cores; 0 for as many as there are cores.
        """
        self._models = models
        self._detect_side = detect_side
        self._min_height = min_height
        self._device = device
        self._threads = threads or cores.thread_count()

    def read(self, images: Sequence[Pixels]) -> list[list[TextBox]]:
        """Read texts as `Reader.read`; corners of quads are in the order that the text runs."""
        _ = self._detector, self._recogniser, self._decode_boxes, self._decode_text  # loaded once, before the threads
        _ = self._scripts.unwritten
        with ThreadPoolExecutor(self._threads, initializer=_flush_denormals) as pool:
            return list(pool.map(self._read_one, images))

    def _read_one(self, image: Pixels) -> list[TextBox]:
        height, width = image.shape[:2]
        size = np.array([width, height], np.float32)
        upright = [np.roll(quad, -1, axis=0) if _is_tall(quad) else quad for quad in self._find(image)]
        heights = [measure_quad(np.clip(quad / size, 0, 1), width / height)[1] for quad in upright]
        counted = [quad for quad, own in zip(upright, heights, strict=True) if self._min_height <= own <= MAX_HEIGHT]
        return [
            TextBox(box.text, box.confidence, np.clip(box.quad / size, 0, 1), box.script)
            for box in self._read_turned(image, counted)
            if box.text or box.script
        ]

    def identity(self) -> dict[str, str]:
        """Return the SHA-256 of the weights, and versions of the libraries."""
        return {
            "detection": file_digest(self._models.detection),
            "recognition": file_digest(self._models.recognition),
            "scripts": file_digest(SCRIPTS),
            **{package: version(package) for package in ("rapidocr", "onnxruntime", "opencv-python-headless")},
        }

    def _find(self, image: Pixels) -> list[Quad]:
        """Find boxes around texts: corners in pixels, clockwise from the upper left."""
        import cv2

        height, width = image.shape[:2]
        scale = min(1.0, self._detect_side / max(height, width))
        sides = (max(_STRIDE, round(side * scale / _STRIDE) * _STRIDE) for side in (width, height))
        small = cv2.resize(image, tuple(sides), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        found = self._detector.run(_tensor(small[None]))
        boxes, _ = self._decode_boxes(found, (height, width))
        return [np.asarray(box, np.float32) for box in boxes]

    def _read_turned(self, image: Pixels, upright: Sequence[Quad]) -> list[TextBox]:
        """Read each box, turned if that reads better; boxes in pixels."""
        lines = [_cut(image, quad) for quad in upright]
        best = self._recognise(lines)
        boxes = [TextBox(text, confidence, quad) for (text, confidence), quad in zip(best, upright, strict=True)]
        doubtful = [i for i, box in enumerate(boxes) if box.confidence < _TURN_BELOW]
        turned = [np.roll(boxes[i].quad, -2, axis=0) for i in doubtful]
        cut = [_cut(image, quad) for quad in turned]
        again = self._recognise(cut)
        for i, (text, confidence), quad, line in zip(doubtful, again, turned, cut, strict=True):
            if not text:  # nothing is often read the surest
                continue
            if confidence > boxes[i].confidence or not boxes[i].text:
                boxes[i] = TextBox(text, confidence, quad)
            if confidence >= _TURN_BELOW:  # else neither way up is read, and it stands as nearly all writing does
                lines[i] = line
        return [self._unread(box, line) for box, line in zip(boxes, lines, strict=True)]

    def _unread(self, box: TextBox, line: Pixels) -> TextBox:
        """Empty a box in a script that the recogniser cannot write, and name the script."""
        script = self._scripts.unread_script(line, box.text, box.confidence)
        return TextBox("", 1.0, box.quad, script) if script else box

    def _recognise(self, lines: Sequence[Pixels]) -> list[tuple[str, float]]:
        """Recognise lines of text, each uint8 [48, W, 3]: text and confidence."""
        results: list[tuple[str, float]] = [("", 0.0)] * len(lines)
        by_width = sorted(range(len(lines)), key=lambda i: lines[i].shape[1])
        while by_width:
            width = -(-lines[by_width[0]].shape[1] // _WIDTH_STEP) * _WIDTH_STEP
            fitting = [i for i in by_width if lines[i].shape[1] <= width][: max(1, _BATCH_WIDTH // width)]
            batch = np.zeros((len(fitting), 3, _LINE_HEIGHT, width), np.float32)
            for row, i in enumerate(fitting):
                batch[row, :, :, : lines[i].shape[1]] = _tensor(lines[i][None])[0]
            decoded, _ = self._decode_text(self._recogniser.run(batch))
            for i, (text, confidence) in zip(fitting, decoded, strict=True):
                results[i] = _plain(text), float(confidence)
            by_width = by_width[len(fitting) :]
        return results

    @cached_property
    def _detector(self) -> _Session:
        return _Session(self._models.detection, self._device)

    @cached_property
    def _recogniser(self) -> _Session:
        return _Session(self._models.recognition, self._device)

    @cached_property
    def _scripts(self) -> ScriptClassifier:
        return ScriptClassifier(self._recogniser.alphabet)

    @cached_property
    def _decode_boxes(self) -> Any:
        from rapidocr.ch_ppocr_det.utils import DBPostProcess

        return DBPostProcess(_BINARY, _BOX_SCORE, unclip_ratio=_UNCLIP, use_dilation=True)

    @cached_property
    def _decode_text(self) -> Any:
        from rapidocr.ch_ppocr_rec.utils import CTCLabelDecode

        return CTCLabelDecode(self._recogniser.alphabet)


class _Session:
    """Session of one ONNX file with one input and one output."""

    def __init__(self, path: Path, device: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._path = path
        providers = execution_providers(device, onnxruntime.get_available_providers())
        self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        self._input = self._session.get_inputs()[0].name

    def run(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        result: npt.NDArray[np.float32] = self._session.run(None, {self._input: values})[0]
        return result

    @property
    def alphabet(self) -> list[str]:
        """Return the characters that a recogniser knows, in its order.

        Raises:
            ColdstartError: the file does not say.
        """
        held = self._session.get_modelmeta().custom_metadata_map
        if "character" not in held:
            raise ColdstartError(f"{self._path} holds no alphabet; give a recogniser with `character` in its metadata")
        return list(held["character"].splitlines())


def execution_providers(device: str, available: Sequence[str]) -> list[Any]:
    """Choose ONNX Runtime's providers, the first that works: CUDA if it is wanted and available, else the processor."""
    kind, _, index = device.partition(":")
    if kind in ("auto", "cuda") and "CUDAExecutionProvider" in available:
        return [("CUDAExecutionProvider", {"device_id": int(index or 0)}), "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]


def _flush_denormals() -> None:
    """Count numbers below 1e-38 as zero in this thread alone: in plain parts of a picture the detector makes so many,
    at some hundred cycles each, that three quarters of its time went there (see LOG.md). ONNX Runtime's own setting
    reaches only the thread that makes a process's first session."""
    import torch

    torch.set_flush_denormal(True)


def _plain(text: str) -> str:
    """Replace wide letters, digits and marks by ordinary ones, except in a script that uses the wide ones."""
    plain = text.translate(_WIDE)
    return (plain if all(letter < _EAST_ASIAN for letter in plain) else text).strip()


def _is_tall(quad: Quad) -> bool:
    width, height = _sides(quad)
    return height >= _TALL * width


def _sides(quad: Quad) -> tuple[float, float]:
    """Measure the longer of the two edges along the text, and of the two across it."""
    edges = np.linalg.norm(quad - np.roll(quad, -1, axis=0), axis=1)
    return float(max(edges[0], edges[2])), float(max(edges[1], edges[3]))


def _cut(image: Pixels, quad: Quad) -> Pixels:
    """Cut out the text in a quad, straightened: uint8 [48, W, 3]."""
    import cv2

    width, height = (max(1, round(side)) for side in _sides(quad))
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    straight = cv2.warpPerspective(
        image,
        cv2.getPerspectiveTransform(quad, corners),
        (width, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    wanted = min(_MAX_WIDTH, max(1, -(-_LINE_HEIGHT * width // height)))
    return np.asarray(cv2.resize(straight, (wanted, _LINE_HEIGHT)), np.uint8)


def _tensor(images: Pixels) -> npt.NDArray[np.float32]:
    """Convert uint8 [N, H, W, 3] RGB to float32 [N, 3, H, W] BGR between -1 and 1, as PP-OCR was trained."""
    return np.take(_LEVELS, np.ascontiguousarray(images[..., ::-1].transpose(0, 3, 1, 2)))
