"""
How often a password may be tried. Counted in Redis *before* the password is looked at, so that parallel tries cannot slip by.

The narrow count is of a name from an address: a stranger elsewhere cannot lock anybody out. The wide one is of the address alone.
"""

import hashlib
import ipaddress
import unicodedata
from functools import cache

import redis
from django.conf import settings

WINDOW_SECONDS = 15 * 60
TRIES_PER_NAME = 10
TRIES_PER_ADDRESS = 50


class TooManyTriesError(Exception):
    """The count is full; `wait_seconds` from now on it starts anew."""

    def __init__(self, wait_seconds: int) -> None:
        super().__init__(f"Too many attempts to sign in. Try again in {-(-wait_seconds // 60)} min.")
        self.wait_seconds = wait_seconds


class CountUnavailableError(Exception):
    """Redis does not answer: without a count nobody signs in, or guessing would be free."""

    def __init__(self) -> None:
        super().__init__("Signing in is not possible for the moment: the server that counts attempts does not answer. Try again soon.")


def take_try(name: str, address: str) -> None:
    """Count one try. TooManyTriesError past a limit, CountUnavailableError without Redis."""
    try:
        with _client().pipeline() as batch:
            for key in _keys(name, address):
                batch.set(key, 0, ex=WINDOW_SECONDS, nx=True)
                batch.incr(key)
                batch.ttl(key)
            _, by_name, name_ttl, _, by_address, address_ttl = batch.execute()
    except redis.RedisError as error:
        raise CountUnavailableError from error
    if by_name > TRIES_PER_NAME:
        raise TooManyTriesError(name_ttl)
    if by_address > TRIES_PER_ADDRESS:
        raise TooManyTriesError(address_ttl)


def forgive_tries(name: str, address: str) -> None:
    """After the right password: forget what was counted for this name, and take back the one try of the address."""
    of_name, of_address = _keys(name, address)
    try:
        with _client().pipeline() as batch:
            batch.delete(of_name)
            batch.set(of_address, 0, ex=WINDOW_SECONDS, nx=True)  # DECR on a missing key would make one that never ends
            batch.decr(of_address)
            batch.execute()
    except redis.RedisError as error:
        raise CountUnavailableError from error


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)


def _keys(name: str, address: str) -> tuple[str, str]:
    place = _network(address)
    folded = unicodedata.normalize("NFKC", name).casefold()
    return f"sign-in:{_hash(f'{folded} {place}')}", f"sign-in:{_hash(place)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:32]


def _network(address: str) -> str:
    """Return the address, of IPv6 its /64: one customer owns all of that."""
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((number, 64), strict=False)) if number.version == 6 else str(number)
