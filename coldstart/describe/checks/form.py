"""Detect faults that a text shows by itself: injected instructions, refusals, loops, links, markup, length, policy.

Text of an item from an injected instruction on is no evidence, so that planted words cannot support claims. Known forms
of prompt injection are listed, in some languages; a new form is not recognised. Each fault is a reason and a detail.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from coldstart.core.sanitize import strip_invisible
from coldstart.describe.checks.contract import Rules
from coldstart.describe.checks.words import Tokens

_ORDER = r"(?:^|[\n.!?;:,)\]}>\"'”’]\s*|\b(?:please|must|should|shall|will|now|and|then|instead|simply|just)\s+)"
"""Place where a verb is an instruction: the start of a sentence, or after a word such as `please`."""


_ORDERS = r"(?:instructions?|prompts?|guidelines?|directions?|above)"


_WRITING = (
    r"(?:write|say|print|output|respond|reply|answer|repeat|return|state"
    r"|describe (?:it|this)(?: \w+)?|summari[sz]e(?: \w+)?)"
)


_FIELD = r"(?:price|brand|category|attributes?|summary|keywords?|gender)"


_FORMS = (
    rf"\b(?:ignor(?:e|ing)|disregard(?:ing)?|forget|override|bypass|skip)\s+(?:[a-z]+\s+){{0,3}}{_ORDERS}\b",
    r"\b(?:ignore|disregard|forget)\s+(?:what (?:was|is|came)|everything (?:above|before|you|so far))",
    r"\b(?:ignore|disregard|forget)\s+(?:all |any )?(?:the |your )?(?:previous|prior|above|earlier|preceding)\s+\w+",
    r"\b(?:new|updated)\s+(?:system\s+)?instructions?\s*:",
    r"\b(?:system|developer)\s+(?:prompt|message|override)\b",
    r"(?:^|[\n.!?;|\"'”(\[{>]\s*)(?:system|assistant|user|developer)\s*:\s*\S",
    r"\byou are (?:now|no longer|chatgpt|an? (?:ai|llm|assistant|chatbot|language model))\b",
    rf"{_ORDER}(?:act|behave|respond|answer|speak|talk|pretend)\s+(?:as (?:an?|if|the|dan)|to be|that you|like an?)\b",
    r"\bfrom now on,? (?:you|only|always|every)\b",
    rf"{_ORDER}{_WRITING}\s+(?:only|exactly|that|instead|the following|the words?|the sentence|in the style|as an?)\b",
    rf"{_ORDER}(?:write|say|reply|respond|answer)(?: with)?\s*[:\"“'‘`]",
    rf"\b(?:the|its) (?:correct|right|true|real|actual|only|final) (?:\w+ )?(?:answer|output|value|{_FIELD}) is\b",
    rf"{_ORDER}(?:set|change|make|put)\s+(?:the |its |all |every )?{_FIELD}\s+(?:to|as|=|be)\b",
    r"\bprice (?:is|must be|should be|=)\s*(?:now\s*)?(?:0(?![.,]?\d)|zero|free|nothing)",
    r"\b(?:note|message|attention|reminder|hint|dear|hey|hello)\s*,?\s*(?:to |for )?(?:the |any |all )?"
    r"(?:ai|llms?|language models?|chatgpt|assistant|chatbot)\b",
    r"\b(?:as an? (?:ai|language) (?:model|assistant)|dan mode|prompt injection|override mode)\b",
    r"ignorier\w* (?:alle|das|die|sie)|vergiss (?:alle|das)|negeer (?:alle|de|het)|ignorera (?:alla|allt|ovanst)",
    r"ignore[zr]? (?:toutes|les|ce qui)|oubliez|ignora[r]? (?:las|todas|todo|tutt|le |as |tudo|lo )",
    r"игнорируй|проигнорируй|забудь (?:все|всё)|忽略|无视|無視して|تجاهل|무시하|התעלם",
)


_MARKS = (
    r"<\s*/?\s*(?:item|system|user|assistant|instructions?|prompt|s)\s*>|<\||\|>|<<\s*/?sys",
    r"\[/?(?:inst|sys|system)\]|#{2,}\s*instruction",
    r"[\"'](?:summary|attributes|keywords|queries|role|content)[\"']\s*:\s*[\"'\[{]",
)


_FORM = re.compile("|".join(_FORMS), re.IGNORECASE)


_MARK = re.compile("|".join(_MARKS), re.IGNORECASE)


_SENTENCE = re.compile(r"[.!?;\n。！？]\s*|\s[-–—|•*#]\s")


def injection_start(text: str) -> int | None:
    """Find the first injected instruction, in characters: start of its sentence, or of a chat, fence or answer mark,
    which may follow honest words; None where there is neither."""
    mark = _MARK.search(text)
    end = mark.start() if mark else len(text)
    order = _FORM.search(text, 0, end)
    if order is None:
        return end if mark else None
    first = order.end() - len(order.group().lstrip(" \n.!?;:,)]}>\"'”’"))
    ends = (match.end() for match in _SENTENCE.finditer(text, 0, first))
    return max((end for end in ends if end <= first), default=0)


def injection_fault(text: str) -> tuple[str, str] | None:
    """Return a fault where a model's text has an instruction, repeated from an injected one."""
    start = injection_start(text)
    return None if start is None else ("order", f"it says {text[start : start + 40].strip()!r}")


