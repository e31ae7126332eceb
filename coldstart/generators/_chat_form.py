"""Replace a model's chat template by one that only fills in texts, found by rendering the model's own once.

A template that came with a folder is a program, and may loop for ever. It is rendered in a process of its own
(`coldstart.generators._chat_probe`) with marks in place of the texts; what stands around the marks becomes a template
without loops or names, equal to the model's own for every text. A template of which that does not hold, because it
leaves a text out or says it twice, is refused. One that states the day states that of loading.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from coldstart.errors import ColdstartError

DEADLINE_S = 120.0
LONGEST_TEMPLATE = 200_000
MOST_AROUND = 20_000
"""Characters of a chat around its texts; the longest known has some thousands."""
_SYSTEM, _PROMPT = "qzsystemzq", "qzpromptzq"
_SPACE = " \n "


def bind_chat_template(tokenizer: Any, name: str, *, pictures: bool = False, **variables: Any) -> None:
    """Give a tokenizer or processor a template that only fills in texts, in place of its own; one without has none.

    Args:
        name: the model's, for messages.
        pictures: whether messages are lists of pictures and one text.
        variables: further ones for the template, such as `enable_thinking`.

    Raises:
        ColdstartError: its template takes too long, fails, or does not say each text once.
    """
    own = getattr(tokenizer, "chat_template", None)
    if isinstance(own, dict):
        own = own.get("default")
    if not own:
        return
    words = getattr(tokenizer, "tokenizer", tokenizer)
    marks = {key: str(value) for key, value in words.special_tokens_map.items() if isinstance(value, str)}
    given = json.dumps({**marks, **variables, "add_generation_prompt": True, "tools": None, "documents": None})
    tokenizer.chat_template = _fixed(own, name, pictures, given)
    _OWN[tokenizer] = own


_OWN: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def own_chat_template(tokenizer: Any) -> Any:
    """Return the template that a tokenizer came with, to be saved with a model made from it."""
    return _OWN.get(tokenizer, getattr(tokenizer, "chat_template", None))


def check_chat_template(folder: Path, name: str) -> None:
    """Refuse a folder with a chat template that does not end for two words, for a library that renders it itself.

    Raises:
        ColdstartError: it takes too much time or memory.
    """
    messages = _messages(True, False, "", 0)
    chat = {"messages": messages, "add_generation_prompt": True, "bos_token": "", "eos_token": ""}
    for template in dict.fromkeys(_templates_of(folder)):
        _rendered(template, [chat], name)


def _templates_of(folder: Path) -> Iterator[str]:
    """Yield the chat templates of a folder of a model, in each of the forms in which one may be stored."""
    for path in (folder / "chat_template.jinja", *sorted(folder.glob("additional_chat_templates/*.jinja"))):
        if path.is_file():
            yield path.read_text("utf-8", "replace")
    for path in (folder / "tokenizer_config.json", folder / "chat_template.json", folder / "processor_config.json"):
        stated = None
        with suppress(ValueError, RecursionError):  # what is no JSON holds no template
            stated = json.loads(path.read_bytes()) if path.is_file() else None
        own = stated.get("chat_template") if isinstance(stated, dict) else None
        if isinstance(own, list):  # of objects with name and template
            own = {place: one.get("template") for place, one in enumerate(own) if isinstance(one, dict)}
        for template in own.values() if isinstance(own, dict) else (own,):
            if isinstance(template, str):
                yield template


@lru_cache(maxsize=32)
def _fixed(template: str, name: str, pictures: bool, given: str) -> str:
    if len(template) > LONGEST_TEMPLATE:
        raise _fault(name, f"has more than {LONGEST_TEMPLATE:,} characters")
    chats = [
        {**json.loads(given), "messages": _messages(system, pictures, space, shown)}
        for system in (False, True)
        for space in ("", _SPACE)
        for shown in ((0, 1, 3) if pictures else (0,))
    ]
    answers = _rendered(template, chats, name)
    half = len(answers) // 2
    alone = _body(name, answers[:half], (_PROMPT,), pictures)
    if "error" in answers[half]:
        both = "{{ raise_exception('the template takes no system message') }}"
        if "system" not in str(answers[half]["error"]).lower() and "role" not in str(answers[half]["error"]).lower():
            raise _fault(name, f"fails ({answers[half]['error'][:200]})")
    else:
        both = _body(name, answers[half:], (_SYSTEM, _PROMPT), pictures)
    return "{% if messages[0]['role'] == 'system' %}" + both + "{% else %}" + alone + "{% endif %}"


def _messages(system: bool, pictures: bool, space: str, shown: int) -> list[dict[str, Any]]:
    def content(text: str, shown: int = 0) -> Any:
        text = f"{space}{text}{space}"
        return [*[{"type": "image"}] * shown, {"type": "text", "text": text}] if pictures else text

    first = [{"role": "system", "content": content(_SYSTEM)}] if system else []
    return [*first, {"role": "user", "content": content(_PROMPT, shown)}]


def _rendered(template: str, chats: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """Render in another process."""
    command = [sys.executable, "-P", "-m", "coldstart.generators._chat_probe"]
    request = json.dumps({"template": template, "chats": chats})
    try:
        done = subprocess.run(command, input=request, capture_output=True, text=True, timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise _fault(name, "does not end") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it was stopped"])[-1]
        raise _fault(name, f"takes too much time or memory ({last[:200]})")
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def _body(name: str, answers: Sequence[Mapping[str, Any]], marks: Sequence[str], pictures: bool) -> str:
    """Write the template of one shape of chat from its renderings: without and with space, for 0, 1 and 3 pictures."""
    texts = [str(answer.get("text", "")) for answer in answers]
    if fault := next((answer["error"] for answer in answers if "error" in answer), None):
        raise _fault(name, f"fails ({fault[:200]})")
    half = len(texts) // 2
    parts = _split(name, texts[0], marks)
    place, picture = _find_picture_text(name, *texts[:3]) if pictures else (0, "")
    written, at = "", 0
    for number, part in enumerate(parts):
        if pictures and at <= place <= at + len(part) and number == len(parts) - 2:
            inside = place - at
            each = "{% for c in messages[-1]['content'] if c['type'] == 'image' %}" + _literal(picture) + "{% endfor %}"
            written += _literal(part[:inside]) + each + _literal(part[inside:])
        else:
            written += _literal(part)
        at += len(part)
        if number < len(marks):
            whole = f"{_SPACE}{marks[number]}{_SPACE}" in texts[half]
            text = f"messages[{number}]['content']" + ("[-1]['text']" if pictures else "")
            written += "{{ " + text + ("" if whole else " | trim") + " }}"
            at += len(marks[number])
    return written


def _split(name: str, text: str, marks: Sequence[str]) -> list[str]:
    if len(text) > MOST_AROUND:
        raise _fault(name, f"writes {len(text):,} characters around two words")
    parts, rest = [], text
    for mark in marks:
        before, found, rest = rest.partition(mark)
        if not found or mark in rest:
            raise _fault(name, "does not say each text it is given once")
        parts.append(before)
    return [*parts, rest]


def _find_picture_text(name: str, none: str, one: str, three: str) -> tuple[int, str]:
    """Find what one picture puts into a chat, and where, from the chat with none, one and three of them."""
    extra = len(one) - len(none)
    for place in range(len(none) + 1 if extra >= 0 else 0):
        picture = one[place : place + extra]
        if none[:place] + picture + none[place:] == one and none[:place] + picture * 3 + none[place:] == three:
            return place, picture
    raise _fault(name, "does not put each picture before the text in the same form")


def _literal(text: str) -> str:
    """Write a text as an expression of Jinja, so that nothing in it is read as a template."""
    if not text:
        return ""
    plain = text.encode("unicode-escape").decode("ascii").replace("'", "\\'")
    return "{{ '" + plain + "' }}"


def _fault(name: str, words: str) -> ColdstartError:
    return ColdstartError(f"generator {name!r}: its chat template {words}: use another model")
