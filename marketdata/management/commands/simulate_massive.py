"""Door of the twin: `manage.py simulate_massive`."""

import asyncio
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from marketdata.simulator import PortError, Simulator
from marketdata.twin.market import Market

DEFAULT_SEED = 38  # a market that rises slowly, with as many tickers above their averages as below


class Command(BaseCommand):
    """Serve a synthetic market that speaks Massive's WebSocket and REST."""

    help = (
        "Serve a synthetic market that speaks Massive's WebSocket (/stocks) and REST on one port of 127.0.0.1. "
        "Needs no database. Any key is good, save one that begins with `bad` or `noplan`. Ends on SIGTERM and SIGINT."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the flags."""
        parser.add_argument("--port", type=_port, default=8765, help="TCP port; 0 takes any free one (default: 8765)")
        parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help=f"same seed, same market (default: {DEFAULT_SEED})")
        parser.add_argument(
            "--tickers",
            type=int,
            default=settings.SYNTHETIC_TICKER_COUNT,
            help="how many, the default universes first, then made-up ones (default: SYNTHETIC_TICKER_COUNT, %(default)s)",
        )
        parser.add_argument(
            "--interval",
            type=_positive,
            default=settings.SYNTHETIC_UPDATE_INTERVAL,
            help="real seconds between two rounds of frames (default: SYNTHETIC_UPDATE_INTERVAL, %(default)s)",
        )
        parser.add_argument("--speed", type=_positive, default=1.0, help="market seconds a real second, from now on (default: 1)")

    def handle(self, *_args: Any, **options: Any) -> None:
        """Serve until a signal."""
        try:
            market = Market(seed=options["seed"], tickers=options["tickers"])
            simulator = Simulator(market, speed=options["speed"], interval_seconds=options["interval"])
            asyncio.run(simulator.run(options["port"], announce=self._announce))
        except (PortError, ValueError) as error:
            raise CommandError(str(error)) from None

    def _announce(self, sentence: str) -> None:
        self.stdout.write(sentence)
        self.stdout.flush()


def _port(text: str) -> int:
    """Return a TCP port."""
    if not text.isdigit() or not 0 <= int(text) <= 65535:
        raise ArgumentTypeError(f"{text!r} is not a port; use 0 to 65535.")
    return int(text)


def _positive(text: str) -> float:
    """Return a number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1_000_000:
        raise ArgumentTypeError(f"{text!r} is not a number above 0 and below a million.")
    return number
