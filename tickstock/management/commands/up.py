"""
`up`: the whole stack with one command. Starts each part, prefixes its output, starts it again when it dies, stops all in order.

The parts are the product's own commands with the same environment as anywhere else; only the addresses differ.
"""

import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from argparse import ArgumentParser
from typing import IO, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from tickstock import embedded, env
from tickstock.watch import PING_SECONDS, Watch

STARTS_A_MINUTE = 5
GRACE_SECONDS = 20.0  # the stream needs up to 16 s where database and broker hang
HUNG_SECONDS = 5.0  # what does nothing has little to end in order
SPOKEN_OF = {"feed": "stream"}  # /ready's word for it
FEED_SECONDS = 20.0
WEB_SECONDS = 60.0
PYTHON = [sys.executable, "-u"]
DEAD_LINKS = ["--ping-interval", "10", "--ping-timeout", "10"]  # daphne's own defaults leave a dead socket for 50 s


class Part:
    """One child process in a session of its own: Ctrl-C reaches only the supervisor, which stops the parts in order."""

    def __init__(self, name: str, arguments: list[str], environment: dict[str, str], *, once: bool = False) -> None:
        self.name = name
        self.once = once
        self.process: subprocess.Popen[bytes] | None = None
        self.starts: list[float] = []
        self.restart_at = 0.0
        self.lines: list[str] = []
        self._arguments = arguments
        self._environment = environment
        self._heard = threading.Condition()

    def start(self) -> None:
        """Start it; must run in the main thread, for the kernel ends a child when the *thread* that made it dies."""
        now = time.monotonic()
        self.starts = [at for at in self.starts if now - at < 60] + [now]
        self.restart_at = 0.0
        self.process = subprocess.Popen(
            self._arguments, env=self._environment, cwd=settings.BASE_DIR, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=lambda: embedded.die_with_parent(signal.SIGTERM),
        )  # fmt: skip
        assert self.process.stdout is not None
        threading.Thread(target=self._pump, args=(self.process.stdout,), daemon=True).start()

    def _pump(self, output: IO[bytes]) -> None:
        for raw in output:
            line = raw.decode("utf-8", "replace").rstrip()
            with self._heard:
                self.lines = [*self.lines[-50:], line]
                self._heard.notify_all()
            say(self.name, line)

    def wait_for_line(self, words: str, seconds: float) -> bool:
        """Wait until it printed a line with these words; False when it ended or the time is over."""
        end = time.monotonic() + seconds
        with self._heard:
            while not any(words in line for line in self.lines):
                if time.monotonic() > end or not self.alive:
                    return False
                self._heard.wait(0.1)
        return True

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Ask it to end (SIGTERM); after the grace end its whole session."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                say("up", f"{self.name} did not stop within {grace:.0f} s and is killed")
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what it may have left in its session
        self.process.wait()


_printing = threading.Lock()


def say(name: str, line: str) -> None:
    """Print one prefixed line; a closed terminal must not stop the stack."""
    with _printing, contextlib.suppress(OSError, ValueError):  # EPIPE, and EIO of a terminal that is gone
        sys.stdout.write(f"{name:>7} | {line}\n")
        sys.stdout.flush()


