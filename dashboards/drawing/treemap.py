"""A map of areas: groups of tiles, each tile's area by its weight."""

from collections.abc import Sequence
from dataclasses import dataclass

AREA_POWER = 0.62
"""Small names stay readable: area grows more slowly than weight."""
HEAD = 17.0
"""Height of a group's name above its tiles, in the units of the box."""


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float

    @property
    def inner_width(self) -> float:
        """Return the width that leaves a hairline to the next one."""
        return max(0.0, self.width - 1)

    @property
    def inner_height(self) -> float:
        """Return the height that leaves a hairline to the next one."""
        return max(0.0, self.height - 1)

    @property
    def middle(self) -> float:
        """Return where a centred text stands."""
        return self.x + self.inner_width / 2

    @property
    def centre_1(self) -> float:
        """Return the baseline of a single line of text."""
        return self.y + self.inner_height / 2 + 4

    @property
    def centre_2(self) -> float:
        """Return the baseline of the first of two lines."""
        return self.y + self.inner_height / 2 - 2

    @property
    def under(self) -> float:
        """Return the baseline of the second of two lines."""
        return self.y + self.inner_height / 2 + 12


@dataclass(frozen=True)
class Tile:
    """One name's place on the map, and how much of it can be written there: 3 large, 2 symbol and change, 1 symbol, 0 nothing."""

    key: str
    box: Box
    room: int


@dataclass(frozen=True)
class Group:
    """A named part of the map."""

    name: str
    box: Box
    tiles: tuple[Tile, ...]


def squarify(weights: Sequence[float], box: Box) -> list[Box]:
    """
    Return one rectangle a weight, in their order, that together fill `box`, as near to squares as rows allow.

    Weights must be positive and sorted from the largest on. Source: Bruls, Huizing, van Wijk, Squarified Treemaps, 2000.
    """
    total = sum(weights)
    if not weights or total <= 0:
        return []
    areas = [weight / total * box.width * box.height for weight in weights]
    placed: list[Box] = []
    left = box
    start = 0
    while start < len(areas):
        side = min(left.width, left.height)
        end = start + 1
        while end < len(areas) and _worst(areas[start : end + 1], side) <= _worst(areas[start:end], side):
            end += 1
        row = areas[start:end]
        depth = sum(row) / side if side else 0.0
        along = 0.0
        for area in row:
            length = area / depth if depth else 0.0
            if left.width >= left.height:
                placed.append(Box(left.x, left.y + along, depth, length))
            else:
                placed.append(Box(left.x + along, left.y, length, depth))
            along += length
        if left.width >= left.height:
            left = Box(left.x + depth, left.y, max(0.0, left.width - depth), left.height)
        else:
            left = Box(left.x, left.y + depth, left.width, max(0.0, left.height - depth))
        start = end
    return placed


def _worst(row: Sequence[float], side: float) -> float:
    """Return the worst ratio of long to short side in a row laid along `side`."""
    total = sum(row)
    if total <= 0 or side <= 0:
        return float("inf")
    return max(side * side * max(row) / total**2, total**2 / (side * side * min(row)))


def treemap(groups: Sequence[tuple[str, Sequence[tuple[str, float]]]], *, width: float, height: float) -> list[Group]:
    """
    Return the map of (name, [(key, weight), …]) groups; the largest group and the largest tile of each come first.

    Weights are raw (market value); `AREA_POWER` is applied here. Groups and tiles without a positive weight have no place.
    """
    raised = [
        (name, sorted(((key, weight**AREA_POWER) for key, weight in members if weight > 0), key=lambda pair: (-pair[1], pair[0])))
        for name, members in groups
    ]
    known = sorted(
        ((name, members, sum(weight for _, weight in members)) for name, members in raised if members),
        key=lambda group: (-group[2], group[0]),
    )
    found = []
    for (name, members, _), box in zip(known, squarify([total for *_, total in known], Box(0, 0, width, height)), strict=True):
        inner = Box(box.x, box.y + HEAD, max(0.0, box.width - 2), max(0.0, box.height - HEAD - 2))
        boxes = squarify([weight for _, weight in members], inner)
        found.append(Group(name, box, tuple(Tile(key, tile, _room(key, tile)) for (key, _), tile in zip(members, boxes, strict=True))))
    return found


def _room(key: str, box: Box) -> int:
    if box.width >= 72 and box.height >= 56:
        return 3
    if box.width >= max(40, 9 * len(key)) and box.height >= 32:
        return 2
    return 1 if box.width >= 8.5 * len(key) + 4 and box.height >= 17 else 0
