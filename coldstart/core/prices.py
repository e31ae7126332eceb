"""Parse prices: their number and currency; where one may mean two things, the other prices of its column decide.

Knows no files, tables or columns but the values it is given.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_CURRENCIES = {
    "€": "EUR",
    "£": "GBP",
    "₹": "INR",
    "₽": "RUB",
    "₩": "KRW",
    "₺": "TRY",
    "₴": "UAH",
    "₫": "VND",
    "₪": "ILS",
    "us$": "USD",
    "r$": "BRL",
    "a$": "AUD",
    "c$": "CAD",
    "zł": "PLN",
    "kč": "CZK",
    "ft": "HUF",
    "lei": "RON",
    "ca$": "CAD",
    "au$": "AUD",
    "nz$": "NZD",
    "hk$": "HKD",
    "nt$": "TWD",
    "mx$": "MXN",
    "s$": "SGD",
    "euros": "EUR",
    "zl": "PLN",
    "kč.": "CZK",
    "ft.": "HUF",
    "лв": "BGN",
    "лв.": "BGN",
    "руб": "RUB",
    "руб.": "RUB",
    "грн": "UAH",
    "грн.": "UAH",
    "元": "CNY",
    "円": "JPY",
    **{mark: mark for mark in ("$", "¥", "kr", "kr.")},  # of several countries: kept as written
    "￥": "¥",
    "rs": "INR",
    "rs.": "INR",
    "fr.": "CHF",
    "sfr.": "CHF",
    "euro": "EUR",
    **{code.casefold(): code for code in ("EUR", "USD", "GBP", "CHF", "JPY", "CNY", "SEK", "NOK", "DKK", "PLN", "INR")},
}
_THREE_DECIMALS = frozenset({"BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"})
_PRICE = re.compile(
    r"(?P<before>[^\d\s.,'+-]{0,4}\.?)\s*(?P<sign>[+-]?)(?P<number>\d[\d.,' ]*?)(?:[.,][-–—]{1,2})?"
    r"\s*(?P<after>[^\d\s.,'+-]{0,4}\.?)"
)
_GROUPS = r"\d{{1,3}}(?:{0}\d{{2,3}})*{0}\d{{3}}"
_EITHER = re.compile(r"(?!0)\d{1,3}[.,]\d{3}")


@dataclass(frozen=True)
class PriceFormat:
    """Spelling of the prices of one column.

    Attributes:
        decimal: the mark before decimals, "." or ",", "" where no price has any.
        thousands: the mark between thousands: ".", ",", " ", "'", or "" where no price has any.
        doubtful: how many prices, such as 1.299, may mean two things, and no other price of the column decides.
        example: the first of them, "" where there is none.
    """

    decimal: str = ""
    thousands: str = ""
    doubtful: int = 0
    example: str = ""


def price_format_of(values: Iterable[Any]) -> PriceFormat:
    """Find the spelling of a column's prices: which mark stands before decimals, and which between thousands.

    Where nothing but prices such as 1.299 is there, the mark is taken for one of thousands, as prices seldom have three
    decimals; they are counted as doubtful.
    """
    decimals, thousands = Counter[str](), Counter[str]()
    unclear: list[tuple[str, str]] = []
    for value in values:
        try:
            match = _match(value) if isinstance(value, str) else None
            currency = None if match is None else _currency(match["before"]) or _currency(match["after"])
            number = "" if match is None else match["number"].strip()
            if _EITHER.fullmatch(number) and currency not in _THREE_DECIMALS:
                unclear.append((re.sub(r"\d", "", number), value.strip()))
                continue
            _amount(number, currency, None)
        except ValueError:
            continue
        marks = re.findall(r"[.,' ]", number)
        if len(marks) > 1 or (marks and marks[0] in "' "):
            thousands[marks[0]] += 1
        if marks and marks[-1] in ".," and (len(marks) == 1 or marks[-1] != marks[0]):
            decimals[marks[-1]] += 1
    decimal, mark = _usual(decimals), _usual(thousands)
    if not decimals and mark in (".", ","):
        decimal = "," if mark == "." else "."
    if decimal or not unclear:
        return PriceFormat(decimal, mark or _usual(Counter(one for one, _ in unclear if one != decimal)))
    mark = "" if decimals else _usual(Counter(one for one, _ in unclear))
    return PriceFormat("", mark, len(unclear), unclear[0][1])


def _usual(counts: Counter[str]) -> str:
    """Return the mark of all, or of all but one in twenty; "" where there is none."""
    return next((mark for mark, count in counts.items() if count >= 0.95 * counts.total()), "")


def parse_price(value: Any, form: PriceFormat | None = None) -> tuple[Any, str | None]:
    """Parse a price and its currency, None where it has none: 19.99, "19,99 EUR", "$12", "1,299.00", "1.299,00".

    A currency is its ISO code where that is certain, else its sign as written. A value that is no text, or the plain
    text of a number, comes back as it is.

    Args:
        form: the spelling of the column, which decides of 1.299 and 1,299.

    Raises:
        ValueError: no price, or one that may be read in two ways, such as "1.299 EUR".
    """
    if not isinstance(value, str):
        return value, None
    try:
        float(value)
        if form is None or not _EITHER.fullmatch(value.strip().lstrip("+-")):
            return value.strip(), None
    except ValueError:
        pass
    match = _match(value)
    currencies = [] if match is None else [_currency(match[side]) for side in ("before", "after") if match[side]]
    if match is None or None in currencies or len({*currencies} - {"$", "¥"}) > 1:
        raise ValueError("not a price: write 19.99, or 19.99 EUR")
    currency = max((one for one in currencies if one), key=len, default=None)
    return float(match["sign"] + _amount(match["number"], currency, form)), currency


def _match(value: str) -> re.Match[str] | None:
    text = re.sub(r"[\s\u00a0\u202f\u2009]+", " ", value[:100]).strip().replace("’", "'")
    return _PRICE.fullmatch(text) if len(text) <= 60 else None


def _currency(mark: str) -> str | None:
    known = _CURRENCIES.get(mark.casefold())
    return known or (mark if re.fullmatch(r"[A-Z]{3}", mark) else None)


def _amount(number: str, currency: str | None, form: PriceFormat | None) -> str:
    """Return the number with its decimal point and without marks between thousands."""
    if re.search(r"[' ]", number):
        groups, mark, decimals = re.fullmatch(r"([\d' ]+)([.,]?)(.*)", number).groups()  # type: ignore[union-attr]
        if not any(re.fullmatch(_GROUPS.format(one), groups) for one in "' ") or not re.fullmatch(r"\d*", decimals):
            raise ValueError("not a price: write 19.99, or 19.99 EUR")
        return re.sub(r"[' ]", "", groups) + (f".{decimals}" if mark else "")
    last = max(number.rfind("."), number.rfind(","))
    if last < 0:
        return number
    mark, whole, decimals = number[last], number[:last], number[last + 1 :]
    if re.search(r"[.,]", whole):  # marks between thousands, all the same
        other = "," if mark == "." else "."
        if re.fullmatch(_GROUPS.format(re.escape(other)), whole) and decimals.isdigit():
            return f"{whole.replace(other, '')}.{decimals}"
        if re.fullmatch(_GROUPS.format(re.escape(mark)), number):
            return number.replace(mark, "")
        raise ValueError("not a price: write 19.99, or 19.99 EUR")
    if len(decimals) == 3 and len(whole) <= 3 and whole.strip("0"):
        if form is not None and (form.decimal or form.thousands):
            return f"{whole}.{decimals}" if mark == form.decimal else whole + decimals
        if mark == "," and currency not in _THREE_DECIMALS:
            return whole + decimals
        if mark == "," or (currency is not None and currency not in _THREE_DECIMALS):
            raise ValueError(
                f"{whole}{decimals} or {whole}.{decimals}? write {whole}{decimals}.00, or {whole}.{decimals}0"
            )
    return f"{whole}.{decimals or 0}"
