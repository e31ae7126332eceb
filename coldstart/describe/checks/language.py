"""Detect the language of a sentence by its script and its function words; `und` where neither shows it.

Statistical detectors (py3langid, lingua, langdetect) are made for prose; a product text such as "Men Brown Casual
Shoes." is names and adjectives, which they assign to any language. A wrong verdict would discard a right description,
so this one needs two function words or the script. Languages of one script without such words are not told apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import lru_cache

UNKNOWN = "und"

_SCRIPTS = {
    "LATIN": (),
    "CYRILLIC": ("ru", "uk", "bg", "sr", "be", "mk", "kk"),
    "GREEK": ("el",),
    "ARABIC": ("ar", "fa", "ur"),
    "HEBREW": ("he", "yi"),
    "DEVANAGARI": ("hi", "mr", "ne"),
    "BENGALI": ("bn",),
    "TAMIL": ("ta",),
    "TELUGU": ("te",),
    "THAI": ("th",),
    "HANGUL": ("ko",),
    "HIRAGANA": ("ja",),
    "KATAKANA": ("ja",),
    "CJK": ("zh", "ja"),
    "ARMENIAN": ("hy",),
    "GEORGIAN": ("ka",),
}
"""First word of a letter's Unicode name -> the languages that are written so, the likeliest first."""

_FUNCTION_WORDS = {
    "en": "the and of is are with for this that from its it by an to in on has have which you your as be",
    "de": "der die das und ist sind mit für ein eine einen einem dieser diese dieses aus von den dem des im auf auch",
    "fr": "le la les et est sont avec pour une un des du cette ce ces dans sur qui au aux pas votre son sa",
    "es": "el la los las y es son con para una un del este esta estos en su sus por que al no muy",
    "it": "il lo la gli e è sono con per una un del della dei questo questa nel di che sul suo sua non",
    "pt": "o os as e é são com para uma um do da dos das este esta em seu sua por que ao não",
    "nl": "de het een en is zijn met voor deze dit van aan op die dat niet ook uw bij naar",
    "sv": "och är en ett med för den det som av på till i från inte denna detta har kan",
    "da": "og er en et med for den det som af på til i fra ikke denne dette har kan",
    "fi": "ja on tämä että kanssa sekä joka ovat myös kuin tai ei se",
    "pl": "i jest są z dla to ten ta te oraz na w do nie się od który jego",
    "tr": "ve bir bu için ile olan çok da de olarak daha gibi",
    "id": "dan yang ini dengan untuk dari adalah pada di ke itu atau tidak",
}
_LANGUAGES_OF_WORD: dict[str, tuple[str, ...]] = {}
for _code, _words in _FUNCTION_WORDS.items():
    for _word in _words.split():
        _LANGUAGES_OF_WORD[_word] = (*_LANGUAGES_OF_WORD.get(_word, ()), _code)
_MIN_WORDS = 2


def detect_language(text: str) -> str:
    """Return the code of a text's language, such as `en`; `und` where it does not show."""
    script = _script(text)
    if script is None:
        return UNKNOWN
    if script != "LATIN":
        if script == "CJK" and any(_script_of(letter) in ("HIRAGANA", "KATAKANA") for letter in text):
            return "ja"
        return next(iter(_SCRIPTS.get(script, ())), UNKNOWN)
    counts = Counter(
        code for word in re.findall(r"[^\W\d_]+", text.lower()) for code in _LANGUAGES_OF_WORD.get(word, ())
    )
    (best, most), (_, second) = (*counts.most_common(2), ("", 0), ("", 0))[:2]
    return best if most >= _MIN_WORDS and most > second else UNKNOWN


def may_be_written_in(text: str, languages: tuple[str, ...]) -> bool:
    """Tell whether a text may be in one of some languages; an empty list or an undetected language allows it."""
    found = detect_language(text)
    if not languages or found in languages:
        return True
    script = _script(text)
    if script not in (None, "LATIN"):
        return not set(_SCRIPTS.get(script or "", languages)).isdisjoint(languages)
    return found == UNKNOWN


def _script(text: str) -> str | None:
    """Return the script of most letters; None where there is no letter."""
    if text.isascii():
        return "LATIN" if any(map(str.isalpha, text)) else None
    counts = Counter(_script_of(letter) for letter in text if letter.isalpha())
    return counts.most_common(1)[0][0] if counts else None


@lru_cache(maxsize=8192)
def _script_of(letter: str) -> str:
    return unicodedata.name(letter, "UNKNOWN").split(" ", 1)[0].split("-", 1)[0]
