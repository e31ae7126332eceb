"""Language model of semantic IDs on a tiny Llama with random weights: tokens, losses, decoding, training, rewards."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_writers import tiny_llama

from coldstart.errors import ColdstartError
from coldstart.semantic_ids import llm_train
from coldstart.semantic_ids.decode import TrieTensors, trie_tensors
from coldstart.semantic_ids.llm_model import CodeLanguageModel, LanguageDecoder, Sample, prompt_of
from coldstart.semantic_ids.llm_train import LanguageData
from coldstart.semantic_ids.read import build_trie

CPU = torch.device("cpu")
SIZES = (4, 4, 3)
COUNT = 24


def data_of(seed: int = 0) -> LanguageData:
    rng = np.random.default_rng(seed)
    every = np.stack(np.meshgrid(*(np.arange(size) for size in SIZES), indexing="ij"), -1).reshape(-1, 3)
    codes = rng.permutation(every)[:COUNT].astype(np.int32)
    return LanguageData(codes, [f"cup {place}" for place in range(COUNT)])


def trie_of(data: LanguageData) -> TrieTensors:
    return trie_tensors(build_trie(data.codes), np.arange(COUNT), COUNT)


def walks(count: int = 40) -> list[Any]:
    """Histories in which an item is followed by the next one."""
    return [(np.arange(start, start + 5) % COUNT).astype(np.int64) for start in range(count)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"hf:{tiny_llama(tmp_path_factory.mktemp('base'))}"


def model_of(base: str, data: LanguageData) -> CodeLanguageModel:
    return CodeLanguageModel.start(base, data.codes, data.texts, SIZES, CPU, torch.float32, 4, 8, 0)


@pytest.fixture(scope="module")
def model(base: str) -> CodeLanguageModel:
    found = model_of(base, data_of()).eval()
    with torch.no_grad():
        for name, weight in found.trained().items():  # fresh pairs change nothing: these do
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name))) * 0.1)
    return found


@pytest.mark.slow
def test_rows_start_from_the_texts_of_their_items(base: str) -> None:
    data = data_of()
    told = LanguageData(data.codes, [f"{'a' if own[0] else 'z'}" for own in data.codes])
    made = model_of(base, told)
    first = made.rows.detach()[:4]
    assert torch.allclose(first[1], first[2]) and not torch.allclose(first[0], first[1])
    table = made.network.get_input_embeddings().weight
    letters = [table[made.text_ids(letter)[0]] for letter in "za"]
    toward = torch.nn.functional.cosine_similarity(first[0] - first[1], letters[0] - letters[1], dim=0)
    assert toward > 0.999, "of each code the mean embedding of its titles, spread about the mean of the level"
    assert made.token_names()[:2] + made.token_names()[-1:] == ["<a_0>", "<a_1>", "<c_2>"]
    assert not any(weight.requires_grad for name, weight in made.network.named_parameters() if "lora_" not in name)


@pytest.mark.slow
def test_the_first_loss_is_that_of_a_guess(tmp_path: Path) -> None:
    """States of trained models are long: rows that vary as the vocabulary's are sure of wrong codes."""
    folder, data = tiny_llama(tmp_path), data_of()
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= 50
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    made = model_of(f"hf:{folder}", data)
    samples = [llm_train.history_sample(made, data, own, 4) for own in walks()]
    guess = float(np.log(SIZES).mean())
    with torch.no_grad():
        assert abs(float(made.loss(samples)) - guess) < 0.3
        for level in range(len(SIZES)):
            own = slice(sum(SIZES[:level]), sum(SIZES[: level + 1]))
            assert made.rows[own].std(0).mean() > 5 * made.out_rows[own].std(0).mean() > 0, "what is read stays apart"
        made.out_rows.copy_(made.rows)
        assert float(made.loss(samples)) > guess + 1, "the base is one where this matters"


