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
        waits = [limits.take_request(f"address {place}", limit=settings.API_REQUESTS_PER_ADDRESS, seconds=WINDOW_SECONDS)]
        if request.user.is_authenticated:
            waits.append(limits.take_request(f"user {request.user.pk}", limit=settings.API_REQUESTS_PER_USER, seconds=WINDOW_SECONDS))
        self._wait = max(waits)
        return not self._wait

    def wait(self) -> float | None:
        """Return the seconds of Retry-After."""
        return float(self._wait) or None
