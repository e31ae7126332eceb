"""One answer of a model against all that is known of its item: what stays, on what ground, and what is cut, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from coldstart.attributes import Attribute
from coldstart.checks import schema
from coldstart.checks.attribute_claims import attributes as attribute_claims
from coldstart.checks.contract import Checked, Cut, Ground, Rules, Sources, Status
from coldstart.checks.copying import copied
from coldstart.checks.fallback import own_text
from coldstart.checks.form import Fault, unsafe
from coldstart.checks.grounding import Grounds, values_of
from coldstart.checks.language import is_written_in, language
from coldstart.checks.word_claims import WordClaims, form
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
    values = values_of(attributes)
    grounds = Grounds(sources, values, rules)
    stay, gone = attribute_claims(written.attributes, attributes, grounds, rules)
    stated = {one.claim: one.value for one in stay}
    claims = WordClaims(values, grounds, rules, tuple(stay))
    cut += gone
    status: Status = "written"

    summary = written.summary
    found, fault = _summary(summary, claims, rules) if "summary" in rules.output else ([], None)
    if fault and not (cut and not summary):  # an answer that could not be read says so once
        cut.append(Cut("summary", summary, *fault))
    if fault or not (summary or stated or written.keywords or written.queries):
        summary, found = sentence(stated), [Ground("summary", one.value, one.ground, one.detail) for one in stay]
        if not summary and (own := own_text(sources, grounds, rules)):
            summary, status = own[0], "fallback"
            found = [Ground("summary", summary, own[1], "the item's own text")]
    stay += found

    lists: dict[str, tuple[str, ...]] = {}
    for claim, words in (("keyword", written.keywords), ("query", written.queries)):
        kept = []
        for one, verdict in zip(words, _listed(claim, words, claims, rules), strict=True):
            if isinstance(verdict, Ground):
                stay.append(verdict)
                kept.append(one)
            else:
                cut.append(verdict)
        lists[claim] = tuple(kept)
    description = Description(summary, stated, lists["keyword"], lists["query"])
    if not description:
        reasons = ", ".join(dict.fromkeys(one.reason for one in cut)) or "empty"
        raise Reject("nothing_grounded", f"{reasons}; and no text of the item can stand in", "filtered")
    if status == "written" and cut:
        status = "cut"
    return Checked(description, tuple(stay), tuple(cut), status, language(summary))


def _summary(summary: str, claims: WordClaims, rules: Rules) -> tuple[list[Ground], Fault | None]:
    if fault := form(summary, MAX_SUMMARY) or unsafe(summary, rules):
        return [], fault
    if not is_written_in(summary, rules.languages):
        return [], ("wrong_language", f"it is in {language(summary)}, and {', '.join(rules.languages)} may be written")
    found, fault = claims.judge("summary", summary)
    if fault:
        return [], fault
    share = copied(tokens(summary), (text for name, text in claims.grounds.texts.items() if name != "title"))
    if share > rules.max_copy:
        return [], ("copied", f"{share:.2f} of its words are a source's own, and {rules.max_copy:g} may be")
    return found, None


def _listed(claim: str, words: Sequence[str], claims: WordClaims, rules: Rules) -> Iterator[Ground | Cut]:
    """The verdict on each keyword or query, in their order."""
    seen: set[tuple[str, ...]] = set()
    for one in words:
        folded = tokens(one)
        if folded and folded in seen:
            yield Cut(claim, one, "duplicate", "it stands there before")
        elif len(seen) >= MAX_LISTED:
            yield Cut(claim, one, "too_many", f"{MAX_LISTED} are the most")
        elif fault := form(one, MAX_WORDS) or unsafe(one, rules):
            yield Cut(claim, one, *fault)
        else:
            found, fault = claims.judge(claim, one)
            if fault:
                yield Cut(claim, one, *fault)
            else:
                seen.add(folded)
                ground = found[0] if found else Ground(claim, one, "", "")
                yield Ground(claim, one, ground.ground, ground.detail)
