"""The word policy: how words are met, patterns that stay quick, faults of a file, how well the packaged one does."""

from __future__ import annotations

import json
import pickle
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest
from paths import DATA, SUPPORT

from coldstart.core import settings
from coldstart.errors import ColdstartError
from coldstart.understand import policy as policy_file
from coldstart.understand import policy as word_policy
from coldstart.understand.policy import WordPolicy
from coldstart.understand.safety import SOURCES, Finding, TextPolicy, scores
from coldstart.understand.text_patterns import Phrases, compile_pattern, phrase_forms, plain_text

TEXTS = [json.loads(line) for line in (SUPPORT / "safety_texts.jsonl").read_text("utf-8").splitlines()]
THRESHOLD = 0.8
SMALL = """
name: test
version: 3
rules:
  guns:
    about: guns for sale
    signs:
      - words: [glock, ghost gun]
        near: [for sale, cheap]
        within: 3
        score: 0.5
      - pattern: 'calib(?:er|re) \\d{1,2}'
        score: 0.5
    unless: [toy, water gun]
  crêpes:
    about: a word with an accent, in speech that is French or unknown
    signs: [{words: [crêpe], score: 0.25}]
    languages: [fr]
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def make(text: str | bytes) -> str:
        path = tmp_path / "policy.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return make


@pytest.fixture
def small(write: Any) -> WordPolicy:
    return word_policy.load(write(SMALL))


@pytest.fixture(scope="module")
def packaged() -> WordPolicy:
    return word_policy.load("safety")


# -- words


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("COCAINE", "cocaine"),
        ("pure co\u200bcaine!", "cocaine"),
        ("c0c41ne", "cocaine"),
        ("c0ca!ne", "cocaine"),
        ("ｃｏｃａｉｎｅ", "cocaine"),
        ("𝓬𝓸𝓬𝓪𝓲𝓷𝓮", "cocaine"),
        ("cосaine", "cocaine"),  # the second and third letters are Cyrillic
        ("c.o.c.a.i.n.e", "cocaine"),
        ("C o c a i n e", "cocaine"),
        ("cocaaaaine", "cocaine"),
        ("hookers", "hooker"),
        ("coaches", "coach"),
        ("a$$", "ass"),
        ("Crepe", "crêpe"),
        ("CRÊPES", "crepe"),
        ("AK47", "ak-47"),
        ("ak 47", "ak-47"),
        ("don’t buy", "dont buy"),
        ("kill\n yourself", "kill yourself"),
        ("kill_yourself", "kill yourself"),
        ("v1agra and k1ll", "kill"),
    ],
)
def test_a_word_is_met_in_its_disguises(text: str, word: str) -> None:
    assert [found for found, _, _ in Phrases([word]).find(plain_text(text))] == [word]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Scunthorpe", "cunt"),
        ("cockerel", "cock"),
        ("shiitake", "shit"),
        ("Essex", "sex"),
        ("grass", "ass"),
        ("100", "ioo"),
        ("сосна", "cocha"),  # all Cyrillic: no Latin word is hidden in it
        ("f*ck", "fuck"),  # said not to be known
        ("kill, or hurt yourself", "kill yourself"),
    ],
)
def test_a_word_is_not_met_inside_others(text: str, word: str) -> None:
    assert Phrases([word]).find(plain_text(text)) == []


def test_a_quote_is_written_as_it_stands() -> None:
    plain = plain_text("Très  bon:\n C\u200b.R.Ê.P.E chaud")
    ((_, first, last),) = Phrases(["crêpe"]).find(plain)
    start, quote = plain.quote(plain.tokens[first].start, plain.tokens[last].end)
    assert (start, quote) == (12, "C\u200b.R.Ê.P.E")
    assert plain.original[start:].startswith(quote)


def test_a_phrase_needs_a_letter_or_digit() -> None:
    assert phrase_forms("ak-47") == [("ak", "47"), ("ak47",)]
    with pytest.raises(ValueError, match=r"^'\.\.\.' has no letters or digits$"):
        phrase_forms("...")


@pytest.mark.slow
def test_reading_takes_time_linear_in_the_text(packaged: WordPolicy) -> None:
    hostile = [
        "a " * 50_000,
        "a b c dd " * 11_000,
        "gun " * 25_000,
        "a" * 100_000,
        "07 " * 33_000,
        "win a " * 17_000,
        "@" * 100_000,
    ]
    for text in hostile:
        began = time.process_time()
        packaged.find({"title": text})
        assert time.process_time() - began < 10, text[:10]


# -- patterns


ENDS = " (look ahead or behind at the pattern's ends alone, at one character or class)"
REFERENCES = r" (references to groups and \Z are unknown; write out what it should match)"
LOWER = "as texts are matched in lower case"


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        (r"(a)\1", r"no regular expression that RE2 takes: invalid escape sequence: \1" + REFERENCES),
        (
            "a{0,1001}b",
            "no regular expression that RE2 takes: invalid repetition size: {0,1001} "
            "(repeat at most 1000 times, or without end)",
        ),
        ("(", "no regular expression that RE2 takes: missing )"),
        ("a)(b", "no regular expression that RE2 takes: unexpected )"),
        ("a(?!b)c", "no regular expression that RE2 takes: invalid perl operator: (?!" + ENDS),
        ("a(?=bc)", "no regular expression that RE2 takes: invalid perl operator: (?=" + ENDS),
        ("(?<!.)a", "no regular expression that RE2 takes: invalid perl operator: (?<!" + ENDS),
        ("(?<!a)b|c", "has alternatives beside (?<!X), (?<=X), (?!X) or (?=X): put them in (?:...)"),
        ("a{0,3}", "matches the empty text, and so every text"),
        ("a*", "matches the empty text, and so every text"),
        ("(?<!b)a*", "matches the empty text, and so every text"),
        ("[A-Z]47", f"has 'A': write 'a', {LOWER} without accents"),
        ("crêpes?", f"has 'ê': write 'e', {LOWER} without accents"),
        ("(?i)glock", f"has the flag i: leave it out, {LOWER}"),
        (
            r"\bказино\b",
            r"has \b, which knows ASCII letters alone, beside others: write \pL for a letter, "
            r"(?<!\pL) before a word and (?!\pL) after it",
        ),
    ],
)
def test_a_pattern_that_cannot_be_matched_in_linear_time_or_at_all_is_refused(
    pattern: str, fault: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError) as caught:
        compile_pattern(pattern)
    assert str(caught.value) == fault
    assert capfd.readouterr() == ("", "")  # RE2 logs what it refuses, unless it is told not to


def spans(pattern: str, text: str) -> list[tuple[int, int]]:
    return list(compile_pattern(pattern).find(text))


@pytest.mark.parametrize(
    "pattern",
    [
        r"\ba{1,40}b?\b",
        r"(?:a|b|c)\d{2,9}",
        "a{0,1000}b",
        r"(?<!\d)\d{7}(?!\d)",
        r"(?<![a-z0-9_.])@[a-z]{1,3}\b",
        "(?<![$€])[$€]",
        r"(?<=a)b{1,3}(?=c)",
        r"(?<![^ ])[ab]{1,2}(?![^ ])",
        r"won\b.{0,5}\bp",
        r"(?<!a)b?\b",
        "(?:a|ab)(?!c)",
        "^a{1,2}?",
        r"\W\w\D",
        r"(?P<Name>\d\d)",
    ],
)
def test_matches_are_those_of_pythons_own_engine(pattern: str) -> None:
    """The reference is `re.finditer`, on 1,000 random texts."""
    rng = random.Random(pattern)
    parts = [
        "a",
        "b",
        "ab",
        "c",
        "ccc",
        "won p",
        "p",
        "1",
        "1234567",
        "@",
        "$",
        "€",
        "_",
        ".",
        " ",
        "ж",
        "信",
        "ø",
        "🙂",
    ]
    matches = 0
    for _ in range(1000):
        text = "".join(rng.choices(parts, k=rng.randint(1, 12)))
        expected = [match.span() for match in re.finditer(pattern, text)]
        assert spans(pattern, text) == expected, text
        matches += len(expected)
    assert matches > 10


def test_letters_of_any_script_are_letters_and_their_digits_are_digits() -> None:
    assert spans(r"\bbet\b", "betт тbet bet") == [(10, 13)]
    assert spans(r"\d{3}", "٣٤٥") == [(0, 3)]
    assert spans(r"(?<!\pL)казино(?!\pL)", "казино казинo, суперказино") == [(0, 6)]
    assert spans("[^a]", "\ud800") == [(0, 1)]


@pytest.mark.parametrize("pattern", ["(a+)+b", "a{2,}c", "(?:a|a){0,20}b", ".{0,60}.{0,60}b", r"(?<!\d)(\d+)+x"])
def test_a_pattern_that_is_slow_in_other_engines_takes_linear_time(pattern: str) -> None:
    for text in ("a" * 100_000, "07" * 50_000):
        began = time.process_time()
        assert spans(pattern, text) == []
        assert time.process_time() - began < 5


# -- rules


def found(policy: WordPolicy, text: str, source: str = "title", language: str | None = None) -> list[str]:
    return [finding.quote for finding in policy.find({source: text}, language)]


def test_a_sign_needs_what_is_near_it(small: WordPolicy) -> None:
    assert found(small, "Glock 19, nearly new, for sale") == ["Glock 19, nearly new, for sale"]
    assert found(small, "Cheap ghost guns") == ["Cheap ghost guns"]
    assert found(small, "A Glock in the museum; tickets for the tour are for sale") == []
    assert found(small, "A Glock") == []


def test_an_exception_excuses_what_is_near_it(small: WordPolicy) -> None:
    assert found(small, "Toy Glock for sale") == []
    assert found(small, "Glock for sale, and with a toy") == []
    assert found(small, "Glock for sale, and in the next lot a toy") == ["Glock for sale"]


def test_findings_say_what_where_and_by_which_sign(small: WordPolicy) -> None:
    text = "Glock for sale, calibre 45"
    assert small.find({"description": text, "title": text}) == [
        Finding("guns", 0.5, "title", "Glock for sale", 0, sign="1 glock"),
        Finding("guns", 0.5, "title", "calibre 45", 16, sign="2"),
        Finding("guns", 0.5, "description", "Glock for sale", 0, sign="1 glock"),
        Finding("guns", 0.5, "description", "calibre 45", 16, sign="2"),
    ]


def test_signs_add_up_and_one_that_is_met_twice_counts_once(small: WordPolicy) -> None:
    once = "Glock for sale"
    assert scores(small.find({"title": once})) == {"guns": 0.5}
    assert scores(small.find(dict.fromkeys(SOURCES, f"{once}. {once}"))) == {"guns": 0.5}
    assert scores(small.find({"title": once, "transcript": "calibre 45"})) == {"guns": 0.75}
    assert scores(small.find({"title": once, "tags": "ghost gun, cheap, crêpe"})) == {"guns": 0.75, "crêpes": 0.25}
    assert scores([]) == {}


def test_a_rule_of_a_language_leaves_speech_in_others_alone(small: WordPolicy) -> None:
    assert found(small, "crêpes", "transcript", "fr") == ["crêpes"]
    assert found(small, "crêpes", "transcript", "nl") == []
    assert found(small, "crêpes", "transcript") == ["crêpes"]
    assert found(small, "crêpes", "screen_text", "nl") == ["crêpes"]


def test_a_long_quote_is_cut(write: Any) -> None:
    policy = word_policy.load(write(SMALL.replace("within: 3", "within: 50")))
    (quote,) = found(policy, "Glock " + "and more " * 20 + "for sale")
    assert len(quote) == 80 and quote.endswith("…")


def test_a_policy_travels(packaged: WordPolicy) -> None:
    policy: TextPolicy = packaged
    again = pickle.loads(pickle.dumps(policy))
    assert again == packaged
    assert again.find({"title": TEXTS[0]["text"]}) == packaged.find({"title": TEXTS[0]["text"]}) != []


def test_the_digest_changes_with_all_that_changes_findings(write: Any) -> None:
    plain = word_policy.load(write(SMALL)).digest
    assert word_policy.load(write(SMALL.replace("guns for sale", "other note"))).digest == plain
    assert word_policy.load(write("# note\n" + SMALL)).digest == plain
    for old, new in [("0.25", "0.3"), ("toy", "doll"), ("within: 3", "within: 4"), ("version: 3", "version: 4")]:
        assert word_policy.load(write(SMALL.replace(old, new))).digest != plain, new


# -- files


def test_packaged_policies_are_found() -> None:
    assert list(settings.data_files("policies", "*.yaml")) == ["safety"]


def test_all_faults_of_a_file_are_told_at_once(write: Any) -> None:
    path = write("""
