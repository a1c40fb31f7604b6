"""A real gateway process over a real registry, for tests that must see a process from outside."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
from pydantic import SecretStr

from app.access.principal import SYSTEM
from app.db import migrate
from app.db.session import Database
from app.registry.service import Registry
from app.runtime.plan import Plan, machine_key, serving_cores
from app.runtime.tunings import TuningStore
from app.settings import Settings
from app.storage.objects import ObjectStore
from tests.forked_gateway import GatewayForge

_FORGE = GatewayForge()


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class World:
    """A data directory with its registry, and the gateway that serves it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        migrate.upgrade(settings.sqlalchemy_url)
        self.database = Database(settings.sqlalchemy_url)
        self.objects = ObjectStore.from_settings(settings)
        self.registry = Registry(self.database, self.objects)
        self.url = f"http://127.0.0.1:{settings.port}"
        self.process: psutil.Process | None = None

    def client(self, headers: dict[str, str] | None = None) -> httpx.Client:
        """A client of this gateway."""
        return httpx.Client(base_url=self.url, timeout=60, headers={**self.headers, **(headers or {})})

    @property
    def headers(self) -> dict[str, str]:
        """With the bootstrap key, if there is one."""
        key = self.settings.api_key
        return {"authorization": f"Bearer {key.get_secret_value()}"} if key else {}

    def pin_plan(self, name: str, *, batch: int) -> None:
        """Serve the versions of a model with two lanes and this batch, whatever a measurement would say."""
        pin_plan(self.registry, self.database, name, batch=batch)

    def metric(self, name: str, **labels: str) -> float:
        """The value of one sample of `/metrics`; 0 when it was never counted."""
        wanted = "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}" if labels else ""
        for line in httpx.get(f"{self.url}/metrics", headers=self.headers).text.splitlines():
            if line.startswith(f"{name}{wanted} "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0


def pin_plan(registry: Registry, database: Database, name: str, *, batch: int) -> None:
    """Have the versions of a model served with two lanes and this batch, whatever a measurement would say."""
    store = TuningStore(database)
    for version in registry.load_snapshot().models[SYSTEM.tenant_id, name].versions.values():
        store.keep(
            version.certificate.model_sha256,
            machine_key(serving_cores(0)),
            Plan(lanes=2, threads=1, batch=batch),
        )


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def environment(settings: Settings) -> dict[str, str]:
    """The environment that makes a process read these settings."""
    given = {f"ATHANOR_{name.upper()}": _plain(getattr(settings, name)) for name in settings.model_fields_set}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ATHANOR_")}
    return {**kept, **given}


@contextmanager
def gateway(folder: Path, **settings) -> Iterator[World]:
    """Start a gateway on a fresh data directory and stop it at the end."""
    world = World(
        Settings(
            **{"default_classifier": "", "starters": "", **settings},
            data_dir=folder / "data",
            port=free_port(),
            _env_file=None,
        )
    )
    log = folder / "gateway.log"
    process = world.process = _FORGE.start(environment(world.settings), log=log)
    try:
        _wait_until_live(world.url, process, log)
        yield world
    finally:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
            try:
                process.wait(15)
            finally:
                process.kill()
        world.database.close()


def _wait_until_live(url: str, process: psutil.Process, log: Path) -> None:
    for _ in range(400):
        if not process.is_running():
            raise AssertionError(f"the gateway ended:\n{log.read_text()[-3000:]}")
        try:
            if httpx.get(f"{url}/health/live").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"the gateway does not answer:\n{log.read_text()[-3000:]}")
