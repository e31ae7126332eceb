"""Define the record of one video or product and its Arrow schema. Knows nothing of files or tables."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, Literal, Protocol, Self
from urllib.parse import urlsplit

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import to_jsonable_python

from coldstart.core.language import item_language
from coldstart.core.prices import parse_price
from coldstart.core.settings import nearest_or
from coldstart.core.values import (
    ROUNDED,
    is_missing,
    is_missing_text,
    parse_id,
    parse_time,
    split_media,
    split_tags,
)

Kind = Literal["video", "product"]
Role = Literal["image", "video", "audio"]

EXTENSIONS: dict[str, Role] = {
    **dict.fromkeys(("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "jfif", "avif"), "image"),
    **dict.fromkeys(("jpe", "jp2", "j2k", "jpf", "jpx", "heic", "heif", "hif", "dib", "apng"), "image"),
    **dict.fromkeys(("mp4", "m4v", "mkv", "mov", "webm", "avi", "mpg", "mpeg", "ts", "flv", "gif"), "video"),
    **dict.fromkeys(("3gp", "3g2", "wmv", "asf", "ogv", "m2ts", "mts", "m2t", "mpe", "vob", "f4v", "qt"), "video"),
    **dict.fromkeys(("mp3", "wav", "m4a", "flac", "ogg", "opus", "aac", "oga", "wma", "weba", "mka"), "audio"),
}
"""Role of a media file by the end of its name, where the manifest states none. A GIF of one frame is a picture."""

MEDIA_TYPE = pa.struct(
    [
        ("role", pa.string()),
        ("uri", pa.string()),
        ("digest", pa.string()),
        ("size_bytes", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("duration_s", pa.float64()),
        ("fps", pa.float64()),
        ("has_audio", pa.bool_()),
    ]
)

CONTENT_FIELDS = [
    pa.field("kind", pa.string()),
    pa.field("title", pa.string()),
    pa.field("description", pa.string()),
    pa.field("category", pa.string()),
    pa.field("tags", pa.list_(pa.string())),
    pa.field("creator", pa.string()),
    pa.field("created_at", pa.timestamp("us", "UTC")),
    pa.field("price", pa.float64()),
    pa.field("attributes", pa.string()),
    pa.field("media", pa.list_(MEDIA_TYPE)),
]
"""Columns of an item besides its id and keys; `attributes` is a JSON object in text."""

LANGUAGE = pa.field("language", pa.string())
"""Column of the language of an item's texts, ISO 639-1; it follows from the others, so that no key rests on it."""

SHORT_FORMS = ("image", "images", "video", "videos", "audio")
"""Manifest fields that stand for entries of `media`."""


class MediaFiles(Protocol):
    """Files that the media of a manifest may be; without them every reference stands as it is written."""

    def find(self, uri: str) -> str | None:
        """Find the reference, or another spelling of it, under which there is a file; None for any other."""

    def is_still(self, uri: str) -> bool:
        """Tell whether a GIF has one frame."""


