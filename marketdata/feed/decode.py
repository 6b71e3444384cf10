"""One frame of JSON → events and rejections. Pure: never raises on any bytes, never loses the good events beside a bad one."""

import json
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import msgspec

from marketdata.feed.events import KINDS, Event, MinuteAggregate, Quote, SecondAggregate, Trade

RAW_KEPT = 2_000
MIXED = 100  # frames
KIND_PREFIX = 10  # characters that tell the kind of a frame's first event


class _Never(msgspec.Struct, tag_field="ev", tag="", gc=False):
    """Cannot be read. A kind in a union with it must be named in each event; alone it need not be, and what names none is no event."""

    never: Annotated[str, msgspec.Meta(min_length=1, max_length=0)]


_frame = msgspec.json.Decoder(list[Event])
_elements = msgspec.json.Decoder(list[msgspec.Raw])
_event = msgspec.json.Decoder(Event)
_anything = msgspec.json.Decoder()
_OF_KIND: dict[str, tuple[type[Event], Callable[[bytes | str], list[Any]]]] = {
    f'[{{"ev":"{name}",'[:KIND_PREFIX]: (kind, msgspec.json.Decoder(list[kind | _Never]).decode)  # type: ignore[valid-type]
    for name, kind in (("T", Trade), ("A", SecondAggregate), ("AM", MinuteAggregate), ("Q", Quote))
}


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """One event, or a whole frame, that was refused: a fixed reason, what is wrong in words, and the text itself (cut)."""

    reason: str
    detail: str
    kind: str = ""
    symbol: str = ""
    raw: str = ""
    count: int = 1


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """What one frame held. `kind`: that of all its events, where the decoder knows it."""

    events: list[Event]
    rejections: list[Rejection]
    kind: type[Event] | None = None


class FrameDecoder:
    """
    `decode` for many frames of one line: most hold events of one kind, whose own decoder says so, and nobody need look at each event again.

    A frame that begins as if it did and goes on otherwise is decoded twice; then the next MIXED are decoded as mixed ones.
    """

    def __init__(self) -> None:
        self._mixed = 0

    def decode(self, frame: bytes | str) -> Decoded:
        """Return what `decode` does, and the kind."""
        if self._mixed:
            self._mixed -= 1
            return decode(frame)
        known = _OF_KIND.get(frame[:KIND_PREFIX] if isinstance(frame, str) else frame[:KIND_PREFIX].decode("latin-1"))
        if known is None:
            return decode(frame)
        kind, read = known
        try:
            return Decoded(read(frame), [], kind)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            self._mixed = MIXED
            return decode(frame)


def decode(frame: bytes | str) -> Decoded:
    """Return the frame's events in their order, and a rejection for each element that is none."""
    try:
        return Decoded(_frame.decode(frame), [])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _decode_each(frame)


def _decode_each(frame: bytes | str) -> Decoded:
    """The slow way: element by element, after the quick one met something it does not know."""
    try:
        elements = _elements.decode(frame)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        elements = _forgiving(frame)
        if not elements:
            return Decoded([], [_whole_frame(frame, error)])
    events: list[Event] = []
    rejections: list[Rejection] = []
    for element in elements:
        try:
            events.append(_event.decode(element))
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            rejections.append(_element(bytes(element), error))
    return Decoded(events, rejections)


def _forgiving(frame: bytes | str) -> list[msgspec.Raw]:
    """Return the elements as Python's own reader sees them, which takes NaN and halves of characters; none where it fails too."""
    try:
        elements = json.loads(frame)
    except (ValueError, RecursionError):
        return []
    return [msgspec.Raw(json.dumps(element)) for element in elements] if isinstance(elements, list) else []


def texts(frame: bytes | str, events: Iterable[Event]) -> dict[Event, list[str]]:
    """
    Return, of those of the events that this frame holds, the text as it came: an event has only the fields that are read here.

    Events that are equal here may differ in what is not read, so each has its own text, in the frame's order.
    """
    found: dict[Event, list[str]] = {event: [] for event in events}
    for element in _elements_of(frame):
        try:
            event = _event.decode(element)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            continue
        if event in found:
            found[event].append(readable(bytes(element)))
    return found


def _elements_of(frame: bytes | str) -> list[msgspec.Raw]:
    try:
        return _elements.decode(frame)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return _forgiving(frame)


def _whole_frame(frame: bytes | str, error: Exception) -> Rejection:
    reason = "not_an_array" if isinstance(error, msgspec.ValidationError) else "not_json"
    return Rejection(reason=reason, detail=str(error)[:300], raw=readable(frame))


def _element(element: bytes, error: Exception) -> Rejection:
    """Name what is wrong with one element: its kind and symbol are read where they can be."""
    try:
        value = _anything.decode(element)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return Rejection(reason="not_json", detail=str(error)[:300], raw=readable(element))
    if not isinstance(value, dict):
        return Rejection(reason="not_an_object", detail=f"an event must be an object, not {type(value).__name__}", raw=readable(element))
    kind = value.get("ev")
    symbol = value.get("sym", value.get("T", ""))
    if kind is None:
        reason, detail = "no_event_type", "the key `ev` is missing"
    elif kind not in (*KINDS, "status"):
        reason, detail = "unknown_event", f"event type {str(kind)[:20]!r} is not known here"
    else:
        reason, detail = "bad_value", str(error)
    return Rejection(
        reason=reason,
        detail=detail[:300],
        kind=readable(kind)[:10] if isinstance(kind, str) else "",
        symbol=readable(symbol)[:40] if isinstance(symbol, str) else "",
        raw=readable(element),
    )


def readable(text: bytes | str) -> str:
    """Return the text as it can be stored: cut, undecodable bytes escaped, without the NUL that PostgreSQL refuses."""
    words = text[:RAW_KEPT] if isinstance(text, str) else text[:RAW_KEPT].decode("utf-8", "backslashreplace")
    return words.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()[:RAW_KEPT]
