"""One score of the market from stated parts and weights. Pure: numbers in, numbers out."""

from dataclasses import dataclass

import numpy as np

from marketdata.bars.window import Floats

OFFENSIVE = ("XLK", "XLY", "XLI", "XLF")
DEFENSIVE = ("XLP", "XLU", "XLV")
VOLATILITY_DAYS, VOLATILITY_YEAR = 20, 252
LEAST_WEIGHT = 0.5
LABELS = ((70.0, "strong"), (55.0, "constructive"), (45.0, "neutral"), (30.0, "weak"), (0.0, "defensive"))
YEAR_DAYS = 252


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the score: its measure, the measure as a score of 0 to 100 (None where it is missing), and how many symbols it saw."""

    name: str
    weight: float
    value: float | None
    score: float | None
    n: int
    of: int
    words: str


def scaled(value: float | None, low: float, high: float) -> float | None:
    """Return where a value lies between two ends, 0 to 100, cut off beyond them."""
    return None if value is None else min(max((value - low) / (high - low), 0.0), 1.0) * 100


def volatility(closes: Floats) -> tuple[float | None, float | None]:
    """
    Return (realised volatility of the last 20 days in percent a year, its percentile among its last 252 values); None with less history.

    `closes` is one row, the newest last. Volatility: standard deviation of daily log returns · √252.
    """
    returns = np.diff(np.log(closes[np.isfinite(closes)]))
    if len(returns) < VOLATILITY_DAYS + VOLATILITY_YEAR - 1:
        return None, None
    windows = np.lib.stride_tricks.sliding_window_view(returns, VOLATILITY_DAYS)[-VOLATILITY_YEAR:]
    history = windows.std(axis=1, ddof=1) * np.sqrt(YEAR_DAYS) * 100
    return float(history[-1]), float((history <= history[-1]).mean() * 100)


def parts(
    numbers: dict[str, int | float | None],
    *,
    of: int,
    stages: dict[int, int],
    ratios: dict[str, float | None],
    closes: Floats,
) -> list[Part]:
    """
    Return the parts of the score.

    `numbers` are breadth's, `stages` counts by stage (0 unknown), `ratios` the sector funds' rotation ratios, `closes` the benchmark's.
    """
    priced = int(numbers["n_change"] or 0)
    year = int(numbers["n_new_highs"] or 0)
    highs, lows = (None if numbers[name] is None else float(numbers[name] or 0) for name in ("new_highs", "new_lows"))
    extremes = None if highs is None or lows is None or highs + lows == 0 else 100 * (highs - lows) / (highs + lows)
    staged = sum(count for stage, count in stages.items() if stage)
    balance = 100 * (stages.get(2, 0) - stages.get(4, 0)) / staged if staged else None
    groups = [[ratio for fund in funds if (ratio := ratios.get(fund)) is not None] for funds in (OFFENSIVE, DEFENSIVE)]
    appetite = float(np.mean(groups[0]) - np.mean(groups[1])) if all(groups) else None
    annual, percentile = volatility(closes)
    calm = None if percentile is None else 100 - percentile
    funds = len(OFFENSIVE) + len(DEFENSIVE)
    return [
        Part("long trend", 0.20, numbers["above_sma200"], numbers["above_sma200"], int(numbers["n_above_sma200"] or 0), of,
             "percent of members above their 200-day average"),
        Part("trend", 0.20, numbers["above_sma50"], numbers["above_sma50"], int(numbers["n_above_sma50"] or 0), of,
             "percent of members above their 50-day average"),
        Part("momentum of breadth", 0.15, numbers["mcclellan"], scaled(numbers["mcclellan"], -100, 100), priced, of,
             "McClellan oscillator, −100 to 100"),
        Part("highs and lows", 0.10, extremes, scaled(extremes, -100, 100), year, of,
             "new highs less new lows, in percent of both"),
        Part("stages", 0.15, balance, scaled(balance, -100, 100), staged, of,
             "percent of members in stage 2 less percent in stage 4"),
        Part("rotation", 0.10, appetite, scaled(appetite, -2, 2), sum(map(len, groups)), funds,
             f"mean ratio of {', '.join(OFFENSIVE)} less that of {', '.join(DEFENSIVE)}"),
        Part("volatility", 0.10, annual, calm, int(annual is not None), 1,
             "SPY's volatility of 20 days in percent a year; the calmer in its year, the higher the score"),
    ]  # fmt: skip


def score(parts: list[Part]) -> tuple[float | None, str | None]:
    """Return (score, label): the mean of the parts that are known, by weight; None where they weigh less than half of all."""
    known = [(part.weight, part.score) for part in parts if part.score is not None]
    weight = sum(weight for weight, _ in known)
    if weight < LEAST_WEIGHT * sum(part.weight for part in parts):
        return None, None
    total = sum(weight * value for weight, value in known) / weight
    return total, next(label for least, label in LABELS if total >= least)
