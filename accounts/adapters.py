"""What allauth asks of this product: the same counted password everywhere, and secrets that lie encrypted. Named in settings only."""

import base64
import hashlib

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from cryptography.fernet import Fernet, MultiFernet
from django.conf import settings
from django.contrib.messages import add_message
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from accounts import limits
from accounts.authentication import must_have_second_factor, user_for_password
from accounts.models import User

MESSAGES = {
    "mfa/messages/totp_activated.txt": "The second factor is on. Signing in asks for its code from now on.",
    "mfa/messages/totp_deactivated.txt": "The second factor is off.",
    "mfa/messages/recovery_codes_generated.txt": "These are your recovery codes. Keep them where the phone is not.",
}


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # untyped upstream
    """Nobody signs up by themselves, and every password that is tried is counted in one place."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:  # noqa: ARG002 - allauth's signature
        """Return False: an administrator invites."""
        return False

    def get_client_ip(self, request: HttpRequest) -> str:
        """Return the address as the server knows it: behind a proxy `daphne --proxy-headers` has already put it there."""
        return str(request.META.get("REMOTE_ADDR") or "0.0.0.0")  # noqa: S104 - an address of nobody, not a place to listen

    def reauthenticate(self, user: User, password: str) -> bool:
        """Return whether it is the user's password. ValidationError past the limit."""
        try:
            return user_for_password(self.request, user.username, password) == user
        except (limits.TooManyTriesError, limits.CountUnavailableError) as error:
            raise ValidationError(str(error)) from None

    def add_message(
        self,
        request: HttpRequest,
        level: int,
        message_template: str | None = None,
        message_context: dict[str, object] | None = None,  # noqa: ARG002
        extra_tags: str = "",
        message: str | None = None,
    ) -> None:
        """Say it in the words of this product; what has none here is not said."""
        words = message or MESSAGES.get(message_template or "")
        if words:
            add_message(request, level, words, extra_tags=extra_tags)

    def send_notification_mail(self, *args: object, **kwargs: object) -> None:
        """Send nothing: the security log has the line, and not every installation has e-mail."""


class SecondFactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # untyped upstream
    """The secrets of second factors: encrypted with a key made of SECRET_KEY, so that a dump of the database opens nothing."""

    def get_totp_issuer(self) -> str:
        """Return the name that stands in the authenticator's list."""
        return "TickStock"

    def encrypt(self, text: str) -> str:
        """Return the text, unreadable."""
        return _fernet().encrypt(text.encode()).decode()

    def decrypt(self, encrypted_text: str) -> str:
        """Return the text. InvalidToken where it was encrypted with a key that is neither SECRET_KEY nor a fallback."""
        return _fernet().decrypt(encrypted_text.encode()).decode()

    def can_delete_authenticator(self, authenticator: Authenticator) -> bool:
        """Return whether this user may do without."""
        return not must_have_second_factor(authenticator.user)


def _fernet() -> MultiFernet:
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return MultiFernet([Fernet(base64.urlsafe_b64encode(hashlib.sha256(f"second factor {key}".encode()).digest())) for key in keys])
