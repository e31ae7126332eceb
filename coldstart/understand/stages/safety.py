"""The stage `understand.safety`: score an item's words, and its pictures if requested, against a policy; a gate.

Every item has a row with all findings, weak ones too. Thresholds are applied to the rows, so that another threshold
opens or closes the gate and no row is computed again. A word list catches words, not what is meant by them; a score of
a picture by prompts is not calibrated, and closes nothing until a threshold is set for its rule. A classifier of
pictures closes from its rule's threshold on; a picture that cannot be decoded has no score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from coldstart.core.item_fields import PICTURES
from coldstart.core.pipeline import Pipeline, Section, StageSpec
from coldstart.core.settings import suggestion
from coldstart.core.stage import MapStageDefaults, Prepare, Reject, Row
from coldstart.errors import ColdstartError, MissingModel
from coldstart.media.limits import Limits
from coldstart.media.loaders import TRANSIENT, LoadPictures
from coldstart.store import Store
from coldstart.understand import nsfw
from coldstart.understand import policy as word_policy
from coldstart.understand.policy import WordPolicy
from coldstart.understand.safety import SOURCES, Finding, RulePrompts, finding_time_s, score_pictures, scores

if TYPE_CHECKING:
    from coldstart.encoders import Encoder
    from coldstart.understand.nsfw import Nsfw, Pixels

_LISTED_FROM = 0.5  # a classifier's lower scores are no findings
_PICTURES_BY = ", pictures by "  # in `policy` of a row, before the classifier that scored its pictures
_PICTURE_COST = 8.0  # of the stage's batch, whose other items are texts
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
    classifier: Literal["off", "auto", "open_nsfw", "fake"] = "off"
    """Classifier of pictures and frames, for the policy's `classifiers`: `auto` takes open_nsfw where
    `coldstart models pull safety-pictures` has brought it, `open_nsfw` requires it; `fake` reads brightness, for tests.
    """
    frames: int = Field(default=16, ge=1, le=256)
    """Frames of a video that the classifier scores, spread evenly over it."""
    pictures: int = Field(default=8, ge=1)
    """Pictures that it scores of an item without a video, at most."""


def build(name: str, settings: Settings, pipeline: Pipeline) -> SafetyStage:
    """Build the stage and load its policy.

    Raises:
        ColdstartError: the policy has faults, a threshold is for no rule of it, or the space is none that could serve.
    """
    policy = word_policy.load(settings.policy)
    known = [*policy.rules, *(rule for rule, _ in (*policy.picture_rules, *policy.classifiers))]
    for rule in settings.thresholds:
        if rule not in known:
            raise ColdstartError(
                f"{name}.thresholds: policy {policy.name} has no rule {rule!r}{suggestion(rule, known)}: it has "
                f"{', '.join(known)}"
            )
    space = _space(name, settings, pipeline, policy)
    return SafetyStage(name, settings, pipeline, policy, space, _classifier(name, settings, pipeline, policy))


def _classifier(name: str, settings: Settings, pipeline: Pipeline, policy: WordPolicy) -> Nsfw | None:
    """Choose the classifier of pictures; None where none is wanted, or `auto` finds none.

    Raises:
        MissingModel: one is required and is not there.
        ColdstartError: one is required and the policy has no rule for it.
    """
    if settings.classifier == "off" or (settings.classifier == "auto" and not policy.classifiers):
        return None
    if not policy.classifiers:
        raise ColdstartError(
            f"{name}.classifier: policy {policy.name} has no rule for it: add `pictures.classifiers` to the policy, as "
            "the packaged one has it"
        )
    if settings.classifier == "fake":
        return nsfw.FakeNsfw()
    try:
        return nsfw.OpenNsfw(nsfw.find_weights(), pipeline.engine.device)
    except MissingModel:
        if settings.classifier == "auto":
            return None
        raise


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


@dataclass(frozen=True)
class Closing:
    """State of an item at the gate: closed at all, closed by its pictures alone, with pictures that were scored."""

    closed: bool
    closed_by_pictures: bool
    has_pictures: bool


class SafetyStage(MapStageDefaults):
    """Map stage and gate; see `coldstart.core.stage.MapStage` and `coldstart.core.stage.Gate`."""

    kind = "understand.safety"
    item_fields: tuple[str, ...] = ("title", "description", "tags")
    batch_cost = 500.0
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
        self,
        name: str,
        settings: Settings,
        pipeline: Pipeline,
        policy: WordPolicy,
        space: StageSpec | None,
        classifier: Nsfw | None = None,
    ) -> None:
        self.name = name
        self.table = f"stage.{name}"
        self._settings = settings
        self._engine = pipeline.engine
        self._policy = policy
        self._space = space
        self._classifier = classifier
        self._limits = Limits(**pipeline.media.limits())
        self.deadline_s = 60.0
        if classifier is not None:
            self.item_fields = (*self.item_fields, *sorted(PICTURES))
            self.isolated = True  # decoding may hang or crash
            self.deadline_s = max(self.deadline_s, self._limits.deadline_s)
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
        if self._classifier is not None:
            limits = {"max_pixels": self._limits.max_pixels, "min_side": self._limits.min_side}
            sampled = {"frames": self._settings.frames, "pictures": self._settings.pictures, **limits}
            names = [name for name, _ in self._policy.classifiers]
            made_by["classifier"] = {"rules": names, **sampled, **self._classifier.identity()}
        return made_by

    def preparer(self) -> Prepare:
        if self._classifier is None:
            return ScoreTexts(self._policy)
        chosen = self._settings
        return ScoreTexts(
            self._policy, LoadPictures(nsfw.TRANSFORM, self._limits, chosen.frames, "uniform", chosen.pictures)
        )

    def compute(self, batch: Sequence[ScoredTexts]) -> list[Row | Reject]:
        rows: list[Row | Reject] = []
        images = [image for judged in batch for image in judged.images]
        unsafe = iter(self._classifier.scores(images) if self._classifier is not None and images else ())
        for judged in batch:
            scored = [next(unsafe) for _ in judged.images]
            findings = [*judged.findings, *self._pictures(judged), *self._classified(judged, scored)]
            rows.append(
                {
                    "findings": [
                        {name: getattr(found, name) for name in ("rule", "score", "source", "quote", "at_s")}
                        for found in findings
                    ],
                    "scores": [{"rule": rule, "score": score} for rule, score in scores(findings).items()],
                    "policy": self._policy.name + (f"{_PICTURES_BY}{self._scorer}" if scored else ""),
                }
            )
        return rows

    @property
    def _scorer(self) -> str:
        return self._classifier.name if self._classifier is not None else ""

    def _classified(self, judged: ScoredTexts, scored: Sequence[float]) -> list[Finding]:
        """Find the most unsafe of an item's pictures or frames, where its score says anything."""
        place = int(np.argmax(scored)) if len(scored) else 0
        if not len(scored) or scored[place] < _LISTED_FROM:
            return []
        at_s = judged.image_times_s[place] if judged.image_times_s else None
        shown = "picture" if at_s is None else "frame"
        said = f"{shown}: {scored[place]:.2f} unsafe by {self._scorer}"
        return [Finding(name, scored[place], self._scorer, said, at_s=at_s) for name, _ in self._policy.classifiers]

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
        notes = []
        shut = len(self.blocked(workspace))
        if shut:
            many = "1 item is" if shut == 1 else f"{shut} items are"
            notes.append(
                f"{many} closed to later stages by policy {self._policy.name}: see `coldstart status --failed`"
            )
        if self._settings.classifier == "auto" and self._classifier is None and self._policy.classifiers:
            notes.append(
                f"no picture is scored: the classifier of pictures is not on this machine: run {nsfw.PULL}, or set "
                f"{self.name}.classifier: off"
            )
        return notes

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

    def closings(self, workspace: Store) -> dict[str, Closing]:
        """List every item that has a row, with whether it is closed, by pictures or otherwise."""
        if not workspace.has(self.table):
            return {}
        found = {}
        columns = ["item_id", "scores", "findings", "policy"]
        for row in workspace.read(self.table, columns).to_pylist():
            seen = [one for one in row["findings"] if one["source"] not in SOURCES]
            found[row["item_id"]] = Closing(
                any(self._is_over(one["rule"], one["score"]) for one in row["scores"]),
                any(self._is_over(one["rule"], one["score"]) for one in seen),
                bool(seen) or _PICTURES_BY in row["policy"],
            )
        return found

    def _is_over(self, rule: str, score: float) -> bool:
        return round(score, 4) >= self._threshold(rule)

    @property
    def policy_name(self) -> str:
        """Name and version of the policy."""
        return self._policy.name

    @property
    def classifier_name(self) -> str | None:
        """Name of the classifier of pictures, None without one."""
        return self._classifier.name if self._classifier is not None else None

    def thresholds(self) -> dict[str, float]:
        """Return the thresholds of its file, which the fingerprint has not; see `coldstart.engine.increment`."""
        return {name: one.threshold for name, one in self._policy.classifiers}

    def _threshold(self, rule: str) -> float:
        """Return the threshold of a rule; one for pictures by prompts needs its own, an older policy's has none."""
        standard = self._settings.threshold if rule in self._policy.rules else float("inf")
        return self._settings.thresholds.get(rule, self.thresholds().get(rule, standard))

    def _verdict(self, row: Row, rule: str, score: float) -> Reject:
        found = max((one for one in row["findings"] if one["rule"] == rule), key=lambda one: one["score"])
        classified = rule in dict(self._policy.classifiers)
        quote = " ".join(found["quote"].split())
        said = quote if classified else f'"{quote}" in {found["source"]}'
        when = "" if found["at_s"] is None else f" at {found['at_s']:.1f} s"
        return Reject(
            "unsafe",
            f"{rule} {score:.2f} ≥ {self._threshold(rule):g}: {said}{when}; policy {row['policy']}",
            state="filtered",
        )


