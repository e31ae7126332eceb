"""The benchmarks by area, in the order of the page, with the parts of the program that they measure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Area:
    """Benchmarks of one area.

    Attributes:
        names: files of `benchmarks/` without their ending.
        code: files and folders of the repository that they measure: a figure grows old by commits to these.
    """

    names: tuple[str, ...]
    code: tuple[str, ...]


_VECTORS = (
    *("index_200k", "vectors_1m", "search_default", "languages", "match_sample", "match_new_clips"),
    *("serve", "serve_uploads", "serve_rank"),
)
_VIDEOS = (
    *("understand", "video_seek", "video_decode", "speech_wer", "screen_text", "shots", "near_duplicates", "safety"),
)
_DESCRIPTIONS = (
    *("describe_fashion", "describe_retrieval", "describe_perfect_writer"),
    *("describe_films", "lora_tokens", "describe_tokens"),
)
_RECOMMENDATION = (
    *("recommend_default", "recommend_films", "recommend_mixed", "recommend_speed", "behaviour_fit"),
    *("interactions_ingest", "exploration_simulated", "semantic_ids", "recall"),
)

AREAS: dict[str, Area] = {
    "Where users wait": Area(("waiting", "first_answer"), ("coldstart/cli", "coldstart/engine", "coldstart/store")),
    "Embedding": Area(
        ("embed_clip", "peers_embed", "towers", "gpu", "gpu_fits"), ("coldstart/embed", "coldstart/encoders")
    ),
    "The engine": Area(
        ("incremental", "runs_200", "scale", "estimate", "devices_cpu", "ray_local"),
        ("coldstart/engine", "coldstart/store"),
    ),
    "Vectors and search": Area(_VECTORS, ("coldstart/search", "coldstart/serve", "coldstart/store")),
    "Video and understanding": Area(_VIDEOS, ("coldstart/understand", "coldstart/media")),
    "Pictures and words": Area(
        ("align_unseen", "align_fashion", "align_100k", "starter_clip"), ("coldstart/align", "coldstart/weights")
    ),
    "Descriptions": Area(_DESCRIPTIONS, ("coldstart/describe", "coldstart/generators")),
    "Recommendation": Area(_RECOMMENDATION, ("coldstart/recommend", "coldstart/semantic_ids")),
    "Ranking": Area(
        ("rank", "rank_union", "rerank", "histories", "impressions"), ("coldstart/rank", "coldstart/rerank")
    ),
}
MODULES = tuple(name for area in AREAS.values() for name in area.names)
