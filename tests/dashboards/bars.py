"""Bars for tests of the live line."""

from marketdata.bars.snapshot import MINUTE_MS, SHARE, BarChange, BarSnapshot

OPENING_MS = 1_795_185_000_000  # 2026-11-20T14:30:00Z


def make_bar(symbol: str = "AAPL", *, minute: int = 0, close: float = 101.5, volume: int = 1500 * SHARE) -> BarSnapshot:
    return BarSnapshot(
        symbol=symbol, opened_at_ms=OPENING_MS + minute * MINUTE_MS,
        open=100.25, high=max(102.0, close), low=min(100.0, close), close=close, volume=volume, vwap=101.1234, trades=42,
        source=2, version=1, complete=True,
    )  # fmt: skip


def make_change(symbol: str = "AAPL", *, minute: int = 0, revision: int = 0, close: float = 101.5) -> BarChange:
    return BarChange(bar=make_bar(symbol, minute=minute, close=close), revision=revision, is_final=False, inserted=revision == 0)
