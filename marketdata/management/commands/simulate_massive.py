"""Door of the twin: `manage.py simulate_massive`."""

import asyncio
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from marketdata.replay import recorded_frames
from marketdata.simulator import PortError, RecordingError, Simulator
from marketdata.twin.faults import KINDS, parse, usage
from marketdata.twin.market import Market
from marketdata.twin.scenarios import SCENARIOS

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
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = _epilog()
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
        parser.add_argument(
            "--scenario", default="default", metavar="NAME", help="what happens in the market, see below (default: default)"
        )
        parser.add_argument(
            "--fault",
            action="append",
            default=[],
            metavar="NAME[:ARG]",
            help="what goes wrong, see below; may be repeated. At run time: GET /v1/twin/faults?add=NAME:ARG, ?remove=NAME, ?clear=1",
        )
        parser.add_argument(
            "--replay",
            nargs="+",
            default=[],
            type=Path,
            metavar="FILE",
            help="send the frames of these recordings (JSON Lines, .gz too) instead of the market, --speed times as fast as recorded, "
            "times unchanged, from the first subscription on; REST has no prices then",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        """Serve until a signal."""
        try:
            simulator = Simulator(
                Market(seed=options["seed"], tickers=options["tickers"], scenario_name=options["scenario"]),
                speed=options["speed"],
                interval_seconds=options["interval"],
                faults=[parse(text) for text in options["fault"]],
                recording=recorded_frames(_readable(options["replay"])) if options["replay"] else None,
            )
            asyncio.run(simulator.run(options["port"], announce=self._announce))
        except (PortError, RecordingError, ValueError) as error:
            raise CommandError(str(error)) from None

    def _announce(self, sentence: str) -> None:
        self.stdout.write(sentence)
        self.stdout.flush()


def _epilog() -> str:
    """Return the scenarios and faults with what they do."""
    scenarios = [f"  {scenario.name:<34}{scenario.about}" for scenario in SCENARIOS.values()]
    faults = [f"  {usage(name):<34}{kind.about}" for name, kind in KINDS.items()]
    return "\n".join(["scenarios:", *scenarios, "", "faults:", *faults])


def _readable(paths: list[Path]) -> list[Path]:
    """Return the paths. ValueError where one is not a file that can be opened."""
    for path in paths:
        try:
            path.open("rb").close()
        except OSError as error:
            raise ValueError(f"The recording {path} cannot be read ({error.strerror}).") from None
    return paths


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
