"""Django's cache on the Redis that carries everything else too: values as JSON, where Django's own way is pickle. Named in settings only."""

import json
from typing import Any

from django.core.cache.backends.redis import RedisCache


class JSONSerializer:
    """JSON, and bare whole numbers, on which Redis itself can count."""

    def dumps(self, value: Any) -> bytes | int:
        """Return what Redis keeps. TypeError where JSON has no form for it."""
        return value if type(value) is int else json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        """Return the value."""
        return json.loads(data)


class Cache(RedisCache):
    """Django's cache that clears what is its own: Django's would empty the whole database, queue and live log with it."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        options = params.setdefault("OPTIONS", {})
        options["serializer"] = JSONSerializer
        super().__init__(server, params)

    def clear(self) -> None:
        """Forget every key of this cache."""
        client = self._cache.get_client(write=True)
        for key in client.scan_iter(match=f"{self.key_prefix}:*", count=1000):
            client.delete(key)
