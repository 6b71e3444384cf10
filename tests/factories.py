"""Values for tests, made with as few words as the test needs."""

from datetime import UTC, datetime

from marketdata.bars.session import Hours, SessionTable
from marketdata.bars.snapshot import SHARE, BarSnapshot
from marketdata.feed.events import MinuteAggregate, SecondAggregate, Trade

DAY = "2026-11-20"


def at(clock: str, day: str = DAY) -> int:
    """Return Unix ms of a UTC clock time like 14:30 or 14:30:00.120."""
    return round(datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=UTC).timestamp() * 1000)


def moment(clock: str, day: str = DAY) -> datetime:
    """Return a UTC clock time as a datetime."""
    return datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=UTC)


def make_sessions(day: str = DAY) -> SessionTable:
    """Return one day's session: 09:00 pre-market, 14:30 open, 21:00 close, 01:00 end (UTC, winter)."""
    return SessionTable([Hours(at("09:00", day), at("14:30", day), at("21:00", day), at("21:00", day) + 4 * 3_600_000)])


_sequence = iter(range(1, 10**9))


def make_trade(
    price: float,
    size: float = 100,
    *,
    time: str | int,
    conditions: tuple[int, ...] = (),
    q: int | None = None,
    symbol: str = "ACME",
    ds: str | None = None,
) -> Trade:
    """Return one print; its sequence number grows from call to call unless given."""
    moment_ms = time if isinstance(time, int) else at(time)
    return Trade(sym=symbol, p=price, t=moment_ms, q=next(_sequence) if q is None else q, s=size, ds=ds, c=conditions)


def make_second(
    close: float, volume: float = 100, *, time: str | int, symbol: str = "ACME", av: float = 0, **prices: float
) -> SecondAggregate:
    """Return one second's aggregate; open, high and low are the close unless given."""
    start = time if isinstance(time, int) else at(time)
    o, h, l = prices.get("o", close), prices.get("h", close), prices.get("l", close)
    return SecondAggregate(sym=symbol, o=o, h=max(h, o, close), l=min(l, o, close), c=close, s=start, v=volume, av=av)


def make_minute(close: float, volume: float = 100, *, time: str | int, symbol: str = "ACME", av: float = 0) -> MinuteAggregate:
    """Return the feed's own minute."""
    start = time if isinstance(time, int) else at(time)
    return MinuteAggregate(sym=symbol, o=close, h=close, l=close, c=close, s=start, v=volume, av=av)


def make_bar(
    close: float = 10.0,
    *,
    time: str | int = "14:30",
    symbol: str = "AAPL",
    volume: float = 100,
    source: int = 30,
    version: int = 1,
    complete: bool = True,
    **prices: float,
) -> BarSnapshot:
    """Return a bar; open, high and low are the close unless given."""
    o = prices.get("o", close)
    return BarSnapshot(
        symbol=symbol,
        opened_at_ms=time if isinstance(time, int) else at(time),
        open=o,
        high=prices.get("h", max(o, close)),
        low=prices.get("l", min(o, close)),
        close=close,
        volume=round(volume * SHARE),
        vwap=None,
        trades=None,
        source=source,
        version=version,
        complete=complete,
    )
