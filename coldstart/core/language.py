"""Detect the language of a sentence, or of a title, by script and known words; `und` where neither shows it.

Statistical detectors (py3langid, lingua, langdetect) are made for prose; a product text such as "Men Brown Casual
Shoes." is names and adjectives, which they assign to any language. A wrong verdict would discard a right description,
so `detect_language` needs two function words or the script. Titles have few function words: `detect_title_language`
takes words of shops and letters of one language too. By it `item_language` finds the language of an item whose record
states none; a few wrong titles do no harm there. Languages of one script without such words are not told apart.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

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

_SHOP_WORDS = {
    "en": """men women woman man kids boys girls shoes shirt dress jacket trousers jeans bag watch black white
        red blue green yellow brown grey gray pink large small new fresh milk juice water bread cheese apple
        orange chicken fish book house table chair lamp kitchen garden size cotton leather wool wood glass
        steel dog cat girl boy people person playing running standing sitting""",
    "de": """damen herren kinder jungen mädchen schuhe hemd kleid jacke hose tasche uhr schwarz schwarzer
        schwarze weiß weiss rot rote roter rotes blau blaue grün grüne gelb gelbe braun braune grau graue
        rosa groß große klein kleine neu frisch frische milch saft wasser brot käse apfel huhn fisch buch
        haus tisch stuhl küche garten stück größe baumwolle leder wolle holz glas stahl hund katze oder ohne
        zum zur beim eines""",
    "fr": """femme femmes homme hommes enfant enfants fille filles garçon chaussures chemise robe veste pantalon
        sac montre noir noire blanc blanche rouge bleu bleue vert verte jaune jaunes marron gris grise rose
        grand grande petit petite nouveau frais lait jus eau pain fromage pomme poulet poisson livre maison
        chaise cuisine jardin taille coton cuir laine bois verre acier chien chat avec sans en""",
    "es": """mujer mujeres hombre hombres niño niña niños niñas zapatos camisa vestido chaqueta pantalón bolso
        reloj negro negra blanco blanca rojo roja azul verde amarillo amarilla marrón gris rosa grande
        pequeño nuevo fresco fresca leche zumo jugo agua pan queso manzana pollo pescado libro casa mesa
        silla cocina jardín talla algodón cuero lana madera vidrio acero perro gato sin al""",
    "it": """donna donne uomo uomini bambino bambina bambini ragazzo ragazza scarpe camicia vestito giacca
        pantaloni borsa orologio nero nera bianco bianca rosso rossa blu verde giallo marrone grigio rosa
        grande piccolo nuovo fresco latte succo acqua pane formaggio mela pollo pesce libro casa tavolo
        sedia cucina giardino taglia cotone pelle lana legno vetro acciaio cane gatto senza""",
    "pt": """mulher mulheres homem homens menino menina sapatos camisa vestido jaqueta calça bolsa relógio preto
        preta branco branca vermelho azul verde amarelo marrom cinza rosa grande pequeno novo fresco leite
        suco água pão queijo maçã frango peixe livro casa mesa cadeira cozinha jardim tamanho algodão couro
        lã madeira vidro aço cachorro gato sem""",
    "nl": """dames heren kinderen jongens meisjes schoenen overhemd jurk jas broek tas horloge zwart zwarte wit
        witte rood rode blauw blauwe groen groene geel gele bruin bruine grijs grijze groot klein nieuw vers
        verse melk sap water brood kaas appel kip vis boek huis tafel stoel keuken tuin maat katoen leer
        hout staal hond zonder""",
    "sv": """dam herr barn skor skjorta klänning jacka byxor väska klocka svart vit röd röda blå grön gul brun
        grå stor liten ny färsk mjölk vatten bröd ost äpple kyckling fisk bok hus bord stol kök trädgård
        storlek bomull läder trä stål utan""",
    "pl": """damskie męskie damska męska dziecięce buty koszula sukienka kurtka spodnie torba zegarek czarny
        czarna biały biała czerwony niebieski zielony żółty brązowy szary duży mały nowy mleko sok woda
        chleb ser jabłko kurczak ryba książka dom stół krzesło kuchnia ogród rozmiar bawełna skóra drewno
        stal bez""",
    "tr": """kadın erkek çocuk ayakkabı gömlek elbise ceket pantolon çanta saat siyah beyaz kırmızı mavi yeşil
        sarı kahverengi gri pembe büyük küçük yeni süt suyu ekmek peynir elma tavuk balık kitap masa
        sandalye mutfak bahçe beden pamuk deri ahşap cam çelik""",
}
"""Words of titles. One that several languages have counts for each of them."""

_LETTERS = {"ß": "de", "ñ": "es", "ã": "pt", "õ": "pt", "œ": "fr", "ł": "pl", "ż": "pl", "ğ": "tr"}
"""Letter -> the language that has it, among those of `_FUNCTION_WORDS`."""

_LANGUAGES_OF_TITLE_WORD = {word: set(codes) for word, codes in _LANGUAGES_OF_WORD.items()}
for _code, _words in _SHOP_WORDS.items():
    for _word in _words.split():
        _LANGUAGES_OF_TITLE_WORD.setdefault(_word, set()).add(_code)
_READ_CHARACTERS = 300
"""Characters of an item's texts by which its language is detected."""
FEWEST_SHOWN = 10
"""Texts whose language shows from which on a catalogue's languages are spoken of."""
OTHER_SHARE = 0.1
"""Share of other languages from which on a catalogue is not taken for English."""
_LISTED = 4
_CLEAR_LETTERS = 4
"""Letters from which on one word alone shows the language of a title: shorter ones are often parts of names."""

