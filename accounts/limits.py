"""
How often a password may be tried. Counted in Redis *before* the password is looked at, so that parallel tries cannot slip by.

The narrow count is of a name from an address, the wide one of the address alone. A third is of the name from everywhere, against guessing
from many addresses; it does not ask the places from which the right password came lately, so nobody can lock out a user where they work,
and elsewhere for a quarter of an hour at most.
"""

import hashlib
import ipaddress
import unicodedata
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import redis
from django.conf import settings

WINDOW_SECONDS = 15 * 60
TRIES_PER_NAME = 10
TRIES_PER_ADDRESS = 50
TRIES_FROM_EVERYWHERE = 100
CODE_SECONDS = 180  # longer than a code holds, with a step before and one after
KNOWN_PLACE_SECONDS = 30 * 24 * 3600


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
    keys = _keys(name, address)
    counts = [(keys.here, TRIES_PER_NAME), (keys.address, TRIES_PER_ADDRESS), (keys.everywhere, TRIES_FROM_EVERYWHERE)]
    client = _client()
    try:
        with client.pipeline() as batch:
            for key, _ in counts:
                batch.set(key, 0, ex=WINDOW_SECONDS, nx=True)
                batch.incr(key)
                batch.ttl(key)
            batch.exists(keys.known)
            *answers, known = batch.execute()
    except redis.RedisError as error:
        raise CountUnavailableError from error
    for (key, limit), tries, seconds in zip(counts, answers[1::3], answers[2::3], strict=True):
        if tries > limit and not (known and key == keys.everywhere):
            raise TooManyTriesError(seconds)


def forgive_tries(name: str, address: str) -> None:
    """After the right password: forget what was counted for this name here, take back the other tries, and know the place."""
    keys = _keys(name, address)
    client = _client()
    try:
        with client.pipeline() as batch:
            batch.delete(keys.here)
            batch.set(keys.known, 1, ex=KNOWN_PLACE_SECONDS)
            for key in (keys.address, keys.everywhere):
                batch.set(key, 0, ex=WINDOW_SECONDS, nx=True)  # DECR on a missing key would make one that never ends
                batch.decr(key)
            batch.execute()
    except redis.RedisError as error:
        raise CountUnavailableError from error


def take_request(caller: str, *, limit: int, seconds: int) -> int:
    """Count one request of this caller, as `take_requests` does."""
    return take_requests({caller: limit}, seconds=seconds)


def take_requests(limits: Mapping[str, int], *, seconds: int) -> int:
    """
    Count one request of each caller, named with its limit. Returns how many seconds to wait where one is passed, else 0.

    0 as well where Redis does not answer: reading must not depend on it.
    """
    client = _client()
    try:
        with client.pipeline() as batch:
            for key in (f"requests:{_hash(caller)}" for caller in limits):
                batch.set(key, 0, ex=seconds, nx=True)
                batch.incr(key)
                batch.ttl(key)
            answers = batch.execute()
    except redis.RedisError:
        return 0
    return max(
        max(1, left) if count > limit else 0 for limit, count, left in zip(limits.values(), answers[1::3], answers[2::3], strict=True)
    )


def use_code(user_id: int, code: str) -> bool:
    """
    Return whether this is the first use of the code, and use it up for as long as an authenticator's code can hold.

    CountUnavailableError without Redis.
    """
    written = "".join(letter for letter in code if letter.isalnum())  # 123 456 is 123456
    client = _client()
    try:
        return bool(client.set(f"code:{_hash(f'{user_id} {written}')}", 1, ex=CODE_SECONDS, nx=True))
    except redis.RedisError as error:
        raise CountUnavailableError from error


class _Keys(NamedTuple):
    here: str
    address: str
    everywhere: str
    known: str


@cache
def _client() -> redis.Redis:
    """Return the process's client. The caller holds on to it: of two made at once by two threads, one closes its connections when let go."""
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)


def _keys(name: str, address: str) -> _Keys:
    place = network_of(address)
    folded = unicodedata.normalize("NFKC", name).casefold()
    return _Keys(
        here=f"sign-in:{_hash(f'{folded} {place}')}",
        address=f"sign-in:{_hash(place)}",
        everywhere=f"sign-in:name:{_hash(folded)}",
        known=f"sign-in:known:{_hash(f'{folded} {place}')}",
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:32]


def network_of(address: str) -> str:
    """Return the address, of IPv6 its /64: one customer owns all of that."""
    try:
        number = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    return str(ipaddress.ip_network((number, 64), strict=False)) if number.version == 6 else str(number)
