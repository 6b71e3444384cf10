"""What a view of ours asks beyond an identity and a scope."""

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView


class MayRunJobs(BasePermission):
    """Everybody may look at jobs; to start or cancel one takes the right to add jobs, which operators have."""

    message = "Jobs are started and cancelled by operators (the right marketdata.add_job)."

    def has_permission(self, request: Request, view: APIView) -> bool:  # noqa: ARG002 - DRF's signature
        """Return whether the caller may do this."""
        return request.method in SAFE_METHODS or request.user.has_perm("marketdata.add_job")
