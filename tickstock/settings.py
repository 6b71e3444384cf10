"""Every setting of the product, in the order of Django's documentation. Reads the environment through `env` only."""

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from psycopg.conninfo import conninfo_to_dict

from tickstock import embedded, env

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = env.path("TICKSTOCK_DATA_DIR", BASE_DIR / ".data")
COMMAND = sys.argv[1] if Path(sys.argv[0]).name == "manage.py" and len(sys.argv) > 1 else ""
EMBEDDED = env.flag("TICKSTOCK_EMBEDDED", default=True)
# These start the servers themselves, or need none
SERVERLESS = COMMAND in {"up", "simulate_massive", "help", "version", "collectstatic", "makemessages"} or bool(
    {"--help", "-h", "--version"} & set(sys.argv[1:])
)

# --- The feed ----------------------------------------------------------------------------------------------------------------------
MASSIVE_API_KEY = env.text("MASSIVE_API_KEY")
MASSIVE_WS_URL = env.text("MASSIVE_WS_URL", "wss://socket.massive.com/stocks")
MASSIVE_REST_URL = env.text("MASSIVE_REST_URL", "https://api.massive.com")
MASSIVE_REQUESTS_PER_SECOND = 50.0  # paid plans allow 100; a free plan answers 429, and each gap then waits longer
MASSIVE_EVENTS = env.words("MASSIVE_EVENTS", "AM,A")
USE_SYNTHETIC_DATA = env.flag("USE_SYNTHETIC_DATA", default=not MASSIVE_API_KEY)
# Made-up and real bars never share a database: the name of the feed is part of the database's name, and a row inside says it too
FEED_NAME = "twin" if USE_SYNTHETIC_DATA else "massive"
SYMBOL_UNIVERSE_KEY = env.text("SYMBOL_UNIVERSE_KEY", "stock_etf_test:combo_test")
STREAM_CONNECTIONS = env.integer("STREAM_CONNECTIONS", 1, low=1, high=3)
STREAM_PRIORITY_SYMBOLS = env.words("STREAM_PRIORITY_SYMBOLS")
SYNTHETIC_TICKER_COUNT = env.integer("SYNTHETIC_TICKER_COUNT", 70, low=1, high=100_000)
SYNTHETIC_UPDATE_INTERVAL = env.seconds("SYNTHETIC_UPDATE_INTERVAL", 1.0, low=0.01, high=60)
DB_BATCH_SIZE = env.integer("DB_BATCH_SIZE", 100, low=1, high=100_000)
DB_FLUSH_INTERVAL = env.seconds("DB_FLUSH_INTERVAL", 5.0, low=0.01, high=60)
PORT = env.integer("PORT", 8000, low=1, high=65535)
READY_PARTS = env.words("READY_PARTS", "database,redis,feed,worker")  # what /ready asks for: the parts that this stack runs
if unknown_parts := set(READY_PARTS) - {"database", "redis", "feed", "worker"}:
    raise ImproperlyConfigured(f"READY_PARTS names {', '.join(sorted(unknown_parts))}; it knows database, redis, feed and worker.")

# --- Core --------------------------------------------------------------------------------------------------------------------------
DEBUG = env.flag("DEBUG", default=False)
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]" if EMBEDDED or SERVERLESS else "")
if "*" in ALLOWED_HOSTS:
    raise ImproperlyConfigured("ALLOWED_HOSTS=* lets every site in. Name the hosts under which people reach this one: desk.example.com.")
if not ALLOWED_HOSTS:
    raise ImproperlyConfigured(
        "ALLOWED_HOSTS is not set. Name the hosts under which people reach this one: ALLOWED_HOSTS=desk.example.com."
    )
CSRF_TRUSTED_ORIGINS = env.words("CORS_ALLOWED_ORIGINS")
SECRET_KEY_FALLBACKS = env.words("SECRET_KEY_FALLBACKS")  # former keys: what they signed and encrypted still holds


