"""`finetune recall --model llm`: fit, lists, commands, resume, faults by the user, another base, the starter model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from catalogue import coldstart as run_cli
from catalogue import write_manifest
from tiny_writers import tiny_llama

import coldstart
from coldstart.api import Workspace
from coldstart.errors import ColdstartError
from coldstart.semantic_ids import llm_model, llm_recall, llm_train
from coldstart.semantic_ids.recall_service import load_recall, recall_stage
from coldstart.semantic_ids.recall_stage import CARD_FILE

ITEMS, USERS = 72, 54
SMALL = ["recall.epochs=1", "recall.dim=16", "recall.llm.steps=8", "recall.llm.batch=4", "recall.llm.judged=20"]


def shop(folder: Path) -> Workspace:
    rows = [{"item_id": f"p{n:03}", "title": f"cup {n}", "category": f"shelf {n % 7}"} for n in range(ITEMS)]
    manifest = write_manifest(folder / "items.jsonl", rows)
    opened = coldstart.open(folder / "ws", create=True)
    opened.run(
        {
            "manifest": str(manifest),
            "engine": {"workers": 1, "device": "cpu", "dtype": "float32"},
            "stages": {"ingest": {}, "text": {"stage": "embed", "encoder": "fake:24", "input": "text"}, "index": {}},
        }
    )
    log = [
        {"user_id": f"u{user}", "item_id": item, "timestamp": 1_700_000_000 + 86_400 * step}
        for user in range(USERS)
        for step, item in enumerate(walk(user))
    ]
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, log)))
    opened.ingest_interactions(folder / "log.jsonl")
    return opened


def walk(user: int) -> list[str]:
    """History that goes from an item to the next but six; the last three items are met by nobody."""
    return [f"p{(user * 5 + 7 * step) % (ITEMS - 3):03}" for step in range(5)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"hf:{tiny_llama(tmp_path_factory.mktemp('base'))}"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"hf:{tiny_llama(tmp_path_factory.mktemp('other'), seed=5)}"


@pytest.fixture(scope="module")
def resumed(base: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[int], list[int]]:
    """Workspace of a fit that was killed after the choice and went on; the steps of both calls."""
    opened = shop(tmp_path_factory.mktemp("made"))
    steps: list[int] = []
    losses, train = llm_train.supervised, llm_recall.LanguageFit._train

    def count(*given: Any, **named: Any) -> Any:
        own = losses(*given, **named)

        def counted(step: int, course: Any) -> Any:
            steps.append(step)
            return own(step, course)

        return counted

    def kill(self: Any, part: str, *given: Any) -> None:
        if part == "all":
            raise KeyboardInterrupt
        train(self, part, *given)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(llm_recall, "supervised", count)
        with patched.context() as killed, pytest.raises(KeyboardInterrupt):
            killed.setattr(llm_recall.LanguageFit, "_train", kill)
            opened.finetune_recall(model="llm", generator=base, overrides=SMALL)
        before = [*steps]
        steps.clear()
        opened.finetune_recall(model="llm", generator=base, overrides=SMALL)
    opened.run()
    return Path(opened.uri), before, steps


@pytest.fixture(scope="module")
def fitted(resumed: tuple[Path, list[int], list[int]]) -> Path:
    return resumed[0]


@pytest.mark.slow
def test_a_fit_that_is_killed_after_the_choice_goes_on(resumed: tuple[Path, list[int], list[int]]) -> None:
    _, before, after = resumed
    assert before == list(range(8))
    assert after == [0, 1], "the first part is read from its checkpoint"


@pytest.mark.slow
def test_lists_are_decoded_by_the_language_model_and_obey_masks(
    fitted: Path, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = coldstart.open(fitted)
    report = opened.fit_report("recall")
    assert report["language"]["generator"] == base and report["language"]["choose"]["steps"] == 8
    assert report["language"]["all"]["steps"] == 2 and report["users"] <= 20
    asked: list[int] = []
    real = llm_model.CodeLanguageModel.beam

    def spy(self: Any, prompts: Any, *given: Any) -> Any:
        asked.append(len(prompts))
        return real(self, prompts, *given)

    monkeypatch.setattr(llm_model.CodeLanguageModel, "beam", spy)
    assert opened.recall("u3", top_k=9, recall="dense").items and not asked, "a dense list asks no language model"
    for channel in ("codes", "both"):
        found = opened.recall("u3", top_k=9, recall=channel).items
        listed = [one.item_id for one in found]
        assert len(set(listed)) == len(listed) == 9 and not set(listed) & set(walk(3))
        if channel == "codes":
            assert all(one.score == pytest.approx(one.log_p, abs=1e-3) and not one.new for one in found)
    assert asked == [1], "what was decoded is remembered"
    only = opened.recall("u3", top_k=5, recall="codes", where="category = 'shelf 2'", seen="keep")
    assert only.items and {int(one.item_id[1:]) % 7 for one in only.items} == {2}
    shared = opened.recall("u3", top_k=9, recall="codes", cold_share=0.3).items
    assert {one.item_id for one in shared if one.new} <= {f"p{n:03}" for n in range(ITEMS - 3, ITEMS)}
    assert opened.recommend("u3", recall="codes", top_k=4).scored_by == "recall (codes)"


@pytest.mark.slow
def test_the_command_fits_once_and_the_row_is_measured(fitted: Path, base: str, other: str, tmp_path: Path) -> None:
    shutil.copytree(fitted, tmp_path / "ws")
    opened = coldstart.open(tmp_path / "ws")
    opened.trust()
    options = ("--model", "llm", "--generator", base, *(f"--set={one}" for one in SMALL))
    ran = run_cli("finetune", "recall", "--workspace", opened.uri, *options, "--json")
    assert json.loads(ran.stdout)["stages"][-1]["ran"]["done"] == 0, "nothing came since"
    pipeline = opened.pipeline(overrides=["recall.llm.steps=2"])
    found = opened.evaluate_recall(pipeline, methods=["popularity", "llm"], split="cold:0.1", users=12).to_dict()
    row = found["methods"]["llm"]
    assert row["title"] == "language model, codes decoded" and row["sets"]["all"]["n"] == 12 and row["emitted"] == 0
    fits = [
        recall_stage(opened.pipeline(overrides=[f"recall.generator={name}"]))._fits.newest(opened._store)
        for name in (base, other)
    ]
    assert fits[0] is not None and fits[1] is None, "of another base it is fitted anew"


@pytest.mark.slow
def test_faults_name_the_next_step(fitted: Path, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(fitted, tmp_path / "ws")
    opened = coldstart.open(tmp_path / "ws")
    opened.trust()
    for name in ("openai:m@http://127.0.0.1:1/v1", "starter-vlm", "hf:model.gguf", "fake"):
        with pytest.raises(
            ColdstartError, match=r"is starter or hf:NAME_OR_PATH with safetensors; an endpoint or a GG"
        ):
            opened.finetune_recall(model="llm", generator=name)
    with pytest.raises(ColdstartError, match="model 'gru': use transformer or llm"):
        opened.finetune_recall(model="gru")
    with pytest.raises(ColdstartError, match="generator 'starter' is for model llm: leave it out"):
        opened.finetune_recall(model="transformer", generator="starter")
    with pytest.raises(ColdstartError, match=r"recall\.llm\.grpo_steps=3: .* takes a GPU, and there is none here"):
        opened.finetune_recall(model="llm", overrides=[*SMALL, "recall.llm.grpo_steps=3"])
    with monkeypatch.context() as patched:
        patched.setattr(llm_model, "find_spec", lambda name: None)
        with pytest.raises(ColdstartError, match=r"needs peft, .*: pip install 'coldstart-multimodal\[train\]'"):
            llm_model.CodeLanguageModel.read(tmp_path, other, (4,), torch.device("cpu"), torch.float32)
    folder = opened._store.artifacts.newest("recall").folder  # type: ignore[union-attr]
    card = json.loads((folder / CARD_FILE).read_text())
    for change in ({"base": "x", "length": 0}, {"base": "x"}, "starter"):
        (folder / CARD_FILE).write_text(json.dumps({**card, "language": change}))
        load_recall.cache_clear()
        with pytest.raises(ColdstartError, match=r"holds no fit of recall .*: run `coldstart finetune recall`"):
            load_recall(folder)
    load_recall.cache_clear()
    opened.run(opened.pipeline(overrides=["recall.decoder=transformer"]), only=["text"])
    with pytest.raises(ColdstartError, match="was fitted with a language model, and the pipeline names none: run"):
        opened.recall("u3", recall="codes")
    changed = [f"recall.generator={other}", "recall.decoder=llm"]
    opened.run(opened.pipeline(overrides=changed), only=["text"])
    with pytest.raises(ColdstartError, match=r"the pipeline names 'hf:.*', which is another one"):
        opened.recall("u3", recall="codes")


@pytest.mark.slow
def test_the_starter_model_learns_ids(tmp_path: Path) -> None:
    opened = shop(tmp_path)
    few = ["recall.epochs=1", "recall.dim=16", "recall.llm.steps=3", "recall.llm.batch=1", "recall.llm.judged=1"]
    opened.finetune_recall(model="llm", overrides=[*few, "recall.llm.align_share=0"])
    opened.run()
    found = opened.recall("u3", top_k=3, recall="codes").items
    assert len(found) == 3 and np.isfinite([one.log_p for one in found if one.log_p is not None]).all()
