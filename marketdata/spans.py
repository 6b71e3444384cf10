"""Evidence of the live line: from when to when it was up for which symbols, told only of minutes whose bars are committed."""

from collections.abc import Sequence
from datetime import UTC, datetime

from marketdata.writer import Writer

CLAIM_LAG_MS = 60_000  # a minute's bar may come so long after its end; what is claimed younger than that could still be lost


class Span:
    """One unbroken stretch of a line; a row that grows while it lasts, and claims nothing at first."""

    def __init__(self, line: str, *, began_ms: int, symbols: Sequence[str], kinds: Sequence[str]) -> None:
        self.began_ms = began_ms
        self.alive_until_ms = began_ms
        self._line = line
        self.symbols = list(symbols)
        self._kinds = list(kinds)
        self._id: int | None = None
        self._ended = ""

    def grow(self, stream_ms: int) -> bool:
        """Claim what is committed when the stream's time is `stream_ms`; return whether that is more than before."""
        claim = stream_ms - CLAIM_LAG_MS
        if claim <= self.alive_until_ms:
            return False
        self.alive_until_ms = claim
        return True

    def end(self, reason: str) -> None:
        """Say why it ends."""
        self._ended = reason[:200]

    def store(self, writer: Writer) -> None:
        """Write the row; called where all bars handed over before are committed."""
        self._id = writer.keep_span(
            self._id,
            line=self._line,
            began_at=datetime.fromtimestamp(self.began_ms / 1000, UTC),
            alive_until=datetime.fromtimestamp(max(self.began_ms, self.alive_until_ms) / 1000, UTC),
            symbols=self.symbols,
            kinds=self._kinds,
            ended=self._ended,
        )
