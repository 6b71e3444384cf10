"""
What the one who asks may do. DRF's defaults, named in settings only.

A view of any app says `required_scope = "read:bars"` (what a token needs) and, where reading is not all,
`required_permission = "accounts.operate"` (what the person needs), and imports nothing.
"""

from typing import TYPE_CHECKING

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from accounts.models import ApiToken

if TYPE_CHECKING:
    from rest_framework.views import APIView  # DRF's views import this file, so it cannot import them


class IsSignedIn(BasePermission):
    """Everybody with an identity."""

    message = "Sign in, or send a token: Authorization: Bearer ts_…"

    def has_permission(self, request: Request, view: "APIView") -> bool:  # noqa: ARG002 - DRF's signature
        """Return whether an active user asks."""
        return bool(request.user and request.user.is_authenticated and request.user.is_active)


class HasScope(BasePermission):
    """
    Tokens with the scope that the view names; sessions of people where the scope only reads, none is named, or a permission decides.

    A view that names none is closed to tokens: forgetting the line must not open it.
    """

    message = "This token's scopes do not reach here."

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """Return whether the caller's scopes cover the view's."""
        required = getattr(view, "required_scope", None)
        if isinstance(request.auth, ApiToken):
            return required is not None and required in request.auth.scopes
        return required is None or required.startswith("read:") or hasattr(view, "required_permission")


class HasPermission(BasePermission):
    """People (also behind a token) with the permission that the view names; safe methods need none unless the view says so."""

    message = "Your role does not reach here. An administrator can give you another one."

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """Return whether the caller's role covers the view."""
        if request.method in SAFE_METHODS and not getattr(view, "permission_to_read", False):
            return True
        required = getattr(view, "required_permission", None)
        return required is None or request.user.has_perm(required)
