"""
Outlets of this app: what is announced, never who listens.

`bars_closed` goes out after the commit of a batch, with `bars: list[BarChange]` (at most one per key, stored values).
`bars_moving` carries forming bars that are never stored, conflated: `bars: list[BarSnapshot]`, the newest state of each.
`quotes_moving` carries last quotes, never stored, conflated: `quotes: list[Quote]`, the newest of each symbol that has a new one.
`feed_changed` carries `status: dict` (plain JSON values) when the state of the live line changes and every few seconds besides.
"""

from django.dispatch import Signal

bars_closed = Signal()
bars_moving = Signal()
quotes_moving = Signal()
feed_changed = Signal()