def _secret_key() -> str:
    """Return the configured key, or (embedded only) one that is made once and kept in the data folder, mode 600."""
    key = env.text("SECRET_KEY")
    if not EMBEDDED and COMMAND not in {"help", "version", "collectstatic", "makemessages"}:
        cure = "Put 50 or more random characters into it: python -c 'import secrets; print(secrets.token_urlsafe(50))'"
        if not key:
            raise ImproperlyConfigured(f"SECRET_KEY is not set. {cure}")
        if len(key) < 50 or len(set(key)) < 5 or key.startswith("django-insecure-"):
            raise ImproperlyConfigured(f"SECRET_KEY is too weak to sign sessions with. {cure}")
    if key:
        return key
    if SERVERLESS:
        return embedded.throwaway_secret()
    return embedded.kept_secret(DATA_DIR / "secret_key")


def _server_url(name: str, variable: str) -> str:
    """Return the URL of a server from the environment, else of the embedded one, which starts here when it does not run yet."""
    url = env.text(variable)
    if url or SERVERLESS:
        return url
    if not EMBEDDED:
        raise ImproperlyConfigured(f"{variable} is not set and TICKSTOCK_EMBEDDED=0 forbids the embedded server. Set {variable}.")
    try:
        return embedded.ensure(name, DATA_DIR)
    except embedded.EmbeddedError as error:
        sys.exit(f"TickStock: {error}")  # a traceback would hide the one sentence that matters


MIGRATION_LOCK_SECONDS = 3  # a migration that waits for a lock makes all others wait behind it: it gives way and tries again
# Each process takes its own database role, by the command that runs; what stands here under no role (migrate, shell, doctor …) is the owner
COMMAND_ROLES = {
    "app_web": {"daphne", "runserver"},
    "app_worker": {"celery", "scan_patterns", "survey_market", "check_detectors"},
    "app_stream": {"stream_ticks", "import_history", "repair_gaps", "reconcile", "import_universe"},
}


# The web process alone keeps connections for its next requests. One to a machine that vanished must end by itself, not with the request
KEPT_CONNECTIONS = 12
SHORT_LINES = {"keepalives_idle": 30, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 10_000}


def _role() -> str:
    """Return the role of the running command, empty for the owner."""
    program = Path(sys.argv[0])
    name = COMMAND or (program.parent.name if program.name == "__main__.py" else program.name)
    return next((role for role, commands in COMMAND_ROLES.items() if name in commands), "")


def _database(url: str, *, role: str = "", variable: str = "DATABASE_URL") -> dict[str, Any]:
    """Return Django's form of a libpq URL; `host` may be a folder with a Unix socket. Sessions begin as `role` where one is given."""
    if not url:
        return {"ENGINE": "django.db.backends.dummy"}
    try:
        parts = conninfo_to_dict(url)
    except Exception as error:  # noqa: BLE001 - psycopg raises ProgrammingError with the URL's fault; the cure is the same for all
        raise ImproperlyConfigured(
            f"{variable} cannot be read ({type(error).__name__}); write postgresql://user:password@host:5432/name."
        ) from None  # the error's own words repeat the URL, password and all
    known = {"dbname", "user", "password", "host", "port", "options"}
    waiting = f"-c lock_timeout={MIGRATION_LOCK_SECONDS}s " if COMMAND in {"migrate", "prepare"} else ""
    options = f"-c timezone=UTC {waiting}{f'-c role={role} ' if role else ''}{parts.get('options') or ''}".strip()
    is_web = _role() == "app_web"
    return {
        "ENGINE": "marketdata.timescale_backend",
        "NAME": parts.get("dbname") or "",
        "USER": parts.get("user") or "",
        "PASSWORD": parts.get("password") or "",
        "HOST": parts.get("host") or "",
        "PORT": str(parts.get("port") or ""),
        "CONN_MAX_AGE": 0,  # Django: persistent connections must be off under ASGI
        "KEPT_CONNECTIONS": KEPT_CONNECTIONS if is_web else 0,
        "OPTIONS": {"connect_timeout": 5, "options": options}
        | (SHORT_LINES if is_web else {})
        | {key: value for key, value in parts.items() if key not in known},
        "TEST": {"NAME": f"test_{parts.get('dbname') or 'tickstock'}"},
    }


