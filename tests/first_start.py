"""What a first start leaves behind: its starters, imported once for all processes of a run of tests."""

import fcntl
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from app.access.principal import SYSTEM
from app.db.session import Database
from app.jobs.service import JobService
from app.registry.service import Registry
from app.settings import Settings
from app.storage.objects import ObjectStore
from models.manifest import Certificate, Manifest
from tests.app.supervisor.service_process import Service

STARTERS = {
    "STARTERS": "efficientnet-lite0,u2netp,waifu2x-photo",
    "DEFAULT_CLASSIFIER": "efficientnet-lite0",
}
"""As it is by default: other services under test have none."""
PATIENCE_S = 400.0


@dataclass(frozen=True)
class Imported:
    """A starter, and what its import said. Its files are shared: only read them."""

    manifest: Manifest
    certificate: Certificate
    artifacts: dict[str, Path]
    phases: list[tuple[str, float]]
    """Each with how far the job was when it began, 0..1."""
    messages: list[str]
    settings: Settings

    @property
    def source(self) -> Path:
        """The file that was fetched."""
        return self.settings.data_dir / "cache" / "sources" / str(self.manifest.source_sha256)


class FirstStart:
    """A data dir on which `athanor serve` was started once, until all starters answered."""

    def __init__(self, shared: Path) -> None:
        """In this folder, by whichever process asks first; the others wait."""
        self.data_dir = shared / "first-start" / "data"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        done = self.data_dir.with_name("done")
        with self.data_dir.with_name("lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                self._serve()
                done.touch()
        self.starter = cache(self._starter)

    def _serve(self) -> None:
        service = Service(self.data_dir, **STARTERS).start()

        def has_all() -> bool:
            jobs = json.loads(service.get("/v1/jobs")[1])["data"]
            return {job["status"] for job in jobs} == {"succeeded"}

        try:
            service.wait(service.answers, timeout_s=PATIENCE_S, what="the first start")
            service.wait(has_all, timeout_s=PATIENCE_S, what="the further starters")
        finally:
            service.end()

    def _starter(self, name: str) -> Imported:
        settings = Settings(data_dir=self.data_dir, _env_file=None)
        database, objects = Database(settings.sqlalchemy_url), ObjectStore.from_settings(settings)
        try:
            version = Registry(database, objects).get_version(SYSTEM, name, 1)
            jobs = JobService(database, lambda _: None)
            (job,) = [job for job in jobs.list(SYSTEM, limit=10) if job.spec["name"] == name]
            events = jobs.events(SYSTEM, job.id)
        finally:
            database.close()
        return Imported(
            manifest=version.manifest,
            certificate=version.certificate,
            artifacts={each.name: objects.fetch(SYSTEM, each.sha256) for each in version.artifacts},
            phases=[(each.message, each.data["progress"]) for each in events if each.kind == "progress"],
            messages=[each.message for each in events if each.kind == "message"],
            settings=settings,
        )
