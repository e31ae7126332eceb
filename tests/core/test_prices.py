"""Prices: the number and the currency, and the decimal mark of a column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from coldstart.core.prices import PriceFormat, parse_price, price_format_of


def fault(parse: Callable[[Any], Any], value: Any) -> str:
    with pytest.raises(ValueError) as caught:
        parse(value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "price", "currency"),
    [
        ("19.99 EUR", 19.99, "EUR"),
        ("19,99 EUR", 19.99, "EUR"),
        ("EUR 19,99", 19.99, "EUR"),
        ("$12", 12, "$"),
        ("$12 USD", 12, "USD"),
        ("US$5", 5, "USD"),
        ("1,299.00", 1299, None),
        ("1.299,00", 1299, None),
        ("1,299", 1299, None),
        ("0,299", 0.299, None),
        ("12,90", 12.9, None),
        ("1.234.567,89 €", 1_234_567.89, "EUR"),
        ("1\u202f299,00\u00a0kr", 1299, "kr"),
        ("1'299.00 CHF", 1299, "CHF"),
        ("1,29,900.00", 129_900, None),
        ("12,- €", 12, "EUR"),
        ("1.299 KWD", 1.299, "KWD"),
        ("-5 EUR", -5, "EUR"),
    ],
)
def test_prices_are_read_with_their_currency(text: str, price: float, currency: str | None) -> None:
    found, known = parse_price(text)
    assert (float(found), known) == (price, currency)


@pytest.mark.parametrize("value", ["1.5", "1e3", " 7 ", 3, None, 2.5, "inf"])
def test_plain_numbers_stay_as_they_are(value: Any) -> None:
    found, currency = parse_price(value)
    assert (found, currency) == (value.strip() if isinstance(value, str) else value, None)


@pytest.mark.parametrize(
    "text", ["free", "12 pcs", "from 12", "12-15", "12.5.3", "1.29,900", "12 €/kg", "9" * 5 + " x" * 40]
)
def test_other_texts_are_no_price(text: str) -> None:
    assert fault(parse_price, text) == "not a price: write 19.99, or 19.99 EUR"


def test_a_price_with_two_readings_is_refused() -> None:
    assert fault(parse_price, "1.299 EUR") == "1299 or 1.299? write 1299.00, or 1.2990"
    assert fault(parse_price, "1,299 KWD") == "1299 or 1.299? write 1299.00, or 1.2990"


@pytest.mark.parametrize(
    ("values", "form", "read"),
    [
        (["12,90", "1.299", "7"], PriceFormat(",", "."), [12.9, 1299, 7]),
        (["12.90", "1,299", "1.299"], PriceFormat(".", ","), [12.9, 1299, 1.299]),
        (["1.299,00", "12.499 EUR"], PriceFormat(",", "."), [1299, 12499]),
        (["1.234.567", "1.299", "1,299"], PriceFormat(",", "."), [1234567, 1299, 1.299]),
        (["1 299,00 kr", "1.299 kr"], PriceFormat(",", " "), [1299, 1299]),
        (["1'299.50", "1.299"], PriceFormat(".", "'"), [1299.5, 1.299]),
        (["1.299", "2.499 EUR", "899"], PriceFormat("", ".", 2, "1.299"), [1299, 2499, 899]),
        (["1,299", "0,299"], PriceFormat(",", ""), [1.299, 0.299]),
        (["1.299 KWD", "2.500 KWD"], PriceFormat(".", ""), [1.299, 2.5]),
        (["12", "", "free", "12-15", None, 3, "12.5.3"], PriceFormat(), None),
        (["12.90", "12,90", "1.299"], PriceFormat("", "", 1, "1.299"), None),
        (["12,90"] * 20 + ["12.90", "1.299"], PriceFormat(",", "."), [12.9] * 21 + [1299]),
    ],
)
def test_the_column_decides_what_one_price_leaves_open(
    values: list[Any], form: PriceFormat, read: list[float] | None
) -> None:
    assert price_format_of(values) == form
    if read is not None:
        assert [float(parse_price(value, form)[0]) for value in values] == read


@pytest.mark.parametrize("value", ["-10 %", "10% off", "save 5 EUR", "12.90-15.90 EUR", "12,90 / 15,90"])
def test_discounts_and_ranges_are_no_price(value: str) -> None:
    assert fault(parse_price, value) == "not a price: write 19.99, or 19.99 EUR"


@pytest.mark.parametrize(
    ("text", "currency"),
    [("CA$ 12", "CAD"), ("12 руб.", "RUB"), ("￥1,200", "¥"), ("12,90 zł", "PLN"), ("5 лв", "BGN"), ("12 kr.", "kr.")],
)
def test_a_currency_is_its_code_where_it_is_certain(text: str, currency: str) -> None:
    assert parse_price(text)[1] == currency