class Media(BaseModel):
    """One media file of an item, as the manifest names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str = Field(min_length=1)
    """Path of the file, relative to the manifest, or its URL."""
    role: Role
    """`image`, `video` or `audio`; by default as the end of the name says."""

    @model_validator(mode="before")
    @classmethod
    def _infer_role(cls, value: Any, info: ValidationInfo) -> Any:
        files: MediaFiles | None = info.context
        if isinstance(value, str):
            value = {"uri": value}
        if isinstance(value, Mapping):
            value = {key: field for key, field in value.items() if field is not None}  # Parquet fills gaps with nulls
            if files is not None and isinstance(value.get("uri"), str):
                value["uri"] = files.find(value["uri"]) or value["uri"]
        if isinstance(value, dict) and "role" not in value and isinstance(value.get("uri"), str):
            uri = value["uri"]
            path = urlsplit(uri).path if "://" in uri else uri
            extension = PurePosixPath(path).suffix.lower().lstrip(".")
            if extension not in EXTENSIONS:
                raise ValueError(f"no role given and none known for {uri!r}: state role image, video or audio")
            still = extension == "gif" and files is not None and files.is_still(uri)
            value = {**value, "role": "image" if still else EXTENSIONS[extension]}
        return value


class Item(BaseModel):
    """One video or product, as its seller or creator describes it.

    `image`, `images`, `video`, `videos`, `audio` are short forms that become entries of `media`. Without `kind`, an
    item with a video is a `video`, any other a `product`. A value that is missing, as `coldstart.core.values` knows it,
    is absent. The currency of a price becomes the attribute `currency`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, coerce_numbers_to_str=True)

    item_id: str = Field(min_length=1, max_length=1024)
    """Id of the item, once in the catalogue; leading zeros stay."""
    kind: Kind | None = None
    """`video` or `product`; by default a video where there is one among the media."""
    title: str | None = None
    """Name of the item."""
    description: str | None = None
    """Longer text of the seller or creator."""
    category: str | None = None
    """Category, of which it has one; a filter, a label to learn from, and a fact that descriptions may state."""
    tags: tuple[str, ...] = ()
    """Further words, as a list or as one text with | or , between them."""
    creator: str | None = None
    """Seller, brand or creator: lists may cap them, and splits keep each on one side."""
    created_at: datetime | None = None
    """Time of its appearance, in UTC where no zone is stated: ISO 8601 or seconds since 1970."""
    price: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Price; a currency beside it becomes the attribute `currency`."""
    attributes: dict[str, Any] = Field(default_factory=dict)
    """All else that is known, by name: colour, brand, size."""
    media: tuple[Media, ...] = ()
    """Files of the item, in the order in which they count."""

    @model_validator(mode="before")
    @classmethod
    def _fold_short_forms(cls, value: Any, info: ValidationInfo) -> Any:
        value = {key: _as_text(field) if isinstance(field, bytes) else field for key, field in value.items()}
        value = {key: field for key, field in value.items() if not _is_absent(key, field)}
        media = _entries(value.get("media"), info.context)
        for short in SHORT_FORMS:
            if short not in value:
                continue
            role = short.rstrip("s")
            for entry in _entries(value.pop(short), info.context):
                media.append({"role": role, **entry} if isinstance(entry, Mapping) else {"role": role, "uri": entry})
        return _with_currency({**value, "media": media})

    @field_validator("item_id", mode="before")
    @classmethod
    def _parse_id(cls, value: Any) -> Any:
        return parse_id(value) if isinstance(value, float | Decimal | str) else value

    @field_validator("kind", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("created_at", mode="before")
    @classmethod
    def _parse_time(cls, value: Any) -> Any:
        return parse_time(value)

    @field_validator("price", mode="before")
    @classmethod
    def _parse_price(cls, value: Any) -> Any:
        return parse_price(value)[0]

    @model_validator(mode="after")
    def _infer_kind(self) -> Self:
        if self.kind is None:
            kind = "video" if any(entry.role == "video" for entry in self.media) else "product"
            object.__setattr__(self, "kind", kind)
        return self

    @field_validator("tags", mode="before")
    @classmethod
    def _split_tags(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = split_tags(value)
        if not isinstance(value, list | tuple):
            raise ValueError("give a list, or one text with , or | between the tags")
        return tuple(tag for tag in value if not _is_empty(tag))

    @field_validator("attributes", mode="before")
    @classmethod
    def _parse_attributes(cls, value: Any) -> Any:
        """Parse a JSON object, also in text; values that JSON lacks become text, numbers that are none become null."""
        try:
            parsed = json.loads(value) if isinstance(value, str) else value
            plain = to_jsonable_python(parsed, inf_nan_mode="null", bytes_mode="base64")
        except RecursionError:
            raise ValueError("nested too deeply") from None
        except ValueError as error:
            raise ValueError(f"not a JSON object: {error}") from None
        if not isinstance(plain, dict):
            raise ValueError("not a JSON object")
        return plain

    @classmethod
    def parse(cls, fields: dict[str, Any], files: MediaFiles | None = None) -> Self:
        """Parse the item of one manifest row.

        Args:
            files: finds the media under other spellings, and several in one text.

        Raises:
            ValueError: one line that names every faulty field, its value and what is wrong.
        """
        if (plain := _plain_fields(fields)) is not None:
            return cls.model_construct(**plain)
        for name, value in fields.items():
            if value is None or isinstance(value, float) or (isinstance(value, str) and value.isascii()):
                continue
            try:
                json.dumps([name, value], ensure_ascii=False, default=str).encode()
            except UnicodeEncodeError as error:
                character = error.object[error.start]
                raise ValueError(f"{name!r} is no Unicode text: it holds a lone surrogate, {character!r}") from None
            except (RecursionError, ValueError) as error:
                raise ValueError(f"{name} is no JSON value: {error}") from None
        try:
            return cls.model_validate(fields, context=files)
        except ValidationError as error:
            raise ValueError("; ".join(_fault(entry) for entry in error.errors())) from None

    def record(self) -> dict[str, Any]:
        """Return the item without its media as JSON-serialisable values, which the row key digests."""
        created_at = None if self.created_at is None else to_jsonable_python(self.created_at)
        return {**self._plain(), "tags": list(self.tags), "created_at": created_at, "attributes": self.attributes}

    @property
    def language(self) -> str | None:
        """Language of its title and description by ISO 639-1: as an attribute states it, else detected, or None."""
        return item_language(self.title, self.description, self.attributes)

    def row(self) -> dict[str, Any]:
        """Return the item without its media as values of the Arrow columns of `CONTENT_FIELDS`."""
        return {
            **self._plain(),
            "item_id": self.item_id,
            "tags": list(self.tags),
            "created_at": self.created_at,
            "attributes": _ENCODE(self.attributes),
        }

    def _plain(self) -> dict[str, Any]:
        """Return the fields that are text or numbers; ten times as fast as pydantic's own way."""
        return {
            "kind": self.kind,
            "title": self.title,
            "description": self.description,
            "category": self.category,
            "creator": self.creator,
            "price": self.price,
        }


