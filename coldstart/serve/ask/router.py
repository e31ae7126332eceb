"""Answer a question without a model: a router from intents to calls of tools, and sentences by template.

It plans by fixed rules and writes by fixed templates, so it states nothing that a tool did not return. What it does not
understand it refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from coldstart.errors import ColdstartError
from coldstart.serve.ask.answers import Answer, CallsSpentError, Cite, Sentence, Session
from coldstart.serve.ask.check import COLOURS, check_all, is_honest
from coldstart.serve.ask.understand import QUOTED, Asked, understand
from coldstart.serve.ask.writer import LISTED, Refusal, Writer, label, may_show, number
from coldstart.serve.bounded import MOST_BYTES, without_places
from coldstart.serve.tool_parts import CURRENCY, MOST_PAGE
from coldstart.serve.vocabulary import normal

NAME = "rules"
FOUND_SCORE = 0.6
SHOWN_SHARE, SHOWN_SCORE = 0.4, 0.1
"""Share of the best score, and least score, of a product that a video is said to show. Of shares .2 to .8 and scores 0
to .3, what found most products of half of the sample's videos at a precision of .8."""
_MATCHED = 4
_ALIKE = 5
_FEATURES = ("price", "category", "creator", "attributes.colour", "created_at", "kind")
_TIMES = re.compile(r"\b(?:new\w*|old\w*|recent\w*|later|earlier|when|added)\b")


def answer_by_rules(session: Session, question: str, now: datetime | None = None) -> Answer:
    """Answer a question by the intent that its rules find."""
    asked = understand(question, session.tools.vocabulary(), now)
    session.named = set(asked.items)
    answer = Answer(question, NAME, asked.intent)
    fault = _not_understood(asked)
    if fault is not None:
        answer.intent, answer.outcome, answer.why = "", "not_understood", fault
        return answer
    try:
        written = _Intents(session, asked, answer)
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
    if not answer.sentences:
        answer.outcome, answer.items, answer.users, answer.notes = "none", [], [], []
        answer.value = 0.0 if answer.value == 0 else None
        if answer.cut and not answer.why:
            answer.why = f"what was found was not shown: {answer.cut[0][1]}"
    return answer


def _not_understood(asked: Asked) -> str | None:
    """Tell why a question is not read; None where it is, and empty where there is no more to say than which are."""
    if asked.language is not None:
        return (
            f"questions are read in English, and this one seems to be in another language ({asked.language}): ask in "
            "English, or name a model that reads it with --generator"
        )
    if asked.unread:
        return (
            f"“{asked.unread}” is no value of a field: what can be excluded is a category, a maker, a tag or an "
            "attribute that items have"
        )
    if asked.excluded and asked.intent not in _EXCLUDING:
        return "this kind of question excludes nothing: ask for what it is, in place of what it is not"
    return None if asked.known else ""


