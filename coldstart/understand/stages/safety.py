"""The stage `understand.safety`: score an item's words, and its pictures if requested, against a policy; a gate.

Every item has a row with all findings, weak ones too. Thresholds are applied to the rows, so that another threshold
opens or closes the gate and no row is computed again. A word list catches words, not what is meant by them; a score of
a picture is not calibrated, and closes nothing until a threshold is set for its rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from coldstart.core.pipeline import Pipeline, Section, StageSpec
from coldstart.core.settings import suggestion
from coldstart.core.stage import MapStageDefaults, Prepare, Reject, Row
from coldstart.errors import ColdstartError
from coldstart.store import Store
from coldstart.understand import policy as word_policy
from coldstart.understand.policy import WordPolicy
from coldstart.understand.safety import Finding, RulePrompts, finding_time_s, score_pictures, scores

if TYPE_CHECKING:
    from coldstart.encoders import Encoder

Score = Annotated[float, Field(gt=0, le=1)]


class Settings(Section):
    """Settings of the safety gate. Thresholds apply to stored rows; only the other settings compute rows again."""

    policy: str = "safety"
    """Policy: the name of a packaged one, or the path of a .yaml file."""
    threshold: Score = 0.8
    """Score of a rule for texts from which on an item is closed."""
    thresholds: dict[str, Score] = Field(default_factory=dict)
    """Thresholds of single rules, by name; a rule for pictures closes nothing without one."""
    space: str | None = None
    """Image space before this stage whose encoder reads text into the same space: its vectors are compared with the
    policy's prompts. No picture is encoded again."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> SafetyStage:
    """Build the stage and load its policy.

    Raises:
        ColdstartError: the policy has faults, a threshold is for no rule of it, or the space is none that could serve.
    """
    policy = word_policy.load(settings.policy)
    known = [*policy.rules, *(rule for rule, _ in policy.picture_rules)]
    for rule in settings.thresholds:
        if rule not in known:
            raise ColdstartError(
                f"{name}.thresholds: policy {policy.name} has no rule {rule!r}{suggestion(rule, known)}: it has "
                f"{', '.join(known)}"
            )
    return SafetyStage(name, settings, pipeline, policy, _space(name, settings, pipeline, policy))


def _space(name: str, settings: Settings, pipeline: Pipeline, policy: WordPolicy) -> StageSpec | None:
    if settings.space is None:
        return None
    earlier = pipeline.earlier(name)
    fitting = {spec.name: spec for spec in earlier if spec.kind == "embed" and spec.settings.input == "image"}
    if settings.space not in fitting:
        raise ColdstartError(
            f"{name}.space: no image space {settings.space!r} stands before it"
            f"{suggestion(settings.space, fitting)}: put the embed stage above it "
            f"(there: {', '.join(fitting) or 'none'})"
        )
    if not policy.picture_rules:
        raise ColdstartError(f"{name}.space: policy {policy.name} has no rules on pictures: add `pictures:` to it")
    return fitting[settings.space]


