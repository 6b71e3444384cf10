"""JSON of tokens and of the reader's choices."""

from typing import Any

from rest_framework import serializers

from accounts.models import ApiToken, Scope, User

READ_SCOPES = [scope.value for scope in Scope if scope.startswith("read:")]


class TokenRequest(serializers.Serializer[Any]):
    """What POST /api/tokens/ takes."""

    username = serializers.CharField(max_length=150, trim_whitespace=False)
    password = serializers.CharField(max_length=1000, trim_whitespace=False, write_only=True, style={"input_type": "password"})
    code = serializers.CharField(
        max_length=20, required=False, default="", allow_blank=True, write_only=True,
        help_text="of the second factor, where the user has one: six digits of the authenticator, or a recovery code",
    )  # fmt: skip
    name = serializers.CharField(max_length=100, required=False, default="", allow_blank=True, help_text="what it is for; people see it")
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=Scope.choices), required=False, default=READ_SCOPES, allow_empty=False, max_length=20
    )
    days = serializers.IntegerField(min_value=1, max_value=365, required=False, default=90, help_text="until it expires")


class TokenRow(serializers.ModelSerializer[ApiToken]):
    """A token as its owner may see it again: never its text."""

    scopes = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = ApiToken
        fields = ["prefix", "name", "scopes", "created_at", "expires_at", "last_used_at"]


class NewToken(TokenRow):
    """A token just made; `token` is shown this once."""

    token = serializers.CharField()

    class Meta(TokenRow.Meta):
        fields = ["token", "prefix", "name", "scopes", "created_at", "expires_at"]


class TokenList(serializers.Serializer[Any]):
    """One's own tokens, newest first."""

    tokens = TokenRow(many=True)


class Appearance(serializers.ModelSerializer[User]):
    """The reader's choice of ground, colours, bodies and keys."""

    class Meta:
        model = User
        fields = ["theme", "palette", "hollow", "single_keys"]
