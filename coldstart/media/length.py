"""Find the length of a stream: what its header states, held against its last packets.

Headers of Matroska and ASF count it from zero though the clock may start late, recorders give it in the wrong unit,
and some states none. That a file was cut shows in the same way, so that a header is overruled only where the packets go
on for longer, the late clock explains the difference, or the file is as long in bytes as it says itself. Workers import
this module: it needs neither torch nor Arrow.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from coldstart.core.extras import lazy_module
from coldstart.core.stage import Reject
from coldstart.media.faults import decoder_faults

av = lazy_module("av")

# Containers that hold everything in one file; playlists (HLS, DASH, concat) would make FFmpeg open further ones.
_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpeg,flv,asf,ogg,mp3,wav,flac,aac,w64,caf,aiff"
OPTIONS = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"}
_HEADED = {"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2", "avi", "flv", "asf"}  # their length is what a header says
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # of ASF
_HEAD_BYTES = 4096
_MAX_BOXES = 1_000_000  # of an MP4 file: two for each piece of a recording
_FARTHEST_S = 1e8  # the clock of a stream counts no further in 64 bits


def presentation_ticks(frame: Any) -> Any:
    """Return a frame's presentation time in ticks of its stream; its decoding time in old files without the former."""
    return frame.pts if frame.pts is not None else frame.dts


def tolerance_s(stated_s: float) -> float:
    """Return by how many seconds a stated length and the packets may differ, as they do in whole files."""
    return max(0.5, 0.02 * stated_s)


def stream_length(path: Path, container: Any, stream: Any) -> float | None:
    """Return the length of a stream in seconds from its start; None where no header states it.

    The header's word holds where the last packets agree, of this stream or of a longer one beside it. Where they go
    on for longer, where the header counts from zero and the clock starts late (Matroska, ASF), and where the file is
    as long in bytes as it says itself, the packets are right. Otherwise the file was cut, and the header holds.
    """
    stated_s = _stated_length(container, stream)
    if stated_s is None or not _needs_check(container, stream, stated_s):
        return stated_s
    found = _last_ends(path, stream, stated_s)
    if found is None:
        return stated_s
    own_s, file_s = found
    near_s = tolerance_s(stated_s)
    if min(abs(own_s - stated_s), abs(file_s - stated_s)) <= min(near_s, stated_s):
        return stated_s
    late_s = (container.start_time or 0) / 1e6
    if file_s > stated_s or abs(file_s + late_s - stated_s) <= near_s or _is_whole(path):
        return own_s
    return stated_s


def _stated_length(container: Any, stream: Any) -> float | None:
    if (stream.duration or 0) > 0:
        return float(stream.duration * stream.time_base)
    late_s = float((stream.start_time or 0) * stream.time_base) - (container.start_time or 0) / 1e6
    length_s = float((container.duration or 0) / 1e6) - late_s
    return length_s if length_s > 0 and container.duration else None


def _needs_check(container: Any, stream: Any, stated_s: float) -> bool:
    """Tell whether only the last packets show if a header is right: not where an index of all packets agrees."""
    if container.format.name not in _HEADED:
        return False
    index, count = stream.index_entries, stream.frames
    if count < 2 or len(index) != count:
        return True
    mean_s = float((index[count - 1].timestamp - index[0].timestamp) * stream.time_base) / (count - 1)
    return bool(mean_s * count - stated_s > min(tolerance_s(stated_s), stated_s))


def _last_ends(path: Path, stream: Any, from_s: float) -> tuple[float, float] | None:
    """Read the packets from about a time on: `packet_ends`, None where that cannot be read."""
    start = stream.start_time or 0
    # In a container of its own: after a seek some formats do not give their first frames again.
    with (
        suppress(Reject),
        decoder_faults(),
        av.open(f"file:{path}", options=OPTIONS, metadata_errors="replace") as container,
    ):
        own = container.streams[stream.index]
        for place_s in (min(from_s, _FARTHEST_S), 0.0):
            with suppress(av.error.FFmpegError):  # where it cannot seek there, it stays where it is
                container.seek(start + round(place_s / float(own.time_base)), stream=own)
            if found := packet_ends(readable(container.demux(*container.streams.video, *container.streams.audio)), own):
                return found
    return None


def packet_ends(packets: Iterable[Any], stream: Any) -> tuple[float, float] | None:
    """Find where packets of several streams end: (those of one stream, all) in seconds from that stream's start; None
    where it has none among them."""
    ends: dict[int, float] = {}
    for packet in packets:
        ticks = presentation_ticks(packet)
        if ticks is not None and packet.size:
            end_s = float((ticks + (packet.duration or 0)) * packet.time_base)
            ends[packet.stream_index] = max(end_s, ends.get(packet.stream_index, end_s))
    if stream.index not in ends:
        return None
    start_s = float((stream.start_time or 0) * stream.time_base)
    return ends[stream.index] - start_s, max(ends.values()) - start_s


def readable(packets: Iterable[Any]) -> Iterator[Any]:
    """Yield packets up to the last that can be read."""
    try:
        yield from packets
    except (av.error.InvalidDataError, av.error.PermissionError):
        return  # the file stops within a packet; for want of a better code some demuxers say "not permitted"


def _is_whole(path: Path) -> bool:
    """Tell whether a file is just as long in bytes as it says itself; False where it says nothing."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if head.startswith(b"RIFF"):
            return size_bytes == 8 + int.from_bytes(head[4:8], "little")
        if head.startswith(_EBML) and _SEGMENT in head:
            return size_bytes == _segment_end(head)
        if (place := head.find(_FILE_PROPERTIES)) >= 0:
            return size_bytes == int.from_bytes(head[place + 40 : place + 48], "little")
        if head.startswith(b"FLV"):  # the last four bytes repeat the length of the last tag
            file.seek(-4, os.SEEK_END)
            length = int.from_bytes(file.read(4))
            file.seek(max(size_bytes - 4 - length, 0))
            return int.from_bytes(file.read(4)[1:]) == length - 11
        return size_bytes == _last_box_end(file, size_bytes)


def _segment_end(head: bytes) -> int:
    """Compute where the segment of a Matroska file ends, from its first bytes."""
    place = head.index(_SEGMENT) + len(_SEGMENT)
    width = 9 - head[place : place + 1].ljust(1, b"\0")[0].bit_length()  # the leading zeros of a number tell its width
    return place + width + (int.from_bytes(head[place : place + width]) & ((1 << 7 * width) - 1))


def _last_box_end(file: BinaryIO, size_bytes: int) -> int:
    """Compute where the last box of an MP4 file ends; -1 where it is made of something else."""
    place = 0
    for _ in range(_MAX_BOXES):
        if place >= size_bytes:
            return place
        file.seek(place)
        head = file.read(16)
        length = int.from_bytes(head[:4])
        if length == 1:
            length = int.from_bytes(head[8:])
        if length < 8 or not head[4:8].isalnum():
            break
        place += length
    return -1
