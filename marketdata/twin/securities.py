"""
What the twin's market trades: the default universes in their order, then made-up tickers. Pure data and draws.

Prices and volumes are plausible levels, not quotations; volatilities are a day's standard deviation of the log price.
"""

from math import hypot
from typing import NamedTuple

import numpy as np

from marketdata.feed.listing import LISTINGS, REFERENCES, SECTORS, Listing
from marketdata.twin.noise import streams, uniforms

MARKET_VOLATILITY = 0.006
SECTOR_VOLATILITY = 0.006
MAKE_BELIEVE = 26**4  # QAAAA … QZZZZ: none of them is a test ticker of an exchange
PENNY_EVERY = 40


class Security(NamedTuple):
    """
    One ticker with what shapes its path.

    `price` in dollars and `volume` in shares a day are the levels that it moves about; `market`, `sector` and `own` are daily volatilities
    by cause; `band` bounds the log price's distance from its level; `scale` is ticks per dollar, one for the whole life of the ticker.
    """

    listing: Listing
    price: float
    volume: int
    market: float
    sector: float
    own: float
    band: float
    scale: int

    @property
    def symbol(self) -> str:
        """The ticker."""
        return self.listing.symbol

    @property
    def volatility(self) -> float:
        """The whole of a day's volatility."""
        return hypot(self.market, self.sector, self.own)


class _Level(NamedTuple):
    """Price in dollars, volume in million shares a day, own volatility in percent a day, leverage on market and sector."""

    price: float
    volume: float
    own: float
    leverage: float = 1.0


_LEVELS = {
    "AAPL": _Level(228, 52, 0.9),
    "MSFT": _Level(425, 22, 0.8),
    "GOOGL": _Level(172, 28, 1.0),
    "NVDA": _Level(132, 190, 1.6, 1.5),
    "META": _Level(560, 14, 1.2, 1.1),
    "TSLA": _Level(260, 85, 2.2, 1.4),
    "AMD": _Level(142, 44, 1.7, 1.4),
    "INTC": _Level(24, 62, 1.6),
    "UNH": _Level(510, 5, 1.0, 0.7),
    "JNJ": _Level(158, 7.5, 0.6, 0.6),
    "PFE": _Level(27, 38, 0.9, 0.7),
    "ABBV": _Level(182, 6, 0.8, 0.6),
    "JPM": _Level(224, 9, 0.7, 1.1),
    "BAC": _Level(42, 36, 0.8, 1.2),
    "WFC": _Level(64, 17, 0.9, 1.2),
    "GS": _Level(520, 2.4, 0.9, 1.2),
    "AMZN": _Level(192, 41, 1.1, 1.1),
    "WMT": _Level(84, 17, 0.7, 0.7),
    "HD": _Level(396, 3.6, 0.8),
    "NKE": _Level(78, 11, 1.2),
    "DIS": _Level(101, 10, 1.0),
    "NFLX": _Level(745, 3.5, 1.4, 1.1),
    "CMCSA": _Level(42, 19, 0.9, 0.8),
    "XOM": _Level(116, 14, 0.7),
    "CVX": _Level(152, 8, 0.7),
    "SPY": _Level(575, 48, 0.1),
    "QQQ": _Level(490, 33, 0.25, 1.2),
    "IWM": _Level(221, 27, 0.4, 1.2),
    "GLD": _Level(246, 7, 0.8, 0.1),
    "XRT": _Level(78, 5, 0.4, 1.1),
    "KRE": _Level(59, 13, 0.6, 1.3),
    "GDX": _Level(38, 20, 1.3, 0.8),
    "XHB": _Level(119, 2.8, 0.5, 1.2),
    "XBI": _Level(99, 8.5, 0.8, 1.3),
    "XTL": _Level(98, 2.6, 0.4),
    "IBB": _Level(146, 2.9, 0.5),
    "LABU": _Level(122, 3.2, 2.0, 3.0),
    "KBE": _Level(55, 2.9, 0.4, 1.3),
    "XLB": _Level(94, 5, 0.2),
    "XLV": _Level(150, 8, 0.2, 0.8),
    "SMH": _Level(246, 7, 0.7, 1.5),
    "XLF": _Level(46, 38, 0.2, 1.1),
    "XLK": _Level(226, 5.5, 0.2, 1.2),
    "XLE": _Level(90, 15, 0.2),
    "XLI": _Level(134, 8.5, 0.2),
    "XLP": _Level(82, 11, 0.2, 0.6),
    "XME": _Level(63, 2.7, 0.8, 1.2),
    "XOP": _Level(134, 3.3, 0.7, 1.2),
    "XLY": _Level(198, 4, 0.3, 1.1),
    "XLU": _Level(79, 11, 0.2, 0.6),
    "RSP": _Level(178, 7, 0.15),
    "RSPT": _Level(37, 2.5, 0.25, 1.1),
    "RSPG": _Level(79, 2.5, 0.25),
    "RSPR": _Level(36, 2.5, 0.25, 0.8),
    "RSPS": _Level(31, 2.5, 0.25, 0.6),
    "RSPU": _Level(66, 2.5, 0.25, 0.6),
    "RSPC": _Level(34, 2.5, 0.25),
    "RSPD": _Level(53, 2.5, 0.25, 1.1),
    "RSPH": _Level(31, 2.5, 0.25, 0.8),
    "RSPF": _Level(70, 2.5, 0.25, 1.1),
    "RSPM": _Level(36, 2.5, 0.25),
    "RSPN": _Level(51, 2.5, 0.25),
    "XLC": _Level(91, 5, 0.3),
    "XLRE": _Level(43, 5, 0.2, 0.8),
    "BRK.B": _Level(462, 3.8, 0.5, 0.8),
    "V": _Level(288, 6.5, 0.6, 0.9),
    "MA": _Level(505, 2.7, 0.6, 0.9),
    "LLY": _Level(880, 3, 1.3, 0.8),
    "AVGO": _Level(178, 24, 1.5, 1.4),
    "ORCL": _Level(172, 9, 1.2),
    "COST": _Level(905, 2.5, 0.8, 0.8),
    "CRM": _Level(285, 6.5, 1.2, 1.1),
}


