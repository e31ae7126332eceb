"""Classes files: what each form means, and every fault of a file at once with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from coldstart import sample
from coldstart.core.class_file import TEMPLATES, Classes, ClassFileError, load
from coldstart.errors import ColdstartError

FULL = """\
templates: ["a photo of {}", "{}"]
classes:
  Fruit: [fruit, a piece of fruit]
  No: ""
  2024:
  Milk  drinks: a carton of milk
unknown:
  - a person
"""


def read(folder: Path, text: str, name: str = "classes.yaml") -> Classes:
    path = folder / name
    path.write_text(text, "utf-8")
    return load(path)


def faults(folder: Path, text: str, name: str = "classes.yaml") -> list[str]:
    with pytest.raises(ClassFileError) as caught:
        read(folder, text, name)
    return caught.value.faults


def test_yaml_takes_words_as_they_are(tmp_path: Path) -> None:
    """`No` and `2024` are names, not a truth value and a number; a class without prompts is called by its name."""
    found = read(tmp_path, FULL.replace('""', "[]"))
    assert found.names == ("Fruit", "No", "2024", "Milk drinks")
    assert found.prompts == (("fruit", "a piece of fruit"), ("No",), ("2024",), ("a carton of milk",))
    assert found.unknown == ("a person",)
    assert found.templates == ("a photo of {}", "{}")


def test_every_prompt_stands_in_every_template(tmp_path: Path) -> None:
    found = read(tmp_path, "templates: ['{}', 'a {} {', '{}']\nclasses: {A: [b, c], D: }\nunknown: e", "c.yml")
    texts, owners = found.texts()
    assert texts == ["b", "a b {", "c", "a c {", "D", "a D {", "e", "a e {"]
    assert owners == [0, 0, 0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.txt", "\ufeff# what we sell\nFruit\n\n Milk  drinks # of cows\n"),
        ("c.list", "Fruit\r\nMilk drinks\r\n"),
        ("c.csv", "class\nFruit\nMilk drinks\n"),
        ("c.CSV", "Prompt,class\n,Fruit\n,Milk drinks\n"),
        ("c.yaml", "classes: [Fruit, Milk drinks]"),
    ],
)
def test_all_forms_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    found = read(tmp_path, text, name)
    assert found == Classes(("Fruit", "Milk drinks"), (("Fruit",), ("Milk drinks",)), (), TEMPLATES)


def test_rows_of_one_class_are_its_prompts(tmp_path: Path) -> None:
    found = read(tmp_path, 'class,prompt\nFruit,"an apple, say"\nMilk,a carton\nfruit ,a pear\n', "c.csv")
    assert found.names == ("Fruit", "Milk")
    assert found.prompts == (("an apple, say", "a pear"), ("a carton",))
    text = "class;prompt\nFruit;an apple, say\nMilk;a carton\nfruit;a pear\n"
    assert read(tmp_path, text, "c.csv") == found


def test_the_digest_follows_all_of_it(tmp_path: Path) -> None:
    first = read(tmp_path, FULL.replace('""', "[]"))
    assert first.digest == read(tmp_path, FULL.replace('""', "") + "# a comment").digest
    for old, new in (("Fruit", "Fruits"), ("a piece", "one piece"), ("a person", "a man"), ('"{}"', '"the {}"')):
        assert read(tmp_path, FULL.replace('""', "").replace(old, new)).digest != first.digest


def test_all_faults_of_a_yaml_file_are_told_with_their_lines(tmp_path: Path) -> None:
    text = """\
template: ["x {}"]
templates: ["a photo", "{} and {}"]
classes:
  Fruit: [fruit, ""]
  fruit: apple
  Milk: {a: b}
  Bread: [FRUIT, loaf]
  [x]: y
