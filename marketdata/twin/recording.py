"""Recorded frames as the twin sends them again: events with topic, symbol and time, texts untouched. Pure: lines come in."""

from typing import NamedTuple

import msgspec

from marketdata.twin.schedule import Due

_MILLISECONDS = 10**14  # beyond it a time is in µs or ns


class Recorded(NamedTuple):
    """One frame: its newest event time in Unix ms, 0 without any, and its events; `raw` is a frame that holds no events, sent to all."""

    at_ms: int
    events: list[Due]
    raw: bytes | None


class _Head(msgspec.Struct):
    """What a frame is sorted by."""

    ev: str
    sym: str = ""
    ticker: str = msgspec.field(name="T", default="")
    t: int = 0
    e: int = 0


_elements = msgspec.json.Decoder(list[msgspec.Raw])
_head = msgspec.json.Decoder(_Head)


def read(frame: bytes) -> Recorded:
    """
    Return what one recorded frame says; statuses are left out, since each client has its own.

    A trade falls due at its time, an aggregate at its end.
    """
    try:
        bodies = [bytes(element) for element in _elements.decode(frame)]
        heads = [_head.decode(body) for body in bodies]
    except msgspec.DecodeError:
        return Recorded(0, [], frame)
    events = [
        Due(_milliseconds(head.e or head.t), head.ev, head.sym or head.ticker, body)
        for head, body in zip(heads, bodies, strict=True)
        if head.ev != "status"
    ]
    return Recorded(max((event.at_ms for event in events), default=0), events, None)


def _milliseconds(moment: int) -> int:
    while moment >= _MILLISECONDS:
        moment //= 1000
    return moment