class SafetyStage(MapStageDefaults):
    """Map stage and gate; see `coldstart.core.stage.MapStage` and `coldstart.core.stage.Gate`."""

    kind = "understand.safety"
    item_fields = ("title", "description", "tags")
    batch_cost = 500.0
    deadline_s = 60.0
    schema = pa.schema(
        [
            ("item_id", pa.string()),
            ("row_key", pa.string()),
            (
                "findings",
                pa.list_(
                    pa.struct(
                        [
                            ("rule", pa.string()),
                            ("score", pa.float32()),
                            ("source", pa.string()),
                            ("quote", pa.string()),
                            ("at_s", pa.float64()),
                        ]
                    )
                ),
            ),
            ("scores", pa.list_(pa.struct([("rule", pa.string()), ("score", pa.float32())]))),
            ("policy", pa.string()),
        ]
    )

    def __init__(
        self, name: str, settings: Settings, pipeline: Pipeline, policy: WordPolicy, space: StageSpec | None
    ) -> None:
        self.name = name
        self.table = f"stage.{name}"
        self._settings = settings
        self._engine = pipeline.engine
        self._policy = policy
        self._space = space
        evidence = pipeline.before(name, "understand.evidence")
        self.reads = {"evidence": evidence} if evidence else {}
        if space is not None:
            self.reads["space"] = space.name

    @cached_property
    def _encoder(self) -> Encoder:
        """Load the space's encoder.

        Raises:
            ColdstartError: it has no text in the space of its pictures.
        """
        from coldstart import encoders

        assert self._space is not None
        encoder = encoders.load(
            self._space.settings.encoder,
            device=self._engine.device,
            dtype=self._engine.dtype,
            allow_random_weights=self._space.settings.allow_random_weights,
        )
        if "text" not in encoder.modalities or encoder.passport("text") != encoder.passport("image"):
            raise ColdstartError(
                f"{self.name}.space: encoder {encoder.name} of {self._space.name!r} reads no text into the space of "
                "its pictures, so that they cannot be compared with words: take one that does, such as open_clip, or "
                "leave space out"
            )
        return encoder

    def fingerprint(self) -> Mapping[str, Any]:
        made_by: dict[str, Any] = {"policy": self._policy.digest, "reads": sorted(self.reads)}
        if self._space is not None:
            made_by["passport"] = asdict(self._encoder.passport("image"))
        return made_by

    def preparer(self) -> Prepare:
        return ScoreTexts(self._policy)

    def compute(self, batch: Sequence[ScoredTexts]) -> list[Row | Reject]:
        rows: list[Row | Reject] = []
        for judged in batch:
            findings = [*judged.findings, *self._pictures(judged)]
            rows.append(
                {
                    "findings": [
                        {name: getattr(found, name) for name in ("rule", "score", "source", "quote", "at_s")}
                        for found in findings
                    ],
                    "scores": [{"rule": rule, "score": score} for rule, score in scores(findings).items()],
                    "policy": self._policy.name,
                }
            )
        return rows

    @cached_property
    def _prompts(self) -> list[tuple[str, RulePrompts]]:
        encode = self._encoder.encode_queries
        return [
            (name, RulePrompts(rule.unsafe, encode(rule.unsafe), encode(rule.safe)))
            for name, rule in self._policy.picture_rules
        ]

    def _pictures(self, judged: ScoredTexts) -> list[Finding]:
        if self._space is None or judged.vectors is None:
            return []
        found = []
        for rule, prompts in self._prompts:
            most = score_pictures(judged.vectors, prompts, self._policy.temperature)
            at_s = judged.times_s[most.place] if most.place < len(judged.times_s) else None
            found.append(Finding(rule, most.score, self._space.name, most.prompt, at_s=at_s))
        return found

    def notes(self, workspace: Store) -> list[str]:
        shut = len(self.blocked(workspace))
        if not shut:
            return []
        many = "1 item is" if shut == 1 else f"{shut} items are"
        return [f"{many} closed to later stages by policy {self._policy.name}: see `coldstart status --failed`"]

    def blocked(self, workspace: Store) -> dict[str, Reject]:
        """List items whose score in a rule is at or over its threshold; the rule with the highest score is named."""
        if not workspace.has(self.table):
            return {}
        worst: dict[str, tuple[str, float]] = {}
        for row in workspace.read(self.table, ["item_id", "scores"]).to_pylist():
            given = [(round(entry["score"], 4), entry["rule"]) for entry in row["scores"]]
            over = [(score, rule) for score, rule in given if score >= self._threshold(rule)]
            if over:
                score, rule = max(over)
                worst[row["item_id"]] = (rule, score)
        if not worst:
            return {}
        rows = workspace.read(self.table, ["item_id", "findings", "policy"], ids=list(worst)).to_pylist()
        return {row["item_id"]: self._verdict(row, *worst[row["item_id"]]) for row in rows}

    def _threshold(self, rule: str) -> float:
        """Return the threshold of a rule; one for pictures needs its own, one of an older policy has none."""
        standard = self._settings.threshold if rule in self._policy.rules else float("inf")
        return self._settings.thresholds.get(rule, standard)

    def _verdict(self, row: Row, rule: str, score: float) -> Reject:
        found = max((one for one in row["findings"] if one["rule"] == rule), key=lambda one: one["score"])
        where = f"in {found['source']}" + ("" if found["at_s"] is None else f" at {found['at_s']:.1f} s")
        quote = " ".join(found["quote"].split())
        return Reject(
            "unsafe",
            f'{rule} {score:.2f} ≥ {self._threshold(rule):g}: "{quote}" {where}; policy {row["policy"]}',
            state="filtered",
        )


@dataclass(frozen=True)
class ScoredTexts:
    """Findings in one item's texts, and the vectors of its pictures.

    Attributes:
        vectors: unit vectors of the frames, and the item's own last, float32 [N, D]; None without a space or pictures.
        times_s: seconds of the frames.
    """

    findings: tuple[Finding, ...]
    vectors: NDArray[np.float32] | None = None
    times_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class ScoreTexts:
    """Find signs in the seller's words, and in those heard and read in the media; the cost is one item."""

    policy: WordPolicy

    def __call__(self, row: Row) -> tuple[ScoredTexts, float]:
        evidence = row.get("evidence") or {}
        texts = {
            "title": row.get("title"),
            "description": row.get("description"),
            "tags": ", ".join(row.get("tags") or ()),
            "transcript": evidence.get("transcript"),
            "screen_text": evidence.get("screen_text"),
        }
        given = {source: text for source, text in texts.items() if text}
        found = [
            replace(one, at_s=finding_time_s(one, evidence))
            for one in self.policy.find(given, evidence.get("language"))
        ]
        space = row.get("space")
        if space is None:
            return ScoredTexts(tuple(found)), 1.0
        own, frames = space["vector"], space.get("frame_vectors") or ()
        vectors = np.array([*frames, own], dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return ScoredTexts(tuple(found), vectors, tuple(space.get("frame_times_s") or ())), 1.0
