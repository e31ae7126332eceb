"""Explain reason codes in plain words: why an item was skipped, a claim removed, a row of interactions rejected.

The ledger keeps the codes, on which filters and programs rely; people read these words. `plain` gives them, `remedy`
the next step. Tests hold that every code of the package stands here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Reason(NamedTuple):
    """Meaning of a reason code.

    Attributes:
        words: read after a number, as in "83 without sound".
        remedy: what to do about it; empty where nothing needs to be done.
        one: read of one item or claim, where that is not `words` without its first "that".
    """

    words: str
    remedy: str = ""
    one: str = ""


ITEMS: Mapping[str, Reason] = {
    # taken out of the workspace
    "removed": Reason(
        "that were removed",
        "`coldstart remove --undo ITEM` lets one come back with the next run, if that is wanted",
        one="was removed",
    ),
    "rejected_by_review": Reason(
        "that a person rejected",
        "`coldstart review log` says who and why; `coldstart review undo` takes it back",
        one="rejected by a person",
    ),
    # rows of the catalogue
    "bad_row": Reason(
        "with an unreadable row",
        "mend the rows, or name their columns in the pipeline: ingest.map, our field: your column",
    ),
    "duplicate_id": Reason("with an id that stands twice", "give each row an item_id of its own"),
    "unread_format": Reason(
        "in a format that is not read", "save it in a format that is read, such as JPEG, PNG or MP4"
    ),
    # where media lie
    "no_media": Reason("without a picture or video", "add image or video to the row; an item is found by its text too"),
    "no_video": Reason("without a video"),
    "no_sound": Reason("without sound"),
    "no_picture": Reason("without a readable picture", "add a picture to the row, or mend the one that it names"),
    "not_found": Reason(
        "not found",
        "paths count from the manifest's folder on: mend them, or put the manifest beside its media",
    ),
    "not_a_file": Reason("whose path is no file", "name a file, not a folder or a device"),
    "empty_file": Reason("with an empty file", "copy the file again from its source"),
    "outside_media_roots": Reason("outside the allowed folders", "allow that folder with --media-root"),
    "host_not_allowed": Reason(
        "on a host that is not allowed", "name the host under media.allowed_hosts of the pipeline"
    ),
    "scheme_not_allowed": Reason(
        "behind an address that is not allowed",
        "copy the files here, or allow their place under `media` of the pipeline",
    ),
    "private_address": Reason(
        "on a private network address", "copy the files here: hosts inside a network are never contacted"
    ),
    "fetch_failed": Reason("that could not be downloaded", "try again later with `coldstart retry`"),
    "media_changed": Reason("whose file changed since it was read", "run ingest again"),
    # decoding
    "unsupported_media": Reason(
        "in an unsupported format",
        "save it in a format that is read, or leave it out: an item is found by its text too",
    ),
    "corrupt_image": Reason("with a damaged picture", "replace the picture file"),
    "corrupt_video": Reason("with a damaged video", "replace the video file, or repair it: ffmpeg -i IN -c copy OUT"),
    "corrupt_audio": Reason("with damaged sound", "replace the file, or export its sound again"),
    "no_video_stream": Reason("whose video file has no pictures", "replace the file by one with a video stream"),
    "too_many_bytes": Reason(
        "with too large a file", "raise the limit under `media` of the pipeline, or make the file smaller"
    ),
    "too_many_pixels": Reason(
        "with too large a picture", "raise media.max_pixels of the pipeline, or make the picture smaller"
    ),
    "too_small": Reason("with too small a picture", "take a larger picture, or lower media.min_side of the pipeline"),
    "too_long": Reason("with too long a video", "raise media.max_duration_s of the pipeline, or cut the video"),
    "decode_timeout": Reason("that took too long to decode", "raise media.deadline_s of the pipeline"),
    "decoder_fault": Reason(
        "that the decoder failed on",
        "open the file elsewhere; if it is good, report the place that the detail names",
        one="the decoder failed on it",
    ),
    "out_of_memory": Reason(
        "that needed too much memory",
        "raise engine.worker_memory_bytes of the pipeline, or make the file smaller",
    ),
    "device_process_died": Reason(
        "that ended the process of the device", "try `coldstart retry` with a smaller batch: --set STAGE.batch_size=1"
    ),
    "worker_died": Reason(
        "that ended the Ray actor of their part",
        "raise engine.ray.cpus, then `coldstart retry`",
        one="ended the Ray actor of its part",
    ),
    # gates
    "low_resolution": Reason("of low resolution", "lower understand.quality.min_side, or take a larger picture"),
    "too_blurry": Reason("too blurry", "lower understand.quality.min_sharpness, or take a sharper picture"),
    "too_dark": Reason("too dark", "lower understand.quality.min_brightness, or take a brighter picture"),
    "too_bright": Reason("too bright", "raise understand.quality.max_brightness, or take a darker picture"),
    "low_contrast": Reason("of low contrast", "lower understand.quality.min_contrast"),
    "black": Reason("mostly black", "raise understand.quality.max_black_share, or replace the video"),
    "frozen": Reason("mostly frozen", "raise understand.quality.max_frozen_share, or replace the video"),
    "no_audio": Reason("without the sound that the pipeline requires", "set understand.quality.need_audio: false"),
    "silent": Reason("too quiet", "lower understand.quality.min_loudness_db, or replace the sound"),
    "near_duplicate": Reason(
        "a copy of another item", "its original is served in its place; `coldstart show ITEM` names it"
    ),
    "no_fingerprint": Reason("without a fingerprint, compared with no other"),
    "unsafe": Reason(
        "with unsafe content", "look at `coldstart show ITEM`; a wrong finding: raise the threshold of its rule"
    ),
    # texts, vectors, fits
    "no_text": Reason("without text", "fill one of the fields that the detail names"),
    "no_vector": Reason("without a vector", "look at the reason in the stage that embeds: `coldstart status --failed`"),
    "bad_vector": Reason(
        "whose vector is not finite", "set engine.dtype: float32, or take another encoder, then `coldstart retry`"
    ),
    "no_free_id": Reason(
        "for which no semantic ID is free",
        "fit more: `coldstart finetune sids` with more levels or larger ones",
        one="no semantic ID is free for it",
    ),
    "unknown_class": Reason("near no class", "name more classes, or lower min_precision of the stage that labels"),
    "has_category": Reason(
        "that have a category already", "label them too with `coldstart label --all`", one="has a category already"
    ),
    "no_content": Reason("without content to learn from", "give them text or a picture"),
    "not_shown": Reason("new to the fit, shown to nobody yet", "it is ranked by what is known of items like it"),
    "no_interactions": Reason(
        "new to the fit, without interactions in its training window", "it is scored by its content all the same"
    ),
    "upstream_failed": Reason(
        "that failed in an earlier stage",
        "mend what failed there (`coldstart status --failed`), then `coldstart retry`",
    ),
    "original_not_served": Reason("a copy of an item that is not served", "see why its original is not served"),
    # descriptions
    "nothing_to_go_on": Reason(
        "without anything to describe", "give them a picture, a description, or fields that the detail names"
    ),
    "nothing_told": Reason("without a description to learn from", "give attributes or a description to more items"),
    "nothing_written": Reason("without a generated text", "look at the reason in the stage that writes"),
    "nothing_grounded": Reason(
        "without a claim that has evidence", "give them more text, or pictures that show what is claimed"
    ),
    "states_nothing": Reason("without visual attributes in the record"),
    "not_judged": Reason("that were not evaluated", one="was not evaluated"),
    "prompt_too_long": Reason(
        "whose prompt is too long for the model",
        "lower the budgets of the prompt, or take a model with a longer context",
    ),
    "special_tokens": Reason(
        "whose text imitates marks of the model", "remove marks such as <|im_start|> from the text of the item"
    ),
    "refused": Reason(
        "that the model refused to describe",
        "take another model for these items",
        one="the model refused to describe it",
    ),
    "request_refused": Reason(
        "that the endpoint refused", "mend what the detail names, then `coldstart retry`", one="the endpoint refused it"
    ),
    "endpoint_failed": Reason(
        "that the endpoint did not answer for",
        "see that it runs, then `coldstart retry`",
        one="the endpoint did not answer for it",
    ),
    # queries
    "bad_line": Reason(
        "on an unreadable line", "one JSON object a line: query_id and one of text, image, video, item_id"
    ),
    "bad_query": Reason("incomplete", "give query_id and one of text, image, video, item_id"),
    "no_space": Reason("with no space to search in", "name a space that the workspace has, or run `coldstart embed`"),
}
"""Code -> meaning, of items that a stage skipped or failed on, and of queries without an answer."""

NEW = frozenset({"no_interactions", "not_shown"})
"""Codes of items that a fit is without only because they are new: they are scored all the same."""

CLAIMS: Mapping[str, Reason] = {
    "ungrounded": Reason("without evidence"),
    "ungrounded_value": Reason("with a value that nothing supports"),
    "ungrounded_number": Reason("with a number that no source has"),
    "unsupported": Reason("whose words stand in no source"),
    "lists_values": Reason("that only list values", one="only lists values"),
    "title_again": Reason("that repeat the title", one="repeats the title"),
    "too_short": Reason("too short for a sentence"),
    "no_end": Reason("that do not end", one="does not end"),
    "no_antecedent": Reason("that mean a sentence that was removed", one="means a sentence that was removed"),
    "other_value": Reason("that contradict the record", one="contradicts the record"),
    "other_price": Reason("with another price than the record"),
    "other_brand": Reason("that name a maker who is not the item's", one="names a maker who is not the item's"),
    "not_listed": Reason("with a value that the attribute does not list"),
    "unknown_attribute": Reason("of an attribute that the category does not have"),
    "empty": Reason("that are empty", one="is empty"),
    "says_nothing": Reason("without meaning"),
    "wrong_language": Reason("in another language"),
    "copied": Reason("copied from a source"),
    "duplicate": Reason("stated before"),
    "too_many": Reason("over the number allowed"),
    "cut_off": Reason("cut off at the token limit", "raise max_new_tokens of the prompt"),
    "not_json": Reason("not written as JSON"),
    "wrong_fields": Reason("written in the wrong fields"),
    "order": Reason("that follow an instruction in the item's text", one="follows an instruction in the item's text"),
    "refusal": Reason("a refusal of the model"),
    "link": Reason("with a link"),
    "markup": Reason("with markup"),
    "loop": Reason("that repeat themselves", one="repeats itself"),
    "overlong": Reason("too long"),
    "unsafe": Reason("with unsafe words"),
}
"""Code -> meaning, of claims that the checks removed from a description."""

INTERACTIONS: Mapping[str, Reason] = {
    "unreadable": Reason("with unreadable bytes", "save the file as UTF-8"),
    "no_user": Reason("without a user", "fill user_id, or name its column: --columns user_id=COLUMN"),
    "no_item": Reason("without an item", "fill item_id, or name its column: --columns item_id=COLUMN"),
    "bad_id": Reason("with an id that no id can be", "take control characters out of ids"),
    "bad_time": Reason(
        "with an unreadable time",
        "write times as 2026-11-30T09:15:00Z, since 05/11 has two meanings; of numbers state --time-unit s, ms or us",
    ),
    "future_time": Reason("with a time in the future", "mend the times, or state the unit: --time-unit"),
    "unknown_event": Reason("with an event that has no weight", "give it a weight: --event-weights EVENT=WEIGHT"),
    "bad_weight": Reason("with a weight that is no number", "write weights as numbers, or leave the column out"),
    "removed_user": Reason(
        "of users who were removed", "`coldstart remove --undo --user ID` lets one come back with the next log"
    ),
}
"""Code -> meaning, of rejected rows of interactions."""

IMPRESSIONS: Mapping[str, Reason] = {
    "no_request": Reason("without a request", "fill request_id, or name its column: --columns request_id=COLUMN"),
    "no_showing": Reason(
        "of a request and item that no impression has", "ingest the impressions before their outcomes"
    ),
    "other_user": Reason("of a request that another user made", "give each request an id of its own"),
    "bad_position": Reason("with a position that is no whole number from 0 on", "mend it, or leave it empty"),
    "bad_propensity": Reason(
        "with a propensity that is not above 0 and at most 1", "mend it, or leave it empty where it is not known"
    ),
    "bad_outcome": Reason("with an outcome that is no number", "write 1 or 0, or seconds; leave it empty if not known"),
    "bad_outcome_time": Reason("with an unreadable time of the outcome", "mend it, or leave it empty"),
    "bad_event": Reason("with an event that no outcome can be named by", "name events by letters and digits"),
}
"""Code -> meaning, of rejected rows of impressions and outcomes, besides those that `INTERACTIONS` has."""

SPEECH: Mapping[str, Reason] = {
    "no_voice": Reason("no voice is heard there"),
    "no_speech": Reason("the model itself doubts that it is speech"),
    "repetition": Reason("it repeats itself"),
    "low_confidence": Reason("the model is not sure of it"),
    "too_fast": Reason("more letters than can be spoken in that time"),
}
"""Code -> meaning, of transcribed words that were left out as invented."""

OF_VIDEOS = ("no_video", "no_sound")
"""Reasons that hold for every product without a video: nothing is missing of it."""

_ALL = (ITEMS, CLAIMS, INTERACTIONS, IMPRESSIONS, SPEECH)


def plain(code: str) -> str:
    """Put a reason code into plain words; the code with spaces where another package made it up."""
    return next((table[code].words for table in _ALL if code in table), code.replace("_", " "))


def of_one(code: str) -> str:
    """Put a reason code into plain words about one item or claim: "a copy of another item", "repeats the title"."""
    found = next((table[code] for table in _ALL if code in table), Reason(plain(code)))
    return found.one or re.sub("^whose ", "its ", found.words.removeprefix("that "))


def remedy(code: str) -> str:
    """Name the next step for a reason code; empty where the detail alone can tell."""
    return next((table[code].remedy for table in _ALL if code in table), "")


def counted(reasons: Mapping[str, int]) -> str:
    """List reasons with their counts, as in "83 without sound, 12 without a picture"."""
    return ", ".join(f"{count:,} {plain(reason)}" for reason, count in reasons.items())
