"""Write the first pipeline file of a catalogue: the stages for what it has, each setting with a comment.

Settings that are not used stand in comments, so that the file shows what else there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from coldstart.core.items import FIELD_NAMES
from coldstart.core.language import languages_text
from coldstart.ingest.contents import Contents

_COLUMN = 34
"""Column at which comments begin, where the setting leaves room."""


def pipeline_text(contents: Contents | None, *, place: Path, interactions: Path | None = None) -> str:
    """Return the text of a pipeline file.

    Args:
        contents: what the catalogue has; None: not known, so that the stages for pictures and words are written.
        place: folder of the file, to which its paths are relative.
        interactions: a file of user-item interactions, which the catalogue has too.
    """
    having: Mapping[str, int] = {"pictures": 1, "titles": 1} if contents is None else contents.having
    pictures, videos = bool(having.get("pictures")), bool(having.get("videos"))
    words = bool(having.get("titles") or having.get("descriptions"))
    heard = videos or bool(having.get("sounds"))
    sections = [_head(contents, place, interactions), _media(contents), _ingest(contents)]
    if heard:
        sections.append(_UNDERSTAND)
    if pictures or videos:
        sections.append(_image(videos))
    if words or heard or not (pictures or videos):
        sections.append(_text(contents, heard))
    if having.get("categories"):
        sections.append(_LABEL)
    sections.append(_behaviour(interactions))
    sections.append(_INDEX)
    return "\n".join("\n".join(map(_aligned, section.splitlines())) + "\n" for section in sections)


def _aligned(line: str) -> str:
    """Move the comment of a setting to the common column; a line that is a comment as a whole stays."""
    setting, mark, comment = line.partition("  ## ")
    return f"{setting:<{_COLUMN - 2}}  # {comment}" if mark else line


def _head(contents: Contents | None, place: Path, interactions: Path | None) -> str:
    lines = ["# coldstart run pipeline.yaml --workspace shop.workspace"]
    if interactions is not None:
        lines.append(f"# coldstart ingest --interactions {interactions} --workspace shop.workspace")
    lines += [
        "# coldstart search --text WORDS --workspace shop.workspace",
        "#",
        "# `coldstart check pipeline.yaml` names faults with line and column; lines that begin with # are not read.",
    ]
    if contents is not None:
        counted = ", ".join(f"{count:,} with {name}" for name, count in contents.having.items() if count)
        lines.append(f"# Written for {contents.path.name}: {contents.rows:,} rows read, {counted or 'all empty'}.")
    manifest = "# manifest: items.csv  ## catalogue: CSV, JSON, Parquet, Excel, a product feed, or a folder of media"
    if contents is not None:
        manifest = f"manifest: {_value(_relative(contents.path, place))}  ## catalogue; --manifest takes another one"
    return "\n".join(
        [*lines, "", manifest, "max_failed: 0.01  ## share of items that may fail before a run stops: 1 in 100"]
    )


def _relative(path: Path, place: Path) -> str:
    path, place = path.absolute(), place.absolute()
    return str(path.relative_to(place)) if path.is_relative_to(place) else str(path)


def _media(contents: Contents | None) -> str:
    hosts = [] if contents is None else [host for host, _ in contents.hosts.most_common(20)]
    lines = [
        "media:",
        "  roots: []  ## further folders that pictures and videos may lie in, besides the catalogue's own",
        f"  allowed_hosts: {_value(hosts)}  ## web hosts that they may be fetched from; none unless named",
        "  # allowed_buckets: [s3://photos]  ## buckets, read with the credentials of this machine",
        "  # max_video_bytes: 2000000000  ## larger files are skipped",
    ]
    return "\n".join(lines)


def _ingest(contents: Contents | None) -> str:
    lines = ["stages:", "  ingest:  ## read and check the catalogue"]
    settings: Mapping[str, Any] = {} if contents is None else contents.settings
    given: Mapping[str, Any] = settings.get("map") or {}
    if all(field == column and field in FIELD_NAMES for field, column in given.items()):
        return "\n".join([*lines, "    map: {}  ## field: your column, as in {title: Name}; our names need none"])
    lines.append("    map:  ## field of an item: your column, as it was recognised; other columns become attributes")
    lines += [f"      {_value(field)}: {_value(column)}" for field, column in given.items()]
    lines.append("    clean: true  ## HTML to text, prices and dates as shops write them")
    if settings.get("id_from"):
        lines.append(f"    id_from: {_value(list(settings['id_from']))}  ## columns that make the id of an item")
    return "\n".join(lines)


_UNDERSTAND = """\
  understand:  ## analyse sound, speech and pictures of videos; `part: false` leaves a part out
    duplicates:
      policy: link  ## copies: link serves them with their original, drop leaves them out, keep ignores it
    shots:
      detector: scenedetect  ## cuts of a video; or transnetv2 (extra transnet)
    speech:
      model: starter  ## speech to text by the packaged whisper-base; or a folder of a larger whisper
    screen:
      fps: 2  ## frames a second that are read for text on screen
    safety:
      policy: safety  ## rules of unsafe content; copy the packaged file, edit it, and name its path
      threshold: 0.8  ## a lower one turns more items away
      classifier: auto  ## open_nsfw scores frames, once `coldstart models pull safety-pictures` has run; or off"""


