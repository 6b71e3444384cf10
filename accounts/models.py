"""Who the user is, what their role lets them do, and what opens the door to them: invitations and tokens of programs."""

import hashlib
import hmac
import re
import secrets
import string
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import AbstractUser, Group
from django.db import models, transaction

TOKEN_FORM = re.compile(r"ts_([a-z0-9]{10})_[A-Za-z0-9]{43}")  # 43 characters of 62 are 256 bits
_PREFIX_LETTERS = string.ascii_lowercase + string.digits
_SECRET_LETTERS = string.ascii_letters + string.digits
INVITATION_HOLDS = timedelta(days=3)


class Role(models.TextChoices):
    """What somebody may do, each role more than the one before. A group of the same name carries its permissions."""

    VIEWER = "viewer", "viewer"
    ANALYST = "analyst", "analyst"
    OPERATOR = "operator", "operator"
    ADMIN = "admin", "admin"


# Beyond reading, which everybody signed in may. The admin has every permission of every table
ROLE_PERMISSIONS: dict[str, list[str]] = {
    Role.VIEWER: [],
    Role.ANALYST: ["accounts.research"],
    Role.OPERATOR: ["accounts.research", "accounts.operate", "marketdata.add_job", "marketdata.change_job"],
    Role.ADMIN: [],
}


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

    has_new_password = False  # since it was read

    class Meta:
        db_table = "accounts_user"
        permissions = [
            ("research", "May run what costs the machine's time: backtests, screens over history"),
            ("operate", "May start, cancel and repair: jobs, gaps, imports"),
            ("administer", "May manage people, and open the admin"),
        ]

    def set_password(self, raw_password: str | None) -> None:
        """Take a new password; once it is saved, the receivers close what the old one opened."""
        super().set_password(raw_password)
        self.has_new_password = True

    @property
    def role(self) -> str:
        """Return the highest role; empty where none was given, which lets read as a viewer does."""
        if self.is_superuser:
            return Role.ADMIN
        names = {group.name for group in self.groups.all()}  # not a query of its own where the caller has prefetched
        return next((role.value for role in reversed(Role) if role in names), "")

    def take_role(self, role: str) -> None:
        """
        Give the user this role and no other; what the admin site asks (staff, superuser) follows.

        ValueError where nobody would be left to administer.
        """
        with transaction.atomic():
            if role != Role.ADMIN and self.role == Role.ADMIN and not admins().exclude(pk=self.pk).exists():
                raise ValueError(f"{self.username} is the last administrator; make another one first.")
            chosen = Group.objects.get(name=role)
            self.groups.set([chosen, *self.groups.exclude(name__in=Role.values)])
            self.is_staff = role == Role.ADMIN
            self.is_superuser = self.is_superuser and role == Role.ADMIN
            self.save(update_fields=["is_staff", "is_superuser"])


def admins() -> "models.QuerySet[User]":
    """Return the users who may administer and sign in."""
    return User.objects.filter(models.Q(is_superuser=True) | models.Q(groups__name=Role.ADMIN), is_active=True).distinct()


class InvitationQuerySet(models.QuerySet["Invitation"]):
    """Questions about invitations, and the only ways to make and to use one."""

    def open(self, *, at: datetime) -> "InvitationQuerySet":
        """Return those that still lead in."""
        return self.filter(accepted_at__isnull=True, expires_at__gt=at)

    def issue(self, *, by: User, role: str, email: str, at: datetime) -> "tuple[Invitation, str]":
        """Make an invitation; return its row and the secret of its link, which exists only here."""
        secret = _random(_SECRET_LETTERS, 43)
        row = self.create(invited_by=by, role=role, email=email, digest=_digest(secret), expires_at=at + INVITATION_HOLDS)
        return row, secret

    def of_link(self, secret: str, *, at: datetime) -> "Invitation | None":
        """Return the open invitation of this link, or None."""
        return self.open(at=at).filter(digest=_digest(secret)).first()

    def accept(self, secret: str, *, username: str, password: str, at: datetime) -> "User | None":
        """Make the user that the link invites. None where the link no longer holds: of two at once, one is let in."""
        with transaction.atomic():
            invitation = self.open(at=at).filter(digest=_digest(secret)).select_for_update().first()
            if invitation is None:
                return None
            user = User.objects.create_user(username, invitation.email, password)
            user.take_role(invitation.role)
            invitation.accepted_at, invitation.user = at, user
            invitation.save(update_fields=["accepted_at", "user"])
            return user


class Invitation(models.Model):
    """A link that lets one person in, once; only its hash is kept."""

    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the link's secret, hexadecimal")
    role = models.CharField(max_length=10, choices=Role.choices)
    email = models.EmailField(blank=True, default="")
    invited_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="invitations")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="invitation")

    objects = InvitationQuerySet.as_manager()

    class Meta:
        db_table = "accounts_invitation"
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.role} {self.email}".strip()


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    """Questions about tokens, and the only way to make one."""

    def standing(self) -> "ApiTokenQuerySet":
        """Return those that nobody revoked; they may have expired."""
        return self.filter(revoked_at__isnull=True)

    def of_prefix(self, prefix: str) -> "ApiToken | None":
        """Return the token with its user, or None. There is one at most, so nothing is sorted, which would cost half as much again."""
        return next(iter(self.select_related("user").filter(prefix=prefix).order_by()), None)

    def not_used_since(self, moment: datetime) -> "ApiTokenQuerySet":
        """Return those whose last use lies before `moment` or never was."""
        return self.filter(models.Q(last_used_at__isnull=True) | models.Q(last_used_at__lt=moment))

    def issue(self, user: User, *, scopes: Iterable[str], expires_at: datetime, name: str = "") -> "tuple[ApiToken, str]":
        """Make a token; return its row and its text, which exists only here and cannot be had again."""
        prefix = _random(_PREFIX_LETTERS, 10)
        text = f"ts_{prefix}_{_random(_SECRET_LETTERS, 43)}"
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


def _random(letters: str, length: int) -> str:
    return "".join(secrets.choice(letters) for _ in range(length))


def _digest(text: str) -> str:
    """Hash a secret of ours. No salt and no slow hash: the text is 256 random bits, nobody guesses it."""
    return hashlib.sha256(text.encode()).hexdigest()
