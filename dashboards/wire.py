"""
The words spoken on `/ws/live`, and their form in the log between the processes. Not who listens (hub) nor how they came (consumers).

A message: `{"topic", "seq", "prev", "type", "at", "data"}`. `seq` numbers the whole log, so it only rises; `prev` is the `seq` of the
message sent before on this topic to this socket (null at first): where it is not the last one received, something is missing. `skipped`
beside them, only where the reader was slow: so many older states this update leaves out.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from sys import intern
from typing import Any, NamedTuple

import msgspec

from marketdata.bars.snapshot import MINUTE_MS, SHARE, BarChange, BarSnapshot
from marketdata.feed.events import Quote

LOG_KEY = "live:log"  # a Redis stream; the id of an entry is its number
BARS, QUOTES, PATTERNS, FEED, MARKET = "bars", "quotes", "patterns", "feed", "market"
BY_SYMBOL = (BARS, QUOTES)
SCOPES = {
    BARS: "read:bars",
    QUOTES: "read:bars",
    PATTERNS: "read:patterns",
    FEED: "read:bars",
    MARKET: "read:market",
}  # what a token needs for a topic; a session needs none

_TOPIC = re.compile(r"bars|(bars|quotes):[A-Za-z0-9.\-/]{1,20}|patterns|feed|market")
_encode = msgspec.json.Encoder(decimal_format="number").encode


# ---- what a client says ----------------------------------------------------------------------------------------------------------


class Watch(msgspec.Struct, frozen=True, tag_field="action", tag="watch"):
    """Send a snapshot of these topics, and then what changes."""

    topics: list[str]


class Unwatch(msgspec.Struct, frozen=True, tag_field="action", tag="unwatch"):
    """Send no more of these topics."""

    topics: list[str]


class Resume(msgspec.Struct, frozen=True, tag_field="action", tag="resume"):
    """Send what came on this topic after the message with this `seq`."""

    topic: str
    after: int


Request = Watch | Unwatch | Resume
_requests: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)


def read_request(text: str | bytes) -> Request:
    """Return what a client asks for. ValueError with one sentence for people where it cannot be understood."""
    try:
        return _requests.decode(text)
    except msgspec.ValidationError as error:
        raise ValueError(f'The message was not understood: {error}. Send {{"action":"watch","topics":["bars:AAPL"]}}.') from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise ValueError('The message is not JSON. Send an object such as {"action":"watch","topics":["bars:AAPL"]}.') from None


def topic_fault(topic: str) -> str | None:
    """Return one sentence on what is wrong with a topic, None for a good one."""
    if _TOPIC.fullmatch(topic):
        return None
    return f"There is no topic {topic[:60]!r}; there are bars, bars:SYMBOL, quotes:SYMBOL, patterns, feed and market."


def kind_of(topic: str) -> str:
    """Return which kind of flush a topic shows."""
    return topic.partition(":")[0]


# ---- what the server says --------------------------------------------------------------------------------------------------------


def iso(moment: datetime) -> str:
    """Return ISO 8601 in UTC with milliseconds and Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def message(topic: str, *, seq: int, prev: int | None, kind: str, at: str, data: str, skipped: int = 0) -> str:
    """Return one message; `topic` must be a good one and `data` JSON."""
    mark = f',"skipped":{skipped}' if skipped else ""
    before = "null" if prev is None else prev
    return f'{{"topic":"{topic}","seq":{seq},"prev":{before},"type":"{kind}","at":"{at}"{mark},"data":{data}}}'


def error(topic: str | None, detail: str, *, at: str) -> str:
    """Return the answer to a request that cannot be met; the socket stays."""
    words = {"topic": topic[:60] if topic else topic, "seq": None, "prev": None, "type": "error", "at": at, "data": {"detail": detail}}
    return _encode(words).decode()


def gap(topic: str, *, seq: int, prev: int | None, at: str) -> str:
    """Return the word that messages may be missing after `prev`; a snapshot follows."""
    return message(topic, seq=seq, prev=prev, kind="gap", at=at, data='{"detail":"Messages may be missing; fetch what you show again."}')


def heartbeat(*, at: str, live: bool) -> str:
    """Return the sign of life; `live` is false while this process hears nothing from the rest of the stack."""
    return f'{{"type":"heartbeat","at":"{at}","live":{"true" if live else "false"}}}'


