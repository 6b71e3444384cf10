"""One frame of JSON → events and rejections. Pure: never raises on any bytes, never loses the good events beside a bad one."""

import json

import msgspec

from marketdata.feed.events import KINDS, Event

RAW_KEPT = 2_000

_frame = msgspec.json.Decoder(list[Event])
_elements = msgspec.json.Decoder(list[msgspec.Raw])
_event = msgspec.json.Decoder(Event)
_anything = msgspec.json.Decoder()


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """One event, or a whole frame, that was refused: a fixed reason, what is wrong in words, and the text itself (cut)."""

    reason: str
    detail: str
    kind: str = ""
    symbol: str = ""
    raw: str = ""
    count: int = 1


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """What one frame held."""

    events: list[Event]
    rejections: list[Rejection]


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
