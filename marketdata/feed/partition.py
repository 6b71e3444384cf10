"""Which connection carries which symbols, and who takes them over when one falls. Pure: lists in, lists out."""

from collections.abc import Collection, Sequence


def parted(symbols: Sequence[str], *, connections: int, priority: Collection[str] = ()) -> list[list[str]]:
    """
    Return each connection's own symbols; none is empty, so there may be fewer than asked for.

    With two connections or more the `priority` symbols have the first for themselves, and the others share the rest.
    """
    first = [symbol for symbol in symbols if symbol in set(priority)]
    rest = [symbol for symbol in symbols if symbol not in set(priority)]
    if connections > 1 and first and rest:
        return [first, *_dealt(rest, connections - 1)]
    return _dealt(symbols, connections)


def carried(
    parts: Sequence[Sequence[str]], *, live: Collection[int], fallen: Collection[int], reserved: int | None = None
) -> list[list[str]]:
    """
    Return what each connection (a place in `parts`) is to carry while some have fallen.

    Everyone keeps its own part, also who has fallen: that is what it asks for when it is back. The parts of the fallen are dealt to the live
    ones, but not to the `reserved` one while another lives.
    """
    load = [list(part) for part in parts]
    helpers = [place for place in sorted(live) if place != reserved] or sorted(live)
    if not helpers:
        return load
    for place in sorted(fallen):
        for number, symbols in enumerate(_dealt(parts[place], len(helpers))):
            load[helpers[number]] += symbols
    return load


def _dealt(symbols: Sequence[str], hands: int) -> list[list[str]]:
    return [part for part in (list(symbols[start::hands]) for start in range(hands)) if part]
