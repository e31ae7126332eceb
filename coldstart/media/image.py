"""Decode an image file into the pixels an encoder reads.

The header is checked before any pixel is decoded; the content decides what a file is, not its name. Colour profiles are
not applied (neither the training data of the usual encoders nor their reference code applies them) and floating-point
pixels are refused, because nothing in the file says which value is white.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from coldstart.core.stage import Reject
from coldstart.media.faults import decoder_faults
from coldstart.media.guard import IMAGE_FORMATS, sniff_format
from coldstart.media.hdr import HLG, PQ, tone_map
from coldstart.media.jpeg import with_end_mark
from coldstart.media.limits import Limits
from coldstart.media.resize import RESAMPLE, Box, Interpolation, Pixels, resize_rgb

# Formats that Pillow decodes in its own process from one self-contained file. EPS (which starts Ghostscript) and the
# many rare formats stay out.
_PILLOW_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000")
_CODED_SIZE = re.compile(rb"ispe\0\0\0\0(.{8})", re.DOTALL)  # a box with the size of one picture of a HEIC
_COLOURS = re.compile(rb"colrnclx(.{4})", re.DOTALL)  # a box with the primaries and the curve of an AVIF
_CODES, _HEADERS = struct.Struct(">HH"), 65_536
_HEIC_FORMATS = ("HEIF",)  # of pillow-heif, which reads the picture that the file names as its primary, turned upright
_MAX_ASPECT = 16  # longer strips lose their ends before resizing: an 8 x 8,000,000 image would grow to gigabytes
_DRAFT_MARGIN = 2  # a JPEG is decoded at no less than this many times the wanted size
# What Pillow's readers were seen to raise on damaged data of the formats above.
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError, TypeError, RuntimeError),
    *(struct.error, zlib.error),
)
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)  # the EXIF orientations that swap width and height


@dataclass(frozen=True)
class ImageTransform:
    """Resize, crop and colour handling by which a picture becomes the fixed array of one encoder.

    Attributes:
        size: (height, width) of the result in pixels; for `longest` only the first number counts.
        resize: `shortest` brings the shorter side to size / crop_pct and cuts `size` from the centre (as torchvision
            and timm do); `squash` resizes to exactly `size`; `longest` bounds the longer side by size[0], keeps the
            aspect and never enlarges.
        interpolation: the resampling filter, antialiased when it shrinks.
        crop_pct: share of the resized picture that the centre crop keeps; used by `shortest` alone.
    """

    size: tuple[int, int]
    resize: Literal["shortest", "squash", "longest"]
    interpolation: Interpolation = "bicubic"
    crop_pct: float = 1.0

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Compute (width, height) to which a picture of `width` x `height` is resized, before any crop."""
        target_height, target_width = self.size
        if self.resize == "squash":
            return target_width, target_height
        if self.resize == "longest":
            scale = min(1.0, target_height / max(width, height))
            return max(1, round(width * scale)), max(1, round(height * scale))
        target_height, target_width = int(target_height / self.crop_pct), int(target_width / self.crop_pct)
        if width * target_height <= height * target_width:
            return target_width, target_width * height // width
        return target_height * width // height, target_height

    def apply(self, image: Image.Image) -> Pixels:
        """Turn a Pillow image of any 8- or 16-bit mode into uint8 [H, W, 3]; transparency becomes white.

        Raises:
            Reject: `unsupported_media` for pixel modes without a defined white, such as floating point.
        """
        image = to_rgb(image)
        if self.resize == "shortest":
            image = _trim_strip(image)
        return self.fitted(image, image.size, (0.0, 0.0, *image.size))

    def fitted(self, image: Image.Image, size: tuple[int, int], box: Box) -> Pixels:
        """Resize a picture of `size` (width, height), which fills `box` (left, upper, right, lower) of an RGB image,
        and cut. Columns that the cut drops are not resized. Rows are: without them Pillow's two passes round otherwise,
        by a level in one value of eight; columns cost one value in thousands, where it rounds the box's edges."""
        wanted = self.resized(*size)
        width, height = (self.size[1], self.size[0]) if self.resize == "shortest" else wanted
        if image.size == wanted:
            pixels = np.array(image)
        else:
            columns = wanted[0]
            if width < columns:
                left, step = round((columns - width) / 2), (box[2] - box[0]) / columns
                box = (box[0] + left * step, box[1], min(box[0] + (left + width) * step, box[2]), box[3])
            pixels = resize_rgb(image, (width, wanted[1]), box, self.interpolation)
        left, top = round((pixels.shape[1] - width) / 2), round((pixels.shape[0] - height) / 2)
        return np.ascontiguousarray(pixels[top : top + height, left : left + width])


