"""Imports as a worker's child runs them."""

import tempfile
from dataclasses import dataclass, field
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
