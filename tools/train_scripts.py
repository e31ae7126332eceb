"""Train the network that tells the script of a line of text, `coldstart/understand/scripts.onnx`.

    python tools/train_scripts.py --fonts FOLDER --texts FOLDER --photos FOLDER [--read PICTURES] OUT.onnx

Lines are rendered in every font that has their letters (`--fonts`, such as Debian's fonts-noto-core, fonts-noto-cjk,
fonts-freefont-ttf, fonts-nanum and fonts-hosny-amiri, unpacked), in words of other languages (`--texts`: the `locale`
folder of Debian's iso-codes), over photos and plain colours, blurred, turned a little and saved as JPEG. Pictures with
Latin writing (`--read`) add lines as the packaged reader finds and reads them. Fonts whose names begin with one of
`HELD_OUT` are left out, for a test. The weights of the evidence are a logistic regression over other rendered lines and
those real ones. About ten minutes of one core.
"""

from __future__ import annotations

import argparse
import gettext
import io
import json
import random
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import torch
from fontTools.ttLib import TTCollection, TTFont
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw, ImageFont
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional

from coldstart.understand import rapid_ocr
from coldstart.understand.scripts import NO_SCRIPT, _log_odds, known_scripts, letter_density, network_input

HELD_OUT = (
    *("LiberationSerif", "FreeSans", "PTS", "PTF", "PTC", "PTN", "PTZ", "PTM", "wqy", "Takao", "NanumMyeongjo"),
    *("UnBatang", "UnGungseo", "Amiri", "Scheherazade", "KacstBook", "KacstNaskh", "KacstOffice", "Lohit"),
    *("NotoSerifDevanagari", "Garuda", "NotoSerifThai", "NotoSerifHebrew"),
)
ORNATE = ("Quran", "Qurn", "Math", "Rashi", "KacstDecorative", "KacstPen", "KacstArt", "KacstPoster", "KacstDigital")
LINES = {
    "Latin": 5000,
    "Cyrillic": 5000,
    "Greek": 3500,
    "Arabic": 3000,
    "Han": 2500,
    "Kana": 2200,
    "Hangul": 2200,
    "Devanagari": 1800,
    "Thai": 1800,
    "Hebrew": 1800,
    "numbers": 1800,
    "none": 1500,
}
OTHERS = 700
CALIBRATION = 0.04  # share of as many lines by which the evidence is weighed
TOGETHER = {"CJK": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana"}
UNSPACED = ("Han", "Kana", "Thai", "Khmer", "Myanmar")
WIDEST, BATCH, EPOCHS, LEAST = 256, 64, 9, 2.0
Line = tuple[np.ndarray, str]


def script_of(letter: str) -> str | None:
    """Name the script of a letter by the first word of its Unicode name."""
    name = unicodedata.name(letter, "").split(" ")[0]
    shared = ("COMBINING", "MODIFIER", "KATAKANA-HIRAGANA", "IDEOGRAPHIC", "")
    return None if unicodedata.category(letter)[0] not in "LM" or name in shared else TOGETHER.get(name, name.title())


def text_script(text: str) -> str | None:
    """Name the script of nearly all letters of a text; Japanese with kana is Kana."""
    found = Counter(script for script in map(script_of, text) if script)
    total = sum(found.values())
    if found["Kana"] >= 0.2 * total > 0 and found["Kana"] + found["Han"] >= 0.9 * total:
        return "Kana"
    best = found.most_common(1)
    return best[0][0] if best and best[0][1] >= 0.9 * total else None


def read_words(folder: Path) -> dict[str, list[str]]:
    """Read translations of names of countries, languages and currencies: script -> texts."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(folder.glob("*/LC_MESSAGES/iso_*.mo")):
        with path.open("rb") as file:
            catalogue: dict[Any, Any] = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
        for text in catalogue.values():
            script = text_script(text) if isinstance(text, str) and 0 < len(text) <= 60 else None
            if script:
                found[script].add(text)
    return {script: sorted(texts) for script, texts in found.items() if len(texts) >= 80}


@cache
def letters_of(font: Path) -> frozenset[int]:
    """Read which letters a font has."""
    opened = TTCollection(font, lazy=True).fonts[0] if font.suffix == ".ttc" else TTFont(font, lazy=True)
    return frozenset(opened.getBestCmap())


def fonts_by_script(folder: Path, words: dict[str, list[str]]) -> dict[str, list[Path]]:
    """Select the fonts of each script that have nearly all letters of its words."""
    found: dict[str, list[Path]] = defaultdict(list)
    for font in sorted(path for path in folder.rglob("*") if path.suffix in (".ttf", ".ttc", ".otf")):
        if font.name.startswith(HELD_OUT) or any(part in font.name for part in ORNATE):
            continue
        for script, texts in words.items():
            used = Counter(letter for text in texts[:400] for letter in text if script_of(letter))
            have = sum(count for letter, count in used.items() if ord(letter) in letters_of(font))
            if have >= 0.97 * sum(used.values()):
                found[script].append(font)
    return found


class Renderer:
    """Renderer of lines, uint8 [48, W, 3], from one seed."""

    def __init__(
        self, words: dict[str, list[str]], fonts: dict[str, list[Path]], photos: list[Path], seed: int
    ) -> None:
        self._words, self._fonts, self._photos = words, fonts, photos
        self._random = random.Random(seed)

    def lines(self, share: float) -> Iterator[Line]:
        """Render lines of all scripts, that share of `LINES`."""
        others = dict.fromkeys((script for script in self._fonts if script not in LINES), OTHERS)
        for script, count in {**LINES, **others}.items():
            for _ in range(round(count * share)):
                if (line := self._line(script)) is not None:
                    yield line

    def _line(self, script: str) -> Line | None:
        if script == "none":
            return self._spoil(self._background(self._random.randint(20, 400), self._random.randint(12, 80))), script
        for _ in range(20):
            font = self._random.choice(self._fonts["Latin" if script == "numbers" else script])
            text = self._number() if script == "numbers" else self._text(script)
            if len(text) < 2 or any(ord(letter) not in letters_of(font) for letter in text if not letter.isspace()):
                continue
            drawn = self._draw(text, font)
            if drawn is not None:
                return self._spoil(drawn), (text_script(text) or script) if script == "Kana" else script
        return None

    def _number(self) -> str:
        some = self._random.randint
        kinds = ("{}.{:02}", "{},{:02}", "${}", "€ {}.{:02}", "{}%", "{}:{:02}", "{}.{}.2027", "{}{:02}")
        return self._random.choice(kinds).format(some(1, 999), some(0, 99))

    def _text(self, script: str) -> str:
        pick = self._random
        text = pick.choice(self._words[script]).translate({ord(sign): None for sign in ";()"})
        if script in UNSPACED:
            start = pick.randrange(max(1, len(text) - 2))
            text = text[start : start + pick.randint(2, 16)]
        else:
            parts = text.split()
            while pick.random() < 0.45 and len(parts) < 6:
                parts += pick.choice(self._words[script]).split()
            start = pick.randrange(len(parts) or 1)
            text = " ".join(parts[start : start + pick.randint(1, 5)])[:44]
        text = pick.choice((text.upper(), text.lower(), text, text))
        return (text + (" " + self._number()) * (pick.random() < 0.12)).strip()

    def _background(self, width: int, height: int) -> Image.Image:
        if self._random.random() < 0.5:
            photo = Image.open(self._random.choice(self._photos)).convert("RGB")
            scale = max(1.0, width / photo.width, height / photo.height)
            photo = photo.resize((int(photo.width * scale) + 1, int(photo.height * scale) + 1))
            left, top = self._random.randint(0, photo.width - width), self._random.randint(0, photo.height - height)
            return photo.crop((left, top, left + width, top + height))
        return Image.new("RGB", (width, height), tuple(self._random.randrange(256) for _ in range(3)))

    def _draw(self, text: str, font: Path) -> Image.Image | None:
        pick, size = self._random, self._random.choice((12, 14, 16, 20, 24, 28, 36, 48))
        face = ImageFont.truetype(font, size)
        left, top, right, bottom = face.getbbox(text)
        if right - left < 4 or bottom - top < 4 or right - left > 2500:
            return None
        aside, above = int(pick.uniform(0.1, 0.6) * size) + 1, int(pick.uniform(0.02, 0.4) * size) + 1
        image = self._background(int(right - left) + 2 * aside, int(bottom - top) + 2 * above)
        light = float(np.asarray(image.convert("L")).mean())
        ink = pick.randint(0, 70) if light > 128 else pick.randint(185, 255)
        outline = pick.random() < 0.25
        ImageDraw.Draw(image).text(
            (aside - left, above - top),
            text,
            font=face,
            fill=tuple(min(255, max(0, ink + pick.randint(-40, 40))) for _ in range(3)),
            stroke_width=max(1, size // 12) if outline else 0,
            stroke_fill="white" if ink < 128 else "black",
        )
        return image

    def _spoil(self, image: Image.Image) -> np.ndarray:
        """Turn, scale, blur and code a line a little, as a detector and a video would."""
        pick, pixels = self._random, np.asarray(image)
        height, width = pixels.shape[:2]
        if pick.random() < 0.5:
            corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
            moved = corners + np.array([[pick.uniform(-1, 1) for _ in range(2)] for _ in range(4)], np.float32) * (
                0.07 * height
            )
            matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
            pixels = cv2.warpPerspective(pixels, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        shrink = cv2.INTER_AREA if height > 48 else cv2.INTER_CUBIC
        pixels = cv2.resize(pixels, (max(8, min(1920, round(48 * width / height))), 48), interpolation=shrink)
        if pick.random() < 0.35:
            pixels = cv2.GaussianBlur(pixels, (0, 0), pick.uniform(0.4, 1.4))
        if pick.random() < 0.6:
            coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, pick.randint(30, 90)])[1]
            pixels = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        return np.asarray(pixels, np.uint8)


class Network(nn.Module):
    """Five convolutions over a grey line, then the mean and the largest of each feature."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for place, size in enumerate((24, 48, 96, 160)):
            stride = 2 if place < 3 else (2, 1)
            layers += [nn.Conv2d(before, size, 3, stride, 1, bias=False), nn.GroupNorm(8, size), nn.ReLU()]
            before = size
        layers += [nn.Conv2d(before, before, (2, 3), padding=(0, 1), bias=False), nn.GroupNorm(8, before), nn.ReLU()]
        self._features = nn.Sequential(*layers)
        self._classes = nn.Linear(2 * before, classes)

    def forward(self, lines: torch.Tensor) -> torch.Tensor:
        """Compute logits of lines, float32 [N, 1, 32, W] from 0 to 255."""
        middle = lines - lines.mean((2, 3), keepdim=True)
        spread = (middle**2).mean((2, 3), keepdim=True).sqrt()
        found = self._features(middle / (spread + 5))
        logits: torch.Tensor = self._classes(torch.cat([found.mean((2, 3)), found.amax((2, 3))], 1))
        return logits


def fit(lines: Sequence[tuple[np.ndarray, int]], classes: int) -> Network:
    """Fit the network to lines as `network_input` makes them; widths in a batch are alike."""
    network = Network(classes)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=1e-2)
    steps = EPOCHS * (len(lines) // BATCH + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps + EPOCHS)
    for epoch in range(EPOCHS):
        order = sorted(range(len(lines)), key=lambda place: lines[place][0].shape[3] + random.uniform(0, 40))
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        random.shuffle(batches)
        total = 0.0
        for batch in batches:
            width = min(WIDEST, max(24, int(np.median([lines[place][0].shape[3] for place in batch]))))
            pixels = torch.from_numpy(np.stack([_fitted(lines[place][0][0], width) for place in batch]))
            inverted = torch.rand(len(batch)) < 0.5
            pixels[inverted] = 255 - pixels[inverted]
            truth = torch.tensor([lines[place][1] for place in batch])
            loss = functional.cross_entropy(network(pixels), truth, label_smoothing=0.02)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss)
        print(f"epoch {epoch + 1}: loss {total / len(batches):.3f}", flush=True)
    return network.eval()


