"""People and their tokens, in the admin."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.http import HttpRequest
from django.utils import timezone

from accounts.models import ApiToken, ApiTokenQuerySet, User


@admin.register(User)
class AccountAdmin(UserAdmin):  # type: ignore[type-arg]  # the class cannot be subscripted at run time
    """Django's own page of a user, with the choice of colours."""

    fieldsets = (*(UserAdmin.fieldsets or ()), ("Appearance", {"fields": ["theme", "palette", "hollow", "single_keys"]}))


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # the class cannot be subscripted at run time
    """Tokens can be seen and revoked here, made only by their owners."""

    list_display = ["prefix", "user", "name", "scopes", "expires_at", "last_used_at", "revoked_at"]
    list_filter = ["revoked_at", "expires_at"]
    list_select_related = ["user"]
    search_fields = ["prefix", "name", "user__username"]
    exclude = ["digest"]
    actions = ["revoke"]

    @admin.action(description="Revoke the chosen tokens", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: ApiTokenQuerySet) -> None:
        """End them; the rows stay as a record."""
        now = timezone.now()
        for token in queryset.standing():
            token.revoke(at=now)
            self.log_change(request, token, "Revoked.")
        self.message_user(request, "The chosen tokens are revoked.")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:  # noqa: ARG002 - Django's signature
        """Nothing of a token can be edited."""
        return ["user", "name", "prefix", "scopes", "created_at", "expires_at", "last_used_at", "revoked_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 - Django's signature
        """Return False: nobody but the owner may know a token."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 - Django's signature
        """Return False: a revoked token stays as a record."""
        return False
