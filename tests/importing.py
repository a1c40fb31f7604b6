"""Imports as a worker's child runs them, and one EfficientNet-Lite0 that all tests of a process share."""

import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from app.access.principal import SYSTEM
from app.db import migrate
from app.db.session import Database
from app.files.service import FileService
from app.settings import Settings
from app.storage.objects import ObjectStore
from workers.context import JobContext, Outcome
from workers.kinds.import_model import run

PHOTOS = Path(__file__).parent.parent / "examples" / "photos"


@dataclass
class Imports:
    """Uploads and imports on one data dir; remembers what the last import said."""

    settings: Settings
    progress: list[tuple[float, str]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def upload(self, data: bytes, filename: str = "model.onnx") -> str:
        """Store a file as a caller does; returns its id."""
        database = Database(self.settings.sqlalchemy_url)
        files = FileService(database, ObjectStore.from_settings(self.settings), self.settings)
        with files.begin() as upload:
            upload.write(data)
            facts = files.commit(SYSTEM, upload, filename=filename)
        database.close()
        return facts.id

    def context(self, spec: dict, principal=SYSTEM) -> JobContext:
        """What a child process would hand to the kind."""
        self.progress.clear()
        self.messages.clear()
        return JobContext(
            spec=spec,
            work_dir=Path(tempfile.mkdtemp(dir=self.settings.data_dir)),
            objects=ObjectStore.from_settings(self.settings),
            principal=principal,
            settings=self.settings,
            progress=lambda fraction, phase: self.progress.append((fraction, phase)),
            message=self.messages.append,
        )

    def run(self, spec: dict) -> Outcome:
        """The real kind, in this process."""
        return run(self.context(spec))


def imports_in(folder: Path) -> Imports:
    """A migrated, empty data dir."""
    settings = Settings(data_dir=folder, _env_file=None)
    folder.mkdir(exist_ok=True)
    migrate.upgrade(settings.sqlalchemy_url)
    return Imports(settings)


@dataclass(frozen=True)
class Starter:
    """The starter, imported once for all tests of this process."""

    outcome: Outcome
    progress: list[tuple[float, str]]
    messages: list[str]
    settings: Settings

    @property
    def artifacts(self):
        return self.outcome.publish.artifacts

    @property
    def manifest(self):
        return self.outcome.publish.manifest


@cache
def imported_lite0() -> Starter:
    """Download, build, export and certify EfficientNet-Lite0: about ten seconds, once per process."""
    imports = imports_in(Path(_keep_for_process.name) / "data")
    outcome = imports.run({"source": "starter:efficientnet-lite0", "name": "efficientnet-lite0"})
    return Starter(outcome, list(imports.progress), list(imports.messages), imports.settings)


_keep_for_process = tempfile.TemporaryDirectory(prefix="athanor-lite0-", ignore_cleanup_errors=True)
