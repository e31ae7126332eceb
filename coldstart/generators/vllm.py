"""`vllm:NAME_OR_FOLDER`: a model of the hub or of a folder, run by vLLM in this process on CUDA devices.

vLLM batches and keeps the cache of keys and values itself, so a call hands over all its requests; what they have in
common at their beginning is computed once (prefix caching). Weights are safetensors only, code from a model's folder
is never run, and nothing is downloaded: a hub name is looked up in the local cache.

Written against the documentation and the source of vLLM 0.12 to 0.24, and tested with a stand-in that has the same
names. Never run with vLLM itself: there was no CUDA device to run it on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from coldstart.core.keys import digest
from coldstart.core.stage import Reject
from coldstart.errors import ColdstartError
from coldstart.generators import Generation, GeneratorPassport, Request, Sampling
from coldstart.generators._chat_client import TOO_LONG
from coldstart.generators._chat_form import check_chat_template
from coldstart.media.image import ImageTransform
from coldstart.models import install
from coldstart.models.folder import check_folder

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM has room for; an adapter takes the next one up."""
_BINDING = 1  # raised by hand when requests to vLLM change
_ADAPTER_ID = 1


class Vllm:
    """Generator by vLLM; see the module and `Generator`.

    Args:
        label: the model's name without folders of this machine.
        folder: its files.
        adapter: folder of a peft adapter, or None.
        image_side: the longer side of a picture in pixels; None: it takes none.
        pictures: the most that one request may have.
        settings: further settings of `vllm.LLM`.
    """

    def __init__(
        self,
        name: str,
        label: str,
        folder: Path,
        adapter: Path | None,
        image_side: int | None,
        pictures: int,
        context_tokens: int | None,
        settings: dict[str, Any],
    ) -> None:
        self.name, self.context_tokens = name, context_tokens
        self.image_transform = ImageTransform((image_side, image_side), "longest") if image_side else None
        self._label, self._folder, self._adapter, self._settings = label, folder, adapter, settings
        self._image_side, self._pictures = image_side, pictures

    def passport(self) -> GeneratorPassport:
        weights = {path.name: install.file_digest(path) for path in sorted(self._folder.glob("*.safetensors"))}
        words = {path.name: install.file_digest(path) for path in _text_files(self._folder)}
        template = {"files": words, "binding": _BINDING, "image_side": self._image_side}
        adapter = f"sha256:{install.file_digest(self._adapter / 'adapter_model.safetensors')}" if self._adapter else ""
        return GeneratorPassport(self._label, f"sha256:{digest(weights)}", adapter, digest(template))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(self._tokenizer.encode(text, add_special_tokens=False)) for text in texts]

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation | Reject]:
        """Generate as `Generator.generate`. Prompts over the context are turned away before anything is written.

        Raises:
            ColdstartError: vLLM is not installed, or a request has pictures and `image_side` is not set.
        """
        if self.image_transform is None and any(request.images for request in requests):
            raise ColdstartError(
                f"generator {self.name!r} shows no pictures: allow it by the option image_side, such as 768"
            )
        if not requests:
            return []
        context = self._engine.llm_engine.model_config.max_model_len
        results: list[Generation | Reject | None] = [self._too_long(one, sampling, context) for one in requests]
        open_ = [place for place, verdict in enumerate(results) if verdict is None]
        for place, written in zip(open_, self._chat([requests[place] for place in open_], sampling), strict=True):
            results[place] = written
        return [result for result in results if result is not None]

    def _too_long(self, request: Request, sampling: Sampling, context: int) -> Reject | None:
        """Return the verdict on a prompt whose words alone leave no room."""
        words = [{**message, "content": _words(message["content"])} for message in _messages(request)]
        text = self._tokenizer.apply_chat_template(words, add_generation_prompt=True, tokenize=False)
        (read,) = self.count_tokens([text])
        if read + sampling.max_new_tokens <= context:
            return None
        return Reject(
            "prompt_too_long", f"{read} tokens and {sampling.max_new_tokens} to write are over the context of {context}"
        )

    def _chat(self, requests: Sequence[Request], sampling: Sampling) -> list[Generation | Reject]:
        """Generate by vLLM. It refuses a whole call for one request whose pictures take too many tokens: halves are
        tried, down to that one."""
        if not requests:
            return []
        vllm = _vllm(self.name)
        lora = vllm.lora.request.LoRARequest("adapter", _ADAPTER_ID, str(self._adapter)) if self._adapter else None
        try:
            outputs = self._engine.chat(
                [_messages(request) for request in requests],
                [_parameters(vllm, request, sampling) for request in requests],
                use_tqdm=False,
                lora_request=lora,
            )
        except ValueError as error:
            if not TOO_LONG.search(str(error)):
                raise
            if len(requests) == 1:
                return [Reject("prompt_too_long", " ".join(str(error).split())[:300])]
            half = len(requests) // 2
            return [*self._chat(requests[:half], sampling), *self._chat(requests[half:], sampling)]
        return [_generation(output) for output in outputs]

    @cached_property
    def _engine(self) -> Any:
        check_chat_template(self._folder, self.name)
        limits = {"limit_mm_per_prompt": {"image": self._pictures}} if self.image_transform else {}
        lora = {"enable_lora": True, "max_lora_rank": _rank(self._adapter)} if self._adapter else {}
        return _vllm(self.name).LLM(
            model=str(self._folder),
            trust_remote_code=False,
            load_format="safetensors",
            enable_prefix_caching=True,
            generation_config="vllm",  # not the model's own defaults, which may bound or colour what is written
            # One form of white space, as descriptions are written everywhere else; a setting of the engine alone.
            structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
            **({"max_model_len": self.context_tokens} if self.context_tokens else {}),
            **limits,
            **lora,
            **self._settings,
        )

    @property
    def _tokenizer(self) -> Any:
        return self._engine.get_tokenizer()


