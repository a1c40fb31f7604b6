"""A training in this process: what a worker gives the kind, and what it sees of it."""

from dataclasses import replace
from pathlib import Path

from app.access.principal import SYSTEM
from app.datasets.service import DatasetService
from app.db.session import Database
from app.jobs.service import JobService
from app.registry.service import Registry
from app.settings import Settings
from app.storage.objects import ObjectStore
from models.train.spec import read_spec
from tests.packs import publish_pack
from tests.registry_world import publish_parcel
from workers.context import JobContext

LENET = {"model": "lenet5", "adapter": {"method": "full"}, "max_steps": 6, "batch_size": 3, "threads": 1}


class TrainingPlace:
    """Keeps what the runs say; nothing that they measure is written into the database."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.settings = Settings(data_dir=folder / "data", database_url=url, _env_file=None)
        self.database = Database(url)
        self.objects = ObjectStore.from_settings(self.settings)
        self.registry = Registry(self.database, self.objects)
        self.jobs = JobService(self.database, lambda _: None)
        self.dataset = publish_pack(
            DatasetService(self.database, self.objects), SYSTEM, folder, name="colours"
        )
        self.measured: dict[int, dict[str, float]] = {}
        self.facts: dict[str, object] = {}
        self.runs = 0

    def order(self, *, around=None, **train):
        """The spec of a training of LeNet-5, with changes."""
        spec = read_spec({**LENET, **train}).model_dump(mode="json")
        return {"train": spec, "dataset": str(self.dataset), **(around or {})}

    def context(self, spec, **changes):
        """The world of the next run."""
        self.runs += 1
        work_dir = self.folder / f"run-{self.runs}"
        work_dir.mkdir()
        job = self.jobs.create(SYSTEM, kind="fine_tune", spec=spec)
        context = JobContext(
            spec=spec,
            work_dir=work_dir,
            objects=self.objects,
            principal=SYSTEM,
            settings=self.settings,
            progress=lambda fraction, phase: None,
            message=lambda text: None,
            job_id=job.id,
            metrics=lambda step, values: self.measured.update({step: dict(values)}),
            facts=self.facts.update,
        )
        return replace(context, **changes)

    def publish(self, outcome):
        """What the worker does with it."""
        return publish_parcel(self.registry, outcome.publish)
