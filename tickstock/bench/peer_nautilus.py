"""The peer in its own environment: frames → msgspec → TradeTick → nautilus_trader's time-bar aggregator. Prints its median CPU seconds."""

import sys
import time
from pathlib import Path
from statistics import median

import msgspec
from nautilus_trader.common.component import TestClock
from nautilus_trader.data.aggregation import TimeBarAggregator
from nautilus_trader.model.data import BarSpecification, BarType, TradeTick
from nautilus_trader.model.enums import AggregationSource, AggressorSide, BarAggregation, PriceType
from nautilus_trader.model.identifiers import InstrumentId, TradeId
from nautilus_trader.model.objects import Price, Quantity
from nautilus_trader.test_kit.providers import TestInstrumentProvider


class Trade(msgspec.Struct, tag_field="ev", tag="T", gc=False):
    """One print, the fields that the bar needs."""

    sym: str
    p: float
    t: int
    q: int
    s: float = 0


decoder = msgspec.json.Decoder(list[Trade])


def run(frames: list[bytes]) -> int:
    """Return how many bars came."""
    clock = TestClock()
    bars: list[object] = []
    aggregators: dict[str, TimeBarAggregator] = {}
    ids: dict[str, InstrumentId] = {}
    for frame in frames:
        for trade in decoder.decode(frame):
            aggregator = aggregators.get(trade.sym)
            at = trade.t * 1_000_000
            if aggregator is None:
                instrument = TestInstrumentProvider.equity(symbol=trade.sym, venue="XNYS")
                ids[trade.sym] = instrument.id
                kind = BarType(instrument.id, BarSpecification(1, BarAggregation.MINUTE, PriceType.LAST), AggregationSource.INTERNAL)
                if not aggregators:
                    clock.set_time(at)
                aggregator = aggregators[trade.sym] = TimeBarAggregator(instrument, kind, bars.append, clock)
                if hasattr(aggregator, "start_timer"):
                    aggregator.start_timer()
            if at > clock.timestamp_ns():
                for event in clock.advance_time(at):
                    event.handle()
            tick = TradeTick(
                ids[trade.sym], Price(trade.p, 2), Quantity(trade.s or 1, 0), AggressorSide.NO_AGGRESSOR, TradeId(str(trade.q)), at, at
            )
            aggregator.handle_trade_tick(tick)
    return len(bars)


def main() -> None:
    """Measure."""
    frames = Path(sys.argv[1]).read_bytes().splitlines()
    taken = []
    bars = 0
    for _ in range(int(sys.argv[2])):
        began = time.process_time()
        bars = run(frames)
        taken.append(time.process_time() - began)
    if bars < 100:
        sys.exit(f"the peer made {bars} bars only: it was not used as it must be")
    print(bars, median(taken))  # noqa: T201 - its answer


main()