@pytest.mark.slow
def test_a_beam_of_full_width_scores_as_each_id_read_whole(model: CodeLanguageModel) -> None:
    data = data_of()
    trie, decoder = trie_of(data), LanguageDecoder(lambda: model, data.codes, SIZES, 3)
    histories = [np.array([3, 7, 1, 2]), np.array([5]), np.empty(0, np.int64)]
    allowed = torch.from_numpy(np.random.default_rng(1).random((3, COUNT)) < 0.6)
    nodes, log_p = decoder.beam(histories, trie, allowed, COUNT)
    paths = llm_train.leaf_codes(trie)
    for row, history in enumerate(histories):
        found = [int(node) for node in nodes[row] if node >= 0]
        assert sorted(found) == sorted(trie.leaf_of[allowed[row]].tolist()), "what is allowed, and nothing else"
        assert log_p[row, : len(found)].tolist() == sorted(log_p[row, : len(found)].tolist(), reverse=True)
        exact = decoder.log_p(history, paths[found])
        assert torch.allclose(log_p[row, : len(found)], exact, atol=1e-4)
        # by the definition: the whole sequence read at once, without a cache
        tokens = [*decoder.prompt(history), *model.code_ids(paths[found[0]].tolist())]
        is_label = [place >= len(tokens) - 3 for place in range(len(tokens))]
        with torch.no_grad():
            assert -3 * float(model.loss([Sample(tokens, is_label)])) == pytest.approx(float(exact[0]), abs=1e-4)
    again = decoder.beam(histories[::-1], trie, allowed.flip(0), COUNT)
    assert torch.equal(again[0].flip(0), nodes), "remembered, in the order asked"
    assert len(decoder.prompt(np.array([3, 7, 1, 2]))) == len(model.prompt) + 9, "the latest three"


@pytest.mark.slow
def test_no_invalid_id_is_decoded(model: CodeLanguageModel) -> None:
    data = data_of()
    rng, trie = np.random.default_rng(0), trie_of(data)
    decoder = LanguageDecoder(lambda: model, data.codes, SIZES, 3)
    valid, paths = {tuple(own) for own in data.codes.tolist()}, llm_train.leaf_codes(trie).tolist()
    for _ in range(4):
        histories = [rng.choice(COUNT, size=rng.integers(0, 5), replace=False) for _ in range(50)]
        allowed = torch.from_numpy(rng.random((1, COUNT)) < 0.3)
        nodes, _ = decoder.beam(histories, trie, allowed, 5)
        found = {tuple(paths[node]) for node in nodes[nodes >= 0].tolist()}
        assert found <= valid & {tuple(data.codes[place]) for place in np.flatnonzero(allowed[0])}


@pytest.mark.slow
def test_the_loss_is_on_the_ids_that_followed_alone(model: CodeLanguageModel) -> None:
    data = data_of()
    sample = llm_train.history_sample(model, data, np.array([3, 7, 1]), 2)
    assert sum(sample.is_label) == 6 and not any(sample.is_label[: len(model.prompt) + 3])
    log_p = [
        model.code_log_p([prompt_of(model, np.array(before), data.codes, 9)],
                         torch.from_numpy(data.codes[[item]].astype(np.int64))[None])
        for before, item in (([3], 7), ([3, 7], 1))
    ]  # fmt: skip
    expected = -float(torch.cat(log_p).detach().mean())
    assert float(model.loss([sample]).detach()) == pytest.approx(expected, abs=1e-5)
    to_text, to_code = llm_train.align_samples(model, data, 4)
    said = [token for token, flag in zip(to_text.tokens, to_text.is_label, strict=True) if flag]
    assert model.tokenizer.decode(said) == " cup 4"
    assert [token for token, flag in zip(to_code.tokens, to_code.is_label, strict=True) if flag] == model.code_ids(
        data.codes[4]
    )
    broken = LanguageData(data.codes, ["<|im_end|>" for _ in data.texts])
    assert model.tokenizer.eos_token_id not in llm_train.align_samples(model, broken, 0)[0].tokens


def steps_of(model: CodeLanguageModel, data: LanguageData, count: int, path: Path | None = None, **how: Any) -> Any:
    losses = llm_train.supervised(model, data, walks(), batch=8, length=4, align_share=0.25, seed=3)
    return llm_train.train_steps(model, losses, count, 1e-2, 2e-2, seed=3, checkpoint=path, **how)


