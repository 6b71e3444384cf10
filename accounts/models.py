"""Who the user is, and the tokens of their programs."""

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models


class Theme(models.TextChoices):
    """The reader's choice of ground; empty follows the system."""

    SYSTEM = "", "as the system says"
    DARK = "dark", "dark"
    LIGHT = "light", "light"


class User(AbstractUser):
    """A person who may sign in. Ours from the first migration, so that it can grow."""

    theme = models.CharField(max_length=10, choices=Theme.choices, blank=True, default=Theme.SYSTEM)
    palette = models.CharField(max_length=10, blank=True, default="", help_text="empty: blue and orange; classic: green and red")

    class Meta:
        db_table = "accounts_user"


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

    class Meta:
        db_table = "accounts_api_token"
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.prefix}…"
