"""Settings of `finetune.describe`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from coldstart.pipeline import Section

Share = Annotated[float, Field(ge=0, lt=1)]
PROMPTS = {"product": "describe_product", "video": "describe_video"}


class Settings(Section):
    """What is tuned, on which items, and how long."""

    generator: str = "starter"
    """What is tuned: `starter`, `starter-vlm`, or `hf:NAME_OR_PATH`, a language model or one with eyes."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Settings of that generator."""
    prompt: dict[str, str] = Field(default_factory=lambda: dict(PROMPTS))
    """Kind of item -> a packaged prompt's name, or the path of a .md file; `describe.write` should ask with the same."""
    given: tuple[str, ...] = ("title", "creator", "transcript", "screen_text", "picture")
    """Fields that a cold item may have. All else that the record tells is what is learnt."""
    drop: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=lambda: {"title": 0.5, "transcript": 0.25, "screen_text": 0.25}
    )
    """Field -> how often it is left out of a further view of an item, so that the writer learns to do without."""
    views: int = Field(default=2, ge=1, le=16)
    """Views of an item that are learnt from; the first has all of `given`."""
    summary: Literal["description", "attributes"] = "description"
    """What the summary learns to say: the item's own description where it has one and it is hidden, or its attributes
    as a plain sentence, which teaches no claim that cannot be checked."""
    group_by: tuple[str, ...] = ("title",)
    """Fields whose equal values put items on one side of the split."""
    sellers: Literal["auto", "apart", "together"] = "auto"
    """`apart` puts all items of a seller (`creator`) on one side of the split; `auto` does so where no seller has more
    than a tenth of them."""
    near_duplicates: float | None = Field(default=0.98, gt=0, le=1)
    """Cosine of pictures from which on two items fall on one side of the split; null compares none."""
    space: str | None = None
    """The space of pictures that this is measured in; the first of the pipeline by default."""
    test_share: Share = 0.1
    """Held out for `coldstart evaluate describe`."""
    valid_share: Share = 0.1
    """Held out to stop by."""
    min_items: int = Field(default=50, ge=4)
    """With fewer there is too little to learn from."""
    max_items: int | None = Field(default=None, ge=4)
    """At most so many items are learnt from, drawn at random; all by default."""
    method: Literal["sft", "dpo"] = "sft"
    """`dpo` goes on from what was fitted last, with the better and the worse of several texts as the checks see them."""
    pictures: int = Field(default=1, ge=1)
    """Pictures of a product, and `frames` of a video, that a generator with eyes is shown."""
    frames: int = Field(default=4, ge=1, le=64)
    training: dict[str, Any] = Field(default_factory=dict)
    """Settings of the training itself."""
    seed: int = 0

    def counted(self) -> dict[str, Any]:
        """What changes a fit."""
        return self.model_dump(mode="json", exclude={"options"})

    def by_seller(self, creators: Sequence[str | None]) -> tuple[bool, str]:
        """Whether sellers fall apart, and a line that says so."""
        if self.sellers != "auto":
            return self.sellers == "apart", f"sellers {self.sellers} in the split, as asked for"
        named = Counter(creator for creator in creators if creator)
        if not named:
            return False, "no sellers to keep apart in the split"
        name, most = named.most_common(1)[0]
        if most > 0.1 * len(creators):
            return False, f"sellers are not kept apart in the split: {name!r} alone has {most} of {len(creators)} items"
        return True, "each seller's items fall on one side of the split"
