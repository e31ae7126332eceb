"""Answer a question without a model: a router from intents to calls of tools, and sentences by template.

It plans by fixed rules and writes by fixed templates, so it states nothing that a tool did not return. What it does not
understand it refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from coldstart.errors import ColdstartError
from coldstart.serve.ask.answers import Answer, CallsSpentError, Cite, Sentence, Session
from coldstart.serve.ask.check import check_all, is_honest
from coldstart.serve.ask.understand import Asked, understand
from coldstart.serve.bounded import MOST_BYTES, without_places
from coldstart.serve.tools import MOST_PAGE
from coldstart.serve.vocabulary import normal

NAME = "router"
LISTED = 10
"""Items that an answer has a sentence for; it names all ids it found."""
FOUND_SCORE = 0.6
SHOWN_SHARE, SHOWN_SCORE = 0.4, 0.1
"""Share of the best score, and least score, of a product that a video is said to show. Of shares .2 to .8 and scores 0
to .3, what found most products of half of the sample's videos at a precision of .8."""
_MATCHED = 4
_ALIKE = 5
_FEATURES = ("price", "category", "creator", "attributes.colour", "created_at", "kind")


class Refusal(Exception):  # noqa: N818  # an answer, no fault
    """Nothing in the catalogue answers the question."""


def answer_by_rules(session: Session, question: str, now: datetime | None = None) -> Answer:
    """Answer a question by the intent that its rules find."""
    asked = understand(question, session.tools.vocabulary(), now)
    session.named = set(asked.items)
    answer = Answer(question, NAME, asked.intent)
    try:
        if asked.negated:
            raise Refusal("the router reads no negations: ask for what it is, in place of what it is not")
        written = _Writer(session, asked, answer)
        _INTENTS[asked.intent](written)
        if asked.follow:
            written.follow()
    except Refusal as refusal:
        answer.why = str(refusal)
    except CallsSpentError as error:
        answer.why = str(error)
    except ColdstartError as error:
        answer.why = without_places(str(error))
        answer.sentences, answer.items, answer.value = [], [], None
    answer.sentences, answer.cut = check_all(answer.sentences, session, question)
    answer.refused = not answer.sentences
    if answer.refused:
        answer.items, answer.value = [], None
    return answer


