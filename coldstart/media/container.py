"""Open a video or sound file: its tracks, its clock, its packets, and a check that none of it is missing.

Of several tracks of a kind the one that is marked as default is taken, as players do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from coldstart.core.extras import lazy_module
from coldstart.core.stage import Reject
from coldstart.media.faults import decoder_faults
from coldstart.media.guard import VIDEO_FORMATS, sniff_format
from coldstart.media.image import check_size
from coldstart.media.length import OPTIONS, packet_ends, presentation_ticks, readable, stream_length, tolerance_s
from coldstart.media.limits import Limits

av = lazy_module("av")

_SPARING = {"h264", "hevc"}  # the decoder of AV1 asks only once, at its start, what it may pass over


class Video:
    """Open container with one video stream that passed the limits; times are seconds from that stream's start.

    Attributes:
        container, stream: PyAV's own.
        pixel_aspect: width of a stored pixel over its height.
        seekable: whether frames can be decoded from the middle.
        duration_s: length of the video stream by `stream_length`, or by reading all packets where no header states it.
        needed_s: frames that begin earlier are not needed: in H.264 and HEVC those that no other is made of, nearly
            half in most files, are passed over undecoded. None decodes all.
    """

    def __init__(self, container: Any, stream: Any, path: Path) -> None:
        self.container = container
        self.stream = stream
        self.pixel_aspect = float(stream.sample_aspect_ratio or 1)
        self.seekable = container.format.name != "gif"
        self.needed_s: float | None = None
        self._start = int(stream.start_time or 0)
        self._size_bytes = path.stat().st_size
        self.duration_s = stream_length(path, container, stream) or self._scan()[0]

    def seconds(self, frame: Any) -> float:
        """Return the presentation time of a frame in seconds."""
        return float((presentation_ticks(frame) - self._start) * self.stream.time_base)

    def ticks(self, seconds: float) -> int:
        """Convert seconds to ticks of the stream's clock."""
        return round(seconds / float(self.stream.time_base)) + self._start

    def seek(self, ticks: int, *, backward: bool = True) -> None:
        """Seek to a point at or before (else at or after) a time in ticks, as far as the container can.

        A container that cannot seek there stays where it is.
        """
        # Containers that seek by decoding time would step over the first key frame, shown later than it is decoded.
        early = [self._start - round(1 / self.stream.time_base)] if ticks <= self._start else []
        for place in (*early, max(ticks, self._start)):
            with suppress(av.error.FFmpegError):
                self.container.seek(place, stream=self.stream, backward=backward)
                break
        self.stream.codec_context.flush_buffers()

    def packets(self, *streams: Any) -> Iterator[Any]:
        """Read packets of the video stream, or of `streams`, up to the last that can be read."""
        yield from readable(self.container.demux(*(streams or (self.stream,))))

    def decoded(self) -> Iterator[Any]:
        """Decode frames in order of presentation from the current position; damaged packets are skipped."""
        codec = self.stream.codec_context
        for packet in self.packets():
            try:
                codec.skip_frame = "NONREF" if self._spared(packet) else "DEFAULT"
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            yield from (frame for frame in frames if presentation_ticks(frame) is not None)

    def _spared(self, packet: Any) -> bool:
        if self.needed_s is None or packet.pts is None or self.stream.codec_context.name not in _SPARING:
            return False
        return self.seconds(packet) < self.needed_s

    def real_duration(self) -> float:
        """Measure the length of the video stream in seconds by the packets that are present.

        Raises:
            Reject: `corrupt_video` where the whole file ends before the time that its header states.
        """
        video_s, file_s = self._scan()
        if self.duration_s - file_s > tolerance_s(self.duration_s):  # the file was cut
            raise self._cut_at(file_s)
        return video_s

    def check_complete(self) -> None:
        """Compare the container's table of packets, where it has one, with the size of the file.

        Raises:
            Reject: `corrupt_video` where packets lie past the end of the file.
        """
        index = self.stream.index_entries
        low, high = 0, len(index) - 1
        if high < 0 or self._holds(index[high]):
            return
        while low < high:  # find the first packet that is missing; packets lie in the file in order of time
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self._holds(index[middle]) else (low, middle)
        raise self._cut_at(float((index[low].timestamp - self._start) * self.stream.time_base))

    def _holds(self, entry: Any) -> bool:
        return bool(entry.pos + entry.size <= self._size_bytes)

    def _cut_at(self, end_s: float) -> Reject:
        return Reject("corrupt_video", f"the file ends at {max(end_s, 0.0):.1f} s of {self.duration_s:.1f} s")

    def _scan(self) -> tuple[float, float]:
        """Read every packet, decode none, and return (end of the video stream, end of all streams) in seconds."""
        self.seek(self._start)
        found = packet_ends(self.packets(*self.container.streams.video, *self.container.streams.audio), self.stream)
        self.seek(self._start)
        return found or (0.0, 0.0)