unknown: [loaf]
unknown: [z]
"""
    assert faults(tmp_path, text) == [
        "line 1: unknown setting 'template' (did you mean 'templates'?)",
        "line 2: template 'a photo': write {} once, where the class goes, such as 'a photo of {}'",
        "line 2: template '{} and {}': write {} once, where the class goes, such as 'a photo of {}'",
        "line 4: class 'Fruit' has an empty text",
        "line 5: class 'fruit' stands twice: first on line 4 as 'Fruit'",
        "line 6: class 'Milk': give a list of texts, such as [a, b]",
        "line 7: text 'FRUIT' of class 'Bread' stands twice: first on line 4 of class 'Fruit'",
        "line 8: the name of a class is a text",
        "line 9: text 'loaf' of unknown stands twice: first on line 7 of class 'Bread'",
        "line 10: 'unknown' stands twice",
    ]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("c.yaml", "- a\n- b", ["line 1: `classes:` is missing; for one class a line, name the file .txt"]),
        ("c.yaml", "", ["line 1: `classes:` is missing; for one class a line, name the file .txt"]),
        ("c.yaml", "unknown: [a, b]", ["line 1: `classes:` is missing"]),
        ("c.yaml", "classes:\n  a: [b\n", ["line 3: not YAML: expected ',' or ']', but got '<stream end>'"]),
        ("c.yaml", "classes:\nunknown: [a, b]", ["no class is there: give `classes:`"]),
        ("c.yaml", "classes: {a: '{line} {text}', b: '{line} {text}'}", [
            "line 1: text '{line} {text}' of class 'b' stands twice: first on line 1 of class 'a'"
        ]),
        ("c.yaml", "classes: {' ': x, b: c}", ["line 1: a class without a name"]),
        ("c.txt", "# nothing", ["no class is there: give two, or one and `unknown:` texts of what is not of it"]),
        ("c.txt", "a", ["only 'a' is there: give two, or one and `unknown:` texts of what is not of it"]),
        ("c.txt", "a\nb\n A #", ["line 3: class 'A' stands twice: first on line 1 as 'a'"]),
        ("c.csv", "clas,prompt\na,b\n", [
            "line 1: unknown column 'clas' (did you mean 'class'?): it may have class and prompt",
            "line 1: column 'class' is missing",
        ]),
        ("c.csv", "", ["line 1: column 'class' is missing"]),
        ("c.csv", "class,class\na,b", ["line 1: column 'class' stands twice"]),
        ("c.csv", "class,prompt\na,b,c\nd,e\nd,e\n,x", [
            "line 2: 1 cells more than columns: put texts with commas in quotes",
            "line 4: text 'e' of class 'd' stands twice: first on line 3 of class 'd'",
            "line 5: a class without a name",
        ]),
        ("c.csv", "prompt,class\na\nb,c\nd,e", ["line 2: a class without a name"]),
        ("c.yaml", "classes: [a, {b: c}]", ["line 1: classes: give a list of texts, such as [a, b]"]),
        ("c.yaml", "classes: [a, b]\nclass: c\nclass: d", [
            "line 2: unknown setting 'class' (did you mean 'classes'?)",
            "line 3: 'class' stands twice",
        ]),
        ("c.csv", 'class\n"a\nb', ["line 3: not CSV: unexpected end of data"]),
    ],
)  # fmt: skip
def test_faults(tmp_path: Path, name: str, text: str, expected: list[str]) -> None:
    assert faults(tmp_path, text, name) == expected


def test_the_message_names_the_file_and_counts(tmp_path: Path) -> None:
    with pytest.raises(ClassFileError) as caught:
        read(tmp_path, "a", "c.txt")
    assert str(caught.value) == f"classes {tmp_path / 'c.txt'}: 1 fault: {caught.value.faults[0]}"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ColdstartError) as missing:
        load(tmp_path / "no.yaml")
    assert str(missing.value) == (
        f"no classes file {tmp_path / 'no.yaml'}: give a .yaml or .csv, or a text file of one class a line"
    )
    (tmp_path / "bad.txt").write_bytes(b"a\n\xff")
    with pytest.raises(ColdstartError) as coded:
        load(tmp_path / "bad.txt")
    assert str(coded.value) == f"classes {tmp_path / 'bad.txt'} is not UTF-8 at byte 2: save it as UTF-8"


def test_the_sample_has_classes_that_are_its_categories() -> None:
    found = load(sample.path() / "classes.yaml")
    assert found.names == ("Fruit", "Vegetables", "Packages")
    assert found.unknown and all(found.prompts)
