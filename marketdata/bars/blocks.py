"""
Events as columns, sorted and searched by the minute that they belong to. Pure: no clock, no I/O, no Django.

Rows of all symbols' minutes of one moment lie in one array a column: 37 bytes a trade, 68 a second, where objects take half a kilobyte.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

LARGEST_SUM = 2.0**62  # of sizes that are added up in machine integers
FRACTION = 1 << 20  # of price × size in 1/SHARE shares
LIMB = 1 << 32

Column = npt.NDArray[Any]
Columns = tuple[Column, ...]
"""Columns of equal length; the first is the slot of the minute that a row belongs to, the second its identity there."""


class Kept:
    """Rows of many minutes; sorted by slot when somebody asks, in few blocks however small the pieces that come."""

    def __init__(self) -> None:
        self._fresh: list[Columns] = []
        self._blocks: list[Columns] = []

    def add(self, block: Columns) -> None:
        """Keep one more block."""
        if len(block[0]):
            self._fresh.append((block[0].astype(np.int32), *block[1:]))

    def of(self, slot: int) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of one minute, without the slot."""
        blocks = self._blocks
        if self._fresh:
            blocks.append(_sorted(joined(self._fresh)))
            self._fresh = []
            while len(blocks) > 1 and len(blocks[-2][0]) <= 2 * len(blocks[-1][0]):
                blocks.append(_sorted(joined([blocks.pop(-2), blocks.pop()])))
        for block in blocks:
            yield from rows(block, slice(*np.searchsorted(block[0], (slot, slot + 1)).tolist()))


def joined(blocks: list[Columns]) -> Columns:
    """Return the rows of all blocks, one after the other."""
    return blocks[0] if len(blocks) == 1 else tuple(np.concatenate(parts) for parts in zip(*blocks, strict=True))


def rows(block: Columns, places: slice | Column) -> Iterator[tuple[Any, ...]]:
    """Yield the rows at these places, without the slot."""
    return zip(*(column[places].tolist() for column in block[1:]), strict=True)


def without(block: Columns, places: list[Column]) -> Columns:
    """Return the rows but for those at these places."""
    if not places:
        return block
    stays = np.ones(len(block[0]), dtype=bool)
    stays[np.concatenate(places)] = False
    return tuple(column[stays] for column in block)


def by_minute(block: Columns) -> tuple[Column, Column, Column, set[int]]:
    """
    Return the places of the rows by slot, then by identity; where in this order each minute begins and ends; which minutes have an identity twice.
    """
    order = _by_slot(block[0])
    slots = block[0][order]
    starts = np.concatenate(([0], np.flatnonzero(slots[1:] != slots[:-1]) + 1))
    broken = _falls(block[1][order], starts)
    if broken:
        order = np.lexsort((block[1], block[0]))
        broken = _falls(block[1][order], starts)
    return order, starts, np.append(starts[1:], len(slots)), broken


def sums(sizes: Column, starts: Column) -> list[int]:
    """Return the sum of each minute, exact however large."""
    if float(sizes.max()) * int(np.diff(starts, append=len(sizes)).max()) > LARGEST_SUM:
        sizes = sizes.astype(object)
    return np.add.reduceat(sizes, starts).tolist()  # type: ignore[no-any-return]


def value_sums(values: Column, starts: Column) -> list[int]:
    """Return the sum of each minute in 1/FRACTION, each value rounded to that; the order in which they came cannot show in it."""
    upper = np.floor(values * (1 / LIMB))
    lower = np.rint((values - upper * LIMB) * FRACTION)  # exact but for the rounding
    pairs = zip(sums(upper.astype(np.int64), starts), sums(lower.astype(np.int64), starts), strict=True)
    return [top * (LIMB * FRACTION) + rest for top, rest in pairs]


def _by_slot(slots: Column) -> Column:
    return np.argsort(slots.astype(np.uint16) if len(slots) and slots.max() < 2**16 else slots, kind="stable")  # of 16 bits by radix


def _sorted(block: Columns) -> Columns:
    order = _by_slot(block[0])
    return tuple(column[order] for column in block)


def _falls(identities: Column, starts: Column) -> set[int]:
    """Return the minutes in which an identity does not grow against the one before."""
    grows = identities[1:] > identities[:-1]
    grows[starts[1:] - 1] = True  # the first of a minute follows none
    if grows.all():
        return set()
    return set((np.searchsorted(starts, np.flatnonzero(~grows) + 1, side="right") - 1).tolist())
