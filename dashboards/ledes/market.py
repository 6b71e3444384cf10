"""One lede a page. At most two clauses; the first holds one figure with its n of N."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

MINUS = "\N{MINUS SIGN}"
BROAD_SHARE = 0.60
"""A move is broad or narrow from this share of symbols on, and broad only where `BROAD_SECTORS` of the sectors go with it."""
BROAD_SECTORS = 6 / 11
EVEN = 0.05
"""Up and down within this share of each other are called even."""
CONFIRMS = 0.55
"""Volume confirms a move from this share on its side on."""
SECTOR_NAMES = {"Consumer Discretionary": "Discretionary", "Communication Services": "Communication", "Consumer Staples": "Staples"}
"""How sentences and charts name sectors whose own name is long."""
TOP = 20
LEGAL_TAILS = (
    " Class A",
    " Class B",
    " Class C",
    ", Inc.",
    " Inc.",
    " Inc",
    " Corporation",
    " Corp.",
    " Corp",
    " Company",
    " & Co.",
    " plc",
    " Group",
    " Co.",
)
FLOOR = 0.8
"""Below this share of its symbols a page makes no statement (PRODUCT F9)."""


@dataclass(frozen=True)
class Lede:
    """A page's first sentence, and the second one in a quieter ink."""

    first: str
    second: str = ""


def sector_name(name: str) -> str:
    """Return a sector's name where there is little room, always the same."""
    return SECTOR_NAMES.get(name, name)


def joined(names: Sequence[str]) -> str:
    """Return names as people list them: A; A and B; A, B and C."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign; what rounds to zero has none."""
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else f"{'+' if value > 0 else MINUS}{text}"


def too_few(symbols: int, of: int) -> Lede:
    """Return what stands where too few symbols are known for a statement."""
    return Lede(f"Not enough symbols for a statement: {symbols} of {of}.")


def _share(part: float | None, *others: float | None) -> float | None:
    total = (part or 0) + sum(other or 0 for other in others)
    return None if part is None or total == 0 else part / total


def market_word(breadth: Row, sectors: Sequence[Row]) -> str:
    """Return the adjective of the day from the table: broad, narrow or mixed, advance or decline."""
    up = _share(breadth.get("advancers"), breadth.get("decliners"), breadth.get("unchanged"))
    down = _share(breadth.get("decliners"), breadth.get("advancers"), breadth.get("unchanged"))
    known = [row["change_day"] for row in sectors if row.get("sector") and row.get("change_day") is not None]
    needed = BROAD_SECTORS * len(known)
    if up is not None and up >= BROAD_SHARE:
        return "Broad advance" if sum(change > 0 for change in known) >= needed else "Narrow advance"
    if down is not None and down >= BROAD_SHARE:
        return "Broad decline" if sum(change < 0 for change in known) >= needed else "Narrow decline"
    return "Mixed market"


def overview(breadth: Row, sectors: Sequence[Row]) -> Lede:
    """Return the market in a sentence, from breadth and the sectors' day."""
    known = sorted((row for row in sectors if row.get("sector") and row.get("change_day") is not None), key=lambda row: -row["change_day"])
    up, down = breadth.get("advancers") or 0, breadth.get("decliners") or 0
    falling = "decline" in market_word(breadth, sectors)
    lead = [
        sector_name(row["sector"])
        for row in (known[::-1] if falling else known)[:2]
        if (row["change_day"] < 0 if falling else row["change_day"] > 0)
    ]
    lag = [
        sector_name(row["sector"])
        for row in (known if falling else known[::-1])[:2]
        if (row["change_day"] > 0 if falling else row["change_day"] < 0)
    ]
    figure = f"{down if falling else up} of {breadth.get('symbols')} symbols {'down' if falling else 'up'}"
    first = f"{market_word(breadth, sectors)}: {figure}{f', led by {joined(lead)}' if lead else ''}."
    parts = []
    if lag:
        parts.append(f"{lag[0]} {'rises' if falling else 'lags'}")
    share = _share(breadth.get("up_volume"), breadth.get("down_volume"))
    if share is not None:
        side = 1 - share if falling else share
        parts.append("volume confirms" if side >= CONFIRMS else "volume does not confirm" if side <= 1 - CONFIRMS else "volume is even")
    second = "; ".join(parts)
    return Lede(first, f"{second[:1].upper()}{second[1:]}." if second else "")


