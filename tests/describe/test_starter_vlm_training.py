"""Test the training of `starter-vlm`: pictures are used, the loss is on completions, a kill changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from tiny_writers import COLOURS, KINDS, byte_tokenizer, tiny_llama

from coldstart.describe.finetune import vlm
from coldstart.describe.finetune.training import Example, VlmSettings
from coldstart.describe.finetune.vlm import RIDGE_PARTS, set_standardisation, solve_linear_part, train_vlm
from coldstart.describe.finetune.vlm_state import Epoch, VlmResult
from coldstart.encoders.starter import CELLS, GRID_DIM, IMAGE_DIM, LEVELS_DIM
from coldstart.errors import ColdstartError
from coldstart.generators import Sampling, _chat_template, _vision
from coldstart.generators._base_model import suppress_output
from coldstart.generators._constrained import GrammarCompiler
from coldstart.generators._decode import Row, generate

pytestmark = pytest.mark.slow

FEW = VlmSettings(
    projector_epochs=1, epochs=2, batch_size=32, projector_lr=3e-3, lr=1e-2, r=4, alpha=8, hidden=32, whole_tokens=2
)
ENOUGH = FEW.model_copy(update={"projector_epochs": 2, "epochs": 16, "batch_size": 8, "r": 16, "alpha": 32})
ITEMS = 160


def item(place: int) -> Example:
    return Example(f"item-{place}", "", "", f"{COLOURS[place % 4]} {KINDS[place % 5]}.")


@pytest.fixture(scope="module")
def features() -> NDArray[np.float16]:
    """Pictures whose colour stands in all that is known of the whole, and whose kind in every cell."""
    random = np.random.default_rng(0)
    colours, kinds = random.normal(size=(4, LEVELS_DIM)), random.normal(size=(5, IMAGE_DIM))
    rows = [np.concatenate([np.tile(kinds[place % 5], CELLS), colours[place % 4]]) for place in range(ITEMS + 40)]
    noise = random.normal(size=(len(rows), GRID_DIM))
    return (np.array(rows) + 0.5 * noise).astype(np.float16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"))


def model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def fit(features: NDArray[np.float16], folder: Path, settings: VlmSettings = FEW, **given: Any) -> VlmResult:
    places, held_out = given.pop("places", list(range(ITEMS))), given.pop("held_out", list(range(ITEMS, ITEMS + 40)))
    return train_vlm(
        features,
        places,
        [item(place) for place in places],
        held_out,
        [item(place) for place in held_out],
        settings,
        model=model(folder),
        tokenizer=byte_tokenizer(),
        **given,
    )


@pytest.fixture(scope="module")
def made(features: NDArray[np.float16], folder: Path) -> VlmResult:
    return fit(features, folder, ENOUGH)


def texts(made: VlmResult, features: NDArray[np.float16]) -> list[str]:
    tokenizer = byte_tokenizer()
    binder = GrammarCompiler(tokenizer, made.model.config.vocab_size, [tokenizer.eos_token_id])
    with torch.no_grad():
        seen = made.projector(torch.from_numpy(features))
    rows = [Row([_vision.PICTURE] * len(one), None, one) for one in seen]
    return [one.text for one in generate(made.model, binder, rows, Sampling(max_new_tokens=16))]


def test_unseen_pictures_are_described(made: VlmResult, features: NDArray[np.float16]) -> None:
    found = texts(made, features[ITEMS:])
    right = [text == item(ITEMS + place).completion for place, text in enumerate(found)]
    assert np.mean(right) >= 0.8
    assert [epoch.stage for epoch in made.history[:4]] == [1, 1, 2, 2]
    losses = [epoch.valid_loss for epoch in made.history]
    assert min(loss for loss in losses if loss is not None) == losses[made.best_epoch - 1]
    assert losses[1] is not None and losses[-1] is not None and losses[-1] < 0.3 * losses[1]
    assert made.tokens == len(made.history) * sum(
        CELLS + 2 + len(_chat_template.completion_ids(byte_tokenizer(), item(place).completion)) - 1
        for place in range(ITEMS)
    )


def test_a_step_in_parts_learns_what_a_whole_one_does(
    features: NDArray[np.float16], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = FEW.model_copy(update={"dropout": 0.0, "epochs": 1})
    whole = fit(features, folder, exact, places=list(range(64)))
    monkeypatch.setattr(vlm, "MICRO_TOKENS", 200)
    parts = fit(features, folder, exact, places=list(range(64)))
    assert [one.tokens for one in parts.history] == [one.tokens for one in whole.history]
    assert [one.valid_loss for one in parts.history] == pytest.approx(
        [one.valid_loss for one in whole.history], rel=1e-3
    )


def test_the_first_stage_leaves_the_language_model_alone(made: VlmResult) -> None:
    second = {name: tensor for name, tensor in made.after_first.items() if "lora_B" in name}
    assert second and not any(tensor.any() for tensor in second.values())
    assert any(weight.any() for name, weight in made.model.named_parameters() if "lora_B" in name)


def test_the_loss_is_that_of_transformers_on_the_completion(features: NDArray[np.float16], folder: Path) -> None:
    settings = VlmSettings(projector_epochs=1, epochs=1, hidden=8, whole_tokens=1, dropout=0, mirror=False)
    example = Example("a", "Describe.", "from a shop", "red shoe.")
    tokenizer = byte_tokenizer()
    with suppress_output(0, torch.device("cpu")):
        learner = vlm._Trainer(features, [0, 1], [example, item(1)], [0], [example], settings, model(folder), tokenizer)
    both, count, read = learner._loss(1, np.array([0]), np.zeros(1, np.bool_))
    prompt = _vision.prompt_ids(tokenizer, "Describe.", "from a shop", CELLS + 1)
    completion = _chat_template.completion_ids(tokenizer, "red shoe.")
    inner = learner._model
    pictures = learner._projector.eval()(torch.from_numpy(features[:1]))[0]
    table = inner.get_input_embeddings()
    inputs = torch.cat([_vision.embed_prompt(table, prompt, pictures), table(torch.tensor(completion))])[None]
    labels = torch.tensor([[-100] * len(prompt) + completion])
    reference = inner(inputs_embeds=inputs, labels=labels).loss
    assert (count, read) == (len(completion), len(prompt) + len(completion) - 1)
    torch.testing.assert_close(both / count, reference, rtol=1e-4, atol=1e-5)


class KilledError(Exception):
    pass


def killed_after(epoch: int) -> Callable[[Epoch], None]:
    def after(done: Epoch) -> None:
        if done.epoch == epoch:
            raise KilledError

    return after


@pytest.fixture(scope="module")
def uninterrupted(features: NDArray[np.float16], folder: Path) -> VlmResult:
    return fit(features, folder)


@pytest.mark.parametrize("epoch", [1, 2])
def test_killed_and_called_again_it_ends_the_same(
    uninterrupted: VlmResult, features: NDArray[np.float16], folder: Path, tmp_path: Path, epoch: int
) -> None:
    state = tmp_path / "state.safetensors"
    with pytest.raises(KilledError):
        fit(features, folder, checkpoint=state, progress=killed_after(epoch))
    (tmp_path / "state.safetensors.part").write_bytes(b"half a state")
    resumed = fit(features, folder, checkpoint=state)
    assert [(one.epoch, one.loss, one.valid_loss) for one in resumed.history] == [
        (one.epoch, one.loss, one.valid_loss) for one in uninterrupted.history
    ]
    for (name, ours), (_, theirs) in zip(
        resumed.model.named_parameters(), uninterrupted.model.named_parameters(), strict=True
    ):
        assert torch.equal(ours, theirs), name
    for name, tensor in resumed.projector.state_dict().items():
        assert torch.equal(tensor, uninterrupted.projector.state_dict()[name]), name


def test_a_state_of_another_training_is_not_read(features: NDArray[np.float16], folder: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    short = VlmSettings(projector_epochs=0, epochs=1, hidden=8, whole_tokens=1)
    fit(features, folder, short, checkpoint=state, places=[0, 1, 2, 3], held_out=[])
    other = fit(features, folder, short, checkpoint=state, places=[0, 1, 2, 4], held_out=[])
    anew = fit(features, folder, short, places=[0, 1, 2, 4], held_out=[])
    assert [epoch.loss for epoch in other.history] == [epoch.loss for epoch in anew.history]
    assert [epoch.valid_loss for epoch in anew.history] == [None]


def test_files_are_those_that_a_generator_reads(made: VlmResult, features: NDArray[np.float16], tmp_path: Path) -> None:
    files = made.files()
    assert sorted(files) == [
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "projector.safetensors",
    ]
    made.save(tmp_path)
    again = _vision.load(tmp_path / _vision.FILE)
    with torch.no_grad():
        rows = torch.from_numpy(features[:3])
        torch.testing.assert_close(again(rows), made.projector(rows), rtol=0, atol=0)


def test_no_training_examples(features: NDArray[np.float16], folder: Path) -> None:
    with pytest.raises(ColdstartError) as error:
        fit(features, folder, places=[], held_out=[])
    assert str(error.value) == "no training example has a picture, and starter-vlm is trained on pictures alone"


def test_a_mirrored_picture_has_its_cells_from_right_to_left() -> None:
    rows = np.zeros((2, GRID_DIM), np.float16)
    for cell in range(CELLS):
        rows[:, cell * IMAGE_DIM] = cell
    rows[:, -1] = 7
    turned = vlm._mirrored(rows, np.array([True, False]))
    assert turned[0, : CELLS * IMAGE_DIM : IMAGE_DIM].tolist() == [2, 1, 0, 5, 4, 3, 8, 7, 6]
    assert np.array_equal(turned[1], rows[1]) and turned[0, -1] == 7


def projector(whole_tokens: int = 1) -> _vision.Projector:
    return _vision.Projector(_vision.ProjectorShape(CELLS, IMAGE_DIM, LEVELS_DIM, whole_tokens, 4, 6, 1.0))


def test_numbers_are_standardised_and_cells_share_theirs(features: NDArray[np.float16]) -> None:
    one = projector()
    set_standardisation(one, features)
    whole = features[:, -LEVELS_DIM:].astype(np.float64)
    np.testing.assert_allclose(one.mean[-LEVELS_DIM:], whole.mean(0), atol=1e-4)
    np.testing.assert_allclose(one.deviation[-LEVELS_DIM:], whole.std(0), rtol=1e-3)
    cells = features[:, : CELLS * IMAGE_DIM].astype(np.float64).reshape(-1, IMAGE_DIM)
    np.testing.assert_allclose(one.mean[: CELLS * IMAGE_DIM], np.tile(cells.mean(0), CELLS), atol=1e-4)
    np.testing.assert_allclose(one.deviation[: CELLS * IMAGE_DIM], np.tile(cells.std(0), CELLS), rtol=1e-3)


def test_the_straight_part_is_a_ridge_regression_and_no_example_sees_its_own(features: NDArray[np.float16]) -> None:
    rows = features[:40]
    random = np.random.default_rng(1)
    words = [random.integers(0, 50, size=int(random.integers(1, 7))).tolist() for _ in rows]
    table = torch.from_numpy(random.normal(size=(50, 6)).astype(np.float32))
    one = projector(whole_tokens=2)
    set_standardisation(one, rows)
    given = solve_linear_part(one, rows, words, table, 0.5, 0)
    seen = one.standardised(torch.from_numpy(rows))[:, -LEVELS_DIM:].double().numpy()
    goals = np.stack([_goal(table[torch.tensor(own)].double().numpy()) for own in words])
    goals = goals - goals.mean(0)
    goals = (goals / np.sqrt((goals**2).mean((0, 2), keepdims=True))).reshape(len(rows), -1)

    def ridge(some: NDArray[np.intp]) -> NDArray[np.float64]:
        solved: NDArray[np.float64] = Ridge(0.5 * len(some), fit_intercept=False).fit(seen[some], goals[some]).coef_
        return solved.T

    np.testing.assert_allclose(one.straight.weight.numpy(), ridge(np.arange(40)).T, atol=1e-4)
    parts = np.random.default_rng(0).permutation(40) % RIDGE_PARTS
    own = np.flatnonzero(parts == 0)
    np.testing.assert_allclose(given[own], seen[own] @ ridge(np.flatnonzero(parts != 0)), atol=1e-4)


def _goal(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    middle = round(len(vectors) / 2)
    return np.stack([vectors[: max(middle, 1)].mean(0), vectors[min(middle, len(vectors) - 1) :].mean(0)])


def test_what_is_no_projector_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "projector.safetensors"
    path.write_bytes(b"no tensors")
    with pytest.raises(ColdstartError) as error:
        _vision.load(path)
    assert str(error.value) == (
        f"{path} is no projector (Error while deserializing header: header too large): "
        "make it anew with coldstart finetune describe"
    )
