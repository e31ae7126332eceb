"""Inflect English catalogue words: number of nouns, articles, lists, small letters. Knows no items."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


_PLURAL = words_of(
    "accessories bermudas binoculars boots boxers briefs capris chinos chips clogs clothes cookies cufflinks culottes "
    "drawers dungarees earphones earrings flats flops glasses gloves goggles headphones heels jeans jeggings joggers "
    "knickers leggings loafers mittens moccasins noodles nuts oats overalls pajamas panties pants pliers pumps pyjamas "
    "sandals scissors shoes shorts slacks slippers sneakers socks stilettos stockings sunglasses sweatpants tights "
    "tongs trackpants trainers trousers tweezers undies"
)
"""Nouns that stand in the plural for one article of a shop."""
_WITHOUT_ARTICLE = words_of(
    "bread butter cheese clothing cosmetics cream flour fruit furniture garlic ginger honey jewellery jewelry juice "
    "lingerie luggage makeup meat milk mist oatghurt oil perfume pasta rice salad salt shampoo soap soyghurt sugar tea "
    "coffee vinegar water yoghurt yogurt"
)
_SINGULAR_IN_S = ("ss", "us", "sis", "xis")
_IE = words_of("ties bowties pies movies hoodies brownies beanies selfies onesies zombies")
_F = {"scarves": "scarf", "shelves": "shelf", "knives": "knife", "loaves": "loaf", "leaves": "leaf", "halves": "half"}
_OF_F = {one: many for many, one in _F.items()}
_O = words_of("potatoes tomatoes mangoes heroes")
_SPELLINGS = {
    "tshirt": "T-shirt",
    "tshirts": "T-shirts",
    "t-shirt": "T-shirt",
    "t-shirts": "T-shirts",
    "t shirt": "T-shirt",
    "t shirts": "T-shirts",
    "multi": "multicoloured",
    "off white": "off-white",
}
_SPELLED = re.compile(r"(?<![\w-])(?:" + "|".join(sorted(_SPELLINGS, key=len, reverse=True)) + r")(?![\w-])", re.I)
_CONSONANT_SOUND = re.compile(r"(?:uni(?!n|m)|use|usu|uti|eu|ewe|one(?!\w)|ut?opia|ukulele)", re.I)
_VOWEL_SOUND = re.compile(r"(?:[aeiou]|hour|heir|honest|honou?r)", re.I)
_SPELLED_OUT = re.compile(r"[A-Z](?:[A-Z0-9]+\b|[-\d]|\b)")


@dataclass(frozen=True)
class Noun:
    """Noun phrase of one article.

    Attributes:
        text: in the number that a shop would write, in small letters.
        plural: True where a verb after it stands in the plural.
        counted: True where it takes `a` or `an`.
    """

    text: str
    plural: bool
    counted: bool


def small_letters(text: str) -> str:
    """Write ordinary words in small letters; names with digits, signs or several capitals stay as they are.

    `Navy Blue` becomes `navy blue`, `LED Lamp` becomes `LED lamp`, `Tshirts` becomes `T-shirts`.
    """
    words = [word.lower() if word[1:].islower() and word[0].isalpha() else word for word in text.split()]
    return _SPELLED.sub(lambda found: _SPELLINGS[found.group().lower()], " ".join(words))


def noun(text: str) -> Noun:
    """Put the name of a class of goods in the number of one article: `Watches` a watch, `Casual Shoes` casual shoes."""
    tidy = small_letters(text)
    before, _, head = tidy.rpartition(" ")
    start = f"{before} " if before else ""
    word = head.lower()
    if re.search(r"\b(?:and|or|with|of|for)\b|[&/+,]", f" {before} "):
        first = re.split(r"\s+(?:with|of|for)\b", tidy)[0].rpartition(" ")[2]
        both = re.search(r"\b(?:and|or)\b|[&/+,]", before) is not None
        counted = head if both else first
        return Noun(tidy, counted.lower() in _PLURAL or singular(counted) != counted, False)
    if word in _PLURAL or any(word.endswith(f"-{one}") for one in ("flops", "shoes", "ups", "ons")):
        return Noun(tidy, True, False)
    if word in _WITHOUT_ARTICLE or word.endswith(("wear", "ware", "ghurt")):
        return Noun(tidy, False, False)
    return Noun(start + singular(head), False, True)


def singular(word: str) -> str:
    """Return the singular of a plural in -s, and any other word as it is."""
    folded = word.lower()
    if folded in _F:
        return _F[folded]
    if not folded.endswith("s") or folded.endswith(_SINGULAR_IN_S) or len(folded) < 4 or not folded.isascii():
        return word
    if folded in _IE:
        return word[:-1]
    if folded.endswith("ies"):
        return f"{word[:-3]}y"
    if folded in _O or folded.endswith(("ches", "shes", "sses", "xes", "zes")):
        return word[:-2]
    return word[:-1]


def plural(words: str) -> str:
    """Return the plural of a noun phrase by its last word; a plural such as `jeans` as it is."""
    before, _, head = words.rpartition(" ")
    start, folded = (f"{before} " if before else ""), head.lower()
    if not head or folded in _PLURAL or singular(head) != head:
        return words
    if folded in _OF_F:
        return start + _OF_F[folded]
    if re.search(r"[^aeiou]y$", folded):
        return f"{start}{head[:-1]}ies"
    return f"{start}{head}{'es' if folded.endswith(('s', 'x', 'z', 'ch', 'sh')) or f'{folded}es' in _O else 's'}"


def article(phrase: str) -> str:
    """Return `a` or `an` as the first sound of a phrase asks for."""
    if _SPELLED_OUT.match(phrase):
        return "an" if phrase[0] in "AEFHILMNORSX" else "a"
    if phrase[:1].isdigit():
        return "an" if re.match(r"8|1[18](?!\d)", phrase) else "a"
    return "an" if _VOWEL_SOUND.match(phrase) and not _CONSONANT_SOUND.match(phrase) else "a"


def listed(parts: Sequence[str]) -> str:
    """Join parts as `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def capitalised(text: str) -> str:
    """Write the first letter large, also behind an opening mark; a word such as `iPhone` stays."""
    first = text.split(" ", 1)[0]
    if any(letter.isupper() for letter in first[1:]):
        return text
    return re.sub(r"[^\W\d_]", lambda found: found.group().upper(), text, count=1) if text[:1].isalpha() else text
