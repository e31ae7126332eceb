"""Conditions as users write them: what they find, and what is refused before it reaches the store."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
import pytest
from support import catalogue

import coldstart
from coldstart.core.items import CONTENT_FIELDS, Item
from coldstart.errors import ColdstartError
from coldstart.store import published, sql
from coldstart.store.catalog import REQUIRED, Catalog
from coldstart.store.publications import Publication
from coldstart.store.published import Published

ITEMS: list[dict[str, Any]] = [
    {
        "title": "Blue mug",
        "price": 3,
        "tags": ["kitchen", "vegan"],
        "created_at": "2024-01-01",
        "attributes": {"colour": "blue", "size": 5, "sizes": ["S", "M"], "organic": True},
    },
    {"title": "Red bowl", "price": 7, "tags": ["kitchen"], "created_at": "2024-06-01T12:00:00Z"},
    {"title": "Lamp", "price": 20, "created_at": "2025-01-01", "attributes": {"colour": "Red", "size": "7.5"}},
    {"title": "Box", "attributes": {"inside": {"colour": "blue", "deeper": [1, {"colour": "blue"}]}, "size": None}},
    {"title": "Bag", "price": 1, "attributes": {"colour": '", "colour": "blue" \\', "a": ', "colour": "blue"}'}},
    {"title": "O'Brien's copy", "price": 2, "attributes": {"Größe (cm)": "9", "colour": "blau\nblue"}},
]
IDS = "abcdef"


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Published:
    rows = [
        Item.parse({"item_id": item_id, "kind": "product", **fields}).row()
        for item_id, fields in zip(IDS, ITEMS, strict=True)
    ]
    columns = {"item_id": pa.array([row["item_id"] for row in rows])}
    for entry in CONTENT_FIELDS:
        columns[entry.name] = pa.array([row.get(entry.name) for row in rows], entry.type)
    for name in REQUIRED:
        columns.setdefault(name, pa.nulls(len(rows), pa.string()))
    columns["text"] = columns["index_key"] = columns["title"]
    columns["duplicate_of"] = pa.array([None] * 5 + ["a"], pa.string())
    columns["claims"] = pa.nulls(len(rows), pa.list_(pa.struct([("name", pa.string())])))
    writer = Catalog(lancedb.connect(str(tmp_path_factory.mktemp("conditions"))))
    writer.write(pa.table(columns), {})
    writer.publish(writer.build_indexes())
    found = writer.published()
    assert found is not None
    return found


@pytest.fixture
def found(catalog: Published) -> Callable[..., str]:
    """The ids of the items that meet a condition, in one text."""

    def ids(where: str, **options: Any) -> str:
        condition = catalog.condition(where=where, copies=True, **options)
        blocks = catalog.blocks([], where=condition)
        return "".join(sorted(item for block in blocks for item in block["item_id"].to_pylist()))

    return ids


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("price < 5", "aef"),
        ("5 > price", "aef"),
        ("price BETWEEN 2 AND 7", "abf"),
        ("price NOT BETWEEN 2 AND 7", "ce"),
        ("price IS NULL", "d"),
        ("price IS NOT NULL AND NOT price > 2", "ef"),
        ("price * 2 + 1 > 15 OR -price > -2", "ce"),
        ("price / 0 > 1", ""),
        ("price > -(-5) OR price < - - -1", "bc"),
        ("price > -(-100) AND title = '\n0) OR (1 = 1)) --'", ""),  # no comment: that would end in the text
        ("created_at > '0001-01-01'", "abc"),
        ("coalesce(price, 100) >= 20", "cd"),
        ("PRICE = 7 -- a note", "b"),
        ("title LIKE '%b_wl'", "b"),
        ("title NOT ILIKE '%B%'", "c"),
        ("title IN ('Lamp', 'O''Brien''s copy')", "cf"),
        ("title NOT IN ('Lamp', 'Box') AND lower(title) <> 'bag'", "abf"),
        ("length(title) = 3", "de"),
        ("starts_with(title, 'B')", "ade"),
        ("array_has(tags, 'vegan')", "a"),
        ("array_has_any(tags, ['vegan', 'kitchen'])", "ab"),
        ("array_has_all(tags, make_array('vegan', 'kitchen'))", "a"),
        ("NOT array_has(tags, 'vegan') AND array_length(tags) > 0", "b"),
        ("created_at > '2024-02-01'", "bc"),
        ("created_at >= DATE '2024-06-01' AND created_at < TIMESTAMP '2024-06-02 00:00:00'", "b"),
        ("created_at > '2024-06-01T12:00:00+01:00'", "bc"),
        ("date_part('year', created_at) = 2024 OR extract(month FROM created_at) = 1", "abc"),
        ("created_at > now()", ""),
        ("kind = 'product' AND (price < 2 OR price > 10)", "ce"),
        ("NOT (kind = 'product' AND price > 2)", "ef"),
        ("duplicate_of = 'a'", "f"),
        ("TRUE", IDS),
    ],
)
def test_a_condition_finds_what_sql_says(found: Callable[..., str], where: str, ids: str) -> None:
    assert found(where) == ids


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ("attributes.colour = 'blue'", "a"),
        ("attributes['colour'] = 'blue'", "a"),
        ("'blue' = attributes.\"colour\"", "a"),
        ("attributes.colour <> 'blue'", "cef"),
        ("NOT (attributes.colour = 'blue')", "cef"),
        ("attributes.colour IN ('blue', 'Red')", "ac"),
        ("attributes.colour NOT IN ('blue', 'Red')", "ef"),
        ("attributes.colour LIKE 'b%'", "af"),
        ("attributes.colour ILIKE 'r_d'", "c"),
        ("attributes.colour NOT LIKE 'b%'", "ce"),
        ('attributes.colour = \'", "colour": "blue" \\\'', "e"),
        ("attributes.colour = 'blau\nblue'", "f"),
        ("attributes.colour IS NULL", "bd"),
        ("attributes.colour IS NOT NULL", "acef"),
        ("attributes.size IS NOT NULL", "ac"),
        ("attributes.size > 5", "c"),
        ("attributes.size <= 7.5", "ac"),
        ("attributes.size BETWEEN 5 AND 6", "a"),
        ("attributes.size = 5 OR attributes.size = '7.5'", "ac"),
        ("attributes.size * 2 = 15", "c"),
        ("attributes.organic = true", "a"),
        ("attributes.organic <> true", ""),
        ("array_has(attributes.sizes, 'M')", "a"),
        ("array_has_any(attributes.sizes, ['XL', 'S']) AND NOT array_has(attributes.sizes, 'XL')", "a"),
        ('attributes."Größe (cm)" = 9', "f"),
        ("attributes LIKE '%organic%'", "a"),
    ],
)
def test_attributes_are_read_from_their_own_entry(found: Callable[..., str], where: str, ids: str) -> None:
    assert found(where) == ids


FIELDS = (
    "item_id, kind, title, description, category, tags, creator, created_at, price, attributes, language, "
    "duplicate_of, transcript, screen_text, text, index_key and attributes.NAME"
)


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("price < 5) OR (price >= 0", "this is no condition (character 10)"),
        ("(price < 5", "this is no condition (character 10)"),
        ("", "it is empty"),
        ("kind = = 'x'", "this is no condition (character 8)"),
        ("kind = 'a'; DROP TABLE catalog", "this is no condition (character 13)"),
        ("kind = 'a", "a text or name in quotes does not end"),
        ("kind = 'a' /* b", "a text or name in quotes or a comment after /* does not end"),
        ("kind = ?", "a placeholder such as ? or :name has no value here: write the value itself"),
        ("kind = :name", "a placeholder such as ? or :name has no value here: write the value itself"),
        ("tags = []", "no list can be compared: write array_has(tags, 'vegan') or array_length(tags) = 0"),
        ("length(repeat('a', 2e9)) > 1", "no function 'repeat' in conditions: there are abs, array_has, array_has_all, "
         "array_has_any, array_length, coalesce, date_part, length, lower, now, round, starts_with, upper "
         "(character 8)"),
        ("lenght(title) > 1", "no function 'lenght' in conditions: did you mean length? (character 1)"),
        ("prise > 1", "no field 'prise': did you mean price? (character 1)"),
        ("kind = 'a' AND media IS NULL", "no field 'media' (character 16)"),
        ("vector_image IS NULL", "no field 'vector_image' (character 1)"),
        ("title = \"Lamp\"", "no field 'Lamp': write a text in single quotes, 'Lamp' (character 9)"),
        ("catalog.price = 1", "no field 'catalog.price' (character 1)"),
        ("price", "price is no condition but a number: compare it with something (character 1)"),
        ("price = 'abc'", "a number does not compare with a text: price = 'abc' (character 1)"),
        ("price = NULL", "nothing compares with NULL: write IS NULL or IS NOT NULL (character 1)"),
        ("tags = 'vegan'", "tags is a list: write array_has(tags, 'text') (character 1)"),
        ("created_at > 'soon'", "'soon' is no date: write '2026-01-31' or '2026-01-31T18:00:00Z' (character 1)"),
        ("CAST(title AS int) > 3", "title cannot be converted here: only DATE '2026-01-31' and TIMESTAMP are "
         "(character 6)"),
        ("price IN (SELECT 1)", "price IN (SELECT 1) cannot stand in a condition (character 1)"),
        ("title LIKE 'a' ESCAPE '!'", "title LIKE 'a' ESCAPE '!' cannot stand in a condition (character 1)"),
        ("lower(attributes.colour) = 'blue'", "functions take fields, not attributes; for any case of letters write "
         "ILIKE (character 1)"),
        ("attributes.colour > 'a'", "attributes.colour compares with a text by = and LIKE, and with a number by =, < "
         "and > as well (character 1)"),
        ("attributes.inside.colour = 'blue'", "an attribute inside an attribute cannot be named (character 1)"),
        ("title = 'half \ud83d'", "'\\ud83d' is no character of a text (character 15)"),
        ("title = 'a\0'", "'\\x00' is no character of a text (character 11)"),
        (f"title LIKE '{'%a' * 21}'", "a pattern has more than 20 signs % and _ (character 1)"),
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused_with_its_place(catalog: Published, where: str, reason: str) -> None:
    with pytest.raises(ColdstartError) as error:
        catalog.condition(where=where)
    assert str(error.value) == f"where {where!r}: {reason}; write a condition over {FIELDS}"


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("(" * 5000 + "price > 1" + ")" * 5000, "more than 20 brackets and functions stand inside one another"),
        ("NOT " * 5000 + "price > 1", "more than 20 brackets and functions stand inside one another"),
        ("price " + "+ 1 " * 100 + "> 3", "more than 20 brackets and functions stand inside one another"),
        (" OR ".join(["price = 1"] * 501), "more than 500 comparisons: name values in a list, as in kind IN ('video',"),
        (f"title = '{'a' * 1001}'", "a text of 1,001 characters is too long: 1,000 at most"),
        (f"price IN ({'1,' * 50_000}1)", "100,012 characters are too many: write 100,000 at most"),
        ("price > 1e400", "1e400 is no number"),
    ],
)
def test_a_condition_has_bounds(catalog: Published, where: str, reason: str) -> None:
    with pytest.raises(ColdstartError) as error:
        catalog.condition(where=where)
    assert str(error.value).split(": ", 1)[1].startswith(reason)


def test_a_condition_cannot_leave_its_brackets(found: Callable[..., str], catalog: Published) -> None:
    """Kind, exclusions and copies are joined to it by AND, whatever it says."""
    assert found("price < 5 OR price >= 0", kind="video") == ""
    assert found("price < 5 OR price >= 0", exclude=["a"]) == "bcef"
    assert catalog.condition(where="price < 5 OR TRUE", kind="product", exclude=["x'y"]) == (
        "((`price` < 5 OR true)) AND kind = 'product' AND NOT item_id IN ('x''y') AND duplicate_of IS NULL"
    )


def test_a_slow_condition_is_ended(catalog: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "TIMEOUT", timedelta(0))
    message = r"^where 'price < \d+': takes longer than 0 s over this catalog; ask for less at a time$"
    with pytest.raises(ColdstartError, match=message):
        for price in range(500):  # one may end before the clock is looked at
            catalog.condition(where=f"price < {price}")


def test_an_attribute_that_no_item_has_is_refused(catalog: Published) -> None:
    with pytest.raises(ColdstartError) as error:
        catalog.condition(where="attributes.color = 'blue' OR price > 1")
    assert str(error.value) == (
        "where \"attributes.color = 'blue' OR price > 1\": no item has an attribute 'color': did you mean 'colour'?"
    )
    with pytest.raises(ColdstartError) as error:
        catalog.condition(where="attributes.weight > 1")
    assert str(error.value).endswith(
        "no item has an attribute 'weight': there are Größe (cm), a, colour, inside, organic, size, sizes"
    )


def test_attributes_that_are_no_json_object_match_nothing(tmp_path: Path) -> None:
    texts = ["[" * 5000, "no JSON", "[1]", None, '{"colour": "blue"}']
    table = pa.table({"item_id": list("abcde"), "attributes": pa.array(texts), "kind": ["product"] * 5})
    publication = Publication(1, 1, datetime(2024, 1, 1, tzinfo=UTC), 5, None, {}, [])
    found = Published(lancedb.connect(str(tmp_path)).create_table("catalog", table), publication)
    assert found.count(found.condition(where="attributes.colour = 'blue'")) == 1
    with pytest.raises(ColdstartError, match=r"no item has an attribute 'size': there are colour$"):
        found.condition(where="attributes.size > 1")


@pytest.mark.parametrize(("kind", "hint"), [
    ("Product", "did you mean 'product'?"), ("vidoe", "did you mean 'video'?"), ("x", "there are video and product"),
])  # fmt: skip
def test_an_unknown_kind_is_refused(catalog: Published, kind: str, hint: str) -> None:
    with pytest.raises(ColdstartError) as error:
        catalog.condition(kind=kind)
    assert str(error.value) == f"no kind {kind!r}: {hint}"


def test_ids_that_are_no_unicode_are_refused() -> None:
    assert sql.equals("item_id", "O'Brien 🙂") == "item_id = 'O''Brien 🙂'"
    with pytest.raises(ColdstartError) as error:
        sql.one_of("item_id", ["caf\udce9"])
    assert str(error.value) == "'caf\\udce9' is no Unicode text: give it in UTF-8"


OPERANDS = ("price", "title", "tags", "created_at", "attributes", "attributes.colour", "1", "'a'", "lower(title)", "-2")
WORDS = (
    *(
        "= 1",
        "<> 'a'",
        "< price",
        "LIKE 'b%'",
        "IN ('a', 'b')",
        "IS NULL",
        "BETWEEN 1 AND 2",
        "AND",
        "OR",
        "(",
        ")",
        ",",
    ),
    *("+", "/", "%", "||", "::", ";", "--", "?", ":", "@x", "$1", '"', "`", "\\", "{", "EXISTS", "ANY", "INTERVAL"),
    *("ARRAY[", "x'41'", "N'a'", "true", "NULL", "CASE", "repeat(", "now()", "DATE", "CAST(", "SELECT", "*", "1e9"),
)


@pytest.mark.slow
def test_any_words_are_refused_or_evaluated(catalog: Published) -> None:
    rng, evaluated = random.Random(7), 0
    for _ in range(400):
        words = ["NOT"] * rng.randint(0, 1) + [rng.choice(OPERANDS), rng.choice(WORDS[:7])]
        if rng.random() < 0.7:
            words.insert(rng.randint(0, len(words)), rng.choice(WORDS))
        where = " ".join([*words, *rng.choices(["", "OR price > 1", ")"], [8, 2, 1])])
        try:
            condition = catalog.condition(where=where, kind="video")
        except ColdstartError as error:
            assert str(error).startswith(f"where {where!r}: ") and "\n" not in str(error)
            continue
        evaluated += 1
        assert catalog.count(condition) == 0, "no item is a video"
    assert evaluated > 10


def test_a_table_is_read_by_the_same_conditions(tmp_path: Path) -> None:
    opened = coldstart.open(tmp_path / "w", create=True)
    table = pa.table({"item_id": ["a", "b"], "count": pa.array([1, 2]), "at": [datetime(2024, 1, 1, tzinfo=UTC)] * 2})
    opened._store.append("log", table)
    assert opened.table("log", ["item_id"], where="count > 1.5 AND at < now()")["item_id"].to_pylist() == ["b"]
    with pytest.raises(ColdstartError) as error:
        opened.table("log", where="count > 1) OR (true")
    assert str(error.value) == (
        "where 'count > 1) OR (true': this is no condition (character 10); write a condition over item_id, count, at"
    )


@pytest.mark.slow
def test_the_command_line_refuses_in_one_line(tmp_path: Path) -> None:
    manifest = catalogue.write_manifest(tmp_path / "items.jsonl", [{"item_id": "a", "title": "mug", "price": 3}])
    settings = catalogue.settings(manifest)
    del settings["stages"]["image"]
    pipeline = catalogue.write_pipeline(tmp_path / "p.yaml", settings)
    workspace = ("--workspace", tmp_path / "w")
    assert catalogue.coldstart("run", pipeline, *workspace).returncode == 0
    for arguments in (("search", "--text", "mug"), ("match", "--item", "a")):
        done = catalogue.coldstart(*arguments, *workspace, "--where", "price < 5) OR (price >= 0")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("error: where 'price < 5) OR (price >= 0': this is no condition (character 10);")
