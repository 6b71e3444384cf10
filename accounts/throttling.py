"""How many requests a caller may send. Counted in Redis in one step, so that parallel requests cannot slip by as in DRF's own classes."""

from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts import limits

if TYPE_CHECKING:
    from rest_framework.views import APIView  # DRF's views import this file, so it cannot import them

WINDOW_SECONDS = 60


class RequestThrottle(BaseThrottle):
    """So many requests a minute for a user, all sessions and tokens together; more for an address, behind which many may sit."""

    def __init__(self) -> None:
        self._wait = 0

    def allow_request(self, request: Request, view: "APIView") -> bool:  # noqa: ARG002 - DRF's signature
        """Return whether this request is within both limits."""
        place = limits.network_of(request.META.get("REMOTE_ADDR", ""))
        callers = {f"address {place}": settings.API_REQUESTS_PER_ADDRESS}
        if request.user.is_authenticated:
            callers[f"user {request.user.pk}"] = settings.API_REQUESTS_PER_USER
        self._wait = limits.take_requests(callers, seconds=WINDOW_SECONDS)
        return not self._wait

    def wait(self) -> float | None:
        """Return the seconds of Retry-After."""
        return float(self._wait) or None
