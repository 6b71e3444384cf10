"""One flush to a thousand sockets: the real hub under daphne, and beside it the least that can send the same bytes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings

from accounts.models import ApiToken, User
from dashboards import wire
from dashboards.consumers import SOCKETS_A_USER
from marketdata.bars.snapshot import SHARE, BarSnapshot
from marketdata.models import Source
from marketdata.signals import bars_moving
from tickstock.bench.rows import Place, Row, not_measured, time_row
from tickstock.bench.serving import cpu_seconds, daphne, free_port, resident_bytes, wait_for

BARS = 20  # in a flush: 4 kB on the wire
FIRST_MS = 1_795_185_000_000
WARM_SECONDS, SECONDS, LAST_SECONDS = 3, 15, 1.5
PEER_SECONDS = 5
FROZEN_SHARE = 0.05
GOAL = 6.0
LIMIT_SECONDS, LIMIT_BYTES = 0.250, 20_000_000
CROWDS = ((1000, 10, FROZEN_SHARE), (3000, 3, 0.0))  # sockets, flushes a second, share of those that stop reading


def rows(place: Place) -> Iterator[Row]:  # noqa: ARG001 - every subject gets it
    """Yield the rows of the fan-out."""
    users = [User.objects.create_user(username=f"crowd{number}", password=None) for number in range(max(CROWDS)[0] // SOCKETS_A_USER)]
    end = datetime.now(UTC) + timedelta(hours=1)
    tokens = [ApiToken.objects.issue(user, scopes=["read:bars"], expires_at=end, name="bench")[1] for user in users]
    try:
        for sockets, rate, share in CROWDS:
            name = f"fan-out, {sockets:,} sockets × {rate}/s"
            try:
                yield from _measured(name, sockets, rate, int(sockets * share), tokens)
            except (TimeoutError, ConnectionError) as error:
                yield not_measured(name, "a bare asyncio publisher", GOAL, str(error), at_least=False)
    finally:
        User.objects.filter(pk__in=[user.pk for user in users]).delete()


def _measured(name: str, sockets: int, rate: int, frozen: int, tokens: list[str]) -> Iterator[Row]:
    order = {"tokens": tokens, "sockets": sockets, "frozen": frozen, "topic": wire.BARS}
    with daphne(WEBSOCKET_MAX_CONNECTIONS=str(sockets)) as (port, pid), _crowd({**order, "port": port}) as ask:
        _publish(_announce, rate, WARM_SECONDS)
        time.sleep(LAST_SECONDS)
        ask()
        cpu, memory = cpu_seconds(pid), resident_bytes(pid)
        sent = _publish(_announce, rate, SECONDS)
        time.sleep(LAST_SECONDS)
        cpu, memory = cpu_seconds(pid) - cpu, resident_bytes(pid) - memory
        heard = ask()
    with _bare() as (port, pid, publish), _crowd({**order, "port": port, "frozen": 0}) as ask:
        _publish(publish, rate, 1)
        ask()
        bare_cpu = cpu_seconds(pid)
        _publish(publish, rate, PEER_SECONDS)
        time.sleep(LAST_SECONDS)
        bare_cpu = cpu_seconds(pid) - bare_cpu
        bare = ask()
    ours, peer = cpu / heard["received"], bare_cpu / bare["received"]
    lost = sent * (sockets - frozen) - heard["received"] if not heard["marked"] else 0
    words = (
        f"CPU per delivery; {heard['received']:,} heard, {heard['marked']} of them marked as merged, {lost} lost, {heard['broken']} out of order; "
        f"age p50 {heard['p50'] * 1000:.0f} ms, p99 {heard['p99'] * 1000:.0f} ms; {frozen} sockets read nothing; the server used {cpu / SECONDS:.0%} of a core"
    )
    yield time_row(name, "a bare asyncio publisher", ours=ours, peer=peer, goal=GOAL, note=words)
    if lost or heard["broken"] or len(heard["places"]) != 1:
        yield not_measured(f"{name}: age p99", "250 ms", 1.0, f"not all was heard: {words}", at_least=False)
    elif sockets == CROWDS[0][0]:
        note = f"longest {heard['longest']:.3f} s"
        yield time_row(f"{name}: age p99", "250 ms", ours=heard["p99"], peer=LIMIT_SECONDS, goal=1.0, note=note)
    ratio = max(0, memory) / LIMIT_BYTES
    yield Row(f"{name}: memory growth", "20 MB", "MB", memory / 1e6, LIMIT_BYTES / 1e6, ratio, 1.0, at_least=False)


def _bars(number: int) -> list[BarSnapshot]:
    price = 50 + number % 100 / 100
    return [
        BarSnapshot(f"FAN{one}", FIRST_MS, price, price, price, price, (1_000 + number) * SHARE, price, 12, Source.VENDOR, 1, True)
        for one in range(BARS)
    ]


def _announce(number: int) -> None:
    bars_moving.send_robust(None, bars=_bars(number))


def _publish(send: Callable[[int], None], rate: int, seconds: int) -> int:
    """Send at an even pace; return how many."""
    first = time.perf_counter()
    for number in range(rate * seconds):
        time.sleep(max(0.0, first + number / rate - time.perf_counter()))
        send(number)
    return rate * seconds


@contextmanager
def _crowd(order: dict[str, Any]) -> Iterator[Callable[[], dict[str, Any]]]:
    """Open a crowd's sockets; gives the question what it heard since the last one."""
    command = [sys.executable, str(Path(__file__).with_name("crowd.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def say(words: str) -> dict[str, Any]:
            if process.stdin is None or process.stdout is None:
                raise ConnectionError("the crowd has no ears")
            process.stdin.write(words + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            if not answer:
                raise ConnectionError("the crowd could not open its sockets; its error stands above")
            found: dict[str, Any] = json.loads(answer)
            return found

        try:
            say(json.dumps(order))
            yield lambda: say("heard")
        finally:
            process.terminate()


@contextmanager
def _bare() -> Iterator[tuple[int, int, Callable[[int], None]]]:
    """Start the peer; gives its port, its process id and the way to publish."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("bare.py")), str(port)]
    environment = {**os.environ, "PYTHONPATH": str(settings.BASE_DIR)}  # noqa: TID251 - a child's
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, text=True) as process:

        def publish(number: int) -> None:
            if process.stdin is not None:
                process.stdin.write(f"{wire.iso(datetime.now(UTC))} {wire.moving_bars(_bars(number)).decode()}\n")
                process.stdin.flush()

        try:
            wait_for(process, port)
            yield port, process.pid, publish
        finally:
            process.terminate()
