"""The columns of the grid and the named sets they come in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column: its key in a row, its head, and how its cells are drawn. `scale` widens the heat steps for longer horizons."""

    key: str
    head: str
    kind: str
    title: str = ""
    scale: float = 1.0
    text: bool = False
    wide: bool = True


COLUMNS = {
    column.key: column
    for column in (
        Column("rank", "Rank", "rank", "place by RS rating in the universe"),
        Column("rank_shift_week", "Shift 5 d", "shift", "places gained or lost within five sessions"),
        Column("symbol", "Symbol", "symbol", text=True, wide=False),
        Column("name", "Name", "name", text=True),
        Column("sector", "Sector", "sector", text=True),
        Column("industry", "Industry", "words", text=True),
        Column("last", "Last", "last", "last price", wide=False),
        Column("today", "Today", "today", "price since the session's start; dashed: the close before"),
        Column("rs_rating", "RS rating", "rating", "relative strength, 1 to 99 in the universe", wide=False),
        Column("change_day", "Day, %", "tint", "against the close before"),
        Column("change_open", "Open, %", "tint", "against today's open"),
        Column("change_1w", "1 wk", "tint", "percent in a week", 2),
        Column("change_1m", "1 mo", "tint", "percent in a month", 4),
        Column("change_3m", "3 mo", "tint", "percent in three months", 8),
        Column("change_6m", "6 mo", "tint", "percent in six months", 13),
        Column("change_1y", "1 yr", "tint", "percent in a year", 18),
        Column("adr", "ADR, %", "plain", "average daily range of 20 days in percent"),
        Column("atr_sma50", "× ATR, 50 d", "signed", "distance from the 50-day average in average true ranges"),
        Column("rvol", "RVOL", "multiple", "volume so far against that of a whole usual day"),
        Column("rvol_projected", "RVOL, day", "multiple", "volume projected to the close against the usual day"),
        Column("volume", "Volume", "shares", "shares traded today"),
        Column("market_cap", "Value, $", "money", "market value"),
        Column("stage", "Stage", "stage", "Weinstein's stage and sub-stage, and weeks in it", text=True, wide=False),
        Column("bar_at", "Bar", "clock", "minute of the last bar"),
    )
}

_FIRST = ("rank", "rank_shift_week", "symbol", "name", "sector", "last", "today", "rs_rating")
_LAST = ("stage", "bar_at")
_RETURNS = ("change_day", "change_1w", "change_1m", "change_3m", "change_6m", "change_1y")
SETS = {
    "strength": ("Strength", (*_FIRST, *_RETURNS, "adr", "atr_sma50", "rvol", *_LAST)),
    "returns": ("Returns", (*_FIRST, "change_open", *_RETURNS, *_LAST)),
    "volatility": ("Volatility", (*_FIRST, "change_day", "change_1m", "adr", "atr_sma50", *_LAST)),
    "volume": ("Volume", (*_FIRST, "change_day", "volume", "rvol", "rvol_projected", "market_cap", *_LAST)),
}
FIRST_SET = "strength"
SORTABLE = {key for key, column in COLUMNS.items() if column.kind != "today"}
DESCENDING_FIRST = {key for key, column in COLUMNS.items() if not column.text and key != "rank"}
"""What a first click on a head sorts from the largest on."""


def columns_of(name: str) -> tuple[Column, ...]:
    """Return the columns of a set, in their order."""
    return tuple(COLUMNS[key] for key in SETS[name][1])