def frame(payload: bytes) -> bytes:
    """Return the whole text frame of a server that has agreed on no extension (RFC 6455, 5.2)."""
    size = len(payload)
    if size < 126:
        return b"\x81" + size.to_bytes(1) + payload
    return b"\x81" + (b"\x7e" + size.to_bytes(2) if size < 65_536 else b"\x7f" + size.to_bytes(8)) + payload


class Message:
    """A message as text, and as the bytes of its frame, made once for all who are told it."""

    __slots__ = ("_frame", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._frame: bytes | None = None

    def frame(self) -> bytes:
        """Return the frame."""
        if self._frame is None:
            self._frame = frame(self.text.encode())
        return self._frame


# ---- bodies: encoded once by the announcing process, then only cut and joined -----------------------------------------------------


class _Bar(msgspec.Struct, frozen=True):
    s: str
    t: str
    end: str
    o: float
    h: float
    l: float  # noqa: E741 - the name is the product's
    c: float
    v: msgspec.Raw
    vw: float | None
    n: int | None
    final: bool
    complete: bool
    revision: int | None
    forming: bool


@lru_cache(maxsize=64)
def _minute(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shares(volume: int) -> msgspec.Raw:
    """Return 1/SHARE shares as a decimal number, every digit kept."""
    whole, part = divmod(volume, SHARE)
    return msgspec.Raw(f"{whole}.{part:09d}".rstrip("0").encode() if part else str(whole).encode())


def _bar(bar: BarSnapshot, *, final: bool, revision: int | None) -> _Bar:
    return _Bar(
        s=bar.symbol, t=_minute(bar.opened_at_ms), end=_minute(bar.opened_at_ms + MINUTE_MS),
        o=bar.open, h=bar.high, l=bar.low, c=bar.close, v=_shares(bar.volume), vw=bar.vwap, n=bar.trades,
        final=final, complete=bar.complete, revision=revision, forming=revision is None,
    )  # fmt: skip


def closed_bars(changes: Iterable[BarChange]) -> bytes:
    """Return the data of stored bars."""
    return _encode({"bars": [_bar(change.bar, final=change.is_final, revision=change.revision) for change in changes]})


def moving_bars(bars: Iterable[BarSnapshot]) -> bytes:
    """Return the data of forming bars, which no table knows yet."""
    return _encode({"bars": [_bar(bar, final=False, revision=None) for bar in bars]})


class _Quote(msgspec.Struct, frozen=True):
    s: str
    t: str
    bp: float | None
    bs: float | None
    ap: float | None
    ask_size: float | None = msgspec.field(name="as")


def moving_quotes(quotes: Iterable[Quote]) -> bytes:
    """Return the data of last quotes. Sizes are the feed's own: its documents differ on whether they are shares or round lots."""
    rows = (_Quote(one.sym, iso(datetime.fromtimestamp(one.t / 1000, UTC)), one.bp, one.bs, one.ap, one.ask_size) for one in quotes)
    return _encode({"quotes": list(rows)})


def found_patterns(detections: Iterable[dict[str, Any]] = (), *, retracted: Iterable[dict[str, Any]] = ()) -> bytes:
    """Return the data of detections and retractions, as `patterns.signals` describes them."""
    return _encode({"detections": [_in_utc(row) for row in detections], "retracted": [_in_utc(row) for row in retracted]})


def _in_utc(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value.astimezone(UTC) if isinstance(value, datetime) else value for key, value in row.items()}


def feed_status(status: dict[str, Any]) -> bytes:
    """Return the data of the live line's state."""
    return _encode(status)


def made_surveys(surveys: Iterable[dict[str, Any]]) -> bytes:
    """Return the data of surveys of the market, as `patterns.signals` describes them: which rows are new, not what they hold."""
    return _encode({"surveys": [_in_utc(row) for row in surveys]})


# ---- reading a flush back, only as deep as the hub must see ------------------------------------------------------------------------


class Part(NamedTuple):
    """One bar, quote, detection or survey: what tells it from others, and its JSON. `forming` also stands for retracted."""

    name: str
    minute: str
    forming: bool
    text: str


class Flush:
    """
    One entry of the log: what one announcing process had to say at once.

    Its parts weigh three times what the body does, so an old flush may `shed` them; they are cut from the body again when asked for.
    """

    __slots__ = ("_by_symbol", "_parts", "at", "body", "kind", "seq", "symbols")

    def __init__(self, seq: int, kind: str, at: str, body: bytes) -> None:
        self.seq, self.kind, self.at, self.body = seq, kind, at, body.decode()
        self._parts: tuple[Part, ...] | None = _parts_of(kind, body)
        self._by_symbol: dict[str, list[Part]] | None = None
        self.symbols = tuple(dict.fromkeys(part.name for part in self._parts)) if kind in BY_SYMBOL else ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return what it consists of."""
        if self._parts is None:
            self._parts = _parts_of(self.kind, self.body.encode())
        return self._parts

    @property
    def by_symbol(self) -> dict[str, list[Part]]:
        """Return its parts by symbol; only bars and quotes have any."""
        if self._by_symbol is None:
            self._by_symbol = {}
            for part in self.parts if self.symbols else ():
                self._by_symbol.setdefault(part.name, []).append(part)
        return self._by_symbol

    def shed(self) -> None:
        """Keep the body only."""
        self._parts = self._by_symbol = None


class _BarBody(msgspec.Struct):
    bars: list[msgspec.Raw]


class _BarKey(msgspec.Struct):
    s: str
    t: str
    forming: bool


class _QuoteBody(msgspec.Struct):
    quotes: list[msgspec.Raw]


class _QuoteKey(msgspec.Struct):
    s: str


class _PatternBody(msgspec.Struct):
    detections: list[msgspec.Raw]
    retracted: list[msgspec.Raw]


class _PatternKey(msgspec.Struct):
    id: int


class _MarketBody(msgspec.Struct):
    surveys: list[msgspec.Raw]


class _MarketKey(msgspec.Struct):
    universe: str
    as_of: str


_quote_bodies, _quote_keys = msgspec.json.Decoder(_QuoteBody), msgspec.json.Decoder(_QuoteKey)
_market_bodies, _market_keys = msgspec.json.Decoder(_MarketBody), msgspec.json.Decoder(_MarketKey)
_bar_bodies, _bar_keys = msgspec.json.Decoder(_BarBody), msgspec.json.Decoder(_BarKey)
_pattern_bodies, _pattern_keys = msgspec.json.Decoder(_PatternBody), msgspec.json.Decoder(_PatternKey)


def read_flush(seq: int, kind: str, at: str, body: bytes) -> Flush:
    """Return an entry of the log. msgspec.DecodeError where `body` is not what `kind` says; an unknown kind has no parts."""
    return Flush(seq, kind, at, body)


def _parts_of(kind: str, body: bytes) -> tuple[Part, ...]:
    if kind == BARS:
        keys = [(_bar_keys.decode(raw), raw) for raw in _bar_bodies.decode(body).bars]
        return tuple(Part(intern(key.s), key.t, key.forming, bytes(raw).decode()) for key, raw in keys)
    if kind == QUOTES:
        return tuple(Part(intern(_quote_keys.decode(raw).s), "", False, bytes(raw).decode()) for raw in _quote_bodies.decode(body).quotes)
    if kind == PATTERNS:
        found = _pattern_bodies.decode(body)
        return (*_pattern_parts(found.detections, retracted=False), *_pattern_parts(found.retracted, retracted=True))
    if kind == MARKET:
        rows = [(_market_keys.decode(raw), raw) for raw in _market_bodies.decode(body).surveys]
        return tuple(Part(key.universe, key.as_of, False, bytes(raw).decode()) for key, raw in rows)
    return ()


def _pattern_parts(rows: list[msgspec.Raw], *, retracted: bool) -> Iterator[Part]:
    for row in rows:
        yield Part(str(_pattern_keys.decode(row).id), "", retracted, bytes(row).decode())


def bars_data(parts: Iterable[Part]) -> str:
    """Join bars into the data of one message."""
    return f'{{"bars":[{",".join(part.text for part in parts)}]}}'


def quotes_data(parts: Iterable[Part]) -> str:
    """Join quotes into the data of one message."""
    return f'{{"quotes":[{",".join(part.text for part in parts)}]}}'


def patterns_data(parts: Iterable[Part]) -> str:
    """Join detections and retractions into the data of one message."""
    standing: list[str] = []
    retracted: list[str] = []
    for part in parts:
        (retracted if part.forming else standing).append(part.text)
    return f'{{"detections":[{",".join(standing)}],"retracted":[{",".join(retracted)}]}}'


def market_data(parts: Iterable[Part]) -> str:
    """Join surveys into the data of one message."""
    return f'{{"surveys":[{",".join(part.text for part in parts)}]}}'
