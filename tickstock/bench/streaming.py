"""The stream as it runs: what memory a day needs, and what a busy minute costs the real command."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from tickstock import env
from tickstock.bench.day import resident_mb
from tickstock.bench.rows import Place, Row, not_measured

DAY = Path(__file__).with_name("day.py")
STEADY_MB_AN_HOUR = 1.0  # below it, nothing grows
SYMBOLS = 100
TICKS_A_SECOND = 100  # of each symbol
SECONDS = 60
HALF_A_CORE = 0.5
GROWTH_MB = 100.0


def rows(place: Place) -> Iterator[Row]:
    """Yield the rows of the running stream."""
    yield _day("70 symbols from T", "T", 70, 10.0)
    yield _day("11,000 symbols from AM", "AM", 11_000, 150.0)
    yield _stress(place)


def _day(name: str, kind: str, symbols: int, limit: float) -> Row:
    """Return the row of the memory that a session's frames need: the larger of growth ÷ limit and hourly growth ÷ what counts as none."""
    title = f"memory of a day's stream, {name}"
    environment = env.inherited() | {"PYTHONPATH": str(settings.BASE_DIR)}
    done = subprocess.run([sys.executable, str(DAY), kind, str(symbols)], capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return not_measured(title, f"{limit:.0f} MB", 1.0, f"it failed: {done.stderr.strip().splitlines()[-1]}", at_least=False)
    told = json.loads(done.stdout)
    ratio = max(told["growth"] / limit, told["slope"] / STEADY_MB_AN_HOUR)
    note = f"growth; after the first hour {told['slope']:+.2f} MB an hour; decoder and builder, without the writing thread"
    return Row(title, f"{limit:.0f} MB", "MB", told["growth"], limit, ratio, 1.0, at_least=False, note=note)


def _stress(place: Place) -> Row:
    """Return the row of the real command that hears the simulator on a socket: the largest of its shares of what it may use; any loss is none."""
    title, against = f"{SYMBOLS} symbols × {TICKS_A_SECOND} ticks/s for {SECONDS} s, stream_ticks", "half a core, 100 MB, nothing lost"
    recording = place.scratch / "busy.jsonl"
    symbols = [f"B{number:05d}" for number in range(SYMBOLS)]
    sent = _record(recording, symbols)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    addresses = {
        "USE_SYNTHETIC_DATA": "1", "MASSIVE_API_KEY": "twin", "MASSIVE_WS_URL": f"ws://127.0.0.1:{port}/stocks",
        "MASSIVE_REST_URL": f"http://127.0.0.1:{port}",
    }  # fmt: skip
    manage = [sys.executable, str(settings.BASE_DIR / "manage.py")]
    twin = subprocess.Popen([*manage, "simulate_massive", "--port", str(port), "--replay", str(recording)], stdout=subprocess.DEVNULL)
    try:
        _until_listening(port)
        stream = subprocess.Popen(
            [*manage, "stream_ticks", "--symbols", ",".join(symbols), "--events", "T", "--json"],
            env=env.inherited() | addresses, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            used, grown = _watched(stream.pid)
        finally:
            stream.send_signal(signal.SIGTERM)
            told, _ = stream.communicate(timeout=60)
    finally:
        twin.terminate()
        twin.wait(30)
    report = json.loads(told.splitlines()[-1]) if told.strip() else {}
    lost = sent - report.get("events", 0)
    ratio = max(used / HALF_A_CORE, grown / GROWTH_MB) if not lost else float("inf")
    note = f"{grown:.0f} MB more, {lost:,} of {sent:,} ticks lost"
    return Row(title, against, "cores", used, HALF_A_CORE, ratio, 1.0, at_least=False, note=note)


def _record(path: Path, symbols: list[str]) -> int:
    """Write the frames of a busy minute, a hundred trades each, that begins now; return how many trades."""
    first = int(time.time() * 1000)
    with path.open("w") as file:
        for frame in range(SECONDS * TICKS_A_SECOND):
            at = first + frame * 1000 // TICKS_A_SECOND
            trades = [
                {"ev": "T", "sym": symbol, "x": 4, "i": str(frame), "z": 3, "p": 50 + (frame * 7 + place) % 100 / 100, "s": 100, "c": [14, 41],
                 "t": at, "q": frame + 1}
                for place, symbol in enumerate(symbols)
            ]  # fmt: skip
            file.write(json.dumps(trades, separators=(",", ":")) + "\n")
    return SECONDS * TICKS_A_SECOND * len(symbols)


def _until_listening(port: int) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("the simulator did not begin to listen within 30 s")


def _watched(process: int) -> tuple[float, float]:
    """Wait until the ticks flow, then for their minute; return the cores that the process used, and by how many MB it grew."""
    end = time.monotonic() + 30
    idle = _cpu_seconds(process)
    while time.monotonic() < end:  # its start takes some seconds of CPU; then it waits for the line
        time.sleep(1)
        now = _cpu_seconds(process)
        if now - idle < 0.7 and now > 1:
            break
        idle = now
    cpu, memory, began = _cpu_seconds(process), resident_mb(process), time.monotonic()
    time.sleep(SECONDS)
    used = (_cpu_seconds(process) - cpu) / (time.monotonic() - began)
    time.sleep(5)  # what is still on its way
    return used, resident_mb(process) - memory


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