@dataclass(frozen=True)
class ImageInfo:
    """Header of an image: size in pixels as shown (EXIF orientation applied), Pillow's format name, frame count."""

    width: int
    height: int
    format: str
    frames: int


def probe_image(path: Path, limits: Limits) -> ImageInfo:
    """Read the header of an image and hold it against the limits; no pixel is decoded.

    Raises:
        Reject: `empty_file`, `too_many_bytes`, `unsupported_media`, `corrupt_image`, `too_many_pixels`, `too_small`.
    """
    with _opened(path, limits) as image:
        width, height = image.size
        if _orientation(image) in _SIDEWAYS:
            width, height = height, width
        with _pillow_errors(path):
            frames = int(getattr(image, "n_frames", 1))
        return ImageInfo(width, height, str(image.format), frames)


def load_image(path: Path, limits: Limits, transform: ImageTransform, *, shrink: bool = True) -> Pixels:
    """Decode an image (of an animated one the first frame) into the array that `transform` describes.

    Args:
        shrink: let the JPEG decoder skip detail that the transform would average away; it never decodes at less than
            twice the wanted size.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        Reject: as `probe_image`; an image whose data ends early is `corrupt_image`, never half a picture. A JPEG file
            that lacks only its end mark has all its pixels, and is read.
    """
    try:
        with _opened(path, limits) as image:
            return _decoded(image, path, limits, transform, shrink)
    except Reject as reject:
        if reject.reason != "corrupt_image" or sniff_format(path) != "jpeg":
            raise
        with warnings.catch_warnings(), _pillow_errors(path):
            warnings.simplefilter("ignore")
            mended = with_end_mark(path.read_bytes())
        if mended is None:
            raise
    with _opened(path, limits, mended) as image:
        return _decoded(image, path, limits, transform, shrink)


def _decoded(image: ImageFile.ImageFile, path: Path, limits: Limits, transform: ImageTransform, shrink: bool) -> Pixels:
    coding = _hdr_coding(image, path)
    pixels = _plain_pixels(image, path, limits, transform, shrink)
    return tone_map(pixels.astype(np.uint16) * 257, *coding) if coding else pixels


def _hdr_coding(image: Image.Image, path: Path) -> tuple[int, int] | None:
    """Read the curve and the primaries of a picture of high dynamic range, as `tone_map` takes them; None for others.

    An AVIF that holds such a picture beside an ordinary one, or a map of what to add to it, is ordinary.
    """
    if image.format == "HEIF":
        profile = image.info.get("nclx_profile") or {}
        codes = {(int(profile.get("transfer_characteristics", 0)), int(profile.get("color_primaries", 0)))}
    elif image.format == "AVIF":
        with path.open("rb") as file:
            codes = {(curve, first) for first, curve in map(_CODES.unpack, _COLOURS.findall(file.read(_HEADERS)))}
    else:
        return None
    curves = {curve for curve, _ in codes}
    return max(codes) if curves and curves <= {PQ, HLG} else None