def rankings(rows: Sequence[Row]) -> Lede:
    """Return who leads, and who entered or left the first twenty within the week."""
    ranked = sorted((row for row in rows if row.get("rank") is not None), key=lambda row: (row["rank"], row["symbol"]))
    if not ranked:
        return Lede("No symbol has a strength rating yet.", "A rating needs 252 earlier daily closes.")
    names = [short(row) for row in ranked[:3]]
    shifted = [row for row in ranked if row.get("rank_shift_week")]
    came = [str(row["symbol"]) for row in shifted if row["rank"] <= TOP < row["rank"] + row["rank_shift_week"]]
    went = [str(row["symbol"]) for row in shifted if row["rank"] + row["rank_shift_week"] <= TOP < row["rank"]]
    parts = []
    if came:
        parts.append(f"{joined(_few(came))} entered the top {TOP} this week")
    if went:
        parts.append(f"{joined(_few(went))} left it" if came else f"{joined(_few(went))} left the top {TOP} this week")
    return Lede(
        f"{joined(names)} lead{'s' if len(names) == 1 else ''} {len(ranked)} of {len(rows)} on strength.",
        f"{'; '.join(parts)}." if parts else "",
    )


def filtered(count: int, of: int, words: Sequence[str]) -> Lede:
    """Return what a filter leaves."""
    return Lede(f"{count} of {of} symbols: {', '.join(words)}.")


def short(row: Row) -> str:
    """Return a name without its legal tail; the symbol where there is none."""
    name = str(row.get("name") or row["symbol"])
    for tail in LEGAL_TAILS:
        name = name.removesuffix(tail)
    name = name.removeprefix("The ")
    return name if len(name) <= 28 else str(row["symbol"])


def _few(names: Sequence[str], most: int = 2) -> list[str]:
    return list(names) if len(names) <= most + 1 else [*names[:most], f"{len(names) - most} more"]


def sectors(rows: Sequence[Row]) -> Lede:
    """Return how many sectors rise, and the two ends of the table."""
    known = sorted((row for row in rows if row.get("sector") and row.get("change_day") is not None), key=lambda row: -row["change_day"])
    of = sum(1 for row in rows if row.get("sector"))
    if not known:
        return Lede(f"None of {of} sectors has a change yet.", "A change needs a price today and a close before.")
    best, worst = known[0], known[-1]
    up = sum(1 for row in known if row["change_day"] > 0)
    first = f"{up} of {len(known)} sectors rise, {sector_name(best['sector'])} leads at {signed(best['change_day'])}%."
    return Lede(first, f"{sector_name(worst['sector'])} is last at {signed(worst['change_day'])}%." if worst is not best else "")


def rotation(rows: Sequence[Row], crossed: Sequence[tuple[str, str, str]], names: Mapping[str, str]) -> Lede:
    """Return who leads and who gains; `crossed` are (symbol, from, to), the latest first."""
    placed = [row for row in rows if row.get("quadrant")]
    if not placed:
        return Lede(f"None of {len(rows)} funds has enough history for a place.", "Strength is compared with SPY over a year of closes.")

    def of(quadrant: str) -> list[str]:
        chosen = sorted((row for row in placed if row["quadrant"] == quadrant), key=lambda row: -row["ratio"])
        return [names.get(row["symbol"], row["symbol"]) for row in chosen]

    leading, improving = of("leading"), of("improving")
    verb = "leads" if len(leading) == 1 else "lead"
    parts = [
        f"{len(leading)} of {len(placed)} {verb}, {joined(_few(leading))}" if leading else f"None of {len(placed)} leads SPY with momentum"
    ]
    if improving:
        parts.append(f"{joined(_few(improving))} gain{'s' if len(improving) == 1 else ''} from behind")
    second = ""
    if crossed:
        symbol, before, now = crossed[0]
        second = f"{names.get(symbol, symbol)} went from {before} to {now}."
    return Lede(f"{'; '.join(parts)}.", second)