class _Writer:
    """Calls and sentences of one answer."""

    def __init__(self, session: Session, asked: Asked, answer: Answer) -> None:
        self.session, self.asked, self.answer = session, asked, answer

    # -- intents

    def filter(self) -> None:
        if not (self._narrowed() or self.asked.kind):
            raise Refusal("the question names nothing that the catalogue knows")
        found = self._list()
        self._count_sentence(found.total)
        self._item_sentences(found.items)

    def count(self) -> None:
        if not (self._narrowed() or self.asked.kind) and not _is_bare_count(self.asked.question):
            raise Refusal("the question names nothing that the catalogue knows")
        found = self._aggregate("count", None)
        if not found.value:
            raise Refusal("no item meets the conditions")
        call = len(self.session.steps)
        self.answer.value = found.value
        self._say(
            f"{int(found.value)} {'item meets' if found.value == 1 else 'items meet'} the conditions.", call, "value"
        )

    def average(self) -> None:
        self._number("avg", "the average price is")

    def total(self) -> None:
        self._number("sum", "the prices add up to")

    def groups(self) -> None:
        if self.asked.group is None:
            raise Refusal("no field of that name")
        measure = "avg" if "average" in self.asked.question.lower() else "count"
        found = self.session.call(
            "aggregate",
            measure=measure,
            of="price" if measure == "avg" else None,
            group_by=self.asked.group,
            where=self.asked.where(),
            kind=self.asked.kind,
            words=tuple(self.asked.words),
            max_bytes=MOST_BYTES,
        )
        call = len(self.session.steps)
        named = [one for one in found.groups if one.untrusted_group and one.value is not None]
        if not named:
            raise Refusal("no item meets the conditions")
        for one in named[:20]:
            if is_honest(one.untrusted_group):
                self._say(f"“{one.untrusted_group}”: {_number(one.value)}.", call, one.untrusted_group)

    def cheapest(self) -> None:
        self._ranked("price", False, "costs")

    def dearest(self) -> None:
        self._ranked("price", True, "costs")

    def newest(self) -> None:
        self._ranked("created_at", True, "was added at")

    def oldest(self) -> None:
        self._ranked("created_at", False, "was added at")

    def compare(self) -> None:
        first, second = self.asked.items[:2]
        self.session.call("compare_items", item_ids=(first, second))
        fields = self.session.fields
        named: list[str] = []
        for name in _FEATURES:
            values = [fields[item].get(name) for item in (first, second)]
            field = name
            if None in values or "" in values:
                continue
            if values[0] == values[1]:
                continue
            left, right = (self._value_text(item, field) for item in (first, second))
            if left and right:
                named.append(name)
                self._sentence(
                    f"{_label(name)}: {left} for {first}, {right} for {second}.",
                    Cite(field, first),
                    Cite(field, second),
                )
        if not named:
            for item in (first, second):
                self._title_sentence(item)
        self.answer.items = [first, second]
        asks = self.asked.question.lower()
        for field, words, largest in (
            ("price", ("cheaper", "cheapest", "less expensive", "costs less", "less"), False),
            ("price", ("dearer", "more expensive", "pricier", "costs more"), True),
            ("created_at", ("newer", "newest", "more recent", "later"), True),
            ("created_at", ("older", "oldest", "earlier"), False),
        ):
            if any(word in asks for word in words):
                stated = {item: fields[item].get(field) for item in (first, second)}
                if None in stated.values() or len(set(stated.values())) < 2:
                    break
                known = {item: str(value) for item, value in stated.items()}
                keyed: list[tuple[Any, str]] = [
                    (float(value) if field == "price" else value, item) for item, value in known.items()
                ]
                best = sorted(keyed)[-1 if largest else 0][1]
                self.answer.items = [best]
                self.answer.sentences.insert(0, Sentence(f"It is {best}.", (Cite(field, first), Cite(field, second))))
                break

    def fact(self) -> None:
        item = self.asked.items[0]
        self.session.call("item", item_id=item)
        own = self.session.fields[item]
        asks = self.asked.question.lower()
        wanted = [
            field
            for field, words in (
                ("price", ("price", "cost", "how much", "expensive", "cheap")),
                ("attributes.colour", ("colour", "color")),
                ("creator", ("who make", "who made", "who sell", "maker", "creator", "brand", "who is")),
                ("category", ("category", "kind of", "sort of")),
                ("created_at", ("when", "added", "uploaded", "how old", "how new")),
            )
            if re.search(rf"\b(?:{'|'.join(words)})", asks)
        ]
        if "attributes.colour" in wanted and "attributes.colour" not in own:
            wanted[wanted.index("attributes.colour")] = next(
                (name for name in own if name.endswith((".color", ".Colour", ".Color"))), "attributes.colour"
            )
        for field in wanted or ["title", "category", "price", "creator"]:
            if text := self._value_text(item, field):
                self._sentence(f"{_label(field)} of {item}: {text}.", Cite(field, item))
                if field == "price":
                    self.answer.value = float(own["price"])
        if not self.answer.sentences:
            raise Refusal(f"{item} has no such field")
        self.answer.items = [item]

    def shown(self) -> None:
        known = self.session.tools.vocabulary()
        videos = [item for item in self.asked.items if self._kind(item) == "video"]
        if videos:
            self._shown_in(videos[0])
            return
        products = [item for item in self.asked.items if self._kind(item) == "product"]
        if not products:
            found = self._list(kind="product", limit=2, dates=False)
            products = [one.item_id for one in found.items]
        found_in: dict[str, Sentence] = {}
        for product in products[:1]:
            title = normal(known.titles.get(product, ""))
            if title:
                self._spoken_videos(title, product, found_in)
            near = self.session.call(
                "similar", item_id=product, kind="video", where=self._dates_where(), limit=_MATCHED
            )
            for one in near.items:
                if one.item_id in found_in or len(self.session.steps) >= self.session.most_calls - self.asked.follow:
                    continue
                matched = self.session.call("match", item_id=one.item_id, limit=3)
                top = matched.items[0].score if matched.items else 0
                for hit in matched.items:
                    if (
                        hit.item_id == product
                        and hit.score >= max(SHOWN_SHARE * top, SHOWN_SCORE)
                        and hit.frame_s is not None
                    ):
                        found_in[one.item_id] = Sentence(
                            f"{one.item_id} shows {product} at {_number(round(hit.frame_s, 2))} s.",
                            (Cite("shows", one.item_id), Cite("frame_s", product)),
                        )
        if not found_in:
            raise Refusal("no video is known to show it")
        self.answer.sentences += found_in.values()
        self.answer.items = list(found_in)

    def spoken(self) -> None:
        self._in_video("speech", "transcript", "is said")

    def screen(self) -> None:
        self._in_video("screen", "screen_text", "stands on the screen")

    def similar(self) -> None:
        item = self.asked.items[0]
        found = self.session.call(
            "similar", item_id=item, kind=self.asked.kind, where=self.asked.where(), limit=self.asked.limit or _ALIKE
        )
        if not found.items:
            raise Refusal("no item is near to it")
        self._item_sentences(found.items, f"is near to {item}")

    def find(self) -> None:
        text = " ".join(self.asked.words) or self.asked.question
        found = self.session.call("search", text=text, kind=self.asked.kind, where=self.asked.where(), limit=_ALIKE)
        near = [one for one in found.items if one.score >= FOUND_SCORE]
        if not near:
            raise Refusal("nothing is near in meaning")
        self._item_sentences(near)

    def audience(self) -> None:
        items = self.asked.items
        if not items:
            if not self._narrowed():
                raise Refusal("the question names no item")
            items = [one.item_id for one in self._list(limit=3).items]
        for item in items[:3]:
            self._audience_of(item)
        self.answer.items = items[:3]

    def recommend(self) -> None:
        if self.asked.user is None:
            raise Refusal("the question names no user")
        found = self.session.call(
            "recommend",
            user=self.asked.user,
            kind=self.asked.kind,
            where=self.asked.where(),
            limit=self.asked.limit or _ALIKE,
        )
        if not found.items:
            raise Refusal("no item is left for this user")
        self._item_sentences(found.items)

    # -- parts

    def follow(self) -> None:
        """Say who should see what was found."""
        for item in self.answer.items[:3]:
            self._audience_of(item)

    def _audience_of(self, item: str) -> None:
        found = self.session.call("audience", item_id=item, limit=_ALIKE)
        if found.people:
            people = ", ".join(one.user_id for one in found.people)
            self._sentence(f"Most likely to like {item}: “{people}”.", Cite("audience", item))

    def _shown_in(self, video: str) -> None:
        found = self.session.call("match", item_id=video, limit=5)
        top = found.items[0].score if found.items else 0.0
        for one in found.items:
            if one.score < max(SHOWN_SHARE * top, SHOWN_SCORE):
                continue
            at = f" at {_number(round(one.frame_s, 2))} s" if one.frame_s is not None else ""
            self._sentence(
                f"{video} shows {one.item_id}{at}.", Cite("shows", video), *([Cite("frame_s", one.item_id)] * bool(at))
            )
            self.answer.items.append(one.item_id)
        if not self.answer.items:
            raise Refusal("no product of the catalogue is known to be in it")

    def _spoken_videos(self, title: str, product: str, found_in: dict[str, Sentence]) -> None:
        where = self._dates_where()
        found = self.session.call("list_items", kind="video", where=where, words=(title,), words_in="all", limit=_ALIKE)
        for one in found.items:
            field, text = next(iter(one.untrusted_match.items()))
            if field in ("transcript", "screen_text", "title", "tags") and is_honest(text):
                found_in[one.item_id] = Sentence(
                    f"{one.item_id} names {product}: “{text}”.", (Cite(field, one.item_id),)
                )

    def _in_video(self, words_in: str, field: str, words: str) -> None:
        texts = [*self.asked.words, *(value for values in self.asked.values.values() for value in values[:1])]
        known = self.session.tools.vocabulary()
        texts += [
            known.titles[item] for item in self.asked.items if item in known.titles and self._kind(item) != "video"
        ]
        found = self.session.call(
            "list_items",
            kind="video" if words_in == "speech" else self.asked.kind,
            where=self._dates_where(),
            words=tuple(texts[:8]),
            words_in=words_in,
            limit=MOST_PAGE,
            max_bytes=MOST_BYTES,
        )
        if not found.items:
            raise Refusal("no item has these words")
        for one in found.items:
            text = one.untrusted_match.get(field, "")
            if is_honest(text):
                self._sentence(f"In {one.item_id} {words}: “{text}”.", Cite(field, one.item_id))
                self.answer.items.append(one.item_id)

    def _ranked(self, field: str, descending: bool, verb: str) -> None:
        found = self._list(order_by=field, descending=descending, limit=MOST_PAGE)
        wanted = self.asked.limit or 1
        chosen = list(found.items[:wanted])
        last = getattr(chosen[-1], field)
        chosen += [one for one in found.items[wanted:] if getattr(one, field) == last]  # as cheap as the last
        for one in chosen:
            value = _number(one.price) if field == "price" else one.created_at
            name = f"“{one.untrusted_title}” ({one.item_id})" if _may_show(one.untrusted_title) else one.item_id
            cites = [Cite(field, one.item_id), *([Cite("title", one.item_id)] * ("“" in name))]
            self._sentence(f"{name} {verb} {value}.", *cites)
            self.answer.items.append(one.item_id)
        if field == "price" and chosen:
            self.answer.value = chosen[0].price

    def _number(self, measure: str, words: str) -> None:
        if not (self._narrowed() or self.asked.kind) and "all" not in self.asked.question.lower().split():
            raise Refusal("the question names nothing that the catalogue knows")
        found = self._aggregate(measure, "price")
        if found.value is None or not found.items:
            raise Refusal("no item that meets the conditions has a price")
        call = len(self.session.steps)
        self.answer.value = float(found.value)
        self._sentence(
            f"Over {found.items} items {words} {_number(found.value)}.",
            Cite("value", call=call),
            Cite("items", call=call),
        )

    def _aggregate(self, measure: str, of: str | None) -> Any:
        return self.session.call(
            "aggregate",
            measure=measure,
            of=of,
            where=self.asked.where(),
            kind=self.asked.kind,
            words=tuple(self.asked.words),
        )

    def _list(self, dates: bool = True, kind: str | None = None, limit: int = MOST_PAGE, **order: Any) -> Any:
        found = self.session.call(
            "list_items",
            where=self.asked.where() if dates else self._without_dates(),
            kind=kind or self.asked.kind,
            words=tuple(self.asked.words),
            limit=limit,
            max_bytes=MOST_BYTES,
            **order,
        )
        if not found.items:
            raise Refusal("no item meets the conditions")
        return found

    def _without_dates(self) -> str | None:
        from dataclasses import replace

        return replace(self.asked, since=None, until=None).where()

    def _dates_where(self) -> str | None:
        return Asked("", since=self.asked.since, until=self.asked.until).where()

    def _narrowed(self) -> bool:
        asked = self.asked
        return bool(asked.values or asked.prices or asked.words or asked.since or asked.until)

    def _count_sentence(self, total: int) -> None:
        if total > LISTED:
            found = self._aggregate("count", None)
            call = len(self.session.steps)
            self._say(f"{int(found.value)} items meet the conditions; the first are named.", call, "value")

    def _item_sentences(self, items: Sequence[Any], words: str = "") -> None:
        for one in items:
            self.answer.items.append(one.item_id)
        for one in items[:LISTED]:
            shown = _may_show(one.untrusted_title)
            name = f"“{one.untrusted_title}” ({one.item_id})" if shown else one.item_id
            price = f" costs {_number(one.price)}" if one.price is not None and not words else ""
            cites = [Cite("title", one.item_id)] * shown + [Cite("price", one.item_id)] * bool(price)
            for field, text in one.untrusted_match.items():
                if field != "title" and not words and is_honest(text) and text:
                    cites.append(Cite(field, one.item_id))
            if words or not cites:
                cites.append(Cite("kind", one.item_id))
            self._sentence(f"{name}{price}{f' {words}' if words else ''}.", *cites)

    def _title_sentence(self, item: str) -> None:
        if text := self._value_text(item, "title"):
            self._sentence(f"{item} is {text}.", Cite("title", item))

    def _value_text(self, item: str, field: str) -> str:
        text = self.session.fields.get(item, {}).get(field, "")
        if not text:
            return ""
        if field == "price":
            return _number(float(text))
        if field == "created_at":
            return text
        return f"“{text}”" if _may_show(text) else ""

    def _kind(self, item: str) -> str | None:
        kind = self.session.fields.get(item, {}).get("kind")
        if kind is None:
            found = self.session.call("list_items", where=f"item_id = '{item.replace(chr(39), chr(39) * 2)}'", limit=1)
            kind = found.items[0].kind if found.items else None
        return kind

    def _say(self, text: str, call: int, field: str) -> None:
        self._sentence(text, Cite(field, call=call))

    def _sentence(self, text: str, *cites: Cite) -> None:
        self.answer.sentences.append(Sentence(text, cites))


def _may_show(text: str | None) -> bool:
    return bool(text) and is_honest(str(text)) and "”" not in str(text)


def _is_bare_count(question: str) -> bool:
    words = normal(question).split()
    return (
        words[:2] == ["how", "many"]
        and bool({"item", "product", "video", "clip"}.intersection(words))
        and len(words) <= 8
    )


def _label(field: str) -> str:
    return field.rpartition(".")[2].replace("_", " ").capitalize()


def _number(value: float) -> str:
    return f"{value:,.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"


_INTENTS: dict[str, Callable[[_Writer], None]] = {
    name: getattr(_Writer, name)
    for name in (
        "filter", "count", "average", "total", "cheapest", "dearest", "newest", "oldest", "groups", "compare", "fact",
        "shown", "spoken", "screen", "similar", "audience", "recommend", "find",
    )
}  # fmt: skip