@lru_cache(maxsize=64)
def evidence_text(text: str) -> str:
    """Return the part of a text before an injected instruction, on one line, without invisible characters."""
    return " ".join(evidence_lines(text).split())


def evidence_lines(text: str) -> str:
    """Return the same part with its lines."""
    seen = "\n".join(filter(None, map(strip_invisible, text.splitlines())))  # no two spaces in a row: forms stay linear
    return seen[: injection_start(seen)]


Fault = tuple[str, str]
"""Reason and detail."""


_REFUSALS = re.compile(
    r"\bas an? (?:ai|artificial intelligence|large language|language) (?:language )?(?:model|assistant)\b|^as an ai\b"
    r"|^(?:i'?m|i am) (?:sorry|afraid|unable|not able)\b|^sorry\b[,.!]? (?:but )?i\b|\bi apologi[sz]e\b"
    r"|\bi (?:can(?:no|')?t|can not|am unable to|am not able to|won'?t|will not)\b"
    r"|\bi (?:do not|don'?t) have (?:access|enough|any|the)\b"
    r"|\b(?:no|not enough|insufficient) (?:information|details|context|data) (?:is |was |were |are )?"
    r"(?:given|provided|available|to describe)\b"
    r"|\bplease provide\b|\bsure[,!] here\b|\bhere is (?:the|a|your) (?:json|description|summary)\b",
    re.IGNORECASE,
)


_LINK = re.compile(
    r"https?:|\bwww\.|\b[\w.+-]+@[\w-]+\.\w+|\b[a-z0-9][a-z0-9-]*\.(?:com|net|org|io|ru|cn|biz|info|xyz|top|shop|me|gg)\b"
    r"|javascript:|(?:\+|\b00)\d[\d ()-]{7,}\d",
    re.IGNORECASE,
)


_MARKUP = re.compile(r"<[/a-z!|?][^<>]*>|<\||\|>|\]\(|!\[|```|\{\{|\{%|[{}]|\[/?inst\]|\*\*|^#+ ", re.IGNORECASE)


_MAYBE_LINK = re.compile(r"[.:@+]|00")  # quick test: most texts have none of these


_MAYBE_MARKUP = re.compile(r"[<>{}\[\]`*#|]")


_RUN = 3  # words of a phrase


_TIMES = 3  # that it may stand, one less


def refusal_fault(text: str) -> Fault | None:
    """Return a fault where the model refuses or speaks of itself."""
    match = _REFUSALS.search(text)
    return ("refusal", f"it says {match.group()!r}") if match else None


def link_fault(text: str) -> Fault | None:
    """Return a fault where a text has a web address, e-mail address or phone number."""
    match = _LINK.search(text) if _MAYBE_LINK.search(text) else None
    return ("link", f"it has {match.group()!r}") if match else None


def markup_fault(text: str) -> Fault | None:
    """Return a fault where a text has marks of HTML, Markdown, a chat or JSON."""
    match = _MARKUP.search(text) if _MAYBE_MARKUP.search(text) else None
    return ("markup", f"it has {match.group()!r}") if match else None


def loop_fault(words: Tokens) -> Fault | None:
    """Return a fault where a word stands three times in a row, or a phrase of three words three times."""
    for place in range(2, len(words)):
        if words[place] == words[place - 1] == words[place - 2]:
            return "loop", f"{words[place]!r} stands 3 times in a row"
    if len(words) < _RUN * _TIMES:
        return None
    phrases = Counter(zip(*(words[start:] for start in range(_RUN)), strict=False))
    phrase, times = phrases.most_common(1)[0]
    return ("loop", f"{' '.join(phrase)!r} stands {times} times") if times >= _TIMES else None


def length_fault(text: str, most: int) -> Fault | None:
    """Return a fault where a text has more characters than its field may have."""
    return ("overlong", f"{len(text)} characters, and {most} are the most") if len(text) > most else None


def policy_fault(text: str, rules: Rules) -> Fault | None:
    """Return a fault where the safety policy scores a text too high."""
    for rule, score in sorted(rules.policy(text).items()) if rules.policy else ():
        if score >= rules.max_unsafe:
            return "unsafe", f"{rule} {score:g}, and {rules.max_unsafe:g} is too much"
    return None
