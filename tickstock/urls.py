"""Where each app hangs."""

from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

import accounts.urls
from accounts.views.door import admin_login
from tickstock import figures, health, http

admin.site.site_header = admin.site.site_title = "TickStock"
admin.site.index_title = "Administration"

urlpatterns = [
    path("", include("dashboards.urls")),
    path("accounts/", include("accounts.urls")),
    path("api/", include(accounts.urls.api_urlpatterns)),
    path("api/", include("marketdata.urls")),
    path("api/", include("patterns.urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", login_required(SpectacularSwaggerSplitView.as_view()), name="docs"),
    path("admin/login/", admin_login),  # before the admin's own: there is one door
    path("admin/", admin.site.urls),
    path(".well-known/security.txt", http.security_txt, name="security-txt"),
    path("health", health.health, name="health"),
    path("ready", health.ready, name="ready"),
    path("metrics", figures.Metrics.as_view(), name="metrics"),
]
handler400 = "tickstock.http.bad_request"
handler403 = "tickstock.http.permission_denied"
handler404 = "tickstock.http.not_found"
handler500 = "tickstock.http.server_error"
