"""A tape of trades by seed: what happened, when each print reached us, and, computed apart from our own code, the bars that it means."""

import random
from typing import NamedTuple

from tests.factories import at

MINUTE = 60_000
LATE = 15 * MINUTE
START = at("15:00")
MINUTES = 24
SYMBOLS = ("AAPL", "MSFT")


class Print(NamedTuple):
    """One print as it is sent: `arrives` is when, Unix ms."""

    arrives: int
    symbol: str
    t: int
    q: int
    price: float
    size: int

    @property
    def minute(self) -> int:
        return self.t // MINUTE * MINUTE

    def event(self) -> dict:
        return {"ev": "T", "sym": self.symbol, "p": self.price, "s": self.size, "t": self.t, "q": self.q}


class Values(NamedTuple):
    """A bar's values."""

    open: float
    high: float
    low: float
    close: float
    volume: int


def make_tape(dice: random.Random) -> list[Print]:
    """Return prints in the order of their arrival: some late, some twice, some out of order, some corrected (sent again with a larger size)."""
    tape: list[Print] = []
    for symbol in SYMBOLS:
        price, q = dice.uniform(20, 200), 0
        for minute in range(MINUTES):
            if dice.random() < 0.15:
                continue
            for t in sorted(dice.randrange(MINUTE) for _ in range(dice.randint(1, 4))):
                price, q = round(price * dice.uniform(0.995, 1.005), 2), q + dice.randint(1, 5)
                moment = START + minute * MINUTE + t
                first = Print(_arrival(dice, moment), symbol, moment, q, price, dice.randint(1, 500))
                tape.append(first)
                if dice.random() < 0.15:
                    tape.append(first._replace(arrives=_arrival(dice, moment)))
                if dice.random() < 0.05:
                    tape.append(
                        first._replace(arrives=first.arrives + dice.randrange(1, 5 * MINUTE), size=first.size + dice.randint(1, 100))
                    )
    return sorted(tape)


def _arrival(dice: random.Random, moment: int) -> int:
    roll = dice.random()
    if roll < 0.85:
        return moment + dice.randrange(5, 300)
    if roll < 0.94:
        return moment + dice.randrange(300, 20_000)
    return moment + dice.randrange(20_000, 17 * MINUTE)


def values(prints: dict[int, Print]) -> Values:
    """Return the bar of the prints of one minute, by sequence number."""
    ordered = sorted(prints.values(), key=lambda one: (one.t, one.q))
    prices = [one.price for one in ordered]
    return Values(prices[0], max(prices), min(prices), prices[-1], sum(one.size for one in ordered))


def true_bars(tape: list[Print]) -> dict[tuple[str, int], Values]:
    """Return what the feed's own bars are in the end."""
    minutes: dict[tuple[str, int], dict[int, Print]] = {}
    for one in tape:
        keep(minutes.setdefault((one.symbol, one.minute), {}), one)
    return {key: values(prints) for key, prints in minutes.items()}


def keep(prints: dict[int, Print], one: Print) -> None:
    """Of two contents of one print the larger stands."""
    known = prints.get(one.q)
    if known is None or one.size > known.size:
        prints[one.q] = one