def _messages(request: Request) -> list[dict[str, Any]]:
    from PIL import Image

    content: Any = request.prompt
    if request.images:
        pictures = [{"type": "image_pil", "image_pil": Image.fromarray(pixels)} for pixels in request.images]
        content = [*pictures, {"type": "text", "text": request.prompt}]
    system = [{"role": "system", "content": request.system}] if request.system else []
    return [*system, {"role": "user", "content": content}]


def _words(content: Any) -> str:
    return content if isinstance(content, str) else str(content[-1]["text"])


def _parameters(vllm: Any, request: Request, sampling: Sampling) -> Any:
    bound = vllm.sampling_params.StructuredOutputsParams(json=dict(request.schema)) if request.schema else None
    return vllm.SamplingParams(
        max_tokens=sampling.max_new_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        structured_outputs=bound,
    )


def _generation(output: Any) -> Generation:
    written = output.outputs[0]
    cut = written.finish_reason == "length"
    return Generation(written.text, "length" if cut else "stop", len(output.prompt_token_ids), len(written.token_ids))


def _vllm(name: str) -> Any:
    try:
        import vllm
        import vllm.lora.request
        import vllm.sampling_params
    except ImportError as error:
        raise ColdstartError(
            f"generator {name!r} needs vLLM, which cannot be imported here ({error}): run `pip install vllm` "
            "on a machine with CUDA, or serve the model and write openai:MODEL@BASE_URL"
        ) from error
    return vllm


def _rank(adapter: Path) -> int:
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    rank = max([config["r"], *config.get("rank_pattern", {}).values()])
    return next((room for room in LORA_RANKS if room >= rank), rank)


def _text_files(folder: Path) -> list[Path]:
    """Return the files that turn messages into tokens, and the configuration of the model."""
    return sorted(path for path in (*folder.glob("*.json"), *folder.glob("*.jinja"), *folder.glob("*.model")))


def build(
    rest: str,
    *,
    device: str,
    dtype: str,
    adapter: Path | None,
    image_side: int | None = None,
    pictures: int = 8,
    context_tokens: int | None = None,
    gpu_memory_utilization: float = 0.9,
    tensor_parallel_size: int = 1,
) -> Vllm:
    """Build the generator; imports no vLLM.

    Args:
        image_side: show pictures, their longer side at most this many pixels; None: show none.
        pictures: the most that one request may have.
        context_tokens: prompt and answer together; None: the model's own limit. Less leaves more room for batches.
        gpu_memory_utilization: share of a device's memory that vLLM takes.
        tensor_parallel_size: devices that share one model.

    Raises:
        ColdstartError: no such model on this machine, its weights are pickled, no adapter in that folder, or a device
            that is not CUDA.
    """
    name = f"vllm:{rest}"
    if device not in ("auto", "cuda"):
        raise ColdstartError(
            f"generator {name!r} runs on CUDA, not on device {device!r}: write device: auto, "
            "and choose among several by the environment variable CUDA_VISIBLE_DEVICES"
        )
    folder = Path(rest)
    label = f"vllm:{folder.resolve().name}" if rest and folder.is_dir() else name
    if not (rest and folder.is_dir()):
        folder = _cached(name, rest)
    if not any(folder.glob("*.safetensors")):
        raise ColdstartError(f"generator {name!r}: {folder} holds no weights (*.safetensors; pickles are not read)")
    check_folder(folder, f"generator {name!r}")
    if adapter is not None:
        adapter = adapter / "adapter"
        if not (adapter / "adapter_model.safetensors").is_file():
            raise ColdstartError(f"generator {name!r}: {adapter} holds no adapter_model.safetensors")
        check_folder(adapter, f"generator {name!r}", adapter=True)
    settings = {
        "dtype": dtype,
        "gpu_memory_utilization": gpu_memory_utilization,
        "tensor_parallel_size": tensor_parallel_size,
    }
    return Vllm(name, label, folder, adapter, image_side, pictures, context_tokens, settings)


def _cached(name: str, rest: str) -> Path:
    """Find the folder of a hub model in the local cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(rest, local_files_only=True))
    except LocalEntryNotFoundError:
        raise ColdstartError(
            f"generator {name!r}: {rest} is not in the local hub cache: run `hf download {rest}`, or write vllm:FOLDER"
        ) from None
    except HFValidationError as error:
        raise ColdstartError(f"generator {name!r}: {rest!r} is neither a folder nor a hub name") from error
