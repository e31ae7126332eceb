"""Clips as a phone takes them, made of photos: hand shake, pans, blur, light, and titles that seldom say what is seen.

Shots of products follow one another, each of one or two photos that move as in a hand. Text on screen is drawn as apps
draw it: the name of the product, its price, or chatter. There is no speech. The same seed gives the same frames.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

SIZE = (288, 512)
FPS = 10
SHOT_S = 1.7


@dataclass(frozen=True)
class Shot:
    """One photo on screen, with the words drawn over it."""

    product_id: str
    photo: Path
    words: str = ""


@dataclass(frozen=True)
class Clip:
    """One clip to be made: its id, its title and its shots in order."""

    item_id: str
    title: str
    shots: Sequence[Shot]

    @property
    def product_ids(self) -> list[str]:
        """Products shown, each once, in order."""
        return list(dict.fromkeys(shot.product_id for shot in self.shots))


def write_clip(path: Path, clip: Clip, *, backdrop: Sequence[Path] = ()) -> None:
    """Write a clip as H.264.

    Args:
        backdrop: photos behind cut-outs; where given, photos on white are shown on one of them, as goods on a table.
    """
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "30", "preset": "fast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for shot_number, shot in enumerate(clip.shots):
            rng = random.Random(f"{clip.item_id} {shot_number}")
            for image in _frames(shot, rng, backdrop):
                container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode(None))


def _frames(shot: Shot, rng: random.Random, backdrop: Sequence[Path]) -> Iterator[Image.Image]:
    photo = Image.open(shot.photo).convert("RGB")
    if backdrop:
        photo = _on_table(photo, Image.open(rng.choice(backdrop)).convert("RGB"), rng)
    width, height = photo.size
    warm, bright, contrast = rng.uniform(0.88, 1.12), rng.uniform(0.75, 1.2), rng.uniform(0.8, 1.1)
    x, y, zoom, angle = rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7), rng.uniform(1.05, 1.5), rng.uniform(-7, 7)
    dx, dy, dzoom = rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03), rng.uniform(-0.02, 0.02)
    blurred = set(rng.sample(range(round(SHOT_S * FPS)), 5))  # frames in motion
    noise = np.random.default_rng(rng.randrange(1 << 30))
    for number in range(round(SHOT_S * FPS)):
        x, y = _within(x + dx + rng.gauss(0, 0.008)), _within(y + dy + rng.gauss(0, 0.008))
        zoom, angle = max(1.02, zoom + dzoom), angle + rng.gauss(0, 0.4)
        scale = min(width / SIZE[0], height / SIZE[1]) / zoom
        box_width, box_height = SIZE[0] * scale, SIZE[1] * scale
        left, top = x * (width - box_width), y * (height - box_height)
        box = (left, top, left + box_width, top + box_height)
        image = photo.rotate(angle, Image.Resampling.BILINEAR).resize(SIZE, Image.Resampling.BICUBIC, box=box)
        if number in blurred:
            image = image.filter(ImageFilter.BoxBlur((rng.uniform(2, 6), 0.5)))
        image = ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(bright)).enhance(contrast)
        pixels = np.asarray(image, np.float32) * [warm, 1, 2 - warm] + noise.normal(0, 4, (SIZE[1], SIZE[0], 1))
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        _draw_words(image, shot.words)
        yield image


def _within(place: float) -> float:
    return min(max(place, 0.0), 1.0)


def _on_table(photo: Image.Image, table: Image.Image, rng: random.Random) -> Image.Image:
    """Lay a photo on white over another photo: white lets that show, as a cut-out does."""
    side = max(photo.size)
    behind = table.resize((round(side * 1.2), round(side * 1.2))).filter(ImageFilter.GaussianBlur(2))
    size = round(side * rng.uniform(0.75, 0.95))
    goods = photo.resize(
        (round(photo.width * size / side), round(photo.height * size / side)), Image.Resampling.BICUBIC
    )
    if rng.random() < 0.5:
        goods = goods.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    mask = goods.convert("L").point(lambda value: 255 if value < 240 else 0).filter(ImageFilter.GaussianBlur(1))
    free = (behind.width - goods.width, behind.height - goods.height)
    behind.paste(goods, (round(rng.uniform(0, 1) * free[0]), round(rng.uniform(0, 1) * free[1])), mask)
    return behind


def _draw_words(image: Image.Image, words: str) -> None:
    if not words:
        return
    draw, points = ImageDraw.Draw(image), 24
    font = ImageFont.load_default(points)
    while draw.textlength(words, font) > SIZE[0] - 50 and points > 12:
        points -= 1
        font = ImageFont.load_default(points)
    half = draw.textlength(words, font) / 2 + 12
    middle = (SIZE[0] / 2, SIZE[1] * 0.8)
    draw.rounded_rectangle(
        (middle[0] - half, middle[1] - points, middle[0] + half, middle[1] + points), radius=8, fill="#101216"
    )
    draw.text(middle, words, fill="white", font=font, anchor="mm")


TITLES = {
    "chosen on": [
        "IMG_0417", "VID_20260312_181502", "saturday things", "what is in my bag", "long day", "PXL_20260114.MP",
        "come with me", "my mum asked for this", "a little haul", "quick one today", "sunday reset", "DSC00932",
        "no thoughts", "three things I love", "clip final v2", "before the rain", "kitchen diary 14", "you asked",
        "trying again", "slow morning", "Untitled", "day 12", "the usual", "from the weekend",
    ],
    "told": [
        "IMG_2034", "soup weather", "back from the shop", "VID_20260921_090114", "honest opinion", "week 38",
        "not sponsored", "MOV_0071", "for tomorrow", "guess the total", "corner shop run", "friday again",
    ],
}  # fmt: skip
"""Titles that say nothing of what is seen: those that settings were chosen on, and those of the clips that are told."""

CHATTER = {
    "chosen on": ["so good", "link in bio", "part 2", "wait for it", "only today"],
    "told": ["must try", "day one", "look at this", "follow for more"],
}


def plan_clips(
    prefix: str, titles: Sequence[str], chatter: Sequence[str], products: Sequence[str], names: dict[str, str],
    photos: dict[str, Sequence[Path]], *, each: Sequence[int] = (3, 2), shots: int = 2, seed: int = 0,
) -> list[Clip]:  # fmt: skip
    """Plan clips that show each of some products once: a clip a title, with as many products as `each` says in turn.

    Every third clip names what it shows on screen, the next has chatter there, the third has no words but its title.
    """
    rng = random.Random(seed)
    left, clips = list(products), []
    rng.shuffle(left)
    for number, title in enumerate(titles):
        shown, left = left[: each[number % len(each)]], left[each[number % len(each)] :]
        if not shown:
            break
        talk = rng.choice(chatter)
        clips.append(
            Clip(
                f"{prefix}-{number:02d}",
                title,
                [
                    Shot(product, photo, (names[product], talk, "")[number % 3])
                    for product in shown
                    for photo in rng.sample(sorted(photos[product]), min(shots, len(photos[product])))
                ],
            )
        )
    return clips
