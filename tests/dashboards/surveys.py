"""Market surveys for tests, by docs/market.md, made with as few words as the test needs."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings

from marketdata.models import Symbol
from patterns.models import MarketSurvey

AS_OF = datetime(2026, 11, 20, 16, 42, tzinfo=UTC)  # 11:42 in New York
CLOSE = datetime(2026, 11, 19, 21, tzinfo=UTC)


def ranked(symbol: str, rank: int = 1, **fields: Any) -> dict[str, Any]:
    """Return one row of the rankings."""
    row = {
        "symbol": symbol, "name": f"{symbol} Inc.", "sector": "Technology", "industry": "Semiconductors", "type": "CS", "last": 100.0,
        "rs_rating": max(1, 100 - rank), "rank": rank, "rank_shift_day": 0, "rank_shift_week": 0, "change_day": 1.0, "change_open": 0.5,
        "change_1w": 2.0, "change_1m": 3.0, "change_3m": 4.0, "change_6m": 5.0, "change_1y": 6.0, "adr": 2.5, "atr_sma50": 1.5, "rvol": 1.2,
        "rvol_projected": 1.3, "volume": 1_000_000, "stage": 2, "substage": "advancing", "market_cap": 1e12 / rank,
        "bar_at": "2026-11-20T16:41:00Z", "reason": None,
    }  # fmt: skip
    return row | fields


def sector(name: str, change: float | None = 1.0, **fields: Any) -> dict[str, Any]:
    """Return one row of the sectors."""
    row = {
        "sector": name, "fund": None, "symbols": 5, "of": 5, "change_day": change, "change_1w": 1.0, "change_1m": 2.0, "change_3m": 3.0,
        "change_6m": 4.0, "change_1y": 5.0, "advancers": 4, "decliners": 1, "unchanged": 0, "above_sma50": 80.0, "above_sma200": 60.0,
        "new_highs": 1, "new_lows": 0, "stages": {"1": 1, "2": 3, "3": 0, "4": 1}, "rs_rating": 70, "rvol": 1.1,
    }  # fmt: skip
    return row | fields


def placed(symbol: str, tail: list[tuple[float, float]], *, sector: str = "Technology", fund: bool = True) -> dict[str, Any]:
    """Return one row of the rotation; the tail's points are z-scores, a session apart, the last one now."""
    points = [
        {"at": (AS_OF - timedelta(days=len(tail) - 1 - n)).isoformat(), "ratio": 100 + ratio, "momentum": 100 + momentum}
        for n, (ratio, momentum) in enumerate(tail)
    ]
    ratio, momentum = tail[-1] if tail else (0, 0)
    quadrant = (
        (("leading" if momentum >= 0 else "weakening") if ratio >= 0 else ("improving" if momentum >= 0 else "lagging")) if tail else None
    )
    return {"symbol": symbol, "name": symbol, "sector": sector, "fund": fund, "ratio": 100 + ratio, "momentum": 100 + momentum, "quadrant": quadrant,
            "tail": points, "tail_intraday": [], "reason": None if tail else "needs 136 sessions"}  # fmt: skip


def staged(symbol: str, stage: int | None = 2, **fields: Any) -> dict[str, Any]:
    """Return one row of the stages."""
    row = {
        "symbol": symbol, "stage": stage, "substage": "early", "since": "2026-10-30", "days": 15, "weeks": 3, "close": 100.0, "sma30w": 90.0,
        "slope": 1.2, "distance": 11.1, "distance_atr": 4.0, "mansfield": 3.0, "reason": None,
    }  # fmt: skip
    return row | fields


def breadth(up: int = 6, down: int = 3, **fields: Any) -> dict[str, Any]:
    """Return the breadth block."""
    row = {
        "advancers": up, "decliners": down, "unchanged": 1, "up_volume": 7e6, "down_volume": 3e6, "ad_line": 120, "mcclellan": 38.0, "new_highs": 2,
        "new_lows": 1, "above_ema10": 55.0, "above_sma20": 60.0, "above_sma50": 66.0, "above_sma200": 61.0, "up_4_percent": 1, "down_4_percent": 0,
        "symbols": up + down + 1, "of": up + down + 1, "n": {},
    }  # fmt: skip
    return row | fields


def distances(symbol: str, *percents: float | None) -> dict[str, Any]:
    """Return one row of the averages: percent above EMA10, SMA20, SMA50, SMA200; one ATR is 2 percent of the price of 100."""
    names = ("ema10", "sma20", "sma50", "sma200")
    cells = {
        name: {
            "value": None if percent is None else 100 / (1 + percent / 100),
            "percent": percent,
            "atr": None if percent is None else percent / 2,
        }
        for name, percent in zip(names, percents, strict=True)
    }
    stop = {"ema10": 98.0, "sma20": 97.0, "sma50": 95.0, "chandelier": 94.0}
    return {"symbol": symbol, "sector": "Technology", "last": 100.0, "atr": 2.0, **cells, "alignment": "up", "bucket": "hold", "stop": stop}


def make_survey(*, as_of: datetime = AS_OF, kind: str = "intraday", universe: str | None = None, **blocks: Any) -> MarketSurvey:
    """Store one survey of ten members unless its blocks say otherwise; the rows' symbols are made where they are missing."""
    symbols = ["AAPL", "MSFT", "NVDA", "XOM", "JPM", "LLY", "AMZN", "META", "WMT", "SPY"]
    rankings = blocks.pop("rankings", None) or [ranked(symbol, rank) for rank, symbol in enumerate(symbols, start=1)]
    Symbol.objects.bulk_create([Symbol(symbol=row["symbol"], name=row["name"]) for row in rankings], ignore_conflicts=True)
    usual: dict[str, Any] = {
        "coverage": {"symbols": len(rankings), "of": len(rankings), "oldest_bar": (as_of - timedelta(minutes=1)).isoformat()},
        "rankings": rankings,
        "sectors": [sector("Technology", 1.34, fund="XLK"), sector("Energy", -1.12, fund="XLE")],
        "industries": [sector("Technology", 1.4) | {"industry": "Semiconductors"}, sector("Energy", -1.0) | {"industry": "Oil"}],
        "rotation": [placed("XLK", [(0.2, 0.9), (0.6, 0.5), (1.2, 0.3)]), placed("XLE", [(0.4, -0.6), (0.1, -0.9), (-0.5, -1.0)], sector="Energy")],
        "stages": [staged(row["symbol"], 2 if n < 6 else 4) for n, row in enumerate(rankings)],
        "stage_counts": {"1": 0, "2": 6, "3": 0, "4": len(rankings) - 6, "unknown": 0},
        "stage_changes": [{"symbol": "AAPL", "at": as_of.date().isoformat(), "from": 1, "to": 2, "reason": "above a rising average", "final": False}],
        "breadth": breadth(),
        "averages": [distances(row["symbol"], 1.0, 2.0, 4.0, -3.0) for row in rankings],
        "regime": {"score": 64.0, "label": "constructive", "parts": [
            {"name": "trend", "weight": 0.3, "value": 66.0, "score": 68.0, "n": 10, "of": 10, "words": "66 % above the 50-day average"}]},
    }  # fmt: skip
    return MarketSurvey.objects.create(
        universe=universe or settings.SYMBOL_UNIVERSE_KEY,
        as_of=as_of,
        kind=kind,
        made_at=as_of + timedelta(seconds=2),
        **{**usual, **blocks},
    )
