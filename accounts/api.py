"""REST of accounts: tokens, and the reader's choice of colours."""

from datetime import timedelta
from typing import Any, cast

from django.http import Http404
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed, PermissionDenied, Throttled, ValidationError
from rest_framework.parsers import FormParser, JSONParser
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts import limits
from accounts.authentication import has_second_factor, lacks_second_factor, second_factor_fits, user_for_password
from accounts.models import ApiToken, User
from accounts.serializers import Appearance, NewToken, TokenList, TokenRequest, TokenRow

WRONG = "This username and password do not open the door."
SESSION_ONLY: Any = [{"session": []}]  # drf-spectacular's types know names only, its code takes the whole requirement
WRONG_CODE = "This code does not fit, or was used before. Wait for the next one."


class SigningInUnavailable(APIException):
    """Redis does not answer, so tries cannot be counted."""

    status_code = 503


class Tokens(APIView):
    """One's own tokens. Making one needs username and password, seeing them a session: no token begets or lists tokens."""

    def get_authenticators(self) -> list[BaseAuthentication]:
        """A POST brings its own proof: an old token or a cookie beside it neither helps nor harms."""
        return [] if self.request is not None and self.request.method == "POST" else super().get_authenticators()

    def get_permissions(self) -> list[Any]:
        """Let everybody try to make a token."""
        return [AllowAny()] if self.request is not None and self.request.method == "POST" else list(super().get_permissions())

    def get_authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - DRF's signature
        """Return what WWW-Authenticate says, also on a POST, which has no authenticators."""
        return "Bearer"

    @extend_schema(responses=TokenList, auth=SESSION_ONLY, operation_id="tokens_list")
    def get(self, request: Request) -> Response:
        """List one's own tokens, newest first; the revoked are gone, the expired are still there."""
        tokens = ApiToken.objects.standing().filter(user=_user(request))
        return Response({"tokens": TokenRow(tokens, many=True).data})

    @extend_schema(request=TokenRequest, responses={201: NewToken}, auth=[], operation_id="tokens_create")
    def post(self, request: Request) -> Response:
        """Make a token for a program. Its text is shown this once; send it as `Authorization: Bearer ts_…`."""
        wish = TokenRequest(data=request.data)
        wish.is_valid(raise_exception=True)
        asked = wish.validated_data
        user = _signed_in(request, asked["username"], asked["password"], asked["code"])
        expires_at = timezone.now() + timedelta(days=asked["days"])
        row, text = ApiToken.objects.issue(user, scopes=asked["scopes"], expires_at=expires_at, name=asked["name"])
        answer = {"token": text, **TokenRow(row).data}
        del answer["last_used_at"]
        return Response(answer, status=201, headers={"Cache-Control": "no-store"})


def _signed_in(request: Request, name: str, password: str, code: str) -> User:
    try:
        user = user_for_password(request, name, password)
        if user is None:
            raise AuthenticationFailed(WRONG)
        if has_second_factor(user):
            if not code:
                raise ValidationError({"code": "This user has a second factor: send the code of the authenticator as well."})
            if not second_factor_fits(request, user, code):
                raise AuthenticationFailed(WRONG_CODE)
        elif lacks_second_factor(user):
            raise PermissionDenied("Administrators need a second factor here: turn it on at /accounts/second-factor/on/ first.")
    except limits.TooManyTriesError as error:
        raise Throttled(wait=error.wait_seconds, detail=str(error)) from None
    except limits.CountUnavailableError as error:
        raise SigningInUnavailable(str(error)) from None
    return user


def _user(request: Request) -> User:
    return cast("User", request.user)  # the permission IsSignedIn has seen to it


class Token(APIView):
    """One of one's own tokens."""

    @extend_schema(responses={204: None}, auth=SESSION_ONLY, operation_id="tokens_revoke")
    def delete(self, request: Request, prefix: str) -> Response:
        """Revoke it: the next request with it is refused."""
        token = ApiToken.objects.standing().filter(user=_user(request), prefix=prefix).first()
        if token is None:
            raise Http404(f"You have no token that begins with ts_{prefix[:20]}.")
        token.revoke(at=timezone.now())
        return Response(status=204)


@extend_schema(exclude=True)
class AppearanceView(APIView):
    """The switch of ground and colours on every page."""

    parser_classes = [JSONParser, FormParser]

    def post(self, request: Request) -> Response:
        """Keep the choice for this user; what is not sent stays."""
        choice = Appearance(_user(request), data=request.data, partial=True)
        choice.is_valid(raise_exception=True)
        choice.save()
        return Response(status=204)