class _Intents(Writer):
    """What is called and said for each intent."""

    def filter(self) -> None:
        if not (self._narrowed() or self.asked.kind):
            raise Refusal("the question names nothing that the catalogue knows")
        found = self._list()
        self._count_sentence(found.total)
        self._item_sentences(found.items)
        self._note_words()
        self._note_unknown()

    def count(self) -> None:
        if not (self._narrowed() or self.asked.kind) and not _is_bare_count(self.asked.question):
            raise Refusal("the question names nothing that the catalogue knows")
        found = self._aggregate("count", None)
        self.answer.value = found.value
        if not found.value:
            raise Refusal(f"0 {self.asked.conditions()}{self._elsewhere()}")
        call = len(self.session.steps)
        self._say(f"{int(found.value):,} {self._counted(found.value)}.", call, "value")
        if self._conditioned() or self.asked.values:
            self.answer.notes.append(f"counted: {self.asked.conditions()}")
        self._note_unknown()

    def distinct(self) -> None:
        asked = self.asked
        if asked.group is None:
            raise Refusal("no field of that name")
        found = self.session.call(
            "aggregate",
            group_by=asked.group,
            where=asked.where(),
            kind=asked.kind,
            words=tuple(asked.words),
            words_in=asked.words_in,
            max_bytes=MOST_BYTES,
        )
        call = len(self.session.steps)
        named = [one for one in found.groups if one.untrusted_group]
        if not named:
            raise Refusal(f"no {asked.conditions()} with {label(asked.group).lower()}")
        self.answer.value = float(found.groups_total - (len(named) < len(found.groups)))
        self.session.numbers[call]["groups"] = self.answer.value
        self._say(f"{int(self.answer.value):,} in all:", call, "groups")
        for one in named[:LISTED]:
            if is_honest(one.untrusted_group):
                self._say(f"“{one.untrusted_group}”: {number(one.value)}.", call, one.untrusted_group)
        if len(named) > LISTED:
            self.answer.notes.append(f"those of the most items are named; {len(named) - LISTED} more are not")
        self.answer.notes.append(f"counted: values of {label(asked.group).lower()}, of {asked.conditions()}")

    def average(self) -> None:
        self._number("avg", "the average price of")

    def total(self) -> None:
        self._number("sum", "the total price of")

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
                self._say(f"“{one.untrusted_group}”: {number(one.value)}.", call, one.untrusted_group)

    def cheapest(self) -> None:
        self._ranked("price", False, "costs")

    def dearest(self) -> None:
        self._ranked("price", True, "costs")

    def newest(self) -> None:
        self._ranked("created_at", True, "was added on")

    def oldest(self) -> None:
        self._ranked("created_at", False, "was added on")

    def compare(self) -> None:
        first, second = self.asked.items[:2]
        self.session.call("compare_items", item_ids=(first, second))
        fields = self.session.fields
        asks = QUOTED.sub(" ", self.asked.question).lower()
        shown = [name for name in _FEATURES if name != "created_at" or _TIMES.search(asks)]
        (left_name, left_cites), (right_name, right_cites) = self._name(first), self._name(second)
        for name in shown:
            values = [fields[item].get(name) for item in (first, second)]
            if not all(values) or values[0] == values[1]:
                continue
            left, right = (self._value_text(item, name) for item in (first, second))
            if left and right:
                cites = [Cite(name, first), Cite(name, second), *left_cites, *right_cites]
                cites += [
                    self._currency(item)[1] for item in (first, second) if name == "price" and self._currency(item)[0]
                ]
                self._sentence(f"{label(name)}: {left} for {left_name}, {right} for {right_name}.", *cites)
        if not self.answer.sentences:
            for item in (first, second):
                self._title_sentence(item)
            if self.answer.sentences:
                self.answer.notes.append("they do not differ in price, category, maker, colour or kind")
        self.answer.items = [first, second]
        for field, words, largest in (
            (
                "price",
                ("cheaper", "cheapest", "less expensive", "cost less", "costs less", "less", "save money"),
                False,
            ),
            ("price", ("dearer", "more expensive", "pricier", "cost more", "costs more"), True),
            ("created_at", ("newer", "newest", "more recent", "later"), True),
            ("created_at", ("older", "oldest", "earlier"), False),
        ):
            if re.search(rf"\b(?:{'|'.join(words)})\b", asks):
                stated = {item: fields[item].get(field) for item in (first, second)}
                if None in stated.values() or len(set(stated.values())) < 2:
                    break
                known = {item: str(value) for item, value in stated.items()}
                keyed: list[tuple[Any, str]] = [
                    (float(value) if field == "price" else value, item) for item, value in known.items()
                ]
                best = sorted(keyed)[-1 if largest else 0][1]
                self.answer.items = [best]
                name, cites = self._name(best)
                self.answer.sentences.insert(
                    0, Sentence(f"It is {name}.", (Cite(field, first), Cite(field, second), *cites))
                )
                break

    def fact(self) -> None:
        if self.asked.items:
            items = self.asked.items[:1]
        else:
            found = self._list(limit=LISTED)
            items = [one.item_id for one in found.items[: min(LISTED, self.session.most_calls - 1)]]
            if found.total > len(items):
                self.answer.notes.append(f"{found.total:,} {self.asked.conditions()}; the first are named")
        for item in items:
            self._facts_of(item)
        if not self.answer.sentences:
            raise Refusal(f"neither the record of {self._name(items[0])[0]} nor its texts say it")
        self.answer.items = items

    def _facts_of(self, item: str) -> None:
        """Say the fields of an item that the question asks for."""
        self.session.call("item", item_id=item)
        own = self.session.fields[item]
        asks = QUOTED.sub(" ", self.asked.question).lower()
        wanted = [
            field
            for field, words in (
                ("price", ("price", "cost", "how much", "expensive", "cheap")),
                ("attributes.colour", ("colour", "color")),
                (_maker_field(own, asks), _MAKERS),
                ("category", ("category", "kind of", "sort of")),
                ("created_at", ("when", "(?<!who )added", "(?<!who )uploaded", "how old", "how new")),
            )
            if re.search(rf"\b(?:{'|'.join(words)})", asks)
        ]
        if "attributes.colour" in wanted and "attributes.colour" not in own:
            wanted[wanted.index("attributes.colour")] = next(
                (name for name in own if name.endswith((".color", ".Colour", ".Color"))), "attributes.colour"
            )
        for field in wanted or ["title", "category", "price", "creator"]:
            if text := self._value_text(item, field):
                name, cites = self._name(item)
                cites += [self._currency(item)[1]] if field == "price" and self._currency(item)[0] else []
                of = item if field == "title" else name
                said = f"{of} was added on {text}." if field == "created_at" else f"{label(field)} of {of}: {text}."
                self._sentence(said, Cite(field, item), *cites)
                if field == "price":
                    self.answer.value = float(own["price"])
            elif field == "attributes.colour":
                self._colour_in_texts(item)

    def _colour_in_texts(self, item: str) -> None:
        """Quote what the texts of an item say of a colour that its record has no field for."""
        own = self.session.fields[item]
        for field in ("description", "summary", "title"):
            for said in re.split(r"(?<=[.!?])\s+", own.get(field, "")):
                if COLOURS.intersection(re.findall(r"\w+", said.lower())) and may_show(said):
                    name, cites = self._name(item)
                    self._sentence(f"In the {_OWN_WORDS[field]} of {name}: “{said}”.", Cite(field, item), *cites)
                    return

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
        self._name_all(products[:1])
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
                            f"{self._name(one.item_id)[0]} shows {self._name(product)[0]} at "
                            f"{number(round(hit.frame_s, 2))} s.",
                            (
                                Cite("shows", one.item_id),
                                Cite("frame_s", product),
                                *self._name(one.item_id)[1],
                                *self._name(product)[1],
                            ),
                        )
        if not found_in:
            video = f"video {self.asked.dates()}".strip()
            raise Refusal(f"no {video} is known to show {self._name(products[0])[0] if products else 'it'}")
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
        self._name_all([item])
        name, cites = self._name(item)
        self._item_sentences(found.items, f"is near to {name}", cites)

    def find(self) -> None:
        text = " ".join(self.asked.words) or self.asked.question
        found = self.session.call("search", text=text, kind=self.asked.kind, where=self.asked.where(), limit=_ALIKE)
        near = [one for one in found.items if one.score >= FOUND_SCORE]
        if not near:
            raise Refusal(f"nothing is near in meaning to “{text[:80]}”")
        self._name_all([one.item_id for one in near])
        self._item_sentences(near)

    def audience(self) -> None:
        items = self.asked.items
        if not items:
            if not self._narrowed():
                raise Refusal("the question names no item")
            items = [one.item_id for one in self._list(limit=3).items]
        self._name_all(items[:3])
        for item in items[:3]:
            self._audience_of(item)
        if not self.answer.sentences:
            raise Refusal("; ".join(self.answer.notes) or f"no user is left to show {items[0]} to")
        self.answer.items = items[:3]

    def recommend(self) -> None:
        if self.asked.user is None:
            raise Refusal("the question names no user")
        self._suggest(user=self.asked.user)

    def liked(self) -> None:
        if not self.asked.items:
            raise Refusal(
                "the question names no item of the catalogue that was liked: give its id, or its title in quotes"
            )
        self._suggest(history=tuple(self.asked.items))

    def explain(self) -> None:
        if not self.asked.items:
            raise Refusal("the question names no item of the catalogue: give its id, or its title in quotes")
        item = self.asked.items[0]
        found = self.session.call("explain_item", item_id=item)
        self._name_all([item])
        name, cites = self._name(item)
        self.answer.items = [item]
        if found.served:
            self._sentence(f"{name} is served.", Cite("served", item), *cites)
        else:
            self._sentence(f"{name} is not served: “{found.why_not}”.", Cite("why_not", item), *cites)
        if found.duplicate_of:
            self._name_all([found.duplicate_of])
            self._copy_sentence(item, found.duplicate_of)

    def copies(self) -> None:
        asks = self.asked.question.lower()
        if _ORIGINAL.search(asks):
            self._original_of()
        elif self.asked.items or not self.asked.words:
            self._copies_of(next(iter(self.asked.items), None))
        else:
            raise Refusal(f"no item is called “{' '.join(self.asked.words)}”: give its id, or its title in quotes")

    # -- parts

    def _suggest(self, **whose: Any) -> None:
        found = self.session.call(
            "recommend", kind=self.asked.kind, where=self.asked.where(), limit=self.asked.limit or _ALIKE, **whose
        )
        if not found.items:
            raise Refusal("no item is left to recommend")
        self._name_all([one.item_id for one in found.items])
        self._item_sentences(found.items)

    def _copies_of(self, item: str | None) -> None:
        found = self.session.call("copies", item_id=item, kind=self.asked.kind, limit=MOST_PAGE, max_bytes=MOST_BYTES)
        if not found.items:
            raise Refusal("there are no copies" + (f" of {item}" if item else ""))
        self.answer.items = [one.item_id for one in found.items]
        if re.search(r"\bhow many\b", self.asked.question.lower()):
            self.answer.value = float(found.total)
        self._name_all([item] if item else [one.duplicate_of for one in found.items[:LISTED]])
        if found.total > LISTED:
            self.answer.notes.append(f"there are {found.total:,} copies; the first are named")
        for one in found.items[:LISTED]:
            self._copy_sentence(one.item_id, one.duplicate_of)

    def _original_of(self) -> None:
        asked = next(iter(self.asked.items), None)
        lower, cursor = self.asked.question.lower(), None
        while True:  # a copy that is not served is no item that the question could be read to name
            found = self.session.call("copies", limit=MOST_PAGE, cursor=cursor, max_bytes=MOST_BYTES)
            for one in found.items:
                if one.item_id == asked or re.search(rf"(?<![\w-]){re.escape(one.item_id.lower())}(?![\w-])", lower):
                    self._name_all([one.duplicate_of])
                    self._copy_sentence(one.item_id, one.duplicate_of)
                    self.answer.items = [one.duplicate_of]
                    return
            cursor = found.next_cursor
            if cursor is None:
                raise Refusal(f"{asked or 'an item of that name'} is no copy of another item")

    def _copy_sentence(self, copy: str, original: str) -> None:
        (name, cites), (other, more) = self._name(copy), self._name(original)
        self._sentence(f"{name} is a copy of {other}.", Cite("duplicate_of", copy), *cites, *more)

    def follow(self) -> None:
        """Say who should see what was found."""
        for item in self.answer.items[:3]:
            self._audience_of(item)

    def _audience_of(self, item: str) -> None:
        try:
            found = self.session.call("audience", item_id=item, limit=_ALIKE)
        except CallsSpentError:
            raise
        except ColdstartError as error:  # of one item of several
            self.answer.notes.append(without_places(str(error)))
            return
        if found.people:
            people = ", ".join(one.user_id for one in found.people)
            name, cites = self._name(item)
            self._sentence(f"Most likely to like {name}: “{people}”.", Cite("audience", item), *cites)
            self.answer.users += [one.user_id for one in found.people if one.user_id not in self.answer.users]

    def _shown_in(self, video: str) -> None:
        found = self.session.call("match", item_id=video, limit=5)
        top = found.items[0].score if found.items else 0.0
        for one in found.items:
            if one.score < max(SHOWN_SHARE * top, SHOWN_SCORE):
                continue
            at = f" at {number(round(one.frame_s, 2))} s" if one.frame_s is not None else ""
            name, cites = self._name(one.item_id)
            cites += [Cite("frame_s", one.item_id)] * bool(at)
            self._sentence(
                f"{self._name(video)[0]} shows {name}{at}.", Cite("shows", video), *self._name(video)[1], *cites
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
                name, cites = self._name(one.item_id)
                found_in[one.item_id] = Sentence(
                    f"{name} names {self._name(product)[0]}: “{text}”.",
                    (Cite(field, one.item_id), *cites, *self._name(product)[1]),
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
            said = "say" if words_in == "speech" else "have on screen"
            raise Refusal(f"no {self.asked.noun()} {said} “{'”, “'.join(texts)}”")
        for one in found.items:
            text = one.untrusted_match.get(field, "")
            if is_honest(text):
                name, cites = self._name(one.item_id)
                self._sentence(f"In {name} {words}: “{text}”.", Cite(field, one.item_id), *cites)
                self.answer.items.append(one.item_id)

    def _ranked(self, field: str, descending: bool, verb: str) -> None:
        found = self._list(order_by=field, descending=descending, limit=MOST_PAGE)
        wanted = self.asked.limit or 1
        chosen = list(found.items[:wanted])
        last = getattr(chosen[-1], field)
        chosen += [one for one in found.items[wanted:] if getattr(one, field) == last]  # as cheap as the last
        for one in chosen:
            value = self._value_text(one.item_id, field)
            name, cites = self._name(one.item_id)
            cites += [self._currency(one.item_id)[1]] if field == "price" and self._currency(one.item_id)[0] else []
            self._sentence(f"{name} {verb} {value}.", Cite(field, one.item_id), *cites)
            self.answer.items.append(one.item_id)
        if field == "price" and chosen:
            self.answer.value = chosen[0].price
        self._note_words()

    def _number(self, measure: str, words: str) -> None:
        if not (self._narrowed() or self.asked.kind) and "all" not in self.asked.question.lower().split():
            raise Refusal("the question names nothing that the catalogue knows")
        currency = next(
            (name for name in self._fields("attributes.") if name.rpartition(".")[2].lower() in CURRENCY), None
        )
        priced = f"price IS NOT NULL{f' AND {where}' if (where := self.asked.where()) else ''}"
        found = self._aggregate(measure, "price", group_by=currency, where=priced)
        if found.value is None or not found.items:
            raise Refusal(f"no {self.asked.conditions()} with a price")
        call = len(self.session.steps)
        units = [one for one in found.groups if one.untrusted_group and one.value is not None]
        if len(units) > 1:  # an average over several currencies is no amount
            for one in units:
                if is_honest(one.untrusted_group):
                    unit = one.untrusted_group
                    self._say(f"In {unit}, {words} {self._of(2)} is {number(one.value)}.", call, unit)
            return
        unit = units[0].untrusted_group if units and is_honest(units[0].untrusted_group) else None
        self.answer.value = float(found.value)
        self._sentence(
            f"{words[0].upper()}{words[1:]} {found.items:,} {self._of(found.items)} is "
            f"{number(found.value)}{f' {unit}' if unit else ''}.",
            Cite("value", call=call),
            Cite("items", call=call),
            *([Cite(unit, call=call)] if unit else []),
        )
        self._note_unknown()


def _is_bare_count(question: str) -> bool:
    words = normal(question).split()
    return (
        words[:2] == ["how", "many"]
        and bool({"item", "product", "video", "clip"}.intersection(words))
        and len(words) <= 8
    )


_MAKERS = (
    "who (?!should|would|might|will|could)", "maker", "creator", "brand", "seller", "manufacturer", "producer",
    "company",
)  # fmt: skip
_OWN_WORDS = {"description": "description", "summary": "text", "title": "title"}


def _maker_field(own: Mapping[str, str], asks: str) -> str:
    """Choose the brand of an item that has one where its maker is asked for; else who sells or posts it."""
    brand = next((name for name in own if name.lower() in ("attributes.brand", "attributes.maker")), None)
    return (
        "creator"
        if brand is None or re.search(r"\b(?:who sells?|sold|seller|creator|who (?:post|upload))", asks)
        else brand
    )


_ORIGINAL = re.compile(r"\b(?:is (?!there).*\ba (?:copy|duplicate)|copy of (?:what|which)|original)\b")


_INTENTS: dict[str, Callable[[_Intents], None]] = {
    name: getattr(_Intents, name)
    for name in (
        "filter", "count", "distinct", "average", "total", "cheapest", "dearest", "newest", "oldest", "groups",
        "compare", "fact",
        "shown", "spoken", "screen", "similar", "copies", "audience", "recommend", "liked", "find", "explain",
    )
}  # fmt: skip
_EXCLUDING = (
    "filter", "count", "distinct", "average", "total", "cheapest", "dearest", "newest", "oldest", "groups", "similar",
    "find",
    "recommend", "liked", "audience",
)  # fmt: skip
"""Intents whose conditions may exclude values."""