@contextmanager
def open_container(path: Path, limits: Limits) -> Iterator[Any]:
    """Open PyAV's container of a video or sound file of permitted size.

    Raises:
        Reject: `empty_file`, `too_many_bytes`, `unsupported_media`, `corrupt_video`.
    """
    size = path.stat().st_size
    if size == 0:
        raise Reject("empty_file", "0 bytes")
    if size > limits.max_video_bytes:
        raise Reject("too_many_bytes", f"{size} bytes; the limit for videos is {limits.max_video_bytes}")
    try:
        container = av.open(f"file:{path}", options=OPTIONS, metadata_errors="replace")
    except av.error.FFmpegError as error:
        found = sniff_format(path)
        if found in VIDEO_FORMATS:
            raise Reject("corrupt_video", f"{found} that cannot be opened: {error.strerror}") from error
        raise Reject("unsupported_media", f"neither video nor sound: looks like {found or 'unknown bytes'}") from error
    with container, decoder_faults():
        yield container


@contextmanager
def open_video(path: Path, limits: Limits, threads: int = 1) -> Iterator[Video]:
    """Open a video file and hold its header against the limits.

    Args:
        threads: codec threads; 1 because many videos are decoded side by side.

    Raises:
        Reject: as `open_container`, and `no_video_stream`, `too_many_pixels`, `too_small`, `too_long`.
    """
    with open_container(path, limits) as container:
        stream = picture_track(container)
        if stream is None:
            kinds = ", ".join(stream.type for stream in container.streams) or "no streams"
            raise Reject("no_video_stream", f"{container.format.name} with {kinds}")
        codec = stream.codec_context
        if codec is None:
            raise Reject("unsupported_media", f"{container.format.name} with pictures in an unknown codec")
        if not codec.width:
            raise Reject("corrupt_video", "the header states no frame size")
        check_size(codec.width, codec.height, limits)
        codec.thread_count = threads
        codec.options = {"max_pixels": str(limits.max_pixels)}  # frames may outgrow what the header states
        video = Video(container, stream, path)
        check_duration(video.duration_s, limits)
        video.check_complete()
        yield video


def check_duration(duration_s: float, limits: Limits) -> None:
    """Raise `Reject` `too_long` for a video or sound over the limit."""
    if duration_s > limits.max_duration_s:
        raise Reject("too_long", f"{duration_s:.0f} s; the limit is {limits.max_duration_s:.0f} s")


def picture_track(container: Any) -> Any:
    """Find the video stream that players show: the first one marked as default, else the first; None where there is
    none, or only the cover picture of a sound file."""
    return _marked(s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic)


def sound_track(container: Any, chosen: str | int | None = None) -> Any:
    """Find a sound stream.

    Args:
        chosen: ISO 639-2 code of its language, or its number from 1 on; where the file has no such stream, and by
            default, the first one that is marked as default is taken, as players do, else the first.
    """
    tracks = list(container.streams.audio)
    if isinstance(chosen, int) and chosen <= len(tracks):
        return tracks[chosen - 1]
    if isinstance(chosen, str):
        spoken = [track for track in tracks if _language(track.metadata.get("language", "")) == _language(chosen)]
        tracks = spoken or tracks
    return _marked(tracks)


def check_sound_track(chosen: str | int | None) -> str | int | None:
    """Check a choice of `sound_track` and return it.

    Raises:
        ValueError: it is neither the code of a language nor a number from 1 on.
    """
    if isinstance(chosen, str) and not (len(chosen) == 3 and chosen.isascii() and chosen.isalpha()):
        raise ValueError("give the code of a language by ISO 639-2, such as deu, or a number from 1 on")
    if isinstance(chosen, int) and chosen < 1:
        raise ValueError("tracks are numbered from 1 on")
    return chosen


def _marked(tracks: Iterable[Any]) -> Any:
    readable = sorted(tracks, key=lambda track: track.codec_context is None)  # one of an unknown codec only if alone
    marked = [track for track in readable if track.disposition & av.stream.Disposition.default]
    return next(iter(marked or readable), None)


def _language(code: str) -> str:
    """Bring a code of ISO 639-2 to its terminological form: Matroska writes `ger`, MP4 `deu`."""
    code = code.lower()
    return _TERMINOLOGICAL.get(code, code)


# The bibliographic codes of ISO 639-2 that differ from the terminological ones (Library of Congress, ISO 639-2 codes).
_TERMINOLOGICAL = {
    "alb": "sqi",
    "arm": "hye",
    "baq": "eus",
    "bur": "mya",
    "chi": "zho",
    "cze": "ces",
    "dut": "nld",
    "fre": "fra",
    "geo": "kat",
    "ger": "deu",
    "gre": "ell",
    "ice": "isl",
    "mac": "mkd",
    "mao": "mri",
    "may": "msa",
    "per": "fas",
    "rum": "ron",
    "slo": "slk",
    "tib": "bod",
    "wel": "cym",
}