name: test
version: 0
lists: {sale: [for sale], odd: [1488]}
rulez: {}
rules:
  one:
    about: first
    signs:
      - words: sael
        score: 0.5
      - {words: [a], pattern: b, score: 2}
      - {pattern: '(a+', score: 0.5}
      - {words: [no, '...'], near: odd, scor: 0.5}
  two: {signs: [], unles: [a]}
pictures:
  rules:
    nudity: {about: x, unsafe: [a], saef: [b]}
""")
    with pytest.raises(policy_file.PolicyError) as caught:
        policy_file.load_file(path)
    assert caught.value.faults == [
        "rules.one.signs[1].words='sael': no such list (did you mean 'sale'?)",
        "version=0: Input should be greater than or equal to 1",
        "rules.one.signs[2].score=2: Input should be less than or equal to 1",
        "rules.one.signs[3].pattern='(a+': no regular expression that RE2 takes: missing )",
        "rules.one.signs[4].words[1]=False: write it in quotes",
        "rules.one.signs[4].words[2]='...': '...' has no letters or digits",
        "rules.one.signs[4].near[1]=1488: write it in quotes",
        "rules.one.signs[4].score is missing",
        "unknown setting rules.one.signs[4].scor (did you mean 'score'?)",
        "rules.two.about is missing",
        "rules.two.signs=[]: give at least one",
        "unknown setting rules.two.unles (did you mean 'unless'?)",
        "pictures.rules.nudity.safe is missing",
        "unknown setting pictures.rules.nudity.saef (did you mean 'safe'?)",
        "unknown setting rulez (did you mean 'rules'?)",
    ]
    assert str(caught.value).startswith(f"policy {path}: 15 faults: rules.one.signs[1].words='sael': no such list")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", ": 1 fault: it holds no settings: `rules:` is missing"),
        ("rules: [\n", ": 1 fault: not YAML: expected the node content, but found '<stream end>'"),
        ("name: a\nname: b\n", ": 1 fault: not YAML at line 2: key 'name' stands twice"),
        (b"name: \xff", " is not UTF-8 at byte 6: save it as UTF-8"),
        (
            SMALL.replace("{words: [crêpe], score: 0.25}", "{words: [a], pattern: b, score: 0.25}"),
            ": 1 fault: rules.crêpes.signs[1]: give either words or a pattern",
        ),
        (
            SMALL + "pictures:\n  rules:\n    guns: {about: x, unsafe: [a], safe: [b]}\n",
            ": 1 fault: pictures.rules.guns: another rule has this name: choose another",
        ),
        (SMALL + "lists: 3\n", ": 1 fault: lists: give names, each with its words"),
    ],
)
def test_a_faulty_file_is_refused(write: Any, text: str | bytes, fault: str) -> None:
    path = write(text)
    with pytest.raises(ColdstartError) as caught:
        word_policy.load(path)
    assert str(caught.value) == f"policy {path}{fault}"


def test_a_policy_that_is_nowhere_is_refused() -> None:
    with pytest.raises(ColdstartError) as caught:
        word_policy.load("nope")
    assert str(caught.value) == "no policy 'nope': give a path or one of safety"


# -- how well the packaged policy does


def closing_rules(policy: WordPolicy, **texts: str) -> set[str]:
    """The rules that close an item at the shipped threshold."""
    return {rule for rule, score in scores(policy.find(texts)).items() if score >= THRESHOLD}


@pytest.mark.parametrize(
    ("which", "counts"),
    [
        ("before", (51, 2, 0, 64)),  # written before the policy, by its author
        ("hard", (35, 5, 0, 46)),  # meant to fool it; it was mended on them (at first 6, 34, 17, 29)
        ("after", (16, 16, 11, 27)),  # meant to fool it; never looked at for mending: the honest figure
    ],
)
def test_labelled_texts(packaged: WordPolicy, which: str, counts: tuple[int, int, int, int]) -> None:
    """Unsafe texts closed and missed, innocent texts closed and left; a changed policy changes these counts."""
    rows = [row for row in TEXTS if row["set"] == which]
    unsafe = [bool(closing_rules(packaged, title=row["text"])) for row in rows if row["rule"]]
    innocent = [bool(closing_rules(packaged, title=row["text"])) for row in rows if not row["rule"]]
    assert (sum(unsafe), len(unsafe) - sum(unsafe), sum(innocent), len(innocent) - sum(innocent)) == counts


def test_every_rule_is_met_by_a_labelled_text(packaged: WordPolicy) -> None:
    met = {row["rule"] for row in TEXTS if row["rule"] and row["rule"] in closing_rules(packaged, title=row["text"])}
    assert met == set(packaged.rules) == {row["rule"] for row in TEXTS if row["rule"]}


def test_no_item_of_the_sample_is_closed(packaged: WordPolicy) -> None:
    lines = (settings.PACKAGE / "sample" / "manifest.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) > 90
    for row in rows:
        texts = {"title": row.get("title") or "", "description": row.get("description") or ""}
        assert closing_rules(packaged, **texts, tags=", ".join(row.get("tags") or [])) == set(), row["item_id"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "limit"),
    [
        ("fashion_products/products.jsonl", 0),
        ("flickr8k_1k/images.jsonl", 0),
        ("grocery/products.jsonl", 0),
        ("videos_real/videos.jsonl", 0),
        ("movielens_posters/items.jsonl", 3),  # of 2,419 films, which tell of murder
    ],
)
def test_real_innocent_texts_are_left_alone(packaged: WordPolicy, data: Path, file: str, limit: int) -> None:
    rows = [json.loads(line) for line in (data / file).read_text("utf-8").splitlines()]
    closed = []
    for row in rows:
        description = " ".join([row.get("text") or "", row.get("information") or "", *(row.get("captions") or ())])
        tags = ", ".join(row.get("tags") or ())
        if closing_rules(packaged, title=row.get("title") or "", description=description, tags=tags):
            closed.append(row["id"])
    assert len(closed) <= limit, closed


@pytest.fixture(scope="module")
def data() -> Path:

    folder = DATA
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set COLDSTART_DATA")
    return folder