class Command(BaseCommand):
    """Run the whole stack: feed, stream, worker, beat, web, and the servers where no URL names others."""

    help = "Run the whole stack until Ctrl-C: PostgreSQL and Valkey (unless DATABASE_URL / REDIS_URL are set), feed, stream, worker, beat, web."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--port", type=int, default=settings.PORT, help=f"port of the web pages on 127.0.0.1 (default {settings.PORT})")
        parser.add_argument("--no-feed", action="store_true", help="neither twin nor stream: only what is stored")
        parser.add_argument("--no-worker", action="store_true", help="neither worker nor beat: nothing is scanned")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until a signal or a part that cannot live."""
        self._signals = 0
        self._stopping = threading.Event()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self._on_signal)
        self._parts: list[Part] = []
        with self._only_one():
            try:
                self._run(options)
            except embedded.EmbeddedError as error:
                raise CommandError(str(error)) from None
            finally:
                self._stop_all()

    def _on_signal(self, signum: int, frame: Any) -> None:
        self._signals += 1
        self._stopping.set()
        if self._signals > 2:
            os._exit(130)  # the third time at once: the kernel takes the parts down

    @contextlib.contextmanager
    def _only_one(self) -> Any:
        folder = settings.DATA_DIR
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / "up.lock").open("a")
        except OSError as error:
            raise CommandError(
                f"The data folder {folder} cannot be written ({error.strerror}). Point TICKSTOCK_DATA_DIR at a folder you own."
            ) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CommandError(
                    f"A stack already runs on {folder}. Stop it first, or give this one another TICKSTOCK_DATA_DIR."
                ) from None
            yield

    # -- start ----------------------------------------------------------------------------------------------------------------------

    def _run(self, options: dict[str, Any]) -> None:
        port = options["port"]
        _require_free(port)
        self._environment = self._base_environment(options)
        self._embedded = [name for name, variable in (("postgres", "DATABASE_URL"), ("redis", "REDIS_URL")) if not env.text(variable)]
        if self._embedded and not settings.EMBEDDED:
            raise CommandError("DATABASE_URL and REDIS_URL must be set: TICKSTOCK_EMBEDDED=0 forbids the embedded servers.")
        twin = None if options["no_feed"] or not settings.USE_SYNTHETIC_DATA else self._start_twin()
        for name in self._embedded:
            embedded.ensure(name, settings.DATA_DIR)
        daphne = ["-m", "daphne", "-v", "0", "-b", "127.0.0.1", "-p", str(port), *DEAD_LINKS, "tickstock.asgi:application"]
        prepared = settings.DATA_DIR / f"prepared-{settings.FEED_NAME}"
        # A first start fills the tables before anybody may look; later ones have little to prepare, and the page need not wait for it
        web = self._add("web", daphne) if prepared.exists() else None
        password = self._prepare()
        prepared.touch()
        web = web or self._add("web", daphne)
        if twin is not None and not twin.wait_for_line("listening on", FEED_SECONDS) and not self._stopping.is_set():
            raise CommandError("The synthetic feed did not start; its last words stand above.")
        if not options["no_feed"]:
            self._add("stream", ["manage.py", "stream_ticks"])
        if not options["no_worker"]:
            celery = ["-m", "celery", "--quiet", "-A", "tickstock"]
            self._add("worker", [*celery, "worker", "-P", "threads", "-c", "2", "-l", "WARNING", "--without-gossip", "--without-mingle"])
            schedule = str(settings.DATA_DIR / f"beat-{settings.FEED_NAME}")
            self._add("beat", [*celery, "beat", "-l", "WARNING", "-s", schedule, "--pidfile="])
        if not options["no_feed"]:
            self._add(
                "history", ["manage.py", "import_history", "massive", "--timespan", "day", "--missing", "--corporate-actions"], once=True
            )
        self._greet(web, port, password)
        ping = [*PYTHON, "-m", "celery", "--quiet", "-A", "tickstock", "inspect", "--timeout", str(PING_SECONDS), "ping"]
        self._silence = Watch(f"http://127.0.0.1:{port}/ready", ping, self._environment, self._stopping)
        self._silence.start()
        self._watch()

    def _base_environment(self, options: dict[str, Any]) -> dict[str, str]:
        ready = ["database", "redis"]
        ready += [] if options["no_feed"] else ["feed"]
        ready += [] if options["no_worker"] else ["worker"]
        inherited = env.inherited()
        inherited.pop("TICKSTOCK_ADMIN_PASSWORD", None)  # the parts need not know it
        return inherited | {
            "PYTHONUNBUFFERED": "1",
            "TICKSTOCK_DATA_DIR": str(settings.DATA_DIR),
            "USE_SYNTHETIC_DATA": "1" if settings.USE_SYNTHETIC_DATA else "0",
            "READY_PARTS": ",".join(ready),
            "PORT": str(options["port"]),
        }

    def _add(self, name: str, arguments: list[str], *, once: bool = False) -> Part:
        part = Part(name, [*PYTHON, *arguments], self._environment, once=once)
        self._parts.append(part)
        if not self._stopping.is_set():
            part.start()
        return part

    def _start_twin(self) -> Part:
        """Start the synthetic market on a free port, and point the stack's addresses at it."""
        port = _free_port()
        twin = self._add("feed", ["manage.py", "simulate_massive", "--port", str(port)])
        self._environment |= {
            "MASSIVE_API_KEY": "twin",
            "MASSIVE_WS_URL": f"ws://127.0.0.1:{port}/stocks",
            "MASSIVE_REST_URL": f"http://127.0.0.1:{port}",
        }
        return twin

    def _once(self, name: str, arguments: list[str]) -> str:
        """Run one of our commands to its end; return what it printed."""
        done = subprocess.run(
            [*PYTHON, "manage.py", *arguments], env=self._environment, cwd=settings.BASE_DIR, capture_output=True, text=True, check=False,
            preexec_fn=lambda: embedded.die_with_parent(signal.SIGTERM), start_new_session=True,
        )  # fmt: skip
        if done.returncode and not self._stopping.is_set():
            words = (done.stderr or done.stdout).strip().splitlines()
            raise CommandError(f"{name} failed: {words[-1] if words else 'no output'}")
        return done.stdout

    def _prepare(self) -> str:
        """Migrate, and make the user `admin` where there is none; return the password when it was made up here."""
        chosen = env.text("TICKSTOCK_ADMIN_PASSWORD")
        password = chosen or secrets.token_urlsafe(12)
        self._environment["TICKSTOCK_ADMIN_PASSWORD"] = password
        answer = self._once("prepare", ["prepare"])
        del self._environment["TICKSTOCK_ADMIN_PASSWORD"]
        made = bool(answer.strip()) and json.loads(answer.strip().splitlines()[-1])["created"]
        return password if made and not chosen else ""

    def _greet(self, web: Part, port: int, password: str) -> None:
        address = f"http://127.0.0.1:{port}/"
        end = time.monotonic() + WEB_SECONDS
        while not self._stopping.is_set() and web.alive and time.monotonic() < end and not _answers(f"{address}health"):
            self._stopping.wait(0.1)
        if self._stopping.is_set():
            return
        market = "a synthetic market" if settings.USE_SYNTHETIC_DATA else f"Massive at {settings.MASSIVE_WS_URL}"
        say("up", f"TickStock streams {market}: {address}")
        if password:
            say("up", f"Sign in as admin, password {password} (shown once; change it, and turn on a second factor, at /accounts/)")
        else:
            say("up", "Sign in as admin with the password chosen before.")
        say("up", "Ctrl-C stops everything.")

    # -- life -------------------------------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Start dead parts again, ever later; end those that live and do nothing; give up on one that cannot live."""
        while not self._stopping.wait(0.25):
            for name in self._embedded:
                if not embedded.holder_runs(name, settings.DATA_DIR):
                    say("up", f"the embedded {name} is gone and is started again")
                    embedded.ensure(name, settings.DATA_DIR)
            silent = {SPOKEN_OF.get(name, name) for name in self._silence.suspects()}
            for part in self._parts:
                if part.name in silent and part.alive:
                    say("up", f"{part.name} runs and gives no sign of life: it is ended")
                    part.stop(HUNG_SECONDS)
                self._revive(part)

    def _revive(self, part: Part) -> None:
        if part.alive or part.process is None:
            return
        status = part.process.returncode
        if part.once and (status == 0 or len(part.starts) >= STARTS_A_MINUTE):
            return
        now = time.monotonic()
        if not part.restart_at:
            recent = [at for at in part.starts if now - at < 60]
            if len(recent) >= STARTS_A_MINUTE and not part.once:
                raise CommandError(f"{part.name} ended {len(recent)} times within a minute (status {status}); its last words stand above.")
            part.restart_at = now + 0.5 * len(recent)
            say("up", f"{part.name} ended with status {status} and is started again")
        elif now >= part.restart_at:
            part.start()

    def _stop_all(self) -> None:
        """Stop in the order in which nothing is lost: the stream stores first, the servers end last."""
        order = ["history", "stream", "beat", "worker", "web", "feed"]
        for part in sorted(self._parts, key=lambda part: order.index(part.name)):
            part.stop()
        if getattr(self, "_embedded", None):
            embedded.wait_until_stopped(settings.DATA_DIR)
        say("up", "stopped")


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CommandError(f"Port {port} cannot be used ({error.strerror}). Choose another: PORT={port + 1} make run.") from None
        except OverflowError:
            raise CommandError(f"--port {port} is not a port; it must lie between 1 and 65535.") from None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
