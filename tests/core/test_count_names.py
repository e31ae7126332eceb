"""Names of attributes that count interactions, in the languages of shops, and names that only look like them."""

from __future__ import annotations

import pytest

from coldstart.core.count_names import counts_interactions, names_bestsellers

COUNTS = """
n_ratings|num_reviews|review_count|ReviewCount|ratingsCount|reviews|views|likes|sales|total_sold|units_sold|numratings
monthly_sales|Bewertungsanzahl|Anzahl Bewertungen|Anzahl der Bewertungen|nombre d'avis|Nombre d’avis|número de reseñas
Numero recensioni|liczba ocen|Количество отзывов|Просмотры|销量|レビュー数|조회수|popularity|Best Sellers Rank|salesRank
is_bestseller|average_rating|avg_rating|averageRating|rating|Рейтинг|评分|Verkaufsrang|# reviews|no_of_ratings|n votes
vote_average|stars|Number of customer reviews|aantal beoordelingen|visninger|nb_vues|download count|helpful_votes
"""
OTHERS = """
brand|color|price|category|year|weight|size|n_pieces|number_of_pages|pages|count|quantity|stock|season|sale price|review
sale_price|order|order_number|content_rating|age_rating|energy_rating|title|gender|item_number|views_front|notes|rank
top notes|vote|number of doors|star sign|play|watch type|plays well with|volume|score|n_colors|discount|Anzahl Teile
genres|runtime|salesperson|sales tax class|customers
"""


def names(text: str) -> list[str]:
    return [name for line in text.split("\n") for name in line.split("|") if name]


@pytest.mark.parametrize("name", names(COUNTS))
def test_a_count_of_interactions(name: str) -> None:
    assert counts_interactions(name)


@pytest.mark.parametrize("name", names(OTHERS))
def test_another_attribute(name: str) -> None:
    assert not counts_interactions(name)


def test_of_texts_a_name_alone_says_less() -> None:
    assert not any(counts_interactions(name, is_number=False) for name in ("reviews", "views", "rating", "comments"))
    assert counts_interactions("n_ratings", is_number=False)
    assert counts_interactions("bestseller", is_number=False)


def test_values_that_say_bestseller() -> None:
    assert all(map(names_bestsellers, ("Bestseller", "Best-Sellers", "trending", "TOP SELLER", "más vendido", "热销")))
    assert not any(map(names_bestsellers, ("shoes", "best friend", "seller", "")))