def stages(counts: Mapping[str, int], before: Mapping[str, int] | None, changes: Sequence[Row]) -> Lede:
    """Return how many advance, against a week ago, and who left its base; `changes` are this week's."""
    of = sum(counts.get(key, 0) for key in ("1", "2", "3", "4"))
    if not of:
        return Lede("No symbol has a stage yet.", "A stage needs 30 weeks of closes and more.")
    now = counts.get("2", 0)
    first = f"{now} of {of} symbols {'is' if now == 1 else 'are'} in stage 2"
    if before and sum(before.get(key, 0) for key in ("1", "2", "3", "4")):
        moved = now - before.get("2", 0)
        first += ", as many as last week" if not moved else f", {abs(moved)} {'more' if moved > 0 else 'fewer'} than last week"
    left = list(dict.fromkeys(row["symbol"] for row in changes if str(row["from"])[:1] == "1" and str(row["to"])[:1] == "2"))
    broke = list(dict.fromkeys(row["symbol"] for row in changes if str(row["to"])[:1] == "4"))
    parts = [f"{joined(_few(left))} left {'its base' if len(left) == 1 else 'their bases'}"] if left else []
    parts += [f"{joined(_few(broke))} began to decline"] if broke else []
    return Lede(f"{first}.", f"{'; '.join(parts)}." if parts else "")


def breadth(row: Row) -> Lede:
    """Return whether breadth goes with the day's direction, with volume and new highs."""
    up, down = row.get("advancers") or 0, row.get("decliners") or 0
    share, volume = _share(up, down), _share(row.get("up_volume"), row.get("down_volume"))
    if share is None:
        return Lede("No symbol has moved against its close before.")
    even = abs(share - 0.5) < EVEN
    side = "advance" if share > 0.5 else "decline"
    confirms = volume is not None and (volume >= CONFIRMS if share > 0.5 else volume <= 1 - CONFIRMS)
    shows = f"Breadth shows {'an' if side == 'advance' else 'a'} {side}"
    head = "Breadth is even" if even else f"Breadth and volume share the {side}" if confirms else shows
    parts = [] if volume is None else [f"{round(100 * volume)}% of volume is in rising symbols"]
    high, low = row.get("new_highs"), row.get("new_lows")
    if high is not None and low is not None and (high or low):
        parts.append(
            f"highs beat lows {high} to {low}"
            if high > low
            else f"lows beat highs {low} to {high}"
            if low > high
            else f"{high} highs, {low} lows"
        )
    second = "; ".join(parts)
    return Lede(f"{head}: {up} of {row.get('symbols')} up, {down} down.", f"{second[:1].upper()}{second[1:]}." if second else "")


def averages(rows: Sequence[Row], columns: Sequence[str]) -> Lede:
    """Return how many stand above their 50-day average, and how many above every one or none."""
    known = [row for row in rows if row.get("sma50") and row["sma50"].get("percent") is not None]
    if not known:
        return Lede("No symbol has a 50-day average yet.", "It needs 50 daily closes.")
    above = sum(1 for row in known if row["sma50"]["percent"] > 0)
    whole = [
        [row[name]["percent"] for name in columns]
        for row in rows
        if all(row.get(name) and row[name].get("percent") is not None for name in columns)
    ]
    over, under = sum(1 for row in whole if all(value > 0 for value in row)), sum(1 for row in whole if all(value < 0 for value in row))
    first = f"{above} of {len(known)} symbols stand above their 50-day average."
    return Lede(first, f"{over} stand above all four averages, {under} below all." if whole else "")


def watchlist(name: str, rows: Sequence[Row]) -> Lede:
    """Return how a list moves today."""
    if not rows:
        return Lede(f"{name} is empty.", "Add a symbol below, or press W on a row of the rankings.")
    known = [row["change_day"] for row in rows if row.get("change_day") is not None]
    up, down = sum(1 for change in known if round(change, 2) > 0), sum(1 for change in known if round(change, 2) < 0)
    first = f"{name}: {up} of {len(known)} up" if known else f"{name}: {len(rows)} symbols, none with a change today"
    return Lede(f"{first}, {down} down." if known else f"{first}.")
