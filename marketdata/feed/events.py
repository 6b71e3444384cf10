"""
What the feed says, as typed values. Pure: no clock, no I/O, no Django.

Field names are Massive's own. Only what is read here has a field: other keys are skipped, which costs less; and in the order in which the
feed sends them, which costs less again. Optional ones may be missing. Prices are floats whose shortest decimal form is the feed's
text. Bounds stand in the types, so that the decoder checks them while it reads.
"""

from typing import Annotated

import msgspec

EARLIEST_MS = 631_152_000_000  # 1990-01-01
LATEST_MS = 4_102_444_800_000  # 2100-01-01
PAUSED = 17  # indicator of a LULD event; no document says so, so Massive's own sample of a paused symbol has it

Price = Annotated[float, msgspec.Meta(gt=0, lt=10**7)]
_NO_LESS = msgspec.Meta(ge=0, lt=10**15)
Size = Annotated[int, _NO_LESS] | Annotated[float, _NO_LESS]  # whole ones as integers: they are looked up, and floats are slow to hash
SizeText = Annotated[str, msgspec.Meta(max_length=32)]
Ticker = Annotated[str, msgspec.Meta(min_length=1, max_length=20)]
Milliseconds = Annotated[int, msgspec.Meta(ge=EARLIEST_MS, lt=LATEST_MS)]


class Trade(msgspec.Struct, tag_field="ev", tag="T", frozen=True, gc=False, kw_only=True):
    """One print. `t` is the SIP's time in Unix ms, `q` the sequence number, unique per symbol and day; `ds` is the size with its fraction."""

    sym: Ticker
    p: Price
    s: Size = 0
    ds: SizeText | None = None
    c: tuple[int, ...] = ()
    t: Milliseconds
    q: int


class SecondAggregate(msgspec.Struct, tag_field="ev", tag="A", frozen=True, gc=False, kw_only=True):
    """One second of one symbol, which begins at `s` in Unix ms. `dv` is the volume with its fraction, `av` the day's so far."""

    sym: Ticker
    v: Size = 0
    dv: SizeText | None = None
    av: Size = 0
    vw: float | None = None
    o: Price
    c: Price
    h: Price
    l: Price  # noqa: E741 - Massive's name
    s: Milliseconds


class MinuteAggregate(SecondAggregate, tag_field="ev", tag="AM", frozen=True, gc=False, kw_only=True):
    """One minute of one symbol, same fields; sent again when it changes."""


class Quote(msgspec.Struct, tag_field="ev", tag="Q", frozen=True, gc=False):
    """Best bid and offer; a side may be missing. Never stored."""

    sym: Ticker
    t: Milliseconds
    bp: float | None = None
    bs: float | None = None
    ap: float | None = None
    ask_size: float | None = msgspec.field(name="as", default=None)


class LimitBand(msgspec.Struct, tag_field="ev", tag="LULD", frozen=True, gc=False):
    """Limit-up limit-down band; the ticker stands in `T`, and `t` comes in ms, µs or ns."""

    ticker: Ticker = msgspec.field(name="T")
    t: int
    h: float | None = None
    l: float | None = None  # noqa: E741 - Massive's name
    i: tuple[int, ...] = ()


class StatusMessage(msgspec.Struct, tag_field="ev", tag="status", frozen=True, gc=False):
    """The server's word in the dialogue: connected, auth_success, success, error, max_connections …"""

    status: str
    message: str = ""


def milliseconds(time: int) -> int | None:
    """Return a time that came in ms, µs or ns as ms; None where it lies outside 1990 to 2100 in each of them."""
    for unit in (1, 1_000, 1_000_000):
        if EARLIEST_MS <= time // unit < LATEST_MS:
            return time // unit
    return None


Event = Trade | SecondAggregate | MinuteAggregate | Quote | LimitBand | StatusMessage
KINDS = ("AM", "A", "T", "Q", "LULD")