SECRET_KEY = _secret_key()
_database_url = _server_url("postgres", "DATABASE_URL")
if _database_url and not env.text("DATABASE_URL"):
    _database_url = embedded.create_database(_database_url, f"tickstock_{FEED_NAME}", roles=tuple(COMMAND_ROLES))
REDIS_URL = _server_url("redis", "REDIS_URL")
if REDIS_URL and not env.text("REDIS_URL"):
    REDIS_URL = f"{REDIS_URL}?db={0 if FEED_NAME == 'twin' else 1}"

INSTALLED_APPS = [
    "daphne",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "tickstock",
    "accounts",
    "marketdata",
    "patterns",
    "dashboards",
]
MIDDLEWARE = [
    "tickstock.middleware.count_requests",
    "tickstock.middleware.note_denials",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "tickstock.http.Revalidation",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "accounts.middleware.IdleSessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.middleware.SecondFactorMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "tickstock.urls"
ASGI_APPLICATION = "tickstock.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# --- Database ----------------------------------------------------------------------------------------------------------------------
# Embedded, one login serves all processes, so each becomes its own role as it connects; elsewhere after `setup_roles`, or by a login each
DATABASE_ROLES = env.flag("DATABASE_ROLES", default=not env.text("DATABASE_URL"))
DATABASE_ROLE = _role()
DATABASE_ROLE_PASSWORDS = {
    role: password
    for role, password in {
        "app_stream": env.text("APP_STREAM_PASSWORD"),
        "app_worker": env.text("APP_WORKER_PASSWORD"),
        "app_web": env.text("APP_WEB_PASSWORD"),
        "app_readonly": env.text("APP_READONLY_PASSWORD"),
    }.items()
    if password
}
DATABASES = {"default": _database(_database_url, role=DATABASE_ROLE if DATABASE_ROLES else "")}
DATABASE_READONLY_URL = env.text("DATABASE_READONLY_URL")
if DATABASE_READONLY_URL:
    DATABASES["readonly"] = _database(DATABASE_READONLY_URL, variable="DATABASE_READONLY_URL")
DATABASE_ROUTERS = ["tickstock.router.ReadonlyRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Who may come in -----------------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
FIRST_ADMIN_PASSWORD = env.text("TICKSTOCK_ADMIN_PASSWORD")  # read once, when there is no admin yet
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "accounts.passwords.CommonPartsValidator"},
]
# The embedded stack suggests the second factor, every other one demands it of administrators
SECOND_FACTOR_FOR_ADMINS = env.flag("SECOND_FACTOR_FOR_ADMINS", default=not EMBEDDED)
ACCOUNT_ADAPTER = "accounts.adapters.AccountAdapter"
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_REAUTHENTICATION_TIMEOUT = 300  # seconds for which a password just typed opens what is one's own
MFA_ADAPTER = "accounts.adapters.SecondFactorAdapter"
MFA_TOTP_TOLERANCE = 1  # a phone's clock may be half a minute off; accounts.forms sees to it that no code opens twice meanwhile
MFA_FORMS = {"authenticate": "accounts.forms.CodeForm", "reauthenticate": "accounts.forms.CodeAgainForm"}
PASSWORD_RESET_TIMEOUT = 3600
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/"
LOGOUT_REDIRECT_URL = "/accounts/login/"
SESSION_COOKIE_AGE = 14 * 24 * 3600  # at most, however often it is used
SESSION_IDLE_SECONDS = env.integer("SESSION_IDLE_HOURS", 24, low=1, high=14 * 24) * 3600  # without a request
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True  # scripts read the token from the page's own form
CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "object-src": [NONE],
    }
}