NAMES = {
    "en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese",
    "nl": "Dutch", "sv": "Swedish", "da": "Danish", "fi": "Finnish", "pl": "Polish", "tr": "Turkish",
    "id": "Indonesian", "ru": "Russian", "el": "Greek", "ar": "Arabic", "he": "Hebrew", "hi": "Hindi", "bn": "Bengali",
    "ta": "Tamil", "te": "Telugu", "th": "Thai", "ko": "Korean", "ja": "Japanese", "zh": "Chinese", "hy": "Armenian",
    "ka": "Georgian",
}  # fmt: skip
"""Code of each language that is detected -> its name. A script of several languages counts as the likeliest."""

STATED = ("content_language", "locale", "lang", "language")
"""Attributes that state the language of an item's texts, in the order in which they count."""
_CODES = """
    aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en
    eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv
    ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne
    ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st
    su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
_ISO_639_1 = frozenset(_CODES.split())
_OTHER_NAMES = {
    "en": "eng", "de": "deu ger deutsch", "fr": "fra fre français francais", "es": "spa español espanol castellano",
    "it": "ita italiano", "pt": "por português portugues", "nl": "nld dut nederlands flemish", "sv": "swe svenska",
    "da": "dan dansk", "fi": "fin suomi", "pl": "pol polski", "tr": "tur türkçe", "id": "ind", "ru": "rus русский",
    "el": "ell gre ελληνικά", "ar": "ara العربية", "he": "heb עברית", "hi": "hin हिन्दी", "bn": "ben", "ta": "tam",
    "te": "tel", "th": "tha ไทย", "ko": "kor 한국어", "ja": "jpn 日本語", "zh": "zho chi mandarin 中文",
    "hy": "hye arm", "ka": "kat geo",
    "cs": "ces cze czech čeština", "hu": "hun hungarian magyar", "ro": "ron rum romanian română",
    "nb": "nob", "no": "nor norwegian norsk", "uk": "ukr ukrainian українська", "vi": "vie vietnamese",
    "fa": "fas per persian farsi", "ur": "urd urdu", "bg": "bul bulgarian", "hr": "hrv croatian hrvatski",
    "sk": "slk slo slovak", "sl": "slv slovenian", "sr": "srp serbian", "ca": "cat catalan català",
}  # fmt: skip
_CODES_OF_NAMES = {
    **{name.casefold(): code for code, name in NAMES.items()},
    **{name.casefold(): code for code, names in _OTHER_NAMES.items() for name in names.split()},
}
"""Name of a language, in English or its own, or its code by ISO 639-2 or -3 -> its code by ISO 639-1."""


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


def detect_title_language(text: str) -> str:
    """Return the code of the language of a title or a short text; `und` where it does not show.

    Two known words more than of any other language show it, or one of four letters or more that no other one has.
    """
    found = detect_language(text)
    if found != UNKNOWN or _script(text) != "LATIN":
        return found
    counts: Counter[str] = Counter()
    clear: set[str] = set()
    for word in re.findall(r"[^\W\d_]+", text.lower()):
        codes = _LANGUAGES_OF_TITLE_WORD.get(word) or {_LETTERS[letter] for letter in word if letter in _LETTERS}
        counts.update(codes)
        if len(codes) == 1 and len(word) >= _CLEAR_LETTERS:
            clear |= codes
    (best, most), (_, second) = (*counts.most_common(2), ("", 0), ("", 0))[:2]
    return best if most > second and (best in clear or most >= second + _MIN_WORDS) else UNKNOWN


def item_language(title: str | None, description: str | None, attributes: Mapping[str, Any]) -> str | None:
    """Return the code of an item's language: as its record states it, else detected; None where neither shows it.

    Args:
        attributes: of the record; one that `STATED` names states the language, of texts before that of the item.
    """
    if attributes:
        given = {name.casefold().replace("-", "_"): value for name, value in attributes.items()}
        for name in STATED:
            if (code := parse_language(given.get(name))) is not None:
                return code
    text = " ".join(one for one in (title, description) if one)[:_READ_CHARACTERS]
    found = detect_title_language(text) if text else UNKNOWN
    return None if found == UNKNOWN else found


def parse_language(value: object) -> str | None:
    """Parse a stated language, such as `de`, `de-AT`, `deu`, `German` or `Deutsch`; None for any other text."""
    if not isinstance(value, str):
        return None
    name = value.strip().casefold()
    if name in _CODES_OF_NAMES:
        return _CODES_OF_NAMES[name]
    code = name.replace("_", "-").partition("-")[0]
    return code if code in _ISO_639_1 else _CODES_OF_NAMES.get(code)


def count_languages(texts: Iterable[tuple[object, object]]) -> Counter[str]:
    """Count the languages of items by title and description, `und` among them; items without either do not count."""
    found: Counter[str] = Counter()
    for fields in texts:
        if text := " ".join(str(one) for one in fields if one)[:_READ_CHARACTERS]:
            found[detect_title_language(text)] += 1
    return found


def languages_text(counts: Mapping[str, int]) -> str:
    """List languages with their share of the texts whose language shows: `English 60 %, German 38 %`.

    Shares below half a percent, of which many are wrong verdicts, are left out.
    """
    shown = {code: count for code, count in counts.items() if code != UNKNOWN and count}
    total = sum(shown.values())
    order = sorted(shown.items(), key=lambda one: (-one[1], one[0]))[:_LISTED]
    order = [(code, count) for code, count in order if 200 * count >= total]
    return ", ".join(f"{NAMES.get(code, code)} {100 * count / total:.0f} %" for code, count in order)


def mostly_english(counts: Mapping[str, int]) -> bool | None:
    """Tell whether so few texts are in other languages that an encoder for English serves; None for too few texts."""
    shown = sum(count for code, count in counts.items() if code != UNKNOWN)
    if shown < FEWEST_SHOWN:
        return None
    return shown - counts.get("en", 0) < OTHER_SHARE * shown


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