@pytest.mark.slow
def test_it_learns_what_follows_and_its_files_give_it_back(base: str, tmp_path: Path) -> None:
    data = data_of()
    made = model_of(base, data)
    course = steps_of(made, data, 90)
    assert np.mean(course.losses[-10:]) < 0.6 * np.mean(course.losses[:10])
    decoder = LanguageDecoder(lambda: made, data.codes, SIZES, 4)
    trie = trie_of(data)
    histories = [own[:-1] for own in walks(COUNT)]
    nodes, log_p = decoder.beam(histories, trie, torch.ones(1, COUNT, dtype=torch.bool), 5)
    targets = trie.leaf_of[torch.tensor([int(own[-1]) for own in walks(COUNT)])]
    assert float((nodes[:, 0] == targets).float().mean()) > 0.7
    for path, content in made.files().items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    read = CodeLanguageModel.read(tmp_path, base, SIZES, CPU, torch.float32)
    again = LanguageDecoder(lambda: read, data.codes, SIZES, 4).beam(
        histories, trie, torch.ones(1, COUNT, dtype=torch.bool), 5
    )
    assert torch.equal(again[0], nodes) and torch.allclose(again[1], log_p, atol=1e-3)
    with pytest.raises(ColdstartError, match="of another shape than the model and the IDs"):
        CodeLanguageModel.read(tmp_path, base, (4, 4), CPU, torch.float32)
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"x" * 50)
    with pytest.raises(ColdstartError, match=r"holds no language model of semantic IDs .*: run `coldstart finetune"):
        CodeLanguageModel.read(tmp_path, base, SIZES, CPU, torch.float32)


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_weights(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm_train, "SAVED_EVERY", 2)
    data = data_of()
    whole = model_of(base, data)
    course = steps_of(whole, data, 6)
    calls = iter(range(100))

    def stop() -> None:
        if next(calls) == 4:
            raise KeyboardInterrupt

    path = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        steps_of(model_of(base, data), data, 6, path, advance=stop)
    again = model_of(base, data)
    assert steps_of(again, data, 6, path).losses == course.losses
    for name, weight in whole.trained().items():
        assert torch.equal(weight, again.trained()[name]), name
    done = model_of(base, data)
    assert steps_of(done, data, 6, path).losses == course.losses, "a finished one is read"
    path.write_bytes(b"nothing")
    assert steps_of(model_of(base, data), data, 6, path).losses == course.losses, "of a damaged one nothing is read"


def test_rewards_of_ranks_and_their_advantages() -> None:
    is_right = torch.tensor([[False, True, False], [False, False, False]])
    rewards = llm_train.rank_rewards(is_right)
    first, third = 1 / math.log2(2), 1 / math.log2(4)
    assert rewards[0].tolist() == pytest.approx([-first / (first + third), 1, -third / (first + third)])
    assert rewards[1].tolist() == [0, 0, 0], "a group without the right ID says nothing"
    own = llm_train.advantages_of(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    deviation = math.sqrt(3) / 4
    assert own[0].tolist() == pytest.approx([0.75 / (deviation + 1e-4), *[-0.25 / (deviation + 1e-4)] * 3])


def test_the_loss_of_rewards_clips_ratios_and_counts_divergence() -> None:
    before = torch.log(torch.tensor([[0.5], [0.5], [0.5], [0.5]]))
    now = torch.log(torch.tensor([[0.7], [0.3], [0.7], [0.3]]))  # ratios 1.4, 0.6
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0])
    loss, divergence = llm_train.grpo_loss(now, before, now, advantages, 0.0)
    assert float(loss) == pytest.approx(-(1.2 + 0.6 - 1.4 - 0.8) / 4), "the worse of the ratio and the clipped one"
    assert float(divergence) == 0
    loss, divergence = llm_train.grpo_loss(now, now, before, advantages * 0, 0.5)
    away = [0.5 / 0.7, 0.5 / 0.3] * 2
    expected = sum(one - math.log(one) - 1 for one in away) / 4
    assert float(divergence) == pytest.approx(expected, rel=1e-5) and float(loss) == pytest.approx(
        expected / 2, rel=1e-5
    )


@pytest.mark.slow
def test_training_by_rewards_moves_the_right_ids_up(base: str) -> None:
    data = data_of()
    made, trie = model_of(base, data), trie_of(data)
    steps_of(made, data, 20)
    histories = [own[:-1] for own in walks(COUNT)]
    targets = trie.leaf_of[torch.tensor([int(own[-1]) for own in walks(COUNT)])]

    def mean_reciprocal_rank() -> float:
        decoder = LanguageDecoder(lambda: made, data.codes, SIZES, 4)
        nodes, _ = decoder.beam(histories, trie, torch.ones(1, COUNT, dtype=torch.bool), COUNT)
        return float((1 / (1 + (nodes == targets[:, None]).float().argmax(1))).mean())

    before = mean_reciprocal_rank()
    losses = llm_train.by_rewards(made, data, walks(), trie, batch=6, group=8, length=4, beta=0.01, updates=2, seed=1)
    course = llm_train.train_steps(made, losses, 30, 3e-4, 6e-4, seed=1)
    assert mean_reciprocal_rank() > before + 0.02
    assert course.counts["groups"] == 180 and 0 < course.counts["dropped"] < 90
    assert course.counts["divergence"] > 0
    assert len(course.losses) == 60, "two updates by one listing"
