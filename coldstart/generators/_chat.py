"""The chat completions protocol as plain data: what is sent for one request, and what an answer says.

Endpoints that speak it differ: some bind text to a JSON schema, some to any JSON object, some to nothing; some do not
know a parameter. A `Dialect` is one way to ask, `milder` the next one to try after an error 400. Sends nothing.

Sources: the OpenAI API reference for chat completions; llama-cpp-python's server, which takes a schema beside
`json_object` alone; and vLLM's server.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from coldstart.generators import Generation, Pixels, Request, Sampling
from coldstart.stage import Reject

FORMATS = ("json_schema", "json_object with schema", "json_object", "text")
"""Ways to ask for JSON, the most binding first."""
JPEG_QUALITY = 90
_MAX_WORDS = 300
TOO_LONG = re.compile(
    r"context.{0,3}(length|window|size)|maximum (model|context|prompt)|max_model_len|too (long|many tokens)", re.I
)
"""Errors that say that prompt and answer are over the model's context."""
_FILTERED = ("content_filter", "content_policy_violation")


@dataclass(frozen=True)
class Dialect:
    """One way to ask.

    Attributes:
        form: place in `FORMATS`.
        limit: name of the parameter that bounds the tokens of an answer.
        left_out: sampling parameters that the endpoint does not take.
    """

    form: int = 0
    limit: str = "max_tokens"
    left_out: frozenset[str] = frozenset()


def body(model: str, request: Request, sampling: Sampling, dialect: Dialect) -> dict[str, Any]:
    """The JSON body of one request.

    Where the endpoint does not get the schema by itself, it is told in the system message. Elsewhere the messages stay
    as they are, since a model may have been tuned on them.
    """
    form = FORMATS[dialect.form]
    system = request.system
    if request.schema is not None and form in ("json_object", "text"):
        told = f"Answer with one JSON object that this JSON schema allows: {json.dumps(request.schema)}"
        system = f"{system}\n{told}" if system else told
    content: Any = request.prompt
    if request.images:
        pictures = [{"type": "image_url", "image_url": {"url": data_url(pixels)}} for pixels in request.images]
        content = [*pictures, {"type": "text", "text": request.prompt}]
    messages = [{"role": "system", "content": system}] if system else []
    sent: dict[str, Any] = {
        "model": model,
        "messages": [*messages, {"role": "user", "content": content}],
        dialect.limit: sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
    }
    if request.schema is not None and form != "text":
        sent["response_format"] = _response_format(form, request.schema)
    return {name: value for name, value in sent.items() if name not in dialect.left_out}


def _response_format(form: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if form == "json_schema":
        # `strict` would refuse attributes that may be left out; servers that bind text to grammars bind it either way.
        return {"type": form, "json_schema": {"name": "description", "strict": False, "schema": schema}}
    return {"type": "json_object", "schema": schema} if form.endswith("schema") else {"type": form}


def data_url(pixels: Pixels) -> str:
    """uint8 [H, W, 3] RGB as the data URL of a JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def milder(dialect: Dialect, words: str, *, bound: bool) -> Dialect | None:
    """The next way to ask after an error 400 (or 422); None where there is none.

    Args:
        words: what the endpoint says of the error.
        bound: whether the request has a schema.
    """
    if "max_completion_tokens" in words and dialect.limit == "max_tokens":
        return replace(dialect, limit="max_completion_tokens")
    for name in ("seed", "top_p", "temperature"):
        if re.search(rf"\b{name}\b", words) and name not in dialect.left_out:
            return replace(dialect, left_out=dialect.left_out | {name})
    if bound and dialect.form + 1 < len(FORMATS):
        return replace(dialect, form=dialect.form + 1)
    return None


def fits(written: Generation | Reject, schema: Mapping[str, Any] | None) -> bool:
    """Whether an answer looks bound: a JSON object with what the schema requires, or one that was cut or refused."""
    if schema is None or isinstance(written, Reject) or written.finish == "length":
        return True
    try:
        found = json.loads(written.text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and set(schema.get("required", ())) <= found.keys()


def words_of(text: str) -> str:
    """What an error body says, on one line of printable characters.

    The message and code where it is in OpenAI's form or FastAPI's, else its beginning.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = text
    if isinstance(found, dict):
        error = found.get("error", found)
        if isinstance(error, dict):
            stated = [error.get(name) for name in ("message", "detail", "code", "param")]
            error = " ".join(one if isinstance(one, str) else json.dumps(one) for one in stated if one) or error
        found = error
    line = found if isinstance(found, str) else json.dumps(found)
    return " ".join("".join(mark if mark.isprintable() else " " for mark in line).split())[:_MAX_WORDS]


def item_fault(words: str) -> Reject | None:
    """The verdict on the item, where an error 400 is about its text or pictures."""
    if any(code in words for code in _FILTERED):
        return Reject("refused", words)
    return Reject("prompt_too_long", words) if TOO_LONG.search(words) else None


def read(answer: Any, estimate: tuple[int, int]) -> Generation | Reject:
    """What an answer says.

    Args:
        answer: the parsed JSON.
        estimate: (prompt, most new) tokens, for endpoints that state none.

    Raises:
        ValueError: it is no chat completion.
    """
    try:
        choice = answer["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text = message.get("content") or ""
        usage = answer.get("usage") or {}
        tokens = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
        refusal = message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"no chat completion: {type(error).__name__} {error}") from None
    if refusal or finish == "content_filter":
        return Reject("refused", words_of(str(refusal)) if refusal else "the endpoint's content filter cut the answer")
    if not isinstance(text, str):
        raise ValueError(f"no chat completion: content is {type(text).__name__}")
    prompt, new = (stated if isinstance(stated, int) else guess for stated, guess in zip(tokens, estimate, strict=True))
    return Generation(text, "length" if finish == "length" else "stop", prompt, new)
