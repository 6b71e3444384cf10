"""
Which trades set a minute's open, high, low, close and volume. Pure table and one look-up.

Source: Massive, /v3/reference/conditions, `update_rules.consolidated` of stock trades, and its knowledge base on Form T. This is the copy used until
the endpoint was asked. An id without rules (60, 35, unknown ones) is neutral.
"""

from types import MappingProxyType

HIGH_LOW = 1
OPEN_CLOSE = 2
VOLUME = 4
ALL = HIGH_LOW | OPEN_CLOSE | VOLUME

FORM_T = 12

# condition id of a stock trade -> what it may update
RULES: MappingProxyType[int, int] = MappingProxyType(
    {
        **dict.fromkeys((0, 1, 3, 4, 6, 8, 9, 11, 14, 17, 18, 19, 23, 25, 27, 28, 30, 34, 36, 41), ALL),
        **dict.fromkeys((2, 7, FORM_T, 13, 20, 21, 37, 52, 53), VOLUME),
        **dict.fromkeys((5, 10, 22, 29, 32, 33), HIGH_LOW | VOLUME),
        **dict.fromkeys((15, 16), 0),
        38: HIGH_LOW | OPEN_CLOSE,
    }
)

KNOWN_REGULAR: dict[tuple[int, ...], int] = {}
KNOWN_EXTENDED: dict[tuple[int, ...], int] = {}
"""What combinations that were met before may update; whoever reads many trades looks here first and asks `eligibility` for the rest."""


def eligibility(conditions: tuple[int, ...], *, extended: bool) -> int:
    """
    Return what a trade may update: HIGH_LOW | OPEN_CLOSE | VOLUME, the AND over all its conditions; none means all.

    Outside the regular session (`extended`) Form T's own ban on prices is lifted; other conditions still forbid.
    """
    known = KNOWN_EXTENDED if extended else KNOWN_REGULAR
    flags = known.get(conditions)
    if flags is None:
        flags = ALL
        for condition in conditions:
            if not (extended and condition == FORM_T):
                flags &= RULES.get(condition, ALL)
        if len(known) < 100_000:  # combinations are few; hostile input must not grow the table
            known[conditions] = flags
    return flags
