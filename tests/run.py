"""
`make test`: every test, on plain PostgreSQL and on TimescaleDB.

The whole suite runs on the embedded server, and what speaks to tables once more on a real TimescaleDB. Two lanes share the
work, each with servers of its own: most tests wait for a process or a page, and two lanes wait side by side.
"""

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests import timescale

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
TABLES = ("adjusted", "api_bars", "caretaker", "gaps", "import", "intervals", "replay", "jobs", "universes", "writer")
ON_TIMESCALE = [
    *(f"tests/marketdata/test_{name}.py" for name in TABLES), "tests/patterns/test_scan.py", "tests/patterns/test_tasks.py",
    "tests/test_one_tick.py", "tests/test_timescale.py", "tests/test_roles.py", "tests/test_backup.py",
]  # fmt: skip
FIRST_LANE = ["tests/marketdata"]
SECOND_LANE_OF_FAULTS = ["tests/faults/test_storage.py", "tests/faults/test_workers.py"]
FLEET = "tests/faults/test_scaling.py"  # of the faults, what promises to hold on TimescaleDB, and runs there only
NOTHING_CHOSEN = 5  # pytest's status where -k fits no test


def main() -> int:
    """Run both; return the exit status."""
    if not any(Path(path).exists() for path in CHROMIUM):
        print("The browser tests need Debian's chromium: apt install chromium", file=sys.stderr)
        return 1
    arguments = sys.argv[1:]
    environment = _clean_environment()
    with tempfile.TemporaryDirectory(prefix="tickstock-test-") as folder:
        if arguments[:1] == ["bench"]:
            return _bench(environment, Path(folder), arguments[1:])
        paths, options = ([one for one in arguments if one.startswith("tests") is chosen] for chosen in (True, False))
        if arguments and not (paths == ["tests/faults"] and "--full" in options):
            return _pytest(environment | {"TICKSTOCK_DATA_DIR": f"{folder}/plain"}, arguments)
        try:
            server = timescale.install(ROOT / ".cache" / "timescale")
        except timescale.NoTimescaleError as error:
            print(f"The tests on TimescaleDB cannot run: {error}", file=sys.stderr)
            return 1
        on_timescale = environment | _timescale_folder(Path(folder), server, fsync=False) | {"EXPECT_TIMESCALE": "1"}
        first, second = (environment | {"TICKSTOCK_DATA_DIR": f"{folder}/{name}"} for name in ("first", "second"))
        if arguments:  # make faults
            plan = [
                [(first, ["tests/faults", *_without(*SECOND_LANE_OF_FAULTS, FLEET), *options]), (on_timescale, [FLEET, *options])],
                [(second, [*SECOND_LANE_OF_FAULTS, *options])],
            ]
        else:
            plan = [
                [(first, FIRST_LANE), (on_timescale, ON_TIMESCALE)],
                [(second, ["tests", *_without(*FIRST_LANE, "tests/test_timescale.py")])],
            ]
        with ThreadPoolExecutor(2) as lanes:
            statuses = [status for lane in lanes.map(_lane, plan) for status in lane]
        return next((status for status in statuses if status not in (0, NOTHING_CHOSEN)), min(statuses))


def _without(*paths: str) -> list[str]:
    return [f"--ignore={path}" for path in paths]


def _lane(runs: list[tuple[dict[str, str], list[str]]]) -> list[int]:
    """Run pytest for each (environment, arguments): its progress as it comes, its report in one piece; return how each ended."""
    statuses = []
    for environment, arguments in runs:
        command = [sys.executable, "-m", "pytest", *arguments]
        report = []
        with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as run:
            for line in run.stdout or ():
                if line.endswith("%]\n"):
                    print(line, end="", flush=True)
                else:
                    report.append(line)
        print(f"\n{' '.join(arguments)}\n{''.join(report)}", flush=True)
        statuses.append(run.returncode)
    return statuses


def _timescale_folder(folder: Path, server: dict[str, str], *, fsync: bool) -> dict[str, str]:
    """Return the environment in which the embedded server is a TimescaleDB with data under `folder`."""
    data = folder / "timescale"
    data.mkdir()
    (data / "postgresql.extra.conf").write_text(
        f"shared_preload_libraries=timescaledb\ntimescaledb.telemetry_level=off\njit=off\nfsync={'on' if fsync else 'off'}\n"
    )
    return server | {"TICKSTOCK_DATA_DIR": str(data)}


def _bench(environment: dict[str, str], folder: Path, arguments: list[str]) -> int:
    """Run the benchmark on a TimescaleDB of its own, with the peers' environment where `make bench` has made it."""
    peers = ROOT / ".cache" / "peers" / "bin" / "python"
    environment |= _timescale_folder(folder, timescale.install(ROOT / ".cache" / "timescale"), fsync=True)
    known = ["--peers", str(peers)] if peers.exists() else []
    status = 0
    for command in (["migrate", "--verbosity", "0"], ["bench", *known, *arguments]):
        status = status or subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=environment, check=False).returncode
    _wait_for_end_of(folder / "timescale" / "pg" / "postmaster.pid")
    return status


def _wait_for_end_of(server: Path) -> None:
    """The server stops when nobody uses it; its folder may go only then."""
    end = time.monotonic() + 60
    while server.exists() and time.monotonic() < end:
        time.sleep(0.2)


def _clean_environment() -> dict[str, str]:
    """Tests bring their own servers and know no key, whatever the shell has."""
    foreign = (
        "DATABASE_URL",
        "DATABASE_READONLY_URL",
        "REDIS_URL",
        "CELERY_BROKER_URL",
        "MASSIVE_",
        "USE_SYNTHETIC_DATA",
        "TICKSTOCK_",
        "PG_BIN",
    )
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def _pytest(environment: dict[str, str], arguments: list[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
