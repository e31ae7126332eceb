"""Reasons: whole sentences, and what of them is evidence."""

from __future__ import annotations

import numpy as np
import pytest

from coldstart.recommend.reasons import Fact, chance_cosine, explain, explain_user, quoted, shared_facts

ITEM = {
    "item_id": "n",
    "kind": "video",
    "title": "New cats",
    "category": "Pets > Cats",
    "tags": ["funny", "cat"],
    "creator": "ann",
    "attributes": {"length": "short", "year": 2020, "nested": {"a": 1}},
    "claims": [{"name": "shows", "value": "cats", "ground": "picture", "detail": None}],
}
NEAR = np.array([1, 0], np.float32)


def before(**fields):
    return {"item_id": "o", "kind": "video", "title": "Old cats", **fields}


def explained(history, vectors=None, spaces=None, events=None, item=ITEM):
    rows = np.array([[1, 0.1]] * len(history) if vectors is None else vectors, np.float32).reshape(-1, 2)
    return explain(item, history, NEAR, rows, spaces or {}, events)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"category": "Pets > Cats"}, 'both are in "Pets > Cats"'),
        ({"tags": ["cat", "dog"]}, 'both have the tag "cat"'),
        ({"creator": "ann"}, 'both are by "ann"'),
        ({"attributes": {"year": 2020}}, 'both have "year" "2020"'),
        ({"claims": ITEM["claims"]}, 'both show "shows" "cats"'),
        ({"category": "Pets > Cats", "creator": "ann"}, 'both are in "Pets > Cats" and are by "ann"'),
        (
            {"category": "Pets > Cats", "tags": ["cat", "funny"], "creator": "ann"},
            'both are in "Pets > Cats" and have the tags "funny" and "cat"',
        ),
        ({"category": "Pets", "attributes": {"nested": {"a": 1}}, "claims": None}, "the same people like both"),
    ],
)
def test_shared_facts_are_the_reason(fields, words):
    assert explained([before(**fields)]).text == f'because you watched "Old cats": {words}'


def test_the_most_alike_item_of_the_history_is_named():
    history = [before(item_id="a", title="A"), before(item_id="b", title="B"), before(item_id="c", title=None)]
    found = explained(history, [[0, 1], [1, 1], [9, 1]])
    assert found.text == 'because you watched "c": the same people like both'
    assert found.because == "c"


@pytest.mark.parametrize(
    ("kind", "event", "word"),
    [
        ("video", None, "watched"),
        ("product", None, "chose"),
        ("product", "click", "looked at"),
        ("video", "Like", "liked"),
        ("video", "unheard", "watched"),
        (None, None, "liked"),
    ],
)
def test_the_verb_follows_the_event(kind, event, word):
    found = explained([before(kind=kind)], events=None if event is None else {"o": event})
    assert found.text == f'because you {word} "Old cats": the same people like both'


def test_without_shared_words_the_nearest_space_is_named():
    spaces = {
        "image": (NEAR, np.array([[0.6, 0.8]], np.float32)),
        "text": (NEAR, np.array([[0.8, 0.6]], np.float32)),
        "empty": (NEAR, np.zeros((1, 2), np.float32)),
    }
    found = explained([before()], spaces=spaces)
    assert found.text == 'because you watched "Old cats": similar by text'
    assert found.to_dict() == {
        "reason": found.text,
        "evidence": {"because": "o", "shared": [], "cosines": {"image": 0.6, "text": 0.8}},
    }
    far = {"image": (NEAR, np.array([[0.1, 1.0]], np.float32))}
    assert explained([before()], spaces=far).text == 'because you watched "Old cats": the same people like both'


def test_a_cold_item_claims_no_shared_audience():
    rows = np.array([[1, 0]], np.float32)
    found = explain(ITEM, [before()], NEAR, rows, {}, cold=True)
    assert found.text == 'because you watched "Old cats": likely to please the same people'


def test_an_empty_history():
    found = explained([])
    assert (found.text, found.because, found.shared, found.cosines) == (
        "many people like what is like it",
        None,
        (),
        {},
    )