def roster(count: int) -> tuple[Security, ...]:
    """Return the first `count` securities. ValueError where there are not so many."""
    if not 1 <= count <= len(LISTINGS) + MAKE_BELIEVE:
        raise ValueError(f"The twin has 1 to {len(LISTINGS) + MAKE_BELIEVE} tickers, not {count}.")
    listed = tuple(_security(listing, _LEVELS[listing.symbol]) for listing in LISTINGS[:count])
    symbols = [_made_up_symbol(number) for number in range(count - len(listed))]
    draws = uniforms(streams(0, *symbols), np.arange(3)).tolist()
    return listed + tuple(_make_believe(number, symbol, draws[number]) for number, symbol in enumerate(symbols))


def references(count: int) -> tuple[Security, ...]:
    """Return the reference symbols that a market of `count` tickers has besides, so that whoever names them gets them."""
    return tuple(_security(listing, _LEVELS[listing.symbol]) for listing in REFERENCES) if count >= len(LISTINGS) else ()


def _security(listing: Listing, level: _Level, *, scale: int = 100, band: float = 0.9) -> Security:
    """Return the security of a listing at a level."""
    return Security(
        listing=listing,
        price=level.price,
        volume=int(level.volume * 1_000_000),
        market=MARKET_VOLATILITY * level.leverage,
        sector=SECTOR_VOLATILITY * level.leverage if listing.sector else 0.0,
        own=level.own / 100,
        band=band * max(1.0, level.leverage / 2),
        scale=scale,
    )


def _made_up_symbol(number: int) -> str:
    """Return QAAAA, QAAAB …"""
    return "Q" + "".join(chr(ord("A") + number // 26**place % 26) for place in (3, 2, 1, 0))


def _make_believe(number: int, symbol: str, draws: list[float]) -> Security:
    """Return a made-up company; every fortieth trades below a dollar, in ticks of a hundredth of a cent."""
    price, volume, own = draws
    penny = number % PENNY_EVERY == PENNY_EVERY - 1
    exchange, sector = ("XNAS", "XNYS")[number % 2], SECTORS[number % len(SECTORS)]
    listing = Listing(symbol, f"Made-up Company {symbol}", "CS", exchange, sector, "Make-believe")
    if penny:
        # The band keeps it below a dollar for ever, so that its tick never changes
        return _security(listing, _Level(0.2 + 0.2 * price, 3 + 4 * volume, 1.5 + own), scale=10_000, band=0.7)
    return _security(listing, _Level(6 * 50**price, 2.5 + 6 * volume**3, 0.6 + 1.4 * own))
