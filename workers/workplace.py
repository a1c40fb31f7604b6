"""What every run of a worker needs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from app.datasets.service import DatasetService
from app.db.session import Database
from app.jobs.records import RunRecords
from app.jobs.store import JobStore
from app.registry.service import Registry
from app.settings import Settings
from app.storage.disk import Disk
from app.storage.objects import ObjectStore
from workers.nursery import Nursery


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """The services below a worker, composed once."""

    settings: Settings
    database: Database
    store: JobStore
    records: RunRecords
    objects: ObjectStore
    registry: Registry
    datasets: DatasetService
    disk: Disk
    nursery: Nursery
    kinds: Mapping[str, str]
    """Kind of job -> `module:function`."""
    holder: str
    """Name of this worker, for people who read job events."""

    @classmethod
    def of(
        cls, settings: Settings, database: Database, *, kinds: Mapping[str, str], holder: str
    ) -> "Workplace":
        """Compose it from settings."""
        objects = ObjectStore.from_settings(settings)
        return cls(
            settings=settings,
            database=database,
            store=JobStore(database, max_running_jobs=settings.max_running_jobs),
            records=RunRecords(database),
            objects=objects,
            registry=Registry(database, objects),
            datasets=DatasetService(database, objects),
            disk=Disk.of(settings),
            nursery=Nursery(threads=settings.cpu_threads or len(os.sched_getaffinity(0))),
            kinds=kinds,
            holder=holder,
        )
