"""Relative strength and what else ranks a market. Pure: arrays in, arrays out."""

from dataclasses import dataclass

import numpy as np

from marketdata.bars.window import Floats, Integers
from patterns.market.panel import Panel, Today, tail, with_today

YEAR = 252
SPANS = {"1w": 5, "1m": 21, "3m": 63, "6m": 126, "1y": 252}
WEIGHTS = ((63, 0.4), (126, 0.2), (189, 0.2), (252, 0.2))
MEAN_DAYS = 20


def change(closes: Floats, back: int) -> Floats:
    """Return the newest close ÷ the close `back` bars before − 1, shape (n,); NaN where there is none."""
    return np.asarray(closes[:, -1] / closes[:, -1 - back] - 1)


def strength_score(closes: Floats) -> Floats:
    """
    Return 0.4·ROC63 + 0.2·ROC126 + 0.2·ROC189 + 0.2·ROC252 of each row's newest close, shape (n,); NaN without 252 earlier closes.

    Source: the weighting by which screens imitate O'Neil's relative price strength, the last quarter counting twice.
    """
    known = tail(closes, YEAR + 1)
    return np.asarray(sum(weight * change(known, back) for back, weight in WEIGHTS))


def mean_ranks(scores: Floats) -> Floats:
    """Return the ascending ranks from 1 on, ties sharing their mean; NaN has none."""
    known = np.isfinite(scores)
    ordered = np.sort(scores[known])
    ranks = np.full(len(scores), np.nan)
    low, high = (np.searchsorted(ordered, scores[known], side=side) for side in ("left", "right"))
    ranks[known] = (low + 1 + high) / 2
    return ranks


def rating(scores: Floats) -> Floats:
    """Return 1 + round(98·(rank − 1)/(n − 1)) of each score, 99 the strongest; NaN for all where fewer than two are known."""
    count = int(np.isfinite(scores).sum())
    if count < 2:
        return np.full(len(scores), np.nan)
    return np.asarray(1 + np.rint(98 * (mean_ranks(scores) - 1) / (count - 1)))


def places(scores: Floats) -> Floats:
    """Return each score's place, 1 the strongest, ties sharing the best; NaN has none."""
    known = np.isfinite(scores)
    ordered = np.sort(scores[known])
    found = np.full(len(scores), np.nan)
    found[known] = 1 + len(ordered) - np.searchsorted(ordered, scores[known], side="right")
    return found


@dataclass(frozen=True, eq=False, slots=True)
class Strength:
    """
    What ranks each symbol, shape (n,); changes and ADR in percent. NaN where it cannot be computed.

    `score`, `score_day` and `score_week` are the strength scores now, at the close before and five closes before: ranks are a universe's own.
    """

    score: Floats
    score_day: Floats
    score_week: Floats
    change_day: Floats
    change_open: Floats
    change: dict[str, Floats]
    adr: Floats
    mean_volume: Floats
    rvol: Floats
    rvol_projected: Floats
    earlier_closes: Integers


def strength(history: Panel, today: Today) -> Strength:
    """
    Return the ranking numbers of the market.

    ADR: mean of high ÷ low − 1 over 20 complete days. RVOL: today's volume ÷ mean of the 20 days before, unknown while
    half an hour of today is missing; projected in proportion to the part of the session that is over.
    """
    closes = with_today(history.close, today.last, YEAR + 6)
    high, low = history.high, history.low
    if today.whole:
        high, low = with_today(high, today.high, MEAN_DAYS), with_today(low, today.low, MEAN_DAYS)
    mean_volume = tail(history.volume, MEAN_DAYS).mean(axis=1)
    known = (mean_volume > 0) & today.unbroken
    rvol = np.divide(today.volume, mean_volume, out=np.full(len(mean_volume), np.nan), where=known)
    return Strength(
        score=strength_score(closes),
        score_day=strength_score(closes[:, :-1]),
        score_week=strength_score(closes[:, :-5]),
        change_day=change(closes, 1) * 100,
        change_open=(today.last / today.open - 1) * 100 if today.opened else np.full(len(rvol), np.nan),
        change={name: change(closes, back) * 100 for name, back in SPANS.items()},
        adr=(tail(high, MEAN_DAYS) / tail(low, MEAN_DAYS) - 1).mean(axis=1) * 100,
        mean_volume=mean_volume,
        rvol=rvol,
        rvol_projected=rvol / today.part if today.part > 0 else np.full(len(rvol), np.nan),
        earlier_closes=np.isfinite(history.close).sum(axis=1),
    )