def _fitted(line: np.ndarray, width: int) -> np.ndarray:
    """Cut a line at random, or pad it, to a width."""
    more = line.shape[2] - width
    if more > 0:
        start = random.randrange(more + 1)
        return line[:, :, start : start + width]
    return np.pad(line, ((0, 0), (0, 0), (0, -more)), mode="edge")


def real_lines(folder: Path, reader: rapid_ocr.RapidReader) -> Iterator[tuple[np.ndarray, str, float]]:
    """Yield the lines that the reader finds in pictures, with their readings."""
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")):
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((736, 736))
        pixels = np.asarray(picture)
        for quad in reader._find(pixels):
            line = rapid_ocr._cut(pixels, np.roll(quad, -1, axis=0) if rapid_ocr._is_tall(quad) else quad)
            yield line, *reader._recognise([line])[0]


def export(network: Network, known: dict[str, Any], path: Path) -> None:
    """Write the network as ONNX, its large weights in half precision, with what is known of it as metadata."""
    written = io.BytesIO()
    torch.onnx.export(
        network,
        (torch.zeros(1, 1, 32, 160),),
        written,
        input_names=["line"],
        output_names=["scripts"],
        dynamic_axes={"line": {3: "width"}},
        dynamo=False,
        opset_version=17,
    )
    model = onnx.load_from_string(written.getvalue())
    casts = []
    for tensor in list(model.graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size > 1000:
            half = f"{tensor.name}_half"
            model.graph.initializer.remove(tensor)
            model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), half))
            casts.append(helper.make_node("Cast", [half], [tensor.name], to=TensorProto.FLOAT))
    for cast in casts:
        model.graph.node.insert(0, cast)
    entry = model.metadata_props.add()
    entry.key, entry.value = "coldstart", json.dumps(known, ensure_ascii=False)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def main() -> None:
    """Train and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("fonts", "texts", "photos", "read"):
        parser.add_argument(f"--{name}", type=Path, required=name != "read")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    words = read_words(given.texts)
    fonts = fonts_by_script(given.fonts, words)
    photos = sorted(path for path in given.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    reader = rapid_ocr.RapidReader(rapid_ocr.find_models())
    lines = list(Renderer(words, fonts, photos, 1).lines(1.0))
    real = list(real_lines(given.read, reader)) if given.read else []
    for line, text, sure in real:
        latin = sum(map(str.isalpha, text)) >= 3 and all(ord(letter) < 0x250 for letter in text)
        if (sure >= 0.9 and latin) or sure < 0.4:
            lines += [(line, "Latin" if latin and sure >= 0.9 else "none")] * 3
    names = sorted({script for _, script in lines})
    network = fit([(network_input(line), names.index(script)) for line, script in lines], len(names))
    letters = {}
    for script in set(names) & set(words):
        used = Counter(letter for text in words[script] for letter in text if script_of(letter) == script)
        letters[script] = {letter: round(count / used.total(), 5) for letter, count in used.most_common(400)}
    known = known_scripts(reader._recogniser.alphabet, letters)
    away = np.array([name not in known and name not in NO_SCRIPT for name in names])

    def evidence(line: np.ndarray, text: str, sure: float) -> list[float]:
        with torch.no_grad():
            shares = network(torch.from_numpy(network_input(line))).softmax(1)[0].numpy()
        return [_log_odds(float(shares[away].sum())), sure, letter_density(text, line)]

    rows, truth = [], []
    for line, script in Renderer(words, fonts, photos, 2).lines(CALIBRATION):
        rows.append(evidence(line, *reader._recognise([line])[0]))
        truth.append(bool(away[names.index(script)]))
    rows += [evidence(*entry) for entry in real]
    truth += [False] * len(real)
    fitted = LogisticRegression(C=10).fit(rows, truth)
    weights = dict(zip(("network", "confidence", "letters"), map(float, fitted.coef_[0]), strict=True))
    weights |= {"bias": float(fitted.intercept_[0]), "least": LEAST}
    export(network, {"scripts": names, "letters": letters, "weights": weights}, given.out)
    print(f"{given.out}: {len(names)} classes from {len(lines)} lines, {given.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
