"""The table as a picture: one SVG file that needs nothing else. Pure."""

from collections.abc import Sequence
from html import escape
from math import log2

from tickstock.bench.rows import Row

LINE = 26
LEFT, WIDTH, RIGHT = 360, 420, 110
LONGEST = 56  # characters of a name; of a longer one what stands before its colon
SPAN = 3  # doublings to each side of the goal; what lies beyond ends at the edge
REACHED, MISSED, INK, FAINT = "#1a7f5a", "#b3472f", "#1c2024", "#c9ced4"


def chart(rows: Sequence[Row], *, title: str) -> str:
    """
    Return an SVG: a bar per measured row that says how far on the good side of its goal it lies, by doublings.

    The line in the middle is the goal: to the right of it a row is better, to the left it falls short.
    """
    measured = [row for row in rows if row.ratio]
    height = 64 + LINE * len(measured) + 30
    middle = LEFT + WIDTH / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + RIGHT} {height}" font-family="system-ui, sans-serif" '
        f'font-size="12" fill="{INK}" role="img" aria-label="{escape(title)}">',
        f'<rect width="100%" height="100%" fill="#ffffff"/><text x="16" y="26" font-size="15" font-weight="600">{escape(title)}</text>',
    ]
    for doubling in range(-SPAN, SPAN + 1):
        x = middle + doubling * WIDTH / 2 / SPAN
        label = "goal" if doubling == 0 else f"{2**doubling}×" if doubling > 0 else f"1/{2**-doubling}"
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="52" y2="{height - 24}" stroke="{FAINT if doubling else INK}"/>')
        parts.append(f'<text x="{x:.1f}" y="46" text-anchor="middle" font-size="11">{label}</text>')
    for number, row in enumerate(measured):
        parts.extend(_bar(row, 58 + LINE * number, middle))
    parts.append(
        f'<text x="16" y="{height - 8}" font-size="11">To the right of the goal is better. Beside each bar: the ratio and its goal.</text>'
    )
    return "\n".join([*parts, "</svg>", ""])


def advantage(row: Row) -> float:
    """Return how many times better than its goal a measured row is; below 1 it falls short."""
    assert row.ratio
    return row.ratio / row.goal if row.at_least else row.goal / row.ratio


def _bar(row: Row, top: int, middle: float) -> list[str]:
    reach = max(-SPAN, min(SPAN, log2(advantage(row)))) * WIDTH / 2 / SPAN
    goal = f"{row.ratio:.2f} ({'≥' if row.at_least else '≤'} {row.goal:.2f})"
    return [
        f'<text x="{LEFT - 10}" y="{top + 15}" text-anchor="end">{escape(row.name if len(row.name) <= LONGEST else row.name.partition(":")[0])}</text>',
        f'<rect x="{min(middle, middle + reach):.1f}" y="{top + 3}" width="{max(abs(reach), 1):.1f}" height="{LINE - 10}" '
        f'fill="{REACHED if row.reached else MISSED}"><title>{escape(f"{row.name} | {row.against}")}</title></rect>',
        f'<text x="{LEFT + WIDTH + 8}" y="{top + 15}" font-size="11">{goal}</text>',
    ]
