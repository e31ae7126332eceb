"""Limits on the size and the sources of one item's media."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits on the media of one item; picklable, so that workers receive it.

    Attributes:
        max_image_bytes, max_video_bytes: size of the file.
        max_pixels: width x height of an image or a video frame.
        min_side: shorter side in pixels.
        max_duration_s: length of a video.
        deadline_s: processor seconds a worker may spend on one item; ten times as long by the clock, fetching included.
        allowed_hosts: web hosts that media may come from; `*.example.com` permits every name below example.com.
        allowed_buckets: buckets that media may come from, such as `s3://photos`.
        allowed_schemes: schemes of fsspec that media may come from, whatever the bucket or host.
        roots: folders that local files may be read from; None: any, for files that the user has named himself.
    """

    max_image_bytes: int = 64 * 2**20
    max_video_bytes: int = 2 * 2**30
    max_pixels: int = 64_000_000
    min_side: int = 8
    max_duration_s: float = 4 * 3600.0
    deadline_s: float = 30.0
    allowed_hosts: tuple[str, ...] = ()
    allowed_buckets: tuple[str, ...] = ()
    allowed_schemes: tuple[str, ...] = ()
    roots: tuple[str, ...] | None = None

    def deadline_along(self, length_s: float) -> float:
        """Return the deadline in seconds for an item of which a worker decodes `length_s` seconds, not a few frames."""
        return self.deadline_s + _SLOWEST * length_s


_SLOWEST = 0.5  # of a medium's length: 4K on a slow core decodes about as fast as that
