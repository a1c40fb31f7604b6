"""Athanor as a user starts it, and an empty route behind the same gateway.

Run as a program this is the empty route: the real gateway (id, door, access log, metrics) around a route that
reads the body and answers a constant. What a request costs here, no server built like this can save.
"""

import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

import onnxruntime
from starlette.applications import Starlette

from app.access.door import Door
from app.access.principal import SYSTEM
from app.api.gateway import Answer, Exchange, Gateway, Reply
from app.api.server import run
from app.db import migrate
from app.observability.access_log import AccessLog
from app.services import build_services
from app.settings import Settings
from app.supervisor.bind import BACKLOG
from benchmarks.serving.load import PATH
from benchmarks.serving.servers import Spec
from models.manifest import MODEL_FILE, Certificate, Level, Manifest, sha256_hex

_ANSWER = (
    b'{"model":"none:1","predictions":['
    + b",".join(b'{"label":"c%d","score":0.123456789}' % index for index in range(5))
    + b"]}"
)


def publish_timing_model(settings: Settings, name: str, manifest: Manifest, path: Path) -> None:
    """Put a graph into the registry of this data dir, as an import without reference outputs."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    migrate.upgrade(settings.sqlalchemy_url)
    services = build_services(settings)
    data = path.read_bytes()
    certificate = Certificate(
        level=Level.IMPORTED,
        model_sha256=sha256_hex(data),
        manifest_sha256=sha256_hex(manifest.to_json()),
        size_bytes=len(data),
        runtime=f"onnxruntime {onnxruntime.__version__} CPUExecutionProvider",
        created_at=datetime.now(UTC).isoformat(),
    )
    services.registry.publish(
        SYSTEM, name=name, manifest=manifest, certificate=certificate, artifacts={MODEL_FILE: path}
    )
    services.close()


def athanor_spec(settings: Settings, name: str) -> Spec:
    """`athanor serve`: supervisor, gateway and worker, every default on; no starter to import."""
    return Spec(
        name="athanor",
        command=(str(Path(sys.executable).with_name("athanor")), "serve", "--port", "{port}"),
        environment=_environment(settings) | {"ATHANOR_DEFAULT_CLASSIFIER": name},
        query=f"?model={name}",
    )


def empty_spec(settings: Settings) -> Spec:
    """The empty route."""
    return Spec(
        name="empty",
        command=(sys.executable, "-m", "benchmarks.serving.athanor_server", "{port}"),
        environment=_environment(settings),
    )


def _environment(settings: Settings) -> dict[str, str]:
    return {"ATHANOR_DATA_DIR": str(settings.data_dir), "ATHANOR_STARTERS": ""}


class EmptyRoute:
    """Takes the body and answers at once, on either way."""

    def __init__(self, max_body_bytes: int) -> None:
        self.max_body_bytes = max_body_bytes

    async def __call__(self, exchange: Exchange) -> Answer:
        await exchange.body(self.max_body_bytes)
        return self._answer()

    def begin(self, exchange: Exchange, body: bytes, reply: Reply) -> "EmptyRoute":
        reply(self._answer)
        return self

    def abandon(self) -> None:
        """Nothing is ever pending."""

    def _answer(self) -> Answer:
        return Answer(_ANSWER, timing="decode;dur=0.00, queue;dur=0.00, infer;dur=0.00")


def main() -> None:
    settings = Settings()
    services = build_services(settings)
    access_log = AccessLog(as_json=settings.logs_json(sys.stderr.isatty()))

    gateway = Gateway(
        Starlette(),  # nothing is behind a gateway that only has hot routes
        door=Door(settings, dict),
        hot={PATH: EmptyRoute(settings.max_body_bytes)},
        metrics=services.metrics,
        access_log=access_log,
    )
    access_log.start()
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=BACKLOG)
    run(gateway, listener, drain_timeout_s=settings.drain_timeout_s)
    access_log.close()


if __name__ == "__main__":
    main()
