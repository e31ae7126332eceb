"""Recognise attributes that count interactions by their names: numbers of ratings, ranks of sales, bestsellers.

A new item has no such count yet, so that a model that learns from them learns what no new item can have, and an
evaluation that takes them from the end of the log is too good. Names are those of shops, portals and data sets in the
languages of the field. Knows no values but whether they are numbers.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_LETTERS = str.maketrans({"ı": "i", "ł": "l", "ø": "o", "æ": "ae", "œ": "oe", "đ": "d", "ß": "ss", "#": " number "})


def _set(text: str, separator: str | None = None) -> frozenset[str]:
    return frozenset(" ".join(part.split()) for part in text.split(separator)) - {""}


_COUNT = _set(
    """
    n num nums number numbers no nr count counts cnt total totals sum amount anzahl zahl gesamt nb nbr nombre total
    numero num cantidad quantita quantidade qtd qty aantal antal liczba ilosc pocet sayisi adet количество число кол
    """
)
_COUNTED = _set(
    """
    rating ratings review reviews vote votes view views viewed like likes dislikes sale sales sold purchase purchases
    orders download downloads play plays click clicks favorite favorites favourite favourites wishlist wishlists
    comment comments bookmark bookmarks rental rentals watches listens streams impressions interactions saves
    shares subscribers buyers customers viewers raters
    bewertung bewertungen rezension rezensionen kundenbewertungen kundenrezensionen stimmen aufrufe abrufe klicks
    verkaufe verkaufte bestellungen kaufe kommentare
    avis evaluations commentaires vues ventes vendus commandes achats telechargements clics favoris notes lectures
    valoraciones resenas opiniones votos visitas vistas visualizaciones ventas vendidos vendidas pedidos compras
    descargas favoritos comentarios calificaciones reproducciones
    recensioni valutazioni voti visualizzazioni vendite venduti ordini acquisti commenti preferiti giudizi
    avaliacoes visualizacoes vendas curtidas
    beoordelingen recensies reviews weergaven verkopen verkocht bestellingen aankopen stemmen
    omdomen recensioner anmeldelser visningar visninger salg forsaljning solgte bedommelser vurderinger
    oceny ocen opinii opinie recenzji recenzje wyswietlen wyswietlenia sprzedaz sprzedazy sprzedanych zamowien glosow
    hodnoceni recenzi zobrazeni prodano prodeju
    degerlendirme yorum goruntulenme satis begeni
    отзывов отзывы оценок оценки просмотров просмотры продаж продажи продано заказов голосов лайков скачиваний
    """
)
_PLURAL = _COUNTED - _set(
    """
    rating review vote view like sale purchase download play click favorite favourite wishlist comment bookmark
    rental customers buyers viewers verkaufte notes vistas yorum bewertung rezension orders commandes pedidos
    bestellungen ordini
    """
)
"""Words that alone are a number, if the value is one."""
_QUALIFIERS = _COUNT | _set(
    """
    all user users customer customers kunden client clients product item units unit stuck of by de des du del der die
    di do da d a the monthly daily weekly yearly lifetime recent last month week day days year 7d 30d 90d star helpful
    verified
    """
)
_PHRASES = _set(
    """
    popularity|popularity score|popularity rank|popularitat|beliebtheit|popularite|popularidad|popularita|popularidade|
    populariteit|popularnosc|popularita|populerlik|популярность|popularitet|bsr|sales rank|sales ranking|salesrank|
    best seller rank|best sellers rank|bestseller rank|amazon best sellers rank|verkaufsrang|rank of sales|trending|
    trending score|trend score|hotness|ctr|click through rate|conversion rate|hit count|hits|play count|watch time
    """,
    "|",
)
_AVERAGES = _set(
    """
    rating|ratings|stars|average rating|avg rating|mean rating|rating average|rating avg|rating mean|rating value|
    star rating|stars rating|average stars|rating score|review score|review rating|reviews rating|vote average|
    average vote|user rating|user score|customer rating|imdb rating|imdb score|overall rating|bewertung|
    durchschnittsbewertung|durchschnittliche bewertung|kundenbewertung|sternebewertung|note moyenne|
    evaluation moyenne|valoracion|valoracion media|valoracion promedio|calificacion|calificacion media|
    calificacion promedio|puntuacion media|valutazione|valutazione media|voto medio|avaliacao|avaliacao media|
    nota media|beoordeling|gemiddelde beoordeling|medelbetyg|gennemsnitlig bedommelse|srednia ocena|ocena srednia|
    prumerne hodnoceni|ortalama puan|рейтинг|средняя оценка|средний рейтинг
    """,
    "|",
)
_BESTSELLERS = _set(
    """
    bestseller|bestsellers|best seller|best sellers|best selling|bestselling|is bestseller|is best seller|top seller|
    top sellers|topseller|most popular|most viewed|most sold|most purchased|top rated|trending|trending now|hot item|
    verkaufsschlager|kassenschlager|meistverkauft|meilleure vente|meilleures ventes|mas vendido|mas vendidos|
    superventas|piu venduto|piu venduti|mais vendido|mais vendidos|bestverkocht|meest verkocht|mest sald|mest solgt|
    nejprodavanejsi|cok satan|хит продаж|хиты продаж|бестселлер|топ продаж
    """,
    "|",
)
_IDEOGRAPHS = re.compile(
    "评论数|評論數|评价数|評價數|评分人数|销量|銷量|销售量|月销|浏览量|浏览数|瀏覽|点赞|點讚|收藏数|播放量|播放数|下载量|订单数|"
    "人气|热度|レビュー数|レビュー件数|評価数|閲覧数|再生回数|再生数|販売数|いいね|お気に入り数|人気度|"
    "리뷰수|리뷰개수|조회수|판매량|평가수|좋아요|인기"
)
_IDEOGRAPHIC_AVERAGES = re.compile("评分|評分|好评率|評価|平均評価|평점|별점")
_IDEOGRAPHIC_BESTSELLERS = re.compile("热销|畅销|爆款|ベストセラー|売れ筋|人気商品|베스트셀러")


@lru_cache(maxsize=4096)
def counts_interactions(name: str, is_number: bool = True) -> bool:
    """Tell whether an attribute counts interactions, or follows from such counts, by its name.

    Args:
        is_number: whether its values are numbers; of texts `reviews` are what was written, and `rating` is for an age.
    """
    words = _words(name)
    joined = " ".join(words)
    text = "".join(words)
    if (
        joined in _PHRASES
        or joined in _BESTSELLERS
        or _IDEOGRAPHS.search(text)
        or _IDEOGRAPHIC_BESTSELLERS.search(text)
    ):
        return True
    if any(word in _COUNTED for word in words) and any(word in _COUNT for word in words):
        return all(word in _COUNTED or word in _QUALIFIERS for word in words)
    if _is_compound(text):
        return True
    if not is_number:
        return False
    if joined in _AVERAGES or _IDEOGRAPHIC_AVERAGES.search(text):
        return True
    return any(word in _PLURAL for word in words) and all(word in _COUNTED or word in _QUALIFIERS for word in words)


def names_bestsellers(text: str) -> bool:
    """Tell whether a tag, a category or another value says that an item sells best or is liked most."""
    words = _words(text)
    return " ".join(words) in _BESTSELLERS or bool(_IDEOGRAPHIC_BESTSELLERS.search("".join(words)))


def _words(name: str) -> list[str]:
    """Split a name at separators and at capitals within it, without case and accents."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name.strip())
    text = unicodedata.normalize("NFC", apart).casefold().translate(_LETTERS)
    parts = re.split(r"(?<=[a-z])['’](?=s\b)|[\W_]+", "".join(map(_plain, text)))
    return [part for part in parts if part and part != "s"]


def _plain(letter: str) -> str:
    """Take the accent from a Latin letter; others, whose marks are letters of their own, stay."""
    base = unicodedata.normalize("NFKD", letter)
    return base[0] if base[0].isascii() and base[0].isalpha() else unicodedata.normalize("NFKC", letter)


def _is_compound(text: str) -> bool:
    """Recognise names without separators, such as `numratings` and `Bewertungsanzahl`."""
    for word in ("count", "counts", "anzahl", "zahl", "aantal", "antal"):
        if text.endswith(word) and text.removesuffix(word).removesuffix("s") in _STEMS:
            return True
    return any(
        text.startswith(word) and text.removeprefix(word) in _PLURAL for word in ("num", "nb", "number", "total")
    )


_STEMS = _COUNTED | frozenset(word.removesuffix("s") for word in _COUNTED)
