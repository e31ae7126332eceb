"""Merge the adapter of `finetune.describe` into its base, and verify that the merged model writes the same texts.

The merged folder loads in transformers and vLLM without peft. Weights are added in float32 and written in the requested
dtype; bfloat16 halves the files and rounds the sum. A merged model that writes other texts is removed.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from coldstart import generators
from coldstart.core.pipeline import Pipeline
from coldstart.core.progress import Progress
from coldstart.core.scratch import scratch_folder, sweep
from coldstart.describe.finetune.dataset import item_rows
from coldstart.describe.finetune.fit import requires_fit
from coldstart.describe.finetune.settings import FINETUNE
from coldstart.describe.prompt_input import PromptBuilder
from coldstart.describe.writing import build_requests, given_fields, load_prompts
from coldstart.errors import ColdstartError
from coldstart.generators import _local
from coldstart.generators._base_model import load_base, suppress_output
from coldstart.generators._chat_form import own_chat_template
from coldstart.store import Store
from coldstart.store.fits import read_fit_items, read_writer_config
from coldstart.store.freshness import PipelineState

if TYPE_CHECKING:
    from coldstart.generators import Generator, Request


CPU = torch.device("cpu")


def merge_adapter(base: str, adapted: Path, out: Path, *, dtype: str = "float32") -> Path:
    """Merge base and adapter into one model folder: weights (safetensors), configurations, tokenizer, chat template.

    Args:
        base: base model of the adapter: `starter` or `hf:NAME_OR_PATH`.
        adapted: folder that holds `adapter/`.
        out: a new folder; it appears when all is written.
        dtype: float32, bfloat16 or float16.

    Raises:
        ColdstartError: there is no adapter, it does not fit the base, or `out` exists.
    """
    place = _local.find_adapter(adapted)
    if out.exists():
        raise ColdstartError(f"{out} exists: name a new folder for the merged model")
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    with suppress_output(0, CPU):
        loaded = load_base(base, CPU, torch.float32)
        model = _local.apply_adapter(loaded.model, place, merge=True)
        model = model.to(getattr(torch, dtype))
        model.save_pretrained(draft, safe_serialization=True)
        loaded.tokenizer.padding_side = "left"
        loaded.tokenizer.chat_template = own_chat_template(loaded.tokenizer)
        (loaded.processor or loaded.tokenizer).save_pretrained(draft)
    draft.rename(out)
    return out


@dataclass(frozen=True)
class MergeCheck:
    """Result of a check that several ways of generating write the same texts.

    Attributes:
        ways: their names, the reference first.
        prompts: number of compared prompts.
    """

    ways: tuple[str, ...]
    prompts: int


def verify_merge(texts: Mapping[str, Sequence[str]]) -> MergeCheck:
    """Verify that the texts of every way equal those of the first, letter by letter.

    The rule is strict: take greedy texts made in float32 of weights kept in float32. There, equal
    computations differ by a few millionths of a logit, so that a different text shows another computation. In narrow
    formats near ties fall either way, and rounding could not be told from a fault.

    Raises:
        ColdstartError: a text differs; the first prompt at which one does is named, with the place and both texts.
    """
    (first, wanted), *others = texts.items()
    for place, text in enumerate(wanted):
        for way, theirs in others:
            if len(theirs) != len(wanted):
                raise ColdstartError(f"{way} wrote {len(theirs)} texts, {first} {len(wanted)}: compare as many")
            if theirs[place] != text:
                at = next(
                    (n for n, (a, b) in enumerate(zip(text, theirs[place], strict=False)) if a != b),
                    min(len(text), len(theirs[place])),
                )
                raise ColdstartError(
                    f"prompt {place + 1} of {len(wanted)}: {way} differs from {first} at letter {at + 1}: "
                    f"{theirs[place][max(0, at - 20) : at + 20]!r} instead of {text[max(0, at - 20) : at + 20]!r}; "
                    "the export is not used"
                )
    return MergeCheck(tuple(texts), len(wanted))


def greedy_texts(
    tuned: Generator, merged: Generator, requests: Sequence[Request], max_new_tokens: int
) -> dict[str, list[str]]:
    """Generate greedy texts of the adapter one by one and in a batch, and of the merged model.

    Args:
        tuned: base with adapter; merged: the exported model; both in float32.

    Raises:
        ColdstartError: a request cannot be answered.
    """
    from coldstart.core.stage import Reject
    from coldstart.generators import Sampling

    sampling = Sampling(max_new_tokens=max_new_tokens)
    answers = {
        "adapter": [tuned.generate([request], sampling)[0] for request in requests],
        "adapter in a batch": tuned.generate(requests, sampling),
        "merged model": [merged.generate([request], sampling)[0] for request in requests],
    }
    texts: dict[str, list[str]] = {}
    for way, generations in answers.items():
        for place, one in enumerate(generations):
            if isinstance(one, Reject):
                raise ColdstartError(f"prompt {place + 1} of {len(requests)}: {way} cannot answer: {one}")
        texts[way] = [one.text for one in generations if not isinstance(one, Reject)]
    return texts


def export_model(store: Store, pipeline: Pipeline, out: Path, prompts: int, progress: Progress) -> dict[str, Any]:
    """Export the merged model after verifying on prompts, held-out items first, that it writes the same texts.

    Args:
        out: a new folder; it is not created where the three ways differ.
        progress: its `meter(name, total)` counts the three ways.

    Returns:
        `folder`, `size_bytes`, `prompts`, and `agreement`, a line.

    Raises:
        ColdstartError: nothing was fitted, it cannot be merged, `out` exists, or a text differs.
    """
    names = [spec.name for spec in pipeline.of_kind(FINETUNE)]
    made = store.artifacts.newest(names[-1]) if names else None
    if made is None:
        raise ColdstartError(f"workspace {store.uri} has no fit to export: run `coldstart finetune describe`")
    if out.exists():
        raise ColdstartError(f"{out} exists: name a new folder for the merged model")
    writing = read_writer_config(made.folder, pipeline.attributes)
    if requires_fit(writing.generator):
        raise ColdstartError(
            f"{writing.generator} cannot be merged into one language model: its projector takes pictures as numbers; "
            "write with it through coldstart"
        )
    sides = {item: side for item, (_, side) in read_fit_items(made).items()}
    first = sorted(sides, key=lambda item: sides[item] != "test")  # held-out ones, then others
    rows = item_rows(store, pipeline, names[-1], PipelineState(store, pipeline))
    chosen = [rows[item] for item in first if item in rows][:prompts]
    builder = PromptBuilder(
        load_prompts(names[-1], writing.prompt or {}), writing.attributes, given_fields(names[-1], writing.given)
    )
    device = pipeline.engine.device
    tuned = generators.load(writing.generator, device=device, dtype="float32", adapter=made.folder, merge=False)
    requests = build_requests([builder(row) for row in chosen], tuned)
    sweep(out.absolute().parent)
    with scratch_folder("export", out.absolute().parent) as draft:
        with progress.meter(f"export: {len(requests)} prompts three ways", 2) as meter:
            folder = merge_adapter(writing.generator, made.folder, draft / "model")
            meter.advance(1, 0, 0.0)
            merged = generators.load(f"hf:{folder}", device=device, dtype="float32")
            longest = max(one.max_new_tokens for one in builder.prompts.values())
            agreement = verify_merge(greedy_texts(tuned, merged, requests, longest))
            meter.advance(1, 0, 0.0)
        (folder / "MODEL_CARD.md").write_bytes((made.folder / "MODEL_CARD.md").read_bytes())
        shutil.move(folder, out)
    return {
        "folder": str(out),
        "size_bytes": sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
        "prompts": agreement.prompts,
        "agreement": f"{agreement.prompts} prompts, the same texts by {', '.join(agreement.ways)}",
    }
