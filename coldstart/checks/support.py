"""Which words of a text carry meaning: all but those that bind, praise or stand in any description."""

from __future__ import annotations

from coldstart.checks.measures import UNITS
from coldstart.checks.words import Tokens, tokens

_BINDING = frozenset(
    tokens(
        """
        a about above after all also an and any are as at available be been being below between both but by
        can comes designed every everyday features featuring for from full great has have having here his her
        how i if ideal in including into is it item items its it's just kind like made make makes making may
        more most much my of off on one only or other others our out over pair part perfect piece pieces
        product products provides set short show showing shown shows so some somebody someone something style
        such suitable take takes than that the their them then there these they thing this those through to
        type under up use used using various very video videos view was watch way we well were what when where
        which while who will with you your clip footage film scene scenes picture photo look looks looking
        good nice classic simple designed comfortable color colour size brand category name people person
        appear appears see seen several near while offers offer add easy wear worn buy
        """
    )
)


def carrying(words: Tokens) -> list[str]:
    """The words that carry meaning, each once, in their order; numbers and their units are judged elsewhere."""
    return list(
        dict.fromkeys(word for word in words if word[0].isalpha() and word not in _BINDING and word not in UNITS)
    )
