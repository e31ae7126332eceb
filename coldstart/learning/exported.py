"""What `finetune.describe` made, merged into its base and written out; only kept where it still writes the same."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from coldstart import generators
from coldstart.errors import ColdstartError
from coldstart.fitted import writing_in
from coldstart.freshness import Standing
from coldstart.learning.asking import Ask
from coldstart.learning.describe_fit import needs_a_fit
from coldstart.learning.describe_pipeline import FINETUNE
from coldstart.learning.described_items import rows_of
from coldstart.learning.split_file import items_of
from coldstart.learning.writer import given_fields, prompts_of, requests
from coldstart.pipeline import Pipeline
from coldstart.workspace import Store


def exported(store: Store, pipeline: Pipeline, out: Path, prompts: int, progress: Any) -> dict[str, Any]:
    """Write the merged model, and see that adapter, merged model and batches write the same, first of held-out items.

    Args:
        out: a new folder; where the three ways disagree it is not left behind.
        progress: its `meter(name, total)` counts the three ways.

    Returns:
        `folder`, `size_bytes`, `prompts`, and `agreement`, a line.

    Raises:
        ColdstartError: nothing was fitted, it cannot be merged, `out` is there already, or a text differs.
    """
    from coldstart.training.merged import agree, merge, written

    names = [spec.name for spec in pipeline.of_kind(FINETUNE)]
    made = store.artifacts.newest(names[-1]) if names else None
    if made is None:
        raise ColdstartError(f"workspace {store.uri} has no fit to export: run `coldstart finetune describe`")
    if out.exists():
        raise ColdstartError(f"{out} is there already: name a new folder for the merged model")
    writing = writing_in(made.folder, pipeline.attributes)
    if needs_a_fit(writing.generator):
        raise ColdstartError(
            f"{writing.generator} cannot be merged into one language model: its projector takes pictures as numbers; "
            "write with it through coldstart"
        )
    sides = {item: side for item, (_, side) in items_of(made).items()}
    first = sorted(sides, key=lambda item: sides[item] != "test")  # held-out ones, then others
    rows = rows_of(store, pipeline, names[-1], Standing(store, pipeline))
    chosen = [rows[item] for item in first if item in rows][:prompts]
    ask = Ask(prompts_of(names[-1], writing.prompt or {}), writing.attributes, given_fields(names[-1], writing.given))
    device = pipeline.engine.device
    tuned = generators.load(writing.generator, device=device, dtype="float32", adapter=made.folder, merge=False)
    asked = requests([ask(row) for row in chosen], tuned)
    with tempfile.TemporaryDirectory(dir=out.absolute().parent) as draft:
        with progress.meter(f"export: {len(asked)} prompts three ways", 2) as meter:
            folder = merge(writing.generator, made.folder, Path(draft) / "model")
            meter.advance(1, 0, 0.0)
            merged = generators.load(f"hf:{folder}", device=device, dtype="float32")
            longest = max(one.max_new_tokens for one in ask.by_kind.values())
            agreement = agree(written(tuned, merged, asked, longest))
            meter.advance(1, 0, 0.0)
        (folder / "MODEL_CARD.md").write_bytes((made.folder / "MODEL_CARD.md").read_bytes())
        shutil.move(folder, out)
    return {
        "folder": str(out),
        "size_bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
        "prompts": agreement.prompts,
        "agreement": f"{agreement.prompts} prompts, the same texts by {', '.join(agreement.ways)}",
    }