@dataclass(frozen=True)
class ScoredTexts:
    """Findings in one item's texts, and the vectors of its pictures.

    Attributes:
        vectors: unit vectors of the frames, and the item's own last, float32 [N, D]; None without a space or pictures.
        times_s: seconds of the frames.
        images: pictures or frames for the classifier, and when each frame begins.
    """

    findings: tuple[Finding, ...]
    vectors: NDArray[np.float32] | None = None
    times_s: tuple[float, ...] = ()
    images: tuple[Pixels, ...] = ()
    image_times_s: tuple[float, ...] = ()


@dataclass(frozen=True)
class ScoreTexts:
    """Find signs in the seller's words, and in those heard and read in the media, and load pictures for a classifier.

    The cost is one item, and eight a picture.
    """

    policy: WordPolicy
    load: LoadPictures | None = None

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
        images, image_times_s = self._images(row)
        cost = 1.0 + _PICTURE_COST * len(images)
        space = row.get("space")
        if space is None:
            return ScoredTexts(tuple(found), images=images, image_times_s=image_times_s), cost
        own, frames = space["vector"], space.get("frame_vectors") or ()
        vectors = np.array([*frames, own], dtype=np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        times_s = tuple(space.get("frame_times_s") or ())
        return ScoredTexts(tuple(found), vectors, times_s, images, image_times_s), cost

    def _images(self, row: Row) -> tuple[tuple[Pixels, ...], tuple[float, ...]]:
        """Load an item's pictures; none where it has none that can be decoded, whose texts are judged all the same."""
        if self.load is None or not row.get("media"):
            return (), ()
        try:
            pictures, _ = self.load(row)
        except Reject as reject:
            if reject.reason in TRANSIENT:
                raise
            return (), ()
        return tuple(pictures.images), tuple(pictures.times_s or ())