_ENCODE = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode

FIELD_NAMES = frozenset(Item.model_fields) | frozenset(SHORT_FORMS)
"""Every name that a manifest row may use."""

_WORDS = frozenset({"title", "description", "category", "creator", "tags", "attributes", "media", *SHORT_FORMS})
"""Fields in which "None" and "NA" may be words."""


_TEXTS = frozenset(("title", "description", "category", "creator"))
_PLAIN = frozenset((str, int, bool, type(None)))


def _plain_fields(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the fields of an item without media whose values need no conversion, None for any other.

    The result is that of the validators, of which a catalogue of texts needs few and pays for all.
    """
    item_id = fields.get("item_id")
    if type(item_id) is not str or not item_id.isascii() or not item_id.isprintable():
        return None
    plain: dict[str, Any] = dict.fromkeys(Item.model_fields)
    plain |= {"tags": (), "attributes": {}, "media": (), "kind": "product"}
    for name, value in fields.items():
        if value is None:
            continue
        if name == "item_id":
            text = value.strip()
            if not text or len(text) > 1024 or is_missing(text) or re.match(ROUNDED, text):
                return None
            plain[name] = text
        elif name in _TEXTS:
            if type(value) is not str or not (value.isascii() or _is_unicode(value)):
                return None
            plain[name] = None if is_missing_text(value) else value.strip()
        elif name == "price":
            if type(value) is not float or not 0 <= value < math.inf:
                return None
            plain[name] = value
        elif name == "created_at":
            if type(value) is not datetime or value.tzinfo is not UTC:
                return None
            plain[name] = value
        elif name == "tags":
            if type(value) is not list or not all(type(tag) is str and tag.isascii() and tag.strip() for tag in value):
                return None
            plain[name] = tuple(tag.strip() for tag in value)
        elif name == "attributes":
            if type(value) is not dict or not all(_is_plain(key, one) for key, one in value.items()):
                return None
            plain[name] = value
        else:
            return None
    return plain


def _is_plain(key: Any, value: Any) -> bool:
    if type(key) is not str or key != key.strip() or not (key.isascii() or _is_unicode(key)):
        return False
    if type(value) is list:
        return all(type(one) is str and (one.isascii() or _is_unicode(one)) for one in value)
    return type(value) in _PLAIN and (type(value) is not str or value.isascii() or _is_unicode(value))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _as_text(value: bytes) -> str | bytes:
    """Decode a text that a Parquet file holds as bytes; other bytes stay, for their field to be refused."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _is_absent(name: str, value: Any) -> bool:
    if name not in FIELD_NAMES:
        return _is_empty(value)
    return is_missing_text(value) if name in _WORDS else is_missing(value)


def _entries(given: Any, files: MediaFiles | None) -> list[Any]:
    """List the entries of `media` or of a short form; a single URI or object becomes a list of one."""
    if isinstance(given, str) and files is not None:
        given = split_media(given, lambda uri: files.find(uri) is not None)
    return [entry for entry in (given if isinstance(given, list | tuple) else [given]) if not is_missing_text(entry)]


def _with_currency(fields: dict[str, Any]) -> dict[str, Any]:
    """Add the currency of a price to the attributes, where they state none."""
    try:
        currency = parse_price(fields.get("price"))[1]
        given = fields.get("attributes") or {}
        attributes = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError):  # the field's own check says so
        return fields
    if currency is None or not isinstance(attributes, Mapping) or "currency" in attributes:
        return fields
    return {**fields, "attributes": {**attributes, "currency": currency}}


def _fault(entry: Any) -> str:
    place = ".".join(str(part) for part in entry["loc"]) or "row"
    value = repr(entry.get("input"))
    shown = value if len(value) <= 60 else value[:57] + "..."
    if entry["type"] == "missing":
        return f"{place} is missing"
    if entry["type"] == "model_type":
        return f"{place}={shown}: give a URI, or an object with uri and role"
    if entry["type"] == "extra_forbidden" and len(entry["loc"]) > 1:
        return f"unknown field {place}={shown}: an entry of media has uri and role"
    if entry["type"] == "extra_forbidden":
        hint = nearest_or(place, FIELD_NAMES, "move it into attributes, or `map` the columns you want")
        return f"unknown field {place}={shown}: {hint}"
    return f"{place}={shown}: {entry['msg'].removeprefix('Value error, ')}"
