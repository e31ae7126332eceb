"""Language model that reads and writes semantic IDs: a token a level and code, such as `<b_7>`, beside those of words.

The tokens of codes are rows of their own, one set in front of the model's embedding and one behind its last layer, so
that its vocabulary, tokenizer and output layer stay as they are. A code is predicted among the codes of its level
alone, since nothing else can stand there; words are predicted among words. Linear layers learn by LoRA (Hu et al.
2022), rows of codes in full. After LC-Rec (Zheng et al., ICDE 2024) and MiniOneRec (Kong et al. 2025).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha1
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from coldstart.errors import ColdstartError
from coldstart.generators import _chat_template, _local
from coldstart.generators._base_model import BaseModel, load_base
from coldstart.generators._decode import cache_argument
from coldstart.semantic_ids.decode import TrieTensors, search

CODES_FILE = "codes.safetensors"
"""File of an artifact: rows of the tokens of codes; the adapter's files are in `adapter/`."""
PROMPT = "A user liked, in order:"
"""Words before the IDs of a history."""
MAX_WORDS = 32
"""Tokens of an item's text that are read."""
_START_DEVIATION = 0.5
"""Most standard deviation of the logits of a level's codes before training: a target costs log K + 0.125 by chance."""
_START_SAMPLES = 32
"""Items whose IDs that deviation is measured on."""
_REMEMBERED = 4096
_TOKENS = {"cpu": 1 << 13}  # of all beams of a step at a time
_MORE_TOKENS = 1 << 15


def check_installed() -> None:
    """Check that what trains and applies adapters is installed.

    Raises:
        ColdstartError: it is not.
    """
    if find_spec("peft") is None:
        raise ColdstartError(
            "a language model of semantic IDs needs peft, which is not installed: pip install "
            "'coldstart-multimodal[train]'"
        )


@dataclass(frozen=True)
class Sample:
    """Tokens of one example, and which of them the model is to predict; those from `words` on are of codes."""

    tokens: list[int]
    is_label: list[bool]