def _image(videos: bool) -> str:
    frames = "\n    frame_policy: shots  ## one frame a shot, so that a short shot counts as much as a long one"
    return f"""\
  image:  ## look of pictures{" and of frames of videos" if videos else ""}: finds what looks alike
    stage: embed  ## make one vector an item
    encoder: starter  ## packaged, quick on a processor; on a GPU: open_clip:ViT-B-16/datacomp_xl_s13b_b90k
    input: image  ## pictures, or frames of videos
    frames: 8  ## frames of a video at most{frames if videos else ""}
    # pictures: 4  ## pictures of an item at most

  clip:  ## pictures and words in one space: finds pictures by words
    stage: embed  ## make one vector an item
    encoder: starter-clip  ## small; after `coldstart finetune align` one for this catalogue: align:text_image
    input: image  ## pictures, or frames of videos
    over: image  ## over the stored vectors: nothing is decoded again"""


def _text(contents: Contents | None, heard: bool) -> str:
    encoder, advice = "starter", "packaged, for English; for other languages starter:multilingual"
    lines = [
        f"  text:  ## words of an item{', its speech and its text on screen' if heard else ''}: finds by meaning",
        "    stage: embed  ## make one vector an item",
    ]
    if contents is not None and contents.is_english is False:
        encoder, advice = "starter:multilingual", "for a hundred languages; starter, for English, takes 0.4 of the time"
        lines.append(f"    # Language of the items that show one: {languages_text(contents.languages)}.")
    lines += [f"    encoder: {encoder}  ## {advice}", "    input: text  ## texts of the item"]
    if heard:
        lines += [
            "    prompt: item_evidence  ## title, description, then speech and text on screen",
            "    budgets: {description: 96, transcript: 96, screen_text: 32}  ## tokens of each that are read",
        ]
    else:
        lines.append("    # prompt: mine.md  ## which fields are read, in which order; `coldstart prompts` lists them")
    return "\n".join(lines)


_LABEL = """\
  # label:  ## suggest a category for items without one; needs an aligned space such as clip
  #   classes: classes.yaml  ## the categories, one a line"""


def _behaviour(interactions: Path | None) -> str:
    lines = [
        "align:  ## learn what users like together, from the interactions",
        "  text_image: false  ## true: fit pictures and words of this catalogue to each other, too",
        "  behaviour:",
        "    min_weight: null  ## least weight of a like; null: 0.7 of the scale of ratings, else any above 0",
        "    warm_min: 5  ## users that an item needs for its own interactions to count",
        "",
        "behaviour:  ## items that the same users like are near each other, new ones too",
        "  batch_size: 1024  ## items that are computed at once",
    ]
    if interactions is None:
        lines = ["with a log of interactions (`coldstart ingest --interactions FILE`), recommendations:", *lines]
        return "\n".join(f"  # {line}".rstrip() for line in lines)
    return "\n".join(f"  {line}".rstrip() for line in lines)


_INDEX = """\
  index:  ## build what is searched, and publish it
    keep_publications: 3  ## versions that stay for `coldstart index --rollback`"""


def _value(value: Any) -> str:
    """Write a value in YAML on one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000).removesuffix("...\n").strip()
    )
