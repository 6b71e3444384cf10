"""A state of the grid: read from an address, said as a sentence, applied to rows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dashboards.grid.columns import COLUMNS, DESCENDING_FIRST, FIRST_SET, SETS, SORTABLE

Row = dict[str, Any]
Test = Callable[[float, float], bool]

NUMBERS: dict[str, tuple[str, str, Test]] = {
    "rs_min": ("rs_rating", "RS at least", lambda value, bound: value >= bound),
    "rs_max": ("rs_rating", "RS at most", lambda value, bound: value <= bound),
    "rvol_min": ("rvol", "RVOL at least", lambda value, bound: value >= bound),
    "day_min": ("change_day", "day at least, %,", lambda value, bound: value >= bound),
    "day_max": ("change_day", "day at most, %,", lambda value, bound: value <= bound),
    "adr_min": ("adr", "ADR at least, %,", lambda value, bound: value >= bound),
}
"""Parameter → the row's key, the words before its number, and the test. A row without the value never passes."""
CHOICES = {"sector": "sector", "industry": "industry", "type": "type"}
STAGES = ("1", "2", "3", "4")
UNKNOWN_SECTOR = "unknown"
"""How an address names the rows without a sector."""
LONGEST = 60


@dataclass(frozen=True)
class State:
    """What an address asks of the grid; `faults` are sentences on what in it could not be read and is left out."""

    text: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)
    stage: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    sort: tuple[tuple[str, bool], ...] = (("rs_rating", True),)  # empty: an order of the reader's own
    columns: str = FIRST_SET
    faults: tuple[str, ...] = ()

    @property
    def filtered(self) -> bool:
        """Return whether anything but order and columns is asked."""
        return bool(self.text or self.choices or self.stage or self.numbers)

    @property
    def words(self) -> list[str]:
        """Return the filter in words, one part a condition."""
        parts = [f"“{self.text}”"] if self.text else []
        parts += [value if name != "type" else f"type {value}" for name, value in self.choices.items()]
        if self.stage:
            parts.append(f"stage {self.stage}")
        parts += [f"{NUMBERS[name][1]} {number:g}" for name, number in self.numbers.items()]
        return parts

    @property
    def order_words(self) -> str:
        """Say the order: RS rating, highest first."""
        if not self.sort:
            return "own order"
        key, down = self.sort[0]
        column = COLUMNS[key]
        return (
            f"{column.head}, {'Z to A' if down else 'A to Z'}" if column.text else f"{column.head}, {'highest' if down else 'lowest'} first"
        )


def read(asked: Mapping[str, str]) -> State:
    """Return the state that an address's parameters ask for. Nothing raises: what cannot be read becomes a fault in words."""
    faults: list[str] = []
    numbers: dict[str, float] = {}
    for name in NUMBERS:
        text = asked.get(name, "").strip()[:LONGEST]
        if text:
            number = _number(text)
            if number is None:
                faults.append(f"“{text}” is no number, so “{NUMBERS[name][1].rstrip(',')}” is left out.")
            else:
                numbers[name] = number
    stage = asked.get("stage", "").strip().lower()[:LONGEST]
    if stage and stage.partition("-")[0] not in STAGES:
        faults.append(f"There is no stage “{stage}”; stages are 1 to 4, or with a sub-stage as 2-early.")
        stage = ""
    columns = asked.get("set", FIRST_SET)
    if columns not in SETS:
        faults.append(f"There is no set of columns “{columns[:LONGEST]}”; there are {', '.join(SETS)}.")
        columns = FIRST_SET
    return State(
        text=asked.get("q", "").strip()[:LONGEST],
        choices={name: value for name in CHOICES if (value := asked.get(name, "").strip()[:LONGEST])},
        stage=stage,
        numbers=numbers,
        sort=_sort(asked.get("sort", ""), faults),
        columns=columns,
        faults=tuple(faults),
    )


def _number(text: str) -> float | None:
    try:
        number = float(text.replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return None
    return number if abs(number) < 1e12 else None  # NaN and infinity fail the comparison


def _sort(text: str, faults: list[str]) -> tuple[tuple[str, bool], ...]:
    found = []
    for part in [part for part in text.split(",") if part][:3]:
        key, down = part.removeprefix("-"), part.startswith("-")
        if key in SORTABLE:
            found.append((key, down))
        else:
            faults.append(f"There is no column “{key[:LONGEST]}” to sort by.")
    return tuple(found) or (("rs_rating", True),)


def matches(row: Row, state: State) -> bool:
    """Return whether a row passes every condition of a state."""
    if state.text and state.text.lower() not in f"{row['symbol']} {row['name']}".lower():
        return False
    for name, value in state.choices.items():
        held = row.get(CHOICES[name]) or UNKNOWN_SECTOR
        if held != value:
            return False
    if state.stage and state.stage not in {str(row.get("stage") or ""), f"{row.get('stage')}-{row.get('substage')}"}:
        return False
    for name, bound in state.numbers.items():
        key, _, test = NUMBERS[name]
        number = row.get(key)
        if number is None or not test(number, bound):
            return False
    return True


def ordered(rows: Iterable[Row], sort: Sequence[tuple[str, bool]]) -> list[Row]:
    """Return rows in this order; those without the value come last whichever way, and equal ones stand by symbol."""
    found = sorted(rows, key=lambda row: str(row["symbol"]))
    for key, down in reversed(sort):
        known = [row for row in found if row.get(key) not in {None, ""}]
        unknown = [row for row in found if row.get(key) in {None, ""}]
        found = sorted(known, key=lambda row: row[key], reverse=down) + unknown
    return found


def sort_links(state: State) -> dict[str, str]:
    """Return what `sort` becomes in the address when a head is chosen: the other way round where it is the first already."""
    first, down = state.sort[0] if state.sort else ("", False)
    found = {}
    for key in SORTABLE:
        turned = not down if key == first else key in DESCENDING_FIRST
        found[key] = f"-{key}" if turned else key
    return found
