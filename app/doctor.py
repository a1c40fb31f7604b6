"""What runs where, what works, what is missing: facts for `athanor doctor`.

Everything is tried, not read off a list: the service is asked, the database and the object store are used,
each execution provider runs a graph.
"""

import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from importlib.util import find_spec

import psutil

from app import __version__
from app.access.principal import SYSTEM
from app.client.address import service_url
from app.client.client import Client
from app.client.errors import ClientError, RequestFailed
from app.db import migrate
from app.db.session import Database
from app.errors import AppError
from app.queue import make_celery
from app.registry.service import Registry
from app.runtime.plan import serving_cores
from app.runtime.providers import CPU, Providers
from app.runtime.session import provider_failure
from app.settings import Settings
from app.storage.objects import ObjectStore
from app.supervisor.lock import read_announcement

LEAST_FREE_BYTES = 2 * 10**9
"""Less free disk than this is worth a word: an import needs about so much."""
_CONNECT_TIMEOUT_S = 3.0
_PACKAGES = ("onnxruntime", "numpy", "fastapi", "uvicorn", "sqlalchemy", "celery", "obstore")
_TRAIN_EXTRA = ("torch", "timm", "onnx", "huggingface_hub")


class State(StrEnum):
    """How it is with one part."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing is broken."""
    BROKEN = "broken"
    """Something that is needed does not work."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    part: str
    state: State
    text: str
    hint: str | None = None


@dataclass(frozen=True, kw_only=True)
class VersionSize:
    """What one version of a model takes in the object store. Versions may share files."""

    model: str
    """`name:version`"""
    size_bytes: int
    files: int


def examine(settings: Settings, *, url: str | None = None) -> Iterator[Finding]:
    """Look at every part, one after the other."""
    yield Finding(part="versions", state=State.OK, text=_versions())
    yield _machine(settings)
    yield _disk(settings)
    yield from _providers(settings)
    yield _train_extra()
    yield from _service(settings, url)
    if not settings.data_dir.exists() and not settings.database_url:
        yield Finding(
            part="data",
            state=State.NOTE,
            text=f"{settings.data_dir} does not exist yet.",
            hint="The first `athanor serve` makes it.",
        )
        return
    yield _database(settings)
    yield _broker(settings)
    yield _objects(settings)


def version_sizes(settings: Settings) -> list[VersionSize]:
    """Disk by model version, largest first; nothing when the database cannot be read."""
    database = Database(settings.sqlalchemy_url)
    try:
        if not _has_database(settings) or not migrate.is_current(settings.sqlalchemy_url):
            return []
        models = Registry(database, ObjectStore.from_settings(settings)).list_models(SYSTEM)
    except (AppError, ValueError):
        return []  # `examine` says why
    finally:
        database.close()
    sizes = [
        VersionSize(
            model=f"{model.name}:{version.number}",
            size_bytes=sum(file.size_bytes for file in version.artifacts),
            files=len(version.artifacts),
        )
        for model in models
        for version in model.versions.values()
    ]
    return sorted(sizes, key=lambda each: -each.size_bytes)


def _versions() -> str:
    python = ".".join(map(str, sys.version_info[:3]))
    packages = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    return f"athanor {__version__}, Python {python}, {packages}"


def _machine(settings: Settings) -> Finding:
    memory = psutil.virtual_memory()
    cores = serving_cores(settings.cpu_threads)
    text = f"{cores} cores for serving, memory {_gb(memory.available)} free of {_gb(memory.total)}"
    return Finding(part="machine", state=State.OK, text=text)


def _disk(settings: Settings) -> Finding:
    folder = next(path for path in (settings.data_dir, *settings.data_dir.parents) if path.exists())
    free = psutil.disk_usage(str(folder)).free
    text = f"{_gb(free)} free for {settings.data_dir}"
    if free >= LEAST_FREE_BYTES:
        return Finding(part="disk", state=State.OK, text=text)
    hint = "Delete versions (`athanor models delete`), or set ATHANOR_DATA_DIR to another disk."
    return Finding(part="disk", state=State.NOTE, text=text, hint=hint)


def _providers(settings: Settings) -> Iterator[Finding]:
    for name in Providers.of(settings).names:
        failure = provider_failure(name)
        if failure is None:
            yield Finding(part="provider", state=State.OK, text=f"{name} works: it ran a graph.")
        elif name == CPU:
            yield Finding(
                part="provider",
                state=State.BROKEN,
                text=f"{name} does not work: {failure}",
                hint="Install onnxruntime again.",
            )
        else:
            yield Finding(
                part="provider",
                state=State.NOTE,
                text=f"{name} is installed and does not work: {failure}",
                hint="Models run on the CPU. Check the driver and its libraries.",
            )


def _train_extra() -> Finding:
    missing = [name for name in _TRAIN_EXTRA if find_spec(name) is None]
    if not missing:
        return Finding(part="train extra", state=State.OK, text=f"{', '.join(_TRAIN_EXTRA)} are installed.")
    return Finding(
        part="train extra",
        state=State.NOTE,
        text=f"{', '.join(missing)} not installed: this machine serves, and imports nothing.",
        hint="pip install 'athanor[train]' where a worker shall import.",
    )


def _service(settings: Settings, url: str | None) -> Iterator[Finding]:
    announcement = read_announcement(settings.data_dir)
    address = service_url(settings, url)
    key = settings.api_key.get_secret_value() if settings.api_key else None
    runs_here = announcement is not None and psutil.pid_exists(int(announcement["pid"]))
    where = f" (pid {announcement['pid']})" if announcement is not None and runs_here else ""
    try:
        with Client(address, api_key=key, timeout_s=_CONNECT_TIMEOUT_S) as client:
            client.health("live")
            client.models()  # the key opens
            yield Finding(part="service", state=State.OK, text=f"answers at {address}{where}")
            yield _readiness(client)
    except RequestFailed as error:
        yield Finding(part="service", state=State.BROKEN, text=error.message, hint=error.hint)
    except ClientError as error:
        if runs_here or url or settings.url:
            yield Finding(part="service", state=State.BROKEN, text=error.message, hint=error.hint)
        else:
            yield Finding(
                part="service", state=State.NOTE, text="not running", hint="`athanor serve` starts it."
            )
    if runs_here and announcement is not None:
        yield _worker(int(announcement["pid"]))


def _readiness(client: Client) -> Finding:
    try:
        client.health("ready")
    except RequestFailed as error:
        return Finding(part="default model", state=State.NOTE, text=error.message, hint=error.hint)
    return Finding(part="default model", state=State.OK, text="answers")


def _worker(supervisor_pid: int) -> Finding:
    try:
        children = psutil.Process(supervisor_pid).children()
        workers = [child.pid for child in children if "workers" in child.cmdline()]
    except psutil.Error as error:
        return Finding(part="worker", state=State.NOTE, text=f"cannot be seen: {error}")
    if workers:
        return Finding(part="worker", state=State.OK, text=f"runs (pid {', '.join(map(str, workers))})")
    return Finding(
        part="worker", state=State.BROKEN, text="not running", hint="The log of `athanor serve` says why."
    )


def _has_database(settings: Settings) -> bool:
    return bool(settings.database_url) or (settings.data_dir / "athanor.db").exists()


def _database(settings: Settings) -> Finding:
    kind = settings.sqlalchemy_url.partition(":")[0].partition("+")[0]
    if not _has_database(settings):
        hint = "The first `athanor serve` makes it."
        return Finding(part="database", state=State.NOTE, text=f"{kind}: not made yet", hint=hint)
    try:
        revision = migrate.current(settings.sqlalchemy_url)
        is_current = migrate.is_current(settings.sqlalchemy_url)
    except AppError as error:
        return Finding(
            part="database",
            state=State.BROKEN,
            text=f"{kind}: {error.message} {error.__cause__ or ''}".strip().partition("\n")[0],
            hint="Check ATHANOR_DATABASE_URL.",
        )
    if not is_current:
        text = f"{kind}: reachable, at revision {revision or 'none'}"
        return Finding(part="database", state=State.BROKEN, text=text, hint="Run `athanor migrate`.")
    return Finding(part="database", state=State.OK, text=f"{kind}: reachable, at revision {revision}")


def _broker(settings: Settings) -> Finding:
    if not settings.broker_url:
        folder = settings.data_dir / "broker"
        return Finding(part="broker", state=State.OK, text=f"folders under {folder}")
    from kombu.exceptions import KombuError  # noqa: PLC0415 - only a broker of one's own needs it

    connection = make_celery(settings).connection_for_write()
    name = connection.as_uri()  # without its password
    try:
        connection.ensure_connection(max_retries=1, timeout=_CONNECT_TIMEOUT_S)
    except (KombuError, OSError) as error:
        hint = "Jobs still run, up to some seconds later. Check ATHANOR_BROKER_URL."
        text = f"{name} cannot be reached: {error}".partition("\n")[0]
        return Finding(part="broker", state=State.BROKEN, text=text, hint=hint)
    finally:
        connection.release()
    return Finding(part="broker", state=State.OK, text=f"{name} answers")


def _objects(settings: Settings) -> Finding:
    where = settings.objects_url or str(settings.data_dir / "objects")
    probe = secrets.token_bytes(32)
    try:
        objects = ObjectStore.from_settings(settings)
        stored = objects.put_bytes(SYSTEM, probe)
        same = objects.read(SYSTEM, stored.sha256) == probe
        objects.delete(SYSTEM, stored.sha256)
    except (AppError, ValueError) as error:
        cause = error.__cause__ or error
        return Finding(
            part="objects",
            state=State.BROKEN,
            text=f"{where} does not keep bytes: {cause}".partition("\n")[0],
            hint="Check ATHANOR_OBJECTS_URL, its credentials, and the disk.",
        )
    state = State.OK if same else State.BROKEN
    return Finding(part="objects", state=state, text=f"{where} keeps and returns bytes")


def _gb(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.1f} GB"


def is_healthy(findings: list[Finding]) -> bool:
    """Nothing that is needed is broken."""
    return all(finding.state is not State.BROKEN for finding in findings)
