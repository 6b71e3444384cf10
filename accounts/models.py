"""Who the user is, and the tokens of their programs."""

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Iterable
from datetime import datetime

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models

TOKEN_FORM = re.compile(r"ts_([a-z0-9]{10})_[A-Za-z0-9]{43}")  # 43 characters of 62 are 256 bits
_PREFIX_LETTERS = string.ascii_lowercase + string.digits
_SECRET_LETTERS = string.ascii_letters + string.digits


class Theme(models.TextChoices):
    """The reader's choice of ground; empty follows the system."""

    SYSTEM = "", "as the system says"
    DARK = "dark", "dark"
    LIGHT = "light", "light"


class Palette(models.TextChoices):
    """The reader's colours of rising and falling; the empty one is safe for the colour-blind."""

    SAFE = "", "blue and orange"
    CLASSIC = "classic", "green and red"


class Scope(models.TextChoices):
    """What a token may be asked for; a view names the one it needs in `required_scope`."""

    READ_BARS = "read:bars", "bars, ticks, symbols, universes"
    READ_PATTERNS = "read:patterns", "detections and indicators"
    READ_MARKET = "read:market", "the state of the whole market"
    METRICS = "metrics", "figures of the running parts"
    OPERATE = "operate", "start and cancel jobs, where the user may"


class User(AbstractUser):
    """A person who may sign in. Ours from the first migration, so that it can grow."""

    theme = models.CharField(max_length=10, choices=Theme.choices, blank=True, default=Theme.SYSTEM)
    palette = models.CharField(max_length=10, choices=Palette.choices, blank=True, default=Palette.SAFE)
    hollow = models.BooleanField(default=False, help_text="draw rising candles hollow, for readers who see no hue")
    single_keys = models.BooleanField(default=True, help_text="whether single keys act on pages")

    class Meta:
        db_table = "accounts_user"


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    """Questions about tokens, and the only way to make one."""

    def standing(self) -> "ApiTokenQuerySet":
        """Return those that nobody revoked; they may have expired."""
        return self.filter(revoked_at__isnull=True)

    def not_used_since(self, moment: datetime) -> "ApiTokenQuerySet":
        """Return those whose last use lies before `moment` or never was."""
        return self.filter(models.Q(last_used_at__isnull=True) | models.Q(last_used_at__lt=moment))

    def issue(self, user: User, *, scopes: Iterable[str], expires_at: datetime, name: str = "") -> "tuple[ApiToken, str]":
        """Make a token; return its row and its text, which exists only here and cannot be had again."""
        prefix = "".join(secrets.choice(_PREFIX_LETTERS) for _ in range(10))
        text = f"ts_{prefix}_{''.join(secrets.choice(_SECRET_LETTERS) for _ in range(43))}"
        row = self.create(user=user, name=name, prefix=prefix, digest=_digest(text), scopes=sorted(set(scopes)), expires_at=expires_at)
        return row, text


class ApiToken(models.Model):
    """A program's key: only its hash is kept, the prefix tells people which one it is."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=100, blank=True, default="")
    prefix = models.CharField(max_length=12, unique=True)
    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the whole token, hexadecimal")
    scopes = models.JSONField(default=list, help_text="read:bars, read:patterns, read:market, metrics …")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        db_table = "accounts_api_token"
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.prefix}…"

    def opens(self, text: str, *, at: datetime) -> bool:
        """Return whether `text` is this token and it still holds at that moment."""
        same = hmac.compare_digest(self.digest, _digest(text))
        return same and self.revoked_at is None and at < self.expires_at

    def revoke(self, *, at: datetime) -> None:
        """End it for good; a second time changes nothing."""
        if self.revoked_at is None:
            self.revoked_at = at
            self.save(update_fields=["revoked_at"])


def _digest(text: str) -> str:
    """Hash a token. No salt and no slow hash: the text is 256 random bits, nobody guesses it."""
    return hashlib.sha256(text.encode()).hexdigest()
