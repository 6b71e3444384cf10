from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]

    operations = [
        migrations.AddField(
            "user", "hollow", models.BooleanField(default=False, help_text="draw rising candles hollow, for readers who see no hue")
        ),
        migrations.AddField("user", "single_keys", models.BooleanField(default=True, help_text="whether single keys act on pages")),
    ]
