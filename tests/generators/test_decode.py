"""Batches: each row's text is what it would be alone, whatever stands beside it and whatever memory does."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import word_tokens

from coldstart.core.attributes import Attribute
from coldstart.core.description import json_schema, parse
from coldstart.generators import Sampling, _decode
from coldstart.generators import _decode as _cache
from coldstart.generators._constrained import GrammarCompiler
from coldstart.generators._decode import Row, generate

SCHEMA = json_schema(
    {"type": Attribute(values=("Shirts", "Casual Shoes")), "colour": Attribute(values=("Blue", "Red"))}
)
TITLES = ["a red shoe", "a blue shirt of wool and cotton for men and women", "", "wool", "a red shoe", "casual shoes"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost a tiny model more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    tokenizer = word_tokens.tokenizer()
    return GrammarCompiler(tokenizer, len(tokenizer), [tokenizer.eos_token_id])


@pytest.fixture(scope="module")
def model(compiler: GrammarCompiler) -> Any:
    return word_tokens.llama(compiler.vocab_size)


def rows(compiler: GrammarCompiler, system: str = "You name what is in a shop. ") -> list[Row]:
    ids = [compiler.tokenizer(f"{system}Title: {title}", add_special_tokens=False)["input_ids"] for title in TITLES]
    return [Row(own, (SCHEMA, None)[place % 2]) for place, own in enumerate(ids)]


@pytest.mark.filterwarnings("error")
def test_no_name_that_goes_away_is_used(model: Any, compiler: GrammarCompiler) -> None:
    """transformers says so of the place that called torch, so no other test would fail by it."""
    assert len(generate(model, compiler, rows(compiler), Sampling(5))) == len(TITLES)


def test_a_model_takes_its_cache_by_the_name_in_its_signature(model: Any) -> None:
    from peft import LoraConfig, get_peft_model

    class Old(torch.nn.Module):
        def forward(self, input_ids: Any, past_key_values: Any = None, use_cache: bool = True) -> None: ...

    class New(torch.nn.Module):
        def forward(self, input_ids: Any, cache: Any = None, use_cache: bool = True) -> None: ...

    class Either(New):
        @functools.wraps(New.forward)
        def forward(self, *args: Any, **kwargs: Any) -> None: ...

    assert [_cache.cache_argument(kind()) for kind in (Old, New, Either)] == ["past_key_values", "cache", "cache"]
    name = _cache.cache_argument(model)
    assert name in inspect.signature(model.forward).parameters
    adapted = get_peft_model(copy.deepcopy(model), LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert _cache.cache_argument(adapted) == name


@pytest.mark.slow
@pytest.mark.parametrize("sampling", [Sampling(45), Sampling(45, temperature=1.0, top_p=0.9, seed=3)])
def test_a_batch_writes_what_each_row_writes_alone(model: Any, compiler: GrammarCompiler, sampling: Sampling) -> None:
    batch = rows(compiler)
    together = generate(model, compiler, batch, sampling)
    assert together == [generate(model, compiler, [row], sampling)[0] for row in batch]
    assert together == generate(model, compiler, batch[::-1], sampling, batch_size=4)[::-1]
    assert together[0] == together[4]
    assert [generation.prompt_tokens for generation in together] == [len(row.ids) for row in batch]
    for generation in together[::2]:
        parse(generation.text)


def test_greedy_text_is_that_of_transformers_own_generate(model: Any, compiler: GrammarCompiler) -> None:
    row = rows(compiler)[1]
    written = generate(model, compiler, [row, *rows(compiler)[3:4]], Sampling(20))[0]
    ids = model.generate(torch.tensor([list(row.ids)]), max_new_tokens=20, do_sample=False)[0, len(row.ids) :]
    assert written.text == compiler.tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_a_seed_changes_the_draw_and_temperature_0_has_none(model: Any, compiler: GrammarCompiler) -> None:
    def texts(sampling: Sampling) -> list[str]:
        return [generation.text for generation in generate(model, compiler, rows(compiler), sampling)]

    assert texts(Sampling(30, temperature=1.5, seed=1)) != texts(Sampling(30, temperature=1.5, seed=2))
    assert texts(Sampling(30, seed=1)) == texts(Sampling(30, seed=2))


def test_vectors_in_place_of_tokens_write_the_same(model: Any, compiler: GrammarCompiler) -> None:
    batch = rows(compiler)
    embed = model.get_input_embeddings()
    seen = [Row(row.ids, row.schema, embed(torch.tensor(row.ids)).detach()) for row in batch]
    assert generate(model, compiler, seen, Sampling(30)) == generate(model, compiler, batch, Sampling(30))
    mixed = [seen[0], *batch[1:]]
    assert generate(model, compiler, mixed, Sampling(30)) == generate(model, compiler, batch, Sampling(30))


def test_a_vector_that_is_no_token_is_not_shared(model: Any, compiler: GrammarCompiler) -> None:
    row = rows(compiler)[0]
    pictures = [torch.randn(len(row.ids), 48, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    batch = [Row([*row.ids[:2], *[-1] * (len(row.ids) - 2)], None, picture) for picture in pictures]
    assert _decode._shared(batch) == 0
    together = generate(model, compiler, batch, Sampling(20))
    assert together == [generate(model, compiler, [one], Sampling(20))[0] for one in batch]
    assert together[0].text != together[1].text


def test_the_shared_beginning_is_read_once(
    model: Any, compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = rows(compiler)
    shared = _decode._shared(batch)
    assert shared >= _decode.LEAST_PREFIX
    assert all(row.ids[:shared] == batch[0].ids[:shared] for row in batch)
    widths: list[tuple[int, int]] = []
    forward: Callable[..., Any] = _decode._forward

    def counted(model: Any, inputs: dict[str, torch.Tensor], *rest: Any) -> torch.Tensor:
        widths.append(tuple(inputs["input_ids"].shape))
        return forward(model, inputs, *rest)

    monkeypatch.setattr(_decode, "_forward", counted)
    generate(model, compiler, batch, Sampling(3), batch_size=3)
    longest = max(len(row.ids) for row in batch)
    assert widths[:2] == [(1, shared), (3, longest - shared)]
    assert sum(columns for _, columns in widths) < 2 * longest


def test_rows_that_are_all_alike_keep_a_token_of_their_own(model: Any, compiler: GrammarCompiler) -> None:
    batch = [rows(compiler)[0]] * 3
    assert _decode._shared(batch) == len(batch[0].ids) - 1
    assert generate(model, compiler, batch, Sampling(10)) == generate(model, compiler, batch[:1], Sampling(10)) * 3


def test_ended_rows_leave_the_batch(model: Any, compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward: Callable[..., Any] = _decode._forward

    def counted(*given: Any) -> torch.Tensor:
        sizes.append(given[1]["input_ids"].shape[0])
        return forward(*given)

    monkeypatch.setattr(_decode, "_forward", counted)
    batch = [Row(row.ids, SCHEMA if place else None) for place, row in enumerate(rows(compiler))]
    generate(model, compiler, batch, Sampling(90))
    assert sizes[1] == len(batch)
    assert sizes[-1] < len(batch)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_batch_that_does_not_fit_is_halved(
    model: Any, compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    write_batch: Callable[..., Any] = _decode._write_batch
    sizes: list[int] = []

    def short_of_memory(model: Any, compiler: GrammarCompiler, rows: list[Row], *rest: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) > 2:
            raise error
        return write_batch(model, compiler, rows, *rest)

    batch = rows(compiler)
    expected = generate(model, compiler, batch, Sampling(10))
    monkeypatch.setattr(_decode, "_write_batch", short_of_memory)
    assert generate(model, compiler, batch, Sampling(10)) == expected
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1]


def test_one_row_that_does_not_fit_is_a_fault_as_is_another_error(
    model: Any, compiler: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (torch.OutOfMemoryError("one row"), RuntimeError("shapes")):

        def fail(*_: Any, error: Exception = error) -> Any:
            raise error

        monkeypatch.setattr(_decode, "_write_batch", fail)
        with pytest.raises(type(error), match=str(error)):
            generate(model, compiler, rows(compiler), Sampling(10))


def test_memory_bounds_the_batch(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 0

    monkeypatch.setattr(_decode.psutil, "virtual_memory", lambda: Memory)
    assert _decode._fitting(model, 100, 50) == 1
    Memory.available = 10**9
    many = _decode._fitting(model, 100, 50)
    assert many > 100
    assert _decode._fitting(model, 400, 50) < many
    assert _decode._fitting(model, 100, 400) < many


@pytest.mark.slow
def test_layers_with_a_window_share_nothing_and_write_the_same(compiler: GrammarCompiler) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=compiler.vocab_size,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        sliding_window=16,
        initializer_range=0.3,
    )
    mistral = MistralForCausalLM(config).eval()
    batch = rows(compiler)
    ids = torch.tensor([list(batch[1].ids)])
    alone = mistral.generate(ids, max_new_tokens=20, do_sample=False, pad_token_id=2, eos_token_id=2)[0, ids.shape[1] :]
    written = generate(mistral, compiler, batch[1:2], Sampling(20))[0]
    assert written.text == compiler.tokenizer.decode(alone, skip_special_tokens=True).strip()
    together = generate(mistral, compiler, batch, Sampling(20))
    assert together == [generate(mistral, compiler, [row], Sampling(20))[0] for row in batch]


def test_nothing_asked_is_nothing_written(model: Any, compiler: GrammarCompiler) -> None:
    assert generate(model, compiler, [], Sampling(5)) == []
