"""One answer of a model against all that is known of its item: what stays, on what ground, and what is cut, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from coldstart.attributes import Attribute
from coldstart.checks import schema
from coldstart.checks.attribute_claims import attributes as attribute_claims
from coldstart.checks.contract import Checked, Cut, Ground, Rules, Sources, Status
from coldstart.checks.copying import copied
from coldstart.checks.fallback import own_text
from coldstart.checks.form import Fault, unsafe
from coldstart.checks.grounding import Grounds, values_of
from coldstart.checks.language import is_written_in, language
from coldstart.checks.word_claims import Ungrounded, WordClaims, form
from coldstart.checks.words import tokens
from coldstart.description import MAX_LISTED, MAX_SUMMARY, MAX_WORDS, Description, sentence
from coldstart.stage import Reject


def check(text: str, finish: str, attributes: Mapping[str, Attribute], sources: Sources, rules: Rules) -> Checked:
    """What of an answer may be kept. A description that was checked stays as it is when it is checked again.

    A summary that claims what has no ground is replaced by its attributes as a sentence; without attributes, by the
    first sentence of the item's own best text.

    Args:
        text: the model's answer; `finish`: `stop`, or `length` where it was cut off.
        attributes: those of the item's category.

    Raises:
        Reject: `nothing_grounded` (filtered): no claim has a ground, and no text of the item can stand in.
    """
    written, cut = schema.read(text, finish, rules.output)
    unread = bool(cut)
    values = values_of(attributes)
    grounds = Grounds(sources, values, rules)
    asked = rules if unsafe(_joined(written), rules) else replace(rules, policy=None)
    stay, gone = attribute_claims(written.attributes, attributes, grounds, asked)
    stated = {one.claim: one.value for one in stay}
    cut += gone
    lost = frozenset(word for one in gone for word in tokens(one.value))
    claims = WordClaims(values, grounds, asked, tuple(stay), lost)
    summary, fault = written.summary, None
    if "summary" in rules.output:
        found, fault = _summary(summary, claims)
        stay += found
        if fault and (summary or not unread):  # of an answer that could not be read that was said
            cut.append(Cut("summary", summary, *fault))
    keywords = _listed("keyword", written.keywords, claims, stay, cut)
    queries = _listed("query", written.queries, claims, stay, cut)
    status: Status = "cut" if cut else "written"
    if fault or not (summary or stated or keywords or queries):
        summary = sentence(stated)
        stay += [Ground("summary", one.value, one.ground, one.detail) for one in claims.stated]
        if not summary and (own := own_text(sources, grounds, rules)):
            summary, status = own[0], "fallback"
            stay.append(Ground("summary", summary, own[1], "the item's own text"))
    description = Description(summary, stated, keywords, queries)
    if not description:
        reasons = ", ".join(dict.fromkeys(one.reason for one in cut)) or "empty"
        raise Reject("nothing_grounded", f"{reasons}; and no text of the item can stand in", "filtered")
    return Checked(description, tuple(stay), tuple(cut), status, language(summary))


_BETWEEN = " item item item item "  # more words than may part a sign from what excuses it


def _joined(written: Description) -> str:
    """All that was written, for one look at it: which piece is at fault is asked only where there is a fault."""
    return _BETWEEN.join((written.summary, *written.attributes.values(), *written.keywords, *written.queries))


def _summary(summary: str, claims: WordClaims) -> tuple[list[Ground], Fault | None]:
    rules = claims.rules
    if fault := form(summary, MAX_SUMMARY) or unsafe(summary, rules):
        return [], fault
    if not is_written_in(summary, rules.languages):
        return [], ("wrong_language", f"it is in {language(summary)}, and {', '.join(rules.languages)} may be written")
    try:
        found = claims.judge("summary", summary)
    except Ungrounded as ungrounded:
        return [], ungrounded.fault
    share = copied(tokens(summary), (text for name, text in claims.grounds.texts.items() if name != "title"))
    if share > rules.max_copy:
        return [], ("copied", f"{share:.2f} of its words are a source's own, and {rules.max_copy:g} may be")
    return found, None


def _listed(
    claim: str, words: Sequence[str], claims: WordClaims, stay: list[Ground], cut: list[Cut]
) -> tuple[str, ...]:
    """The keywords or queries that are kept, in their order; the verdict on each goes into `stay` or `cut`."""
    kept: dict[tuple[str, ...], str] = {}
    for one in words:
        fault: Fault | None = form(one, MAX_WORDS) or unsafe(one, claims.rules)
        if fault is None and tokens(one) in kept:
            fault = "duplicate", f"it is {kept[tokens(one)]!r} again"
        if fault is None and len(kept) >= MAX_LISTED:
            fault = "too_many", f"{MAX_LISTED} are the most"
        try:
            if fault is not None:
                raise Ungrounded(*fault)
            ground = claims.judge(claim, one)[0]
        except Ungrounded as ungrounded:
            cut.append(Cut(claim, one, *ungrounded.fault))
        else:
            kept[tokens(one)] = one
            stay.append(Ground(claim, one, ground.ground, ground.detail))
    return tuple(kept.values())
