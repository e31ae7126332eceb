"""Check one answer of a model against the sources of its item: parse it, keep supported claims, cut the others.

JSON that was cut off is closed after its last whole value. Where no sentence is left, plain sentences of the item's
facts become the summary. Knows no table and no model.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from coldstart.core.attributes import Attribute
from coldstart.core.description import MAX_LISTED, MAX_SUMMARY, MAX_WORDS, Description, parse, split_sentences
from coldstart.core.language import detect_language, may_be_written_in
from coldstart.core.reasons import plain as plain_words
from coldstart.core.sanitize import strip_invisible
from coldstart.core.stage import Reject
from coldstart.describe.checks.claims import TextClaims, UngroundedClaim, form_fault, price_fault
from coldstart.describe.checks.claims import check_attributes as attribute_claims
from coldstart.describe.checks.contract import (
    APPROVED,
    REJECTION,
    REVIEW,
    Checked,
    Cut,
    Ground,
    Rules,
    Sources,
    Status,
)
from coldstart.describe.checks.form import Fault, evidence_text, policy_fault, refusal_fault
from coldstart.describe.checks.grounding import EvidenceIndex, listed_values
from coldstart.describe.checks.plain import plain_ground, sentences_of_texts
from coldstart.describe.checks.words import Tokens, numbers, tokens


def check_description(
    text: str, finish: str, attributes: Mapping[str, Attribute], sources: Sources, rules: Rules
) -> Checked:
    """Check an answer; a checked description stays the same when it is checked again.

    Sentences of a summary are checked one by one: one with an unsupported claim is cut, and so is one that only lists
    values or repeats the title. Where none is left the plain sentences of the item's facts stand in
    (`coldstart.describe.sentences`), and without facts the first sentence of its own description.

    Args:
        text: the model's answer; `finish`: `stop`, or `length` where it was cut off.
        attributes: those of the item's category.

    Raises:
        Reject: `nothing_grounded` (filtered): no claim has a ground, and nothing can stand in.
    """
    written, cut = parse_answer(text, finish, rules.output)
    written, sources = _as_decided(written, sources, rules)
    unread = bool(cut)
    values = listed_values(attributes)
    evidence = EvidenceIndex(sources, values, rules)
    applied = rules if policy_fault(_joined(written), rules) else replace(rules, policy=None)
    stay, gone = attribute_claims(written.attributes, attributes, evidence, applied)
    stated = {one.claim: one.value for one in stay}
    cut += gone
    lost = frozenset(word for one in gone for word in tokens(one.value))
    denied = frozenset((one.claim, one.value) for one in gone)
    claims = TextClaims(values, evidence, applied, tuple(stay), lost, denied)
    known = known_facts(stated, attributes, sources)
    plain = {
        one: plain_ground(one, known, attributes, sources)
        for one in fact_sentences(known, attributes, sources)
        if not _plain_fault(one, evidence, rules) and ("summary", one) not in rules.rejected
    }
    summary = ""
    if "summary" in rules.output:
        summary, found, faults = _summary(written.summary, plain, claims)
        stay += found
        cut += [one for one in faults if written.summary or not unread]  # of an unread answer that was said
    keywords = _listed("keyword", written.keywords, claims, stay, cut)
    queries = _listed("query", written.queries, claims, stay, cut)
    status: Status = "cut" if cut else "written"
    if not summary and ("summary" in rules.output or not (stated or keywords or queries)):
        fitting = list(plain)[_PRONOUN.match(next(iter(plain))) is not None :] if plain else []
        if fitting := _that_fit(fitting):
            summary = " ".join(fitting)
            stay += [plain[one] for one in fitting]
        elif own := fallback_text(sources, evidence, rules):
            summary, status = own[0], "fallback"
            stay.append(Ground("summary", summary, own[1], "the item's own text"))
    description = Description(summary, stated, keywords, queries)
    if not description:
        removed = ", ".join(dict.fromkeys(plain_words(one.reason) for one in cut))
        raise Reject(
            "nothing_grounded",
            f"{f'claims {removed}' if removed else 'empty'}; and nothing known of the item can stand in",
            "filtered",
        )
    return Checked(description, tuple(stay), tuple(cut), status, detect_language(summary))


def _as_decided(written: Description, sources: Sources, rules: Rules) -> tuple[Description, Sources]:
    """Add the attributes that people approved, and take what they rejected out of what supports claims."""
    if not (rules.approved or rules.rejected):
        return written, sources
    approved = {name: value for name, value in sorted(rules.approved) if name not in _TEXTS}

    def left(known: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
        return {
            name: {value: one for value, one in values.items() if (name, value) not in rules.rejected}
            for name, values in known.items()
        }

    facts = {name: value for name, value in sources.facts.items() if (name, value) not in rules.rejected}
    sources = replace(sources, facts=facts, seen=left(sources.seen), likely=left(sources.likely))
    return replace(written, attributes={**written.attributes, **approved}), sources


_TEXTS = ("summary", "keyword", "query", "text")
"""Claims that are no attributes."""


def _plain_fault(sentence: str, evidence: EvidenceIndex, rules: Rules) -> Fault | None:
    """Return a fault of a plain sentence, which may quote the seller; signs are read in their plain forms too."""
    return (
        form_fault(unicodedata.normalize("NFKC", sentence), MAX_SUMMARY)
        or price_fault(numbers(tokens(sentence)), evidence)
        or policy_fault(sentence, rules)
    )


def known_facts(stated: Mapping[str, str], attributes: Mapping[str, Attribute], sources: Sources) -> dict[str, str]:
    """Return the facts of an item: its record, claims that stay, and likely values."""
    facts = {name: str(sources.facts[name]) for name in attributes if name in sources.facts}
    for name, likely in sources.seen.items():
        if likely and name in attributes:
            facts.setdefault(name, stated.get(name) or max(likely, key=lambda value: likely[value]))
    known = {**stated, **facts}
    return {name: known[name] for name in attributes if name in known}


def fact_sentences(known: Mapping[str, str], attributes: Mapping[str, Attribute], sources: Sources) -> list[str]:
    """Return the plain sentences of the facts of an item."""
    found = sentences_of_texts(
        known,
        attributes,
        sources.texts,
        evidence=sources.evidence,
        kind=sources.kind,
        templates=sources.templates,
    )
    return split_sentences(found) if found else []


_PRONOUN = re.compile(r"(?:It|They|He|She|Its|Their)\b|(?:This|That|These|Those) (?:is|are|was|were|comes?|has|have)\b")
"""Beginning of a sentence that says nothing without the one before it."""


def _that_fit(sentences: Iterable[str]) -> list[str]:
    """Return the sentences that fit into a summary, in their order."""
    found: list[str] = []
    for one in sentences:
        if len(" ".join([*found, one])) <= MAX_SUMMARY:
            found.append(one)
    return found


_SEPARATOR = " item item item item "  # more words than may part a sign from what excuses it


def _joined(written: Description) -> str:
    """Join all texts for one call of the policy; single texts are scored only where the whole has a fault."""
    return _SEPARATOR.join((written.summary, *written.attributes.values(), *written.keywords, *written.queries))


def _summary(summary: str, plain: Mapping[str, Ground], claims: TextClaims) -> tuple[str, list[Ground], list[Cut]]:
    """Return the sentences of a summary that stay, their grounds, and what was cut of it."""
    rules = claims.rules
    if summary and ("summary", summary) in rules.approved:
        return summary, [Ground("summary", summary, REVIEW, APPROVED)], []
    fault = form_fault(summary, MAX_SUMMARY)
    prose = " ".join(one for one in split_sentences(summary) if one not in plain)  # plain ones may quote any language
    if fault is None and prose and not may_be_written_in(prose, rules.languages):
        may = ", ".join(rules.languages)
        fault = "wrong_language", f"it is in {detect_language(summary)}, and {may} may be written"
    if fault:
        return "", [], [Cut("summary", summary, *fault)]
    kept: dict[str, list[Ground]] = {}
    cut: list[Cut] = []
    lead = next((one for one in plain if not _PRONOUN.match(one)), None)
    for sentence in (sentences := split_sentences(summary)):
        found, fault = _sentence(sentence, plain, claims)
        decided = ("summary", sentence) in rules.approved
        if fault is None and not decided and not (kept or (lead and cut)) and _PRONOUN.match(sentence):
            fault = "no_antecedent", "the sentence before it is not there"
        if fault:
            cut.append(Cut("summary", sentence, *fault))
        else:
            kept[sentence] = found
    for question, answer in zip(sentences, [*sentences[1:], ""], strict=True):
        decided = ("summary", question) in rules.approved
        if question.endswith("?") and question in kept and answer not in kept and not decided:
            cut.append(Cut("summary", question, "no_antecedent", "the sentence after it is not there"))
            del kept[question]
    first = next(iter(kept.values()), [])
    if kept and lead and sentences[0] not in kept and lead not in kept and not claims.names_kind(first):
        kept = {lead: [plain[lead]], **kept}
        kept = {one: kept[one] for one in _that_fit(kept)}
    grounds = [one for found in kept.values() for one in found]
    own = [one for one in kept if one not in plain]
    words = tokens(" ".join(own))
    share = copied_share(words, (text for name, text in claims.evidence.texts.items() if name != "title"))
    if share > rules.max_copy and ("summary", " ".join(own)) not in rules.approved:
        fault = "copied", f"{share:.2f} of its words are a source's own, and {rules.max_copy:g} may be"
        return "", [], [*cut, Cut("summary", " ".join(own), *fault)]
    return " ".join(kept), grounds, cut


def _sentence(sentence: str, plain: Mapping[str, Ground], claims: TextClaims) -> tuple[list[Ground], Fault | None]:
    if ("summary", sentence) in claims.rules.approved:
        return [Ground("summary", sentence, REVIEW, APPROVED)], None
    if ("summary", sentence) in claims.rules.rejected:
        return [], REJECTION
    if fault := policy_fault(sentence, claims.rules):
        return [], fault
    if sentence in plain:
        return [plain[sentence]], None
    words = tokens(sentence)
    if words and words == claims.evidence.texts.get("title"):
        return [], ("title_again", "it is the item's title, which is shown anyway")
    try:
        found = claims.check("summary", sentence)
    except UngroundedClaim as ungrounded:
        return [], ungrounded.fault
    if claims.lists_values(words):
        return [], ("lists_values", "it lists values and says nothing of them")
    if sentence[-1] not in _ENDS:
        return [], ("no_end", "no mark ends it")
    if len(words) < LEAST_WORDS:
        return [], ("too_short", f"{len(words)} words, and {LEAST_WORDS} are the least of a sentence")
    return found, None


def _listed(
    claim: str, words: Sequence[str], claims: TextClaims, stay: list[Ground], cut: list[Cut]
) -> tuple[str, ...]:
    """Return the keywords or queries that stay, in their order; add the verdict on each to `stay` or `cut`."""
    listed: dict[tuple[str, ...], str] = {}
    for one in words:
        if (claim, one) in claims.rules.approved:
            listed[tokens(one)] = one
            stay.append(Ground(claim, one, REVIEW, APPROVED))
            continue
        fault: Fault | None = REJECTION if (claim, one) in claims.rules.rejected else None
        fault = fault or form_fault(one, MAX_WORDS) or policy_fault(one, claims.rules)
        if fault is None and tokens(one) in listed:
            fault = "duplicate", f"it is {listed[tokens(one)]!r} again"
        if fault is None and len(listed) >= MAX_LISTED:
            fault = "too_many", f"{MAX_LISTED} are the most"
        try:
            if fault is not None:
                raise UngroundedClaim(*fault)
            ground = claims.check(claim, one)[0]
        except UngroundedClaim as ungrounded:
            cut.append(Cut(claim, one, *ungrounded.fault))
        else:
            listed[tokens(one)] = one
            stay.append(Ground(claim, one, ground.ground, ground.detail))
    return tuple(listed.values())


_ENDS = '.!?…。！？।"”’»)]'
LEAST_WORDS = 3
"""Least words of a sentence that a model writes: "Missing office." is none."""
COPIED_RUN = 8
"""Words in a row that count as copied."""


def copied_share(summary: Tokens, sources: Iterable[Tokens]) -> float:
    """Return the share of a summary's words in long runs of one source, 0 to 1, the highest of all sources."""
    if len(summary) < COPIED_RUN:
        return 0.0
    runs = [f" {' '.join(summary[start : start + COPIED_RUN])} " for start in range(len(summary) - COPIED_RUN + 1)]
    best = 0
    for source in sources:
        if len(source) < COPIED_RUN:
            continue
        line = f" {' '.join(source)} "
        covered, end = 0, 0
        for start, run in enumerate(runs):
            if run in line:
                covered += start + COPIED_RUN - max(start, end)
                end = start + COPIED_RUN
        best = max(best, covered)
    return best / len(summary)


