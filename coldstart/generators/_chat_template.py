"""Render chat messages as text and tokens of a prompt, alike for training and generation. Knows no model."""

from __future__ import annotations

from typing import Any


def plain(tokenizer: Any, text: str) -> str:
    """Break every special mark of the tokenizer in a text by a space, so that none becomes a special token.

    `<|im_end|>` reads `< |im_end|>` after it. Marks that only appear once others are broken are broken as well.
    """
    tokens = [*tokenizer.all_special_tokens, *tokenizer.added_tokens_decoder.values()]
    marks = sorted({mark for token in tokens if len(mark := str(token).strip()) > 1}, key=len, reverse=True)
    while found := [mark for mark in marks if mark in text]:
        for mark in found:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text


def render(tokenizer: Any, system: str, prompt: str) -> str:
    """Render system and user message in the model's own template, up to where its answer begins.

    Without a system message the template puts its own, if it has one. A template that takes none gets it before the
    user's message, as does a model without a template, which reads both as paragraphs.
    """
    system, prompt = plain(tokenizer, system), plain(tokenizer, prompt)
    user = {"role": "user", "content": prompt}
    if not getattr(tokenizer, "chat_template", None):
        return "\n\n".join(part for part in (system, prompt) if part) + "\n"
    if not system:
        return _applied(tokenizer, [user])
    try:
        return _applied(tokenizer, [{"role": "system", "content": system}, user])
    except Exception as error:  # jinja2's, by whatever words the template refuses
        if "system" not in str(error).lower():
            raise
        return _applied(tokenizer, [{"role": "user", "content": f"{system}\n\n{prompt}"}])


def prompt_ids(tokenizer: Any, system: str, prompt: str) -> list[int]:
    """Tokenize what `render` writes; the marks of the template alone are special tokens among them."""
    text = render(tokenizer, system, prompt)
    ids: list[int] = tokenizer(text, add_special_tokens=not getattr(tokenizer, "chat_template", None))["input_ids"]
    return ids


def completion_ids(tokenizer: Any, completion: str) -> list[int]:
    """Tokenize an answer, and append the token that ends it."""
    ids: list[int] = tokenizer(plain(tokenizer, completion), add_special_tokens=False)["input_ids"]
    return [*ids, tokenizer.eos_token_id]


def _applied(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    text: str = tokenizer.apply_chat_template(
        messages,
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,  # read by templates of models that can think first
    )
    return text