def _plain_pixels(
    image: ImageFile.ImageFile, path: Path, limits: Limits, transform: ImageTransform, shrink: bool
) -> Pixels:
    orientation = _orientation(image)
    turned = orientation in _SIDEWAYS
    stored = image.size
    width, height = transform.resized(*(stored[::-1] if turned else stored))
    wanted = (height, width) if turned else (width, height)
    # Of HEIC a draft would be the preview that the file brings, of which nothing says that it shows the same.
    shrink = shrink and image.format != "HEIF"
    drafted = image.draft(None, (wanted[0] * _DRAFT_MARGIN, wanted[1] * _DRAFT_MARGIN)) if shrink else None
    with _pillow_errors(path):
        image.load()
    check_size(*stored if drafted else image.size, limits)  # a HEIC may hold another size than its header states
    if drafted is None or image.size == stored:
        return transform.apply(image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image)
    pixels, box = to_rgb(image), drafted[1]  # the box leaves out what half-filled pixels hold beyond the edge
    if orientation not in _UPRIGHT:
        return transform.fitted(pixels, stored, box)
    pixels = pixels.resize(wanted, RESAMPLE[transform.interpolation], box=box)
    return transform.apply(pixels.transpose(_UPRIGHT[orientation]))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any 8- or 16-bit Pillow image to RGB; 16-bit values keep their scale, transparent parts become white."""
    if image.mode in ("F", "LAB"):
        raise Reject("unsupported_media", f"pixel mode {image.mode}")
    if image.mode.startswith("I"):  # I;16 and its kin; Pillow also keeps 16-bit samples in the 32-bit mode I
        samples = np.asarray(image).clip(0, 65535).astype(np.uint32)
        return Image.fromarray(((samples + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        shown = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def check_size(width: int, height: int, limits: Limits) -> None:
    """Raise `Reject` `too_many_pixels` or `too_small` for a picture or frame size outside the limits."""
    if width * height > limits.max_pixels:
        raise Reject("too_many_pixels", f"{width} x {height} pixels; the limit is {limits.max_pixels}")
    if min(width, height) < limits.min_side:
        raise Reject("too_small", f"{width} x {height} pixels; the shorter side must be at least {limits.min_side}")


def at_one_size(frames: Sequence[Pixels]) -> list[Pixels]:
    """Resize frames to the size of the first, uint8 [H, W, 3]: a stream may change its own, as of a phone turned."""
    height, width = frames[0].shape[:2]
    return [
        frame
        if frame.shape == frames[0].shape
        else np.array(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
        for frame in frames
    ]


@contextmanager
def _opened(path: Path, limits: Limits, content: bytes | None = None) -> Iterator[ImageFile.ImageFile]:
    """Open an image, or `content` in its place, and hold its header against the limits."""
    size = path.stat().st_size
    if size == 0:
        raise Reject("empty_file", "0 bytes")
    if size > limits.max_image_bytes:
        raise Reject("too_many_bytes", f"{size} bytes; the limit for images is {limits.max_image_bytes}")
    with path.open("rb") if content is None else io.BytesIO(content) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd metadata and of sizes that our own limit judges
        with _pillow_errors(path):
            image = Image.open(file, formats=_formats(path))
        with image, decoder_faults():
            check_size(*image.size, limits)
            if image.format == "HEIF":
                _check_coded_sizes(path, limits)
            yield image


def _formats(path: Path) -> tuple[str, ...]:
    if sniff_format(path) != "heic":
        return _PILLOW_FORMATS
    import pillow_heif

    if "HEIF" not in Image.OPEN:
        # many pictures are decoded side by side; previews and depth maps are not looked at
        pillow_heif.register_heif_opener(decode_threads=1, thumbnails=False, depth_images=False, aux_images=False)
    return _HEIC_FORMATS


def _check_coded_sizes(path: Path, limits: Limits) -> None:
    """Hold every size in the headers of a HEIC against the limit: a large picture may be cropped to a small one."""
    for found in _CODED_SIZE.finditer(path.read_bytes()):
        width, height = struct.unpack(">II", found[1])
        if width * height > limits.max_pixels:
            raise Reject("too_many_pixels", f"{width} x {height} pixels coded; the limit is {limits.max_pixels}")


@contextmanager
def _pillow_errors(path: Path) -> Iterator[None]:
    """Turn what Pillow raises on damaged or foreign data into a `Reject`; real read errors pass through."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise Reject("too_many_pixels", str(error)) from error
    except UnidentifiedImageError as error:
        found = sniff_format(path)
        if found in IMAGE_FORMATS:
            raise Reject("corrupt_image", f"broken {found} header") from error
        raise Reject("unsupported_media", f"not an image: looks like {found or 'unknown bytes'}") from error
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Reject("corrupt_image", f"{type(error).__name__}: {error}"[:200]) from error


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except (SyntaxError, ValueError, TypeError, OSError, KeyError):  # a damaged EXIF block costs only the orientation
        return 1


def _trim_strip(image: Image.Image) -> Image.Image:
    width, height = image.size
    cut = (min(width, height * _MAX_ASPECT), min(height, width * _MAX_ASPECT))
    if cut == image.size:
        return image
    left, top = round((width - cut[0]) / 2), round((height - cut[1]) / 2)
    return image.crop((left, top, left + cut[0], top + cut[1]))
