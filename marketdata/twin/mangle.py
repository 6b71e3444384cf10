"""Frames as a fault makes them: nonsense in and beside them, statuses in their midst, oversize, twice. Good events stay. Pure."""

from collections.abc import Iterable, Sequence
from random import Random

import msgspec

from marketdata.twin.faults import Faults
from marketdata.twin.schedule import Due

FRAME_EVENTS = 500  # far below the million bytes that clients accept
_MEGABYTE = 1_000_000
_JUNK_FRAMES: tuple[bytes, ...] = (
    b"not json",
    b'{"ev":"AM","sym":"AAPL"}',
    b'[{"sym":"AAPL"}]',
    b'[{"ev":"AM","sym":"AAPL","o":NaN,"h":NaN,"l":NaN,"c":NaN,"v":1,"s":1795185000000,"e":1795185060000}]',
    b'[{"ev":"T","sym":"AAPL","p":Infinity,"s":1,"t":1795185000000,"q":1}]',
    b'[{"ev":"T","sym":"AAPL","p":1',
    b"null",
    b"42",
    b'"text"',
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
    b"",
)
_ABSURD: tuple[dict[str, object], ...] = (
    {"o": None, "v": None, "s": None, "p": None},
    {"o": -1, "l": -5, "p": -1.5},
    {"h": 1e13, "p": 1e13},
    {"o": "101.5", "p": "101.5"},
    {"s": "soon", "t": "soon"},
    {"s": -1, "t": -1},
    {"sym": 7},
    {"sym": ""},
    {"v": -3, "dv": "-3", "ds": "-3"},
    {"dv": "many", "ds": "many"},
    {"h": 0, "p": 0},
    {"c": {"a": 1}},
    {"ev": "ZZZ"},
    {"ev": None},
)
_MISSING = ("sym", "ev", "o", "p")


def frames(events: Iterable[Due], statuses: Sequence[bytes], faults: Faults, *, megabytes: float = 0.0) -> list[bytes]:
    """
    Return the frames for events, and for statuses that ride in the first; as the faults at work make them.

    `megabytes` is the size of the first frame, where it must be large. No good event is lost.
    """
    bodies = [event.body for event in events]
    parts = [bodies[start : start + FRAME_EVENTS] for start in range(0, len(bodies), FRAME_EVENTS)] or ([[]] if statuses else [])
    made: list[bytes] = []
    for number, part in enumerate(parts):
        elements = _riding(part, statuses) if number == 0 else list(part)
        if number == 0 and megabytes and part:
            elements[-1] = _swollen(part[-1], megabytes)
        garbled = bool(part) and faults.chance("garbage")
        if garbled:
            elements = _among_nonsense(elements, part, faults)
        frame = b"[" + b",".join(elements) + b"]"
        made.append(frame)
        if garbled:
            made.append(faults.dice("garbage").choice(_JUNK_FRAMES))
        if faults.chance("duplicates"):
            made.append(frame)
    return made


def _riding(part: Sequence[bytes], statuses: Sequence[bytes]) -> list[bytes]:
    """Return events with statuses in their middle."""
    middle = len(part) // 2
    return [*part[:middle], *statuses, *part[middle:]]


def _swollen(body: bytes, megabytes: float) -> bytes:
    """Return an event with an unknown key so long that its frame has the size."""
    return body[:-1] + b',"padding":"' + b"x" * int(megabytes * _MEGABYTE) + b'"}'


def _among_nonsense(elements: Sequence[bytes], part: Sequence[bytes], faults: Faults) -> list[bytes]:
    """Return elements with one to three that cannot be, made of good ones."""
    dice, mixed = faults.dice("garbage"), list(elements)
    count = dice.randint(1, 3)
    faults.felt["garbage_events"] += count
    for _ in range(count):
        mixed.insert(dice.randint(0, len(mixed)), _absurd(dice.choice(part), dice))
    return mixed


def _absurd(body: bytes, dice: Random) -> bytes:
    """Return an event that cannot be: wrong, null, absurd or missing values."""
    event = msgspec.json.decode(body)
    choice = dice.randrange(len(_ABSURD) + 1)
    if choice == len(_ABSURD):
        return msgspec.json.encode({name: value for name, value in event.items() if name not in _MISSING})
    spoilt = {name: value for name, value in _ABSURD[choice].items() if name in event}
    return msgspec.json.encode(event | (spoilt or {"ev": "ZZZ"}))
