"""The default universes and New York's sessions since 1990: `migrate` is all that must come first."""

from datetime import UTC, date, datetime, timedelta

from django.db import migrations

from marketdata.feed.listing import COMBO_TEST, LISTINGS, STOCK_ETF_TEST
from marketdata.history import exchange_sessions

UNIVERSES = (
    ("stock_etf_test", "Stocks and market funds", "Large stocks of all sectors with SPY, QQQ, IWM and GLD.", STOCK_ETF_TEST),
    ("combo_test", "Sector and industry funds", "Funds of sectors and industries, equal-weight sector funds among them.", COMBO_TEST),
)


def load(apps, schema_editor):  # noqa: ARG001 - Django's signature
    symbol, universe, membership, session = (apps.get_model("marketdata", name) for name in ("Symbol", "Universe", "Membership", "Session"))
    places = {listing.symbol: place for place, listing in enumerate(LISTINGS)}  # the union of both keeps the order of the listing
    symbol.objects.bulk_create([symbol(**listing._asdict()) for listing in LISTINGS], ignore_conflicts=True)
    for key, name, description, members in UNIVERSES:
        universe.objects.get_or_create(key=key, defaults={"name": name, "description": description})
        membership.objects.bulk_create(
            [membership(universe_id=key, symbol_id=member, position=places[member]) for member in members], ignore_conflicts=True
        )
    until = date(datetime.now(UTC).year + 1, 12, 31)
    session.objects.bulk_create(
        [
            session(
                date=day,
                calendar="XNYS",
                **{
                    name: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=getattr(hours, name))
                    for name in hours.__struct_fields__
                },
            )
            for day, hours in exchange_sessions(date(1990, 1, 1), until)
        ],
        ignore_conflicts=True,
        batch_size=2_000,
    )


class Migration(migrations.Migration):
    dependencies = [("marketdata", "0001_initial")]
    operations = [migrations.RunPython(load, migrations.RunPython.noop)]
