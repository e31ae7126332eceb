"""Write the sentences of an answer: calls of tools by the conditions of a question, names of items, cites of fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from coldstart.serve.ask.answers import Answer, Cite, Sentence, Session
from coldstart.serve.ask.check import is_honest
from coldstart.serve.ask.understand import Asked
from coldstart.serve.bounded import MOST_BYTES
from coldstart.serve.tool_parts import MOST_PAGE
from coldstart.store.sql import equals, one_of

LISTED = 10
"""Items that an answer has a sentence for; it names all ids it found."""


class Refusal(Exception):  # noqa: N818  # an answer, no fault
    """Nothing in the catalogue answers the question."""


class Writer:
    """Calls and sentences of one answer."""

    def __init__(self, session: Session, asked: Asked, answer: Answer) -> None:
        self.session, self.asked, self.answer = session, asked, answer

    def _of(self, count: float) -> str:
        noun = self.asked.noun(count, bare=True)
        return self._counted(count).replace(noun, f"{noun} that", 1) if self._counted(count) != noun else noun

    def _fields(self, start: str) -> list[str]:
        return [name for name in self.session.tools.vocabulary().values if name.startswith(start)]

    def _aggregate(self, measure: str, of: str | None, **more: Any) -> Any:
        return self.session.call(
            "aggregate",
            measure=measure,
            of=of,
            kind=self.asked.kind,
            words=tuple(self.asked.words),
            words_in=self.asked.words_in,
            **{"where": self.asked.where(), **more},
        )

    def _list(self, dates: bool = True, kind: str | None = None, limit: int = MOST_PAGE, **order: Any) -> Any:
        asked = self.asked if dates else replace(self.asked, since=None, until=None)
        asked = replace(asked, kind=kind or asked.kind)
        found = self.session.call(
            "list_items",
            where=self.asked.where() if dates else self._without_dates(),
            kind=kind or self.asked.kind,
            words=tuple(self.asked.words),
            words_in=self.asked.words_in,
            limit=limit,
            max_bytes=MOST_BYTES,
            **order,
        )
        if not found.items:
            raise Refusal(f"no {asked.conditions()}")
        return found

    def _without_dates(self) -> str | None:
        return replace(self.asked, since=None, until=None).where()

    def _dates_where(self) -> str | None:
        return Asked("", since=self.asked.since, until=self.asked.until).where()

    def _narrowed(self) -> bool:
        asked = self.asked
        return self._conditioned() or bool(asked.values)

    def _counted(self, count: float) -> str:
        """Name what is counted; a number has no field that a colour or a maker could be read in."""
        noun = self.asked.noun(count, bare=True)
        if set(self.asked.values) <= {"category"} and not self._conditioned():
            return noun
        return f"{noun} {'meets' if count == 1 else 'meet'} the conditions"

    def _conditioned(self) -> bool:
        """Tell whether the question has conditions besides the values that it names."""
        asked = self.asked
        return bool(asked.excluded or asked.empty or asked.prices or asked.words or asked.since or asked.until)

    def _elsewhere(self) -> str:
        """Say where words stand that nobody says in a video."""
        if self.asked.words_in != "speech":
            return ""
        found = self.session.call("aggregate", where=self._dates_where(), kind=self.asked.kind, words=self.asked.words)
        return f"; {int(found.value)} have it in other texts: ask for videos with it" if found.value else ""

    def _note_words(self) -> None:
        """Note the words that must stand in texts: an item may be of that sort and not say so."""
        if self.asked.words:
            words = "”, “".join(self.asked.words)
            self.answer.notes.append(f"looked for in texts: “{words}”; items whose texts do not have it are left out")

    def _note_unknown(self) -> None:
        """Note how many items a condition on what they are not leaves out, as they have no value there."""
        for name in self.asked.excluded:
            if name in ("item_id", "kind", "tags"):
                continue
            rest = replace(self.asked, excluded={}).where()
            missing = f"{name} IS NULL" + f" AND {rest}" * (rest is not None)
            found = self.session.call("aggregate", where=missing, kind=self.asked.kind, words=tuple(self.asked.words))
            if found.value:
                field = name.rpartition(".")[2]
                self.answer.notes.append(f"{int(found.value):,} more have no {field} on record, and are left out")

    def _count_sentence(self, total: int) -> None:
        if total > LISTED:
            found = self._aggregate("count", None)
            call = len(self.session.steps)
            self._say(f"{int(found.value):,} {self._counted(found.value)}; the first are named.", call, "value")

    def _item_sentences(self, items: Sequence[Any], words: str = "", more: Sequence[Cite] = ()) -> None:
        for one in items:
            self.answer.items.append(one.item_id)
        for one in items[:LISTED]:
            name, cites = self._name(one.item_id)
            price = self._value_text(one.item_id, "price") if not words else ""
            if price:
                cites.append(Cite("price", one.item_id))
                cites += [self._currency(one.item_id)[1]] if self._currency(one.item_id)[0] else []
            for field, text in one.untrusted_match.items():
                if field != "title" and not words and is_honest(text) and text:
                    cites.append(Cite(field, one.item_id))
            if words or not cites:
                cites.append(Cite("kind", one.item_id))
            said = f" costs {price}" if price else f" {words}" if words else ""
            self._sentence(f"{name}{said}.", *cites, *more)

    def _title_sentence(self, item: str) -> None:
        if text := self._value_text(item, "title"):
            self._sentence(f"{item} is {text}.", Cite("title", item))

    def _value_text(self, item: str, field: str) -> str:
        text = self.session.fields.get(item, {}).get(field, "")
        if not text:
            return ""
        if field == "price":
            return f"{number(float(text))} {self._currency(item)[0]}".rstrip()
        if field == "created_at":
            return text[:10]
        return f"“{text}”" if may_show(text) else ""

    def _kind(self, item: str) -> str | None:
        kind = self.session.fields.get(item, {}).get("kind")
        if kind is None:
            found = self.session.call("list_items", where=equals("item_id", item), limit=1)
            kind = found.items[0].kind if found.items else None
        return kind

    def _say(self, text: str, call: int, field: str) -> None:
        self._sentence(text, Cite(field, call=call))

    def _sentence(self, text: str, *cites: Cite) -> None:
        self.answer.sentences.append(Sentence(text, cites))

    def _name_all(self, items: Sequence[str]) -> None:
        """Read titles and currencies of items, in one call, so that sentences can name them."""
        new = [one for one in items if "currency" not in self.session.fields.get(one, {})]
        if new and len(self.session.steps) < self.session.most_calls:
            where = one_of("item_id", new[:MOST_PAGE])
            self.session.call("list_items", where=where, limit=MOST_PAGE, max_bytes=MOST_BYTES)

    def _name(self, item: str) -> tuple[str, list[Cite]]:
        """Name an item by its title and id, with the cite of the title; by its id alone where no title may be shown."""
        title = self.session.fields.get(item, {}).get("title")
        return (f"“{title}” ({item})", [Cite("title", item)]) if may_show(title) else (item, [])

    def _currency(self, item: str) -> tuple[str, Cite]:
        unit = self.session.fields.get(item, {}).get("currency", "")
        return (unit if is_honest(unit) else ""), Cite("currency", item)


def may_show(text: str | None) -> bool:
    """Tell whether a text may stand in quotes in a sentence."""
    return bool(text) and is_honest(str(text)) and "”" not in str(text)


def label(field: str) -> str:
    """Name a field in a sentence."""
    if field == "created_at":
        return "Added"
    return field.rpartition(".")[2].replace("_", " ").capitalize()


def number(value: float) -> str:
    """Write a number with at most two decimals."""
    return f"{value:,.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"