def test_texts_of_items_stay_quoted_text():
    hostile = before(title='x": you must\n\x1b[31mobey {item} %s <b>' + "y" * 80, category="Pets > Cats")
    found = explained([hostile])
    assert found.text == (
        'because you watched "x\': you must [31mobey {item} %s <b>yyyyyyyyyyyyyyyyyyyyyyyy…": both are in "Pets > Cats"'
    )
    assert quoted("a\u202eb\u200b") == '"a b"'


def test_facts_with_their_fields():
    other = before(tags=["cat"], attributes={"length": ["short", "loud"]}, claims=ITEM["claims"])
    assert list(shared_facts(ITEM, other)) == [
        Fact("tags", "cat", "record"),
        Fact("length", "short", "record"),
        Fact("shows", "cats", "description"),
    ]


def test_a_claim_that_repeats_a_value_of_the_record_is_no_reason():
    claims = [{"name": "section", "value": "pets"}, {"name": "shows", "value": "cats"}]
    item = {**ITEM, "category": "Pets", "tags": [], "attributes": {}, "claims": claims}
    other = before(category="Pets", claims=claims)
    assert list(shared_facts(item, other)) == [Fact("category", "Pets", "record"), Fact("shows", "cats", "description")]


def test_what_ingest_adds_to_a_price_is_no_reason():
    item = {**ITEM, "attributes": {"currency": "SEK", "category_path": "Pets > Cats", "length": "short"}}
    other = before(attributes=item["attributes"])
    assert [fact.field for fact in shared_facts(item, other)] == ["length"]


def test_an_audience_is_explained_in_the_third_person():
    rows = np.array([[1, 0]], np.float32)
    assert explain_user(ITEM, [before(creator="ann")], NEAR, rows).text == 'liked "Old cats": both are by "ann"'
    assert explain_user(ITEM, [], NEAR, np.empty((0, 2), np.float32)).text == "no history"


def test_no_item_is_named_that_is_no_nearer_than_any_two_items_are():
    spaces = {"image": (NEAR, np.array([[0.6, 0.8]], np.float32))}
    chance = {"image": 0.7, "scores": 0.999}
    rows = np.array([[1, 0.1]], np.float32)

    def told(item=ITEM, **given):
        return explain(item, [before(creator="ann" if item is ITEM else "bob")], NEAR, rows, spaces, **given)

    other = {**ITEM, "creator": "cat", "category": None, "tags": []}
    found = told(other, chance=chance)
    assert (found.text, found.because) == ("nothing of your history is much like it", None)
    assert told(other, chance=chance, is_fitted=False).because is None
    assert told(other, chance={**chance, "scores": 0.5}).text.endswith(": the same people like both")
    assert told(other, chance=chance, taken_with="elsewhere").because is None
    assert told(other, chance={"image": 0.5}, is_fitted=False).text.endswith(": similar by image")
    assert told(chance=chance).text.endswith('both are by "ann"')
    rng = np.random.default_rng(0)
    assert 0.1 < chance_cosine(rng.normal(size=(50, 64)).astype(np.float32)) < 0.4
    assert chance_cosine(np.zeros((3, 2), np.float32)) == -1.0


def test_the_liked_item_that_a_ranker_names_leads():
    alike = before(item_id="alike", title="Alike", creator="ann")
    other = before(item_id="other", title="Other", creator="bob", category="Pets > Cats")
    spaces = {"image": (NEAR, np.array([[1, 0], [0, 1]], np.float32))}
    rows = np.array([[1, 0], [0, 1]], np.float32)

    def named(item=ITEM, **given):
        return explain(item, [alike, other], NEAR, rows, spaces, chance={"image": 0.5, "scores": 0.5}, **given)

    assert named().because == "alike"
    taken = named(taken_with="other")
    assert (taken.text, taken.because) == ('because you watched "Other": the same people like both', "other")
    assert [fact.field for fact in taken.shared] == ["category"] and taken.cosines == {"image": 0.0}
    assert named(taken_with="elsewhere") == named()
    assert named(alike_to="other").text == 'because you watched "Other": both are in "Pets > Cats"'
    unlike = {**ITEM, "category": None, "creator": None}
    assert named(unlike, alike_to="other").because == "alike", "not alike enough to be a reason"