_FALLBACK_FIELDS = ("description",)


def fallback_text(sources: Sources, evidence: EvidenceIndex, rules: Rules) -> tuple[str, str] | None:
    """Return the first sentence of the first field that passes the checks, and the field; None where none does."""
    for field in _FALLBACK_FIELDS:
        text = _first_sentence(evidence_text(sources.texts.get(field) or ""))
        if ("summary", text) not in rules.rejected and not (
            form_fault(text, MAX_SUMMARY) or price_fault(numbers(tokens(text)), evidence) or policy_fault(text, rules)
        ):
            return text, field
    return None


def _first_sentence(text: str) -> str:
    first = split_sentences(text)[0]
    if len(first) <= MAX_SUMMARY:
        return first
    return first[: MAX_SUMMARY - 2].rsplit(" ", 1)[0].rstrip(",;:") + " …"


_QUOTED_LETTERS = 80


_FENCED = re.compile(r"\s*```(?:json)?\s*(.*?)\s*```\s*", re.DOTALL)


_JSON_MARKS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def parse_answer(text: str, finish: str, output: Sequence[str]) -> tuple[Description, list[Cut]]:
    """Parse an answer as a description, each text on one line; return it and what could not be parsed.

    Args:
        finish: `length` where the answer was cut off at its budget of tokens.
    """
    if fenced := _FENCED.fullmatch(text):
        text = fenced.group(1)
    try:
        return _strip_invisible(parse(text, output)), []
    except ValueError as error:
        fault = str(error)
    quoted = strip_invisible(text)[:_QUOTED_LETTERS]
    if finish == "length" and (closed := _close_json(text, output)):
        return _strip_invisible(closed), [
            Cut("text", strip_invisible(text)[-_QUOTED_LETTERS:], "cut_off", "it ends where its tokens were spent")
        ]
    if fault_found := refusal_fault(text):
        return Description(), [Cut("text", quoted, *fault_found)]
    return Description(), [Cut("text", quoted, "not_json" if fault.startswith("no JSON") else "wrong_fields", fault)]