class CodeLanguageModel(nn.Module):
    """Causal language model with tokens of codes.

    Attributes:
        sizes: codes of each level; rows: what is read for each token of a code, float32 [sum of sizes, d].
        out_rows: what states are multiplied with to predict it, of the same shape; also beside a model that ties both,
            since rows that vary enough to be read are too sure of what follows.
    """

    def __init__(self, base: BaseModel, network: Any, sizes: Sequence[int]) -> None:
        """`network`: transformers' causal model, with or without low-rank pairs in it."""
        super().__init__()
        if base.processor is not None:
            raise ColdstartError(f"generator {base.name!r} reads pictures: use a model of text for recall")
        self.name, self.tokenizer, self.sizes = base.name, base.tokenizer, tuple(sizes)
        self.network = network
        self._tuned: Callable[[], Any] | None = None
        embedding = network.get_input_embeddings().weight
        self.words = len(embedding)
        self._starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)
        count, dim = int(self._starts[-1]), embedding.shape[1]
        self.rows = nn.Parameter(torch.zeros(count, dim, device=embedding.device))
        self.out_rows = nn.Parameter(torch.zeros_like(self.rows))

    @classmethod
    def start(
        cls,
        name: str,
        codes: NDArray[np.int32],
        texts: Sequence[str | None],
        sizes: Sequence[int],
        device: torch.device,
        dtype: torch.dtype,
        rank: int,
        alpha: int,
        seed: int,
    ) -> CodeLanguageModel:
        """Load a base model, and give it low-rank pairs and rows of codes that start from the texts of their items.

        Args:
            name: `starter` or `hf:NAME_OR_PATH`; codes: int32 [N, L], -1 where an item has none or may not be read;
                texts: of the same items.

        Raises:
            ColdstartError: peft is missing, or the base cannot be tuned.
        """
        check_installed()
        from peft import LoraConfig, get_peft_model

        base = load_base(name, device, dtype)
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            config = LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM")
            with warnings.catch_warnings():  # of peft's to transformers
                warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
                tuned = get_peft_model(base.model, config)
        tuned.peft_config["default"].base_model_name_or_path = None  # else peft asks the hub for it
        made = cls(base, tuned.get_base_model(), sizes)
        made._tuned = lambda: tuned  # no module of this one: its weights are those of `network`
        made._start_rows(codes, texts)
        return made

    @torch.no_grad()
    def _start_rows(self, codes: NDArray[np.int32], texts: Sequence[str | None]) -> None:
        """Start the row of each code from the mean embedding of its items' texts.

        Means of many words are much alike: rows that are read are spread about the mean of their level until they vary
        as rows of the model's own table do, and rows that predict vary so little that the first loss is that of a
        guess.
        """
        words = [self.text_ids(text) if text else [] for text in texts]
        has = torch.tensor([bool(own) for own in words], device=self.rows.device) & self._column(codes, 0).ge(0)
        read, out = self.network.get_input_embeddings(), self.network.get_output_embeddings().weight
        for rows, embed, table in ((self.rows, read, read.weight), (self.out_rows, out.__getitem__, out)):
            found = torch.zeros(len(texts), rows.shape[1], device=rows.device)
            for place in torch.nonzero(has)[:, 0].tolist():
                found[place] = embed(torch.tensor(words[place], device=rows.device)).float().mean(0)
            everywhere = found[has].mean(0) if bool(has.any()) else table.float().mean(0)
            spread = table.float().std(0).square().mean().sqrt()
            for level, size in enumerate(self.sizes):
                own = self._column(codes, level)
                chosen = has & (own >= 0)
                total = torch.zeros(size, rows.shape[1], device=rows.device).index_add_(0, own[chosen], found[chosen])
                count = torch.zeros(size, device=rows.device).index_add_(0, own[chosen], has[chosen].float())
                away = total / count.clamp(min=1)[:, None] - everywhere
                away[count == 0] = 0
                usual = away[count > 0].square().mean().sqrt() if bool((count > 0).any()) else spread
                rows[self._of(level)] = everywhere + away * (spread / usual.clamp(min=1e-6))
        self._scale_out_rows(codes)

    def _scale_out_rows(self, codes: NDArray[np.int32]) -> None:
        """Scale the rows that predict codes about the mean of their level until logits vary by no more than wanted."""
        known = np.flatnonzero((codes >= 0).all(1))
        if not len(known):
            return
        chosen = known[np.linspace(0, len(known) - 1, min(len(known), _START_SAMPLES)).astype(np.int64)]
        states = self.states(
            *self._filled([[*self.prompt, *self.code_ids(codes[place])] for place in chosen], left=False)
        )
        for level in range(len(self.sizes)):
            rows = self.out_rows[self._of(level)]
            away = rows - rows.mean(0)
            logits = states[:, len(self.prompt) - 1 + level].float() @ away.T
            deviation = logits.std(1, correction=0).mean()
            self.out_rows[self._of(level)] = rows.mean(0) + away * (_START_DEVIATION / deviation).clamp(max=1)

    def _column(self, codes: NDArray[np.int32], level: int) -> Tensor:
        return torch.from_numpy(codes[:, level].astype(np.int64)).to(self.rows.device)

    # -- tokens

    def _of(self, level: int) -> slice:
        return slice(int(self._starts[level]), int(self._starts[level + 1]))

    def text_ids(self, text: str) -> list[int]:
        """Tokenize the beginning of a text as words alone."""
        plain = _chat_template.plain(self.tokenizer, text)
        found: list[int] = self.tokenizer(plain, add_special_tokens=False, verbose=False)["input_ids"]
        return [token for token in found if token < self.words][:MAX_WORDS]  # those behind them are of codes

    def code_ids(self, codes: Sequence[int] | NDArray[Any]) -> list[int]:
        """Tokens of an ID."""
        return [self.words + int(start) + int(code) for start, code in zip(self._starts, codes, strict=False)]

    @cached_property
    def prompt(self) -> list[int]:
        """Tokens before the IDs of a history."""
        return [*self.opening, *self.text_ids(PROMPT)]

    @property
    def opening(self) -> list[int]:
        """Tokens that every text begins with."""
        first = self.tokenizer.bos_token_id
        return [] if first is None else [first]

    def token_names(self) -> list[str]:
        """Names of the tokens of codes, in their order."""
        letters = [chr(ord("a") + level) if level < 26 else f"l{level}" for level in range(len(self.sizes))]
        return [f"<{letter}_{code}>" for letter, size in zip(letters, self.sizes, strict=True) for code in range(size)]

    # -- states

    def states(self, tokens: Tensor, mask: Tensor, cache: Any = None) -> Tensor:
        """Compute the last states of tokens, int64 [B, T], after those in a cache, which gets them too.

        Args:
            mask: 1 for a token and 0 for filling, int64 [B, tokens before + T].
        """
        is_code = tokens >= self.words
        words = self.network.get_input_embeddings()(torch.where(is_code, 0, tokens))
        codes = self.rows[torch.where(is_code, tokens - self.words, 0)].to(words.dtype)
        places = (mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        found: Tensor = self.network.base_model(
            inputs_embeds=torch.where(is_code[..., None], codes, words),
            attention_mask=mask,
            position_ids=places,
            use_cache=cache is not None,
            **({} if cache is None else {cache_argument(self.network.base_model): cache}),
        ).last_hidden_state
        return found

    def _cache(self) -> Any:
        from transformers import DynamicCache

        return DynamicCache(config=self.network.config)

    def level_log_p(self, level: int, states: Tensor) -> Tensor:
        """Compute log P of every code of a level, float32 [..., K]."""
        return functional.log_softmax(states.float() @ self.out_rows[self._of(level)].T, -1)

    def loss(self, samples: Sequence[Sample]) -> Tensor:
        """Compute the mean negative log-likelihood of the labelled tokens of samples."""
        tokens, mask = self._filled([one.tokens for one in samples], left=False)
        is_label, _ = self._filled([[int(flag) for flag in one.is_label] for one in samples], left=False)
        states = self.states(tokens, mask)
        chosen = (is_label * mask)[:, 1:].bool()
        states, targets = states[:, :-1][chosen], tokens[:, 1:][chosen]
        is_word = targets < self.words
        total = states.new_zeros((), dtype=torch.float32)
        if bool(is_word.any()):
            logits = self.network.get_output_embeddings()(states[is_word]).float()
            total = total + functional.cross_entropy(logits, targets[is_word], reduction="sum")
        for level in range(len(self.sizes)):
            part = self._of(level)
            there = (targets >= self.words + part.start) & (targets < self.words + part.stop)
            if bool(there.any()):
                log_p = self.level_log_p(level, states[there])
                total = total - log_p.gather(1, targets[there][:, None] - self.words - part.start).sum()
        return total / max(1, len(targets))

    def _filled(self, rows: Sequence[Sequence[int]], *, left: bool) -> tuple[Tensor, Tensor]:
        """Put rows of tokens into one tensor with filling on one side; and its mask."""
        width = max(map(len, rows))
        tokens = np.zeros((len(rows), width), np.int64)
        mask = np.zeros((len(rows), width), np.int64)
        for place, row in enumerate(rows):
            own = slice(width - len(row), width) if left else slice(0, len(row))
            tokens[place, own], mask[place, own] = row, 1
        return torch.from_numpy(tokens).to(self.rows.device), torch.from_numpy(mask).to(self.rows.device)

    # -- decoding

    def code_log_p(self, prompts: Sequence[Sequence[int]], codes: Tensor) -> Tensor:
        """Compute log P of each code of IDs, [P, N, L], after prompts; `codes`: int64 [P, N, L]."""
        count, each, depth = codes.shape
        tokens, mask = self._filled(prompts, left=True)
        cache = self._cache()
        states = self.states(tokens, mask, cache)
        found = [self.level_log_p(0, states[:, -1]).gather(1, codes[..., 0])]
        if depth > 1:
            cache.reorder_cache(torch.arange(count, device=codes.device).repeat_interleave(each))
            starts = torch.from_numpy(self._starts[: depth - 1]).to(codes.device)
            after = (codes[..., :-1] + self.words + starts).view(count * each, depth - 1)
            wide = torch.cat([mask.repeat_interleave(each, 0), torch.ones_like(after)], 1)
            states = self.states(after, wide, cache)
            for level in range(1, depth):
                log_p = self.level_log_p(level, states[:, level - 1]).view(count, each, -1)
                found.append(log_p.gather(2, codes[..., level : level + 1])[..., 0])
        return torch.stack(found, -1)

    @torch.no_grad()
    def beam(
        self, prompts: Sequence[Sequence[int]], trie: TrieTensors, allowed: Tensor | None, width: int
    ) -> tuple[Tensor, Tensor]:
        """Search for the likeliest IDs after prompts, under a trie; see `coldstart.semantic_ids.decode.beam`."""
        tokens, mask = self._filled(prompts, left=True)
        cache = self._cache()
        states = self.states(tokens, mask, cache)
        before = 1

        def advance(level: int, above: Tensor, codes: Tensor) -> Tensor:
            nonlocal mask, before
            rows = torch.arange(len(prompts), device=above.device)[:, None] * before + above
            cache.reorder_cache(rows.flatten())
            mask = torch.cat([mask[rows.flatten()], mask.new_ones(rows.numel(), 1)], 1)
            before = above.shape[1]
            read = (codes + self.words + int(self._starts[level])).view(-1, 1)
            found = self.states(read, mask, cache)
            return self.level_log_p(level + 1, found[:, -1]).view(*codes.shape, -1)

        return search(trie, self.level_log_p(0, states[:, -1])[:, None], advance, allowed, width)

    # -- weights

    def trained(self) -> dict[str, nn.Parameter]:
        """Weights that learn, by name: low-rank pairs, and rows of codes."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def files(self) -> dict[str, bytes]:
        """Write the adapter and the rows as files of an artifact, by path; equal weights give equal bytes."""
        from peft import get_peft_model_state_dict
        from safetensors.torch import save

        assert self._tuned is not None, "of a model that was read there is nothing to write"
        tuned = self._tuned()
        config = tuned.peft_config["default"].to_dict()
        config |= {"target_modules": sorted(config["target_modules"]), "base_model_name_or_path": None,
                   "inference_mode": True}  # fmt: skip
        about = json.dumps({key: value for key, value in config.items() if _is_plain(value)}, sort_keys=True, indent=2)
        adapter = {name: _plain(weight) for name, weight in get_peft_model_state_dict(tuned).items()}
        rows = {"rows": _plain(self.rows), "out_rows": _plain(self.out_rows)}
        return {
            f"{_local.FOLDER}/{_local.CONFIG}": about.encode(),
            f"{_local.FOLDER}/{_local.WEIGHTS}": save(adapter),
            CODES_FILE: save(rows),
        }

    @classmethod
    def read(
        cls, folder: Path, name: str, sizes: Sequence[int], device: torch.device, dtype: torch.dtype
    ) -> CodeLanguageModel:
        """Read the model of an artifact: its base by name, the adapter in the base's weights, rows of codes.

        Raises:
            ColdstartError: peft is missing, the base is not on this machine, or a file is missing, damaged or made for
                another model.
        """
        check_installed()
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        again = "run `coldstart finetune recall`"
        try:
            place = _local.find_adapter(folder)
            rows = load_file(folder / CODES_FILE)
            base = load_base(name, device, torch.float32)
            made = cls(base, _local.apply_adapter(base.model, place, merge=True).to(dtype), sizes)
            wanted = {"rows": made.rows, "out_rows": made.out_rows}
            if set(rows) != set(wanted):
                raise ValueError(f"{CODES_FILE} holds {', '.join(sorted(rows))[:80]}")
            for key, weight in wanted.items():
                own = rows[key]
                if own.shape != weight.shape or own.dtype != torch.float32 or not bool(own.isfinite().all()):
                    raise ValueError(
                        f"{CODES_FILE}: {key} is of another shape than the model and the IDs, or not finite"
                    )
                with torch.no_grad():
                    weight.copy_(own)
        except (OSError, SafetensorError, ValueError, ColdstartError) as error:
            raise ColdstartError(f"{folder} holds no language model of semantic IDs ({error}): {again}") from None
        return made.requires_grad_(False).eval()


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def _plain(weight: Tensor) -> Tensor:
    return weight.detach().float().cpu().contiguous()


class LanguageDecoder:
    """Decoder of IDs by a language model; see `coldstart.semantic_ids.decode.CodeDecoder`.

    Args:
        load: gives the model, once it is asked for.
        codes: of N items, int [N, L]; those outside the model's levels are read as no ID.
        sizes: codes of each level; length: latest items of a history that are read.
    """

    def __init__(
        self, load: Callable[[], CodeLanguageModel], codes: NDArray[Any], sizes: Sequence[int], length: int
    ) -> None:
        self._load, self._length = load, length
        self._codes = codes.astype(np.int64)
        self._known: NDArray[np.bool_] = np.asarray(((codes >= 0) & (codes < np.array(sizes))).all(axis=1), bool)
        self._found: dict[tuple[bytes, int, bytes, bytes], tuple[Tensor, Tensor]] = {}

    @cached_property
    def model(self) -> CodeLanguageModel:
        """The model, loaded when it is first asked for."""
        return self._load()

    def prompt(self, history: NDArray[np.int64]) -> list[int]:
        """Tokens of a history: its latest items that have an ID."""
        return prompt_of(self.model, history[self._known[history]], self._codes, self._length)

    @torch.no_grad()
    def beam(
        self, histories: Sequence[NDArray[np.int64]], trie: TrieTensors, allowed: Tensor, width: int
    ) -> tuple[Tensor, Tensor]:
        masks = allowed.expand(len(histories), -1)
        packed = np.packbits(masks.cpu().numpy(), axis=1)
        items = sha1(trie.leaf_of.cpu().numpy().tobytes()).digest()
        keys = [(items, width, own.tobytes(), mask.tobytes()) for own, mask in zip(histories, packed, strict=True)]
        missing = [place for place, key in enumerate(keys) if key not in self._found]
        if len(self._found) + len(missing) > _REMEMBERED:
            self._found, missing = {}, list(range(len(keys)))
        prompts = {place: self.prompt(histories[place]) for place in missing}
        missing.sort(key=lambda place: len(prompts[place]))
        start = 0
        while start < len(missing):
            device = self.model.rows.device
            most = _TOKENS.get(device.type, _MORE_TOKENS)
            stop = start + 1
            while stop < len(missing) and (stop + 1 - start) * width * len(prompts[missing[stop]]) <= most:
                stop += 1
            own = missing[start:stop]
            nodes, log_p = self.model.beam([prompts[place] for place in own], trie, masks[own], width)
            short = width - nodes.shape[1]
            nodes = functional.pad(nodes, (0, short), value=-1)
            log_p = functional.pad(log_p, (0, short), value=-torch.inf)
            for row, place in enumerate(own):
                self._found[keys[place]] = nodes[row], log_p[row]
            start = stop
        found = [self._found[key] for key in keys]
        return torch.stack([nodes for nodes, _ in found]), torch.stack([log_p for _, log_p in found])

    @torch.no_grad()
    def log_p(self, history: NDArray[np.int64], codes: Tensor) -> Tensor:
        prompt = self.prompt(history)
        most = max(1, _TOKENS.get(codes.device.type, _MORE_TOKENS) // len(prompt))
        parts = [self.model.code_log_p([prompt], part[None])[0].sum(1) for part in torch.split(codes, most)]
        return torch.cat(parts)


def prompt_of(model: CodeLanguageModel, history: NDArray[np.int64], codes: NDArray[Any], length: int) -> list[int]:
    """Tokens of a history of items with IDs: words, then the IDs of the latest items."""
    return [*model.prompt, *(token for place in history[-length:] for token in model.code_ids(codes[place]))]
