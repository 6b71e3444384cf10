"""The product's own settings, with what a test run may not share with a running stack."""

from tickstock.settings import *  # noqa: F403
from tickstock.settings import CELERY_BROKER_URL as _BROKER
from tickstock.settings import LOGGING, TEMPLATES
from tickstock.settings import REDIS_URL as _SHARED_REDIS

REDIS_URL = _SHARED_REDIS.replace("db=0", "db=9")  # a running stack of the same folder must not see what tests publish
CELERY_BROKER_URL = _BROKER.replace("virtual_host=0", "virtual_host=9")

SECRET_KEY = "a key for tests only, long enough to satisfy every check that there is" * 2
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # Argon2 is slow on purpose
WHITENOISE_AUTOREFRESH = True
TEMPLATES[0]["OPTIONS"]["string_if_invalid"] = ""
CHANNEL_LAYERS = {
    "default": {"BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer", "CONFIG": {"hosts": [REDIS_URL], "prefix": "tickstock-test"}}
}
LOGGING["root"]["handlers"] = [
    name for name in LOGGING["root"]["handlers"] if name != "errors"
]  # its connection would outlive the test database
CACHES = {"default": {"BACKEND": "tickstock.cache.Cache", "LOCATION": REDIS_URL, "KEY_PREFIX": "cache"}}
API_REQUESTS_PER_USER = API_REQUESTS_PER_ADDRESS = 10_000_000  # tests of the limits set their own