def _strip_invisible(description: Description) -> Description:
    return Description(
        strip_invisible(description.summary),
        {strip_invisible(name): strip_invisible(value) for name, value in description.attributes.items()},
        tuple(strip_invisible(word) for word in description.keywords),
        tuple(strip_invisible(query) for query in description.queries),
    )


def _close_json(text: str, output: Sequence[str]) -> Description | None:
    """Parse JSON that was cut off, closed after its last whole value; None where that gives no description."""
    open_: list[str] = []
    ends: list[tuple[int, str]] = []  # where a value may end, and what would close the text there
    for match in _JSON_MARKS.finditer(text):
        mark = match.group()
        if mark in "[{":
            open_.append("]" if mark == "[" else "}")
        elif mark in "]}" and (not open_ or open_.pop() != mark):
            return None
        ends.append((match.end(), "".join(reversed(open_))))
    for end, closing in reversed(ends[-4:]):  # a key without its value is no end; there is one before it
        try:
            found: Any = json.loads(text[:end] + closing)
            return parse(json.dumps({name: found.get(name, _EMPTY[name]) for name in output} | found), output)
        except (ValueError, AttributeError, RecursionError):
            continue
    return None


_EMPTY: dict[str, Any] = {"summary": "", "attributes": {}, "keywords": [], "queries": []}
