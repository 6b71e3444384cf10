"""The sector funds that stand in no default universe, with their names."""

from django.db import migrations

from marketdata.feed.listing import REFERENCES


def load(apps, schema_editor):  # noqa: ARG001 - Django's signature
    symbol = apps.get_model("marketdata", "Symbol")
    symbol.objects.bulk_create([symbol(**listing._asdict()) for listing in REFERENCES], ignore_conflicts=True)


class Migration(migrations.Migration):
    dependencies = [("marketdata", "0005_market_reference")]
    operations = [migrations.RunPython(load, migrations.RunPython.noop)]
