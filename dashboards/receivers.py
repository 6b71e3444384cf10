"""
What the other apps announce, written to the live log: one Redis write a flush, in the process that announces.

Nothing here may hold up or break the sender: short waits, no error leaves, and what could not be written is confessed with the next entry.
"""

import logging
import threading
import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import redis
from django.conf import settings
from django.dispatch import receiver
from redis.backoff import NoBackoff
from redis.retry import Retry

from dashboards import wire
from marketdata.bars.snapshot import BarChange, BarSnapshot
from marketdata.feed.events import Quote
from marketdata.signals import bars_closed, bars_moving, feed_changed, quotes_moving
from patterns.signals import market_surveyed, patterns_detected, patterns_retracted

log = logging.getLogger(__name__)

COUNTER_KEY = f"{wire.LOG_KEY}:counter"
LOG_BYTES = 16_000_000
LOG_ENTRIES = 4000
ANSWER_SECONDS = 0.5
SECONDS_BETWEEN_WARNINGS = 60.0

# The number and the entry in one step, so that the log has no holes but those of a loss. A counter that is gone (Redis restarted) starts
# from the server's clock in milliseconds, which is ahead of any earlier number as long as fewer than 1,000 flushes a second are written.
# Bounded in bytes as well: a flush of the whole market weighs a hundred times one of 70 symbols.
_APPEND = """
local time = redis.call('TIME')
local counted = tonumber(redis.call('HGET', KEYS[2], 'seq')) or (time[1] * 1000 + math.floor(time[2] / 1000))
local seq = math.max(counted, tonumber(ARGV[1])) + 1
redis.call('XADD', KEYS[1], string.format('%.0f-0', seq), 'body', ARGV[4], 'kind', ARGV[2], 'at', ARGV[3], 'lost', ARGV[5])
local length = redis.call('XLEN', KEYS[1])
local bytes = #ARGV[4] + (length > 1 and tonumber(redis.call('HGET', KEYS[2], 'bytes')) or 0)
while length > 1 and (bytes > tonumber(ARGV[6]) or length > tonumber(ARGV[7])) do
  local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
  redis.call('XDEL', KEYS[1], oldest[1])
  bytes = bytes - #oldest[2][2]
  length = length - 1
end
redis.call('HSET', KEYS[2], 'seq', string.format('%.0f', seq), 'bytes', string.format('%.0f', bytes))
return seq
"""


class Announcer:
    """The writing end of the live log in this process; any thread may use it."""

    def __init__(self, url: str) -> None:
        # A connection that Redis's restart broke is opened again once, at once; a Redis that does not answer is not asked twice
        retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
        self._client = redis.Redis.from_url(url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS, retry=retry)
        self._append = self._client.register_script(_APPEND)
        self._lock = threading.Lock()
        self._seq = 0
        self._lost = 0
        self._warned_at = float("-inf")

    def announce(self, kind: str, body: bytes) -> None:
        """Write one flush. What Redis does not take is counted, and the next entry that it takes says so."""
        at = wire.iso(datetime.now(UTC))
        with self._lock:
            lost = self._lost
            try:
                answer = self._append(keys=[wire.LOG_KEY, COUNTER_KEY], args=[self._seq, kind, at, body, lost, LOG_BYTES, LOG_ENTRIES])
            except (redis.RedisError, OSError) as error:
                self._lost += 1
                self._warn(error)
            else:
                self._seq, self._lost = int(answer), 0

    def _warn(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._warned_at >= SECONDS_BETWEEN_WARNINGS:
            self._warned_at = now
            log.warning("Live pages stand still, Redis does not take messages (%d lost so far): %s", self._lost, error)


@lru_cache(maxsize=4)
def announcer(url: str) -> Announcer:
    """Return this process's announcer for a Redis."""
    return Announcer(url)


def _announce(kind: str, body: bytes) -> None:
    announcer(settings.REDIS_URL).announce(kind, body)


@receiver(bars_closed, dispatch_uid="live bars closed")
def show_closed_bars(bars: list[BarChange], **_: Any) -> None:
    """Bars were stored."""
    if bars:
        _announce(wire.BARS, wire.closed_bars(bars))


@receiver(bars_moving, dispatch_uid="live bars moving")
def show_moving_bars(bars: list[BarSnapshot], **_: Any) -> None:
    """Forming bars moved."""
    if bars:
        _announce(wire.BARS, wire.moving_bars(bars))


@receiver(quotes_moving, dispatch_uid="live quotes")
def show_quotes(quotes: list[Quote], **_: Any) -> None:
    """Bid and ask moved."""
    if quotes:
        _announce(wire.QUOTES, wire.moving_quotes(quotes))


@receiver(feed_changed, dispatch_uid="live feed")
def show_feed(status: dict[str, Any], **_: Any) -> None:
    """The live line's state, on change and every few seconds."""
    _announce(wire.FEED, wire.feed_status(status))


@receiver(patterns_detected, dispatch_uid="live detections")
def show_detections(detections: list[dict[str, Any]], **_: Any) -> None:
    """Patterns were found."""
    if detections:
        _announce(wire.PATTERNS, wire.found_patterns(detections))


@receiver(patterns_retracted, dispatch_uid="live retractions")
def show_retractions(detections: list[dict[str, Any]], **_: Any) -> None:
    """Patterns no longer stand."""
    if detections:
        _announce(wire.PATTERNS, wire.found_patterns(retracted=detections))


@receiver(market_surveyed, dispatch_uid="live market")
def show_surveys(surveys: list[dict[str, Any]], **_: Any) -> None:
    """The market was surveyed."""
    if surveys:
        _announce(wire.MARKET, wire.made_surveys(surveys))
