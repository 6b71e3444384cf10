"""manage.py survey_market"""

from datetime import UTC, datetime
from typing import Any

import msgspec
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from marketdata.models import UnknownUniverseError
from patterns.survey import BLOCKS, NoSessionError, Survey, look, store


class Command(BaseCommand):
    """Tell the state of a universe at a moment."""

    help = (
        "Surveys a universe at a moment, in this process and with the tasks' own code, and prints what was known then: from a day's regular "
        "close on its daily bar stands, before it the minutes do. Nothing is stored unless --store says so."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare what can be asked."""
        parser.add_argument("--at", metavar="DATETIME", help="ISO 8601, UTC unless an offset is given (default: now)")
        parser.add_argument(
            "--universe",
            metavar="KEY",
            default=settings.SYMBOL_UNIVERSE_KEY,
            help=f"names joined by `:` (default: {settings.SYMBOL_UNIVERSE_KEY})",
        )
        parser.add_argument("--store", action="store_true", help="store the survey as the tasks do, where it is not stored already")
        parser.add_argument("--json", action="store_true", dest="as_json", help="print one JSON object as the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Survey."""
        now = datetime.now(UTC)
        moment = _moment(options["at"]) if options["at"] else now
        if moment > now:
            raise CommandError(f"--at {moment.isoformat()} has not come yet. Leave it out for the market as it stands now.")
        try:
            (found,) = look(moment, [options["universe"]], now=now)
        except (UnknownUniverseError, NoSessionError) as error:
            raise CommandError(str(error)) from None
        if options["store"]:
            store([found], now=now)
        if options["as_json"]:
            named = {name: found[name] for name in ("as_of", "universe", "kind")} | {name: found[name] for name in BLOCKS}
            self.stdout.write(msgspec.json.encode(named).decode())
        else:
            self.stdout.write(_words(found))


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"--at {text!r} is not a moment. Write ISO 8601: 2026-11-20 or 2026-11-20T14:30:00Z.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _words(found: Survey) -> str:
    coverage, breadth, regime = found["coverage"], found["breadth"], found["regime"]
    strongest = ", ".join(f"{row['symbol']} {row['rs_rating']}" for row in found["rankings"][:5] if row["rs_rating"]) or "nobody is rated"
    counts = ", ".join(f"{name} {count}" for name, count in found["stage_counts"].items())
    return "\n".join(
        (
            f"{found['universe']} at {found['as_of']:%Y-%m-%d %H:%M} UTC ({found['kind']}): {coverage['symbols']} of {coverage['of']} symbols",
            f"regime {_shown(regime['score'])} {regime['label'] or ''}".rstrip(),
            f"{_shown(breadth['advancers'])} advance, {_shown(breadth['decliners'])} decline, {_shown(breadth['unchanged'])} stand still; "
            f"{_shown(breadth['above_sma50'])} % above their 50-day average, {_shown(breadth['above_sma200'])} % above their 200-day average",
            f"stages: {counts}",
            f"strongest: {strongest}",
        )
    )


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"