# --- HTTPS: wherever the stack is not the embedded default -----------------------------------------------------------------------------
HTTPS = env.flag("HTTPS", default=not EMBEDDED)
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^health$", r"^ready$"]  # a load balancer asks from inside
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
if HTTPS:  # a browser takes these names only from the host itself, over HTTPS
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-sessionid", "__Host-csrftoken"
if env.flag("TRUST_PROXY", default=False):  # only where a proxy sets the header itself: anybody could send it
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# --- E-mail ----------------------------------------------------------------------------------------------------------------------------
EMAIL_HOST = env.text("EMAIL_HOST")
EMAIL_PORT = env.integer("EMAIL_PORT", 587, low=1, high=65535)
EMAIL_HOST_USER = env.text("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = env.text("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = env.flag("EMAIL_USE_TLS", default=True)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.text("EMAIL_FROM", "tickstock@localhost")
EMAIL_FILE_PATH = str(DATA_DIR / "mail")  # where letters lie while no server is named
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if EMAIL_HOST else 'filebased'}.EmailBackend"

SECURITY_CONTACT = env.text("SECURITY_CONTACT")  # of whoever runs this stack, for /.well-known/security.txt

# --- Time, language ------------------------------------------------------------------------------------------------------------------
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"  # local time appears only at the reader's eye
USE_TZ = True
USE_I18N = False

# --- Static files --------------------------------------------------------------------------------------------------------------------
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
_collected = BASE_DIR / "staticfiles"
STATIC_ROOT = _collected if COMMAND == "collectstatic" or _collected.is_dir() else None  # the one-command stack collects nothing
WHITENOISE_USE_FINDERS = True  # the one-command stack has no collectstatic step
WHITENOISE_AUTOREFRESH = DEBUG

# --- Channels, Redis -----------------------------------------------------------------------------------------------------------------
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "tickstock"},
    }
}
WEBSOCKET_MAX_CONNECTIONS = env.integer("WEBSOCKET_MAX_CONNECTIONS", 1000, low=1, high=1_000_000)

# --- Celery: the queue may be a hint, the table is the truth ---------------------------------------------------------------------------


def _broker_url() -> str:
    """Return the broker: its own URL, or Redis in the form that kombu expects."""
    chosen = env.text("CELERY_BROKER_URL")
    if chosen or not REDIS_URL.startswith("unix://"):
        return chosen or REDIS_URL
    parts = urlsplit(REDIS_URL)
    database = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair).get("db", "0")
    return f"redis+socket://{parts.path}?virtual_host={database}"


CELERY_BROKER_URL = _broker_url()
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_SOFT_TIME_LIMIT = 120
CELERY_TASK_TIME_LIMIT = 150
CELERY_TASK_PUBLISH_RETRY = False  # a hint that cannot be sent now is not worth waiting for: the sweep finds the bar
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_MAX_MEMORY_PER_CHILD = 1_000_000  # KB, of a forked child: it is replaced after the task that took more
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 5
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 450,  # three times the longest task
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    "socket_timeout": 10,
    "socket_connect_timeout": 3,
    "global_keyprefix": "celery:",
}
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"

# --- Scans ---------------------------------------------------------------------------------------------------------------------------
SCAN_IMPORTS_DAYS = 7  # repaired and imported minutes that are younger are scanned by themselves; older ones when somebody asks
SCAN_IMPORTED_DAILY_DAYS = 90  # the same for daily bars
INDICATOR_DAYS = {"1m": 7, "5m": 14, "15m": 30, "1h": 90, "1d": 3650}  # how long values of each interval are kept
DETECTION_DAYS = {"1m": 30, "5m": 90, "15m": 180, "1h": 730, "1d": 3650}  # how long detections of each interval are kept

# --- Cache: JSON, so that whoever writes to Redis cannot run code here ------------------------------------------------------------------
CACHES = {"default": {"BACKEND": "tickstock.cache.Cache", "LOCATION": REDIS_URL, "KEY_PREFIX": "cache"}}

