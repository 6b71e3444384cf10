"""
What the feed says, as typed values. Pure: no clock, no I/O, no Django.

Field names are Massive's own (MASSIVE: WebSocket, stocks); unknown keys are ignored, optional ones may be missing.
Prices are floats whose shortest decimal form is the feed's text. Sizes stay as sent; `sizes.py` of the builder side decides.
"""

import msgspec


class Trade(msgspec.Struct, tag_field="ev", tag="T", frozen=True, gc=False):
    """One print. `t` is the SIP's time in Unix ms, `q` the sequence number, unique per symbol and day."""

    sym: str
    p: float
    t: int
    q: int
    s: float = 0
    ds: str | None = None
    c: tuple[int, ...] = ()
    x: int = 0
    i: str = ""
    z: float = 0
    trfi: int | None = None


class SecondAggregate(msgspec.Struct, tag_field="ev", tag="A", frozen=True, gc=False):
    """One second of one symbol: [s, e) in Unix ms."""

    sym: str
    o: float
    h: float
    l: float  # noqa: E741 - Massive's name
    c: float
    s: int
    e: int
    v: float = 0
    dv: str | None = None
    av: float = 0
    dav: str | None = None
    vw: float | None = None
    op: float | None = None
    z: float | None = None
    otc: bool = False


class MinuteAggregate(SecondAggregate, tag_field="ev", tag="AM", frozen=True, gc=False):
    """One minute of one symbol, same fields; sent again when it changes."""


class Quote(msgspec.Struct, tag_field="ev", tag="Q", frozen=True, gc=False):
    """Best bid and offer; a side may be missing. Never stored."""

    sym: str
    t: int
    bp: float | None = None
    bs: float | None = None
    ap: float | None = None
    as_: float | None = msgspec.field(name="as", default=None)
    q: int = 0


class LimitBand(msgspec.Struct, tag_field="ev", tag="LULD", frozen=True, gc=False):
    """Limit-up limit-down band; the ticker stands in `T`, and `t` comes in ms, µs or ns."""

    ticker: str = msgspec.field(name="T")
    t: int
    h: float | None = None
    l: float | None = None  # noqa: E741 - Massive's name
    i: tuple[int, ...] = ()


class StatusMessage(msgspec.Struct, tag_field="ev", tag="status", frozen=True, gc=False):
    """The server's word in the dialogue: connected, auth_success, success, error, max_connections …"""

    status: str
    message: str = ""


Event = Trade | SecondAggregate | MinuteAggregate | Quote | LimitBand | StatusMessage
