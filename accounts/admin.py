"""People and their tokens, in the admin."""

from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from accounts.models import ApiToken, ApiTokenQuerySet, User

for model in (EmailAddress, Authenticator, UserSession):  # allauth's own pages: secrets of others are nobody's to see or to edit
    admin.site.unregister(model)


@admin.register(User)
class AccountAdmin(UserAdmin):  # type: ignore[type-arg]  # the class cannot be subscripted at run time
    """Django's own page of a user, with the choice of colours."""

    fieldsets = (*(UserAdmin.fieldsets or ()), ("Appearance", {"fields": ["theme", "palette", "hollow", "single_keys"]}))
    readonly_fields = ["is_staff", "last_login", "date_joined"]  # staff follows the role
    list_display = ["username", "email", "role", "is_active", "last_login"]
    actions = ["remove_second_factor"]

    @admin.action(description="Remove the second factor of the chosen users (a lost phone)", permissions=["change"])
    def remove_second_factor(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Let them sign in with the password alone, and set it up anew."""
        for user in queryset:
            if Authenticator.objects.filter(user=user).delete()[0]:
                self.log_change(request, user, "Second factor removed.")
        self.message_user(request, "The chosen users sign in without a second factor until they set one up.")

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        """Return users with their groups, from which the role is read."""
        found: QuerySet[User] = super().get_queryset(request).prefetch_related("groups")
        return found


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