# --- REST ----------------------------------------------------------------------------------------------------------------------------
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.TokenAuthentication", "accounts.authentication.SessionAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": [
        "accounts.permissions.IsSignedIn",
        "accounts.permissions.HasScope",
        "accounts.permissions.HasPermission",
    ],
    "DEFAULT_THROTTLE_CLASSES": ["accounts.throttling.RequestThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["tickstock.http.ExactJSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["tickstock.http.BoundedJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_PAGINATION_CLASS": None,
    "EXCEPTION_HANDLER": "tickstock.http.problem_details",
    "DATETIME_FORMAT": None,  # the renderer writes moments and decimals, both exact
    "COERCE_DECIMAL_TO_STRING": False,
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}
API_REQUESTS_PER_USER = env.integer("API_REQUESTS_PER_USER", 1200, low=1, high=10_000_000)  # a minute
API_REQUESTS_PER_ADDRESS = env.integer("API_REQUESTS_PER_ADDRESS", 6000, low=1, high=10_000_000)  # a minute
SPECTACULAR_SETTINGS = {
    "TITLE": "TickStock",
    "DESCRIPTION": "Real-time market state for US stocks: bars, detections, indicators. Times are ISO 8601 UTC; prices are exact.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/",
    "ENUM_NAME_OVERRIDES": {"JobKindEnum": "marketdata.operations.JobKind", "SurveyKindEnum": ["intraday", "close"]},
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["accounts.permissions.IsSignedIn"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "tickstock.http.describe_problems",
        "tickstock.examples.show_examples",
    ],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

# --- Logging ---------------------------------------------------------------------------------------------------------------------------
PART = next((word for word in ("worker", "beat") if word in sys.argv[1:] and not COMMAND), COMMAND or Path(sys.argv[0]).parent.name)[:40]
LOG_FORMAT = env.choice("LOG_FORMAT", "line", ("line", "json"))
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"},
        "json": {"()": "tickstock.logs.JsonLines", "part": PART},
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "django.server": {"level": "WARNING"},
        "django.channels.server": {"level": "WARNING"},
        "daphne": {"level": "WARNING"},
        "channels_redis.pubsub": {"level": "CRITICAL"},  # a traceback a second while Redis is away; the hub says it once
        "celery": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "kombu": {"level": "WARNING"},
        "urllib3": {"level": "WARNING"},
    },
}
if env.flag("LOG_FILE_ENABLED", default=False):
    LOGGING["handlers"]["file"] = {
        "class": "logging.handlers.RotatingFileHandler",
        "filename": str(DATA_DIR / "tickstock.log"),
        "maxBytes": 20_000_000,
        "backupCount": 5,
        "formatter": LOG_FORMAT,
        "delay": True,
    }
    LOGGING["root"]["handlers"].append("file")
if env.flag("LOG_DB_ENABLED", default=True) and _database_url:
    LOGGING["handlers"]["errors"] = {
        "class": "tickstock.logs.ErrorTable",
        "part": PART,
        "level": env.choice("LOG_DB_SEVERITY_THRESHOLD", "error", ("debug", "info", "warning", "error", "critical")).upper(),
    }
    LOGGING["root"]["handlers"].append("errors")
OTEL_ENDPOINT = env.text("OTEL_EXPORTER_OTLP_ENDPOINT")  # a collector's address; empty: nothing is traced
BAR_DAYS = env.integer("BAR_DAYS", 0, low=0, high=100_000)  # how long minutes are kept; 0: for ever. `manage.py retention` drops the rest
ERROR_DAYS = 30  # how long errors and given-up tasks are kept
AUDIT_DAYS = 400  # how long the audit log is kept

# The last net under everything that logs
LOGGING.setdefault("filters", {})["no_secrets"] = {
    "()": "tickstock.redaction.NoSecrets",
    "secrets": [
        SECRET_KEY, *SECRET_KEY_FALLBACKS, MASSIVE_API_KEY, FIRST_ADMIN_PASSWORD, EMAIL_HOST_PASSWORD, REDIS_URL, CELERY_BROKER_URL,
        str(DATABASES["default"].get("PASSWORD", "")),
    ],
}  # fmt: skip
for _handler in LOGGING["handlers"].values():
    _handler["filters"] = [*_handler.get("filters", []), "no_secrets"]
