"""The services of one process, composed once from settings and handed to whoever needs them."""

from dataclasses import dataclass

from app.access.principal import Principal
from app.datasets.packs import Packs
from app.datasets.service import DatasetService
from app.db.session import Database
from app.errors import AppError, ModelNotReady
from app.files.parts import UploadService
from app.files.service import FileService
from app.files.sweeper import Sweeper
from app.fine_tuning.plan import References
from app.fine_tuning.service import FineTuning
from app.jobs.feed import EventFeed
from app.jobs.service import JobService
from app.observability.metrics import Metrics
from app.queue import Doorbell
from app.registry.service import Registry
from app.runtime.loader import Loader
from app.runtime.pool import Pool
from app.runtime.residency import Residency, memory_limit
from app.runtime.tunings import TuningStore
from app.settings import Settings
from app.storage.disk import Disk
from app.storage.objects import ObjectStore


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything below the routes."""

    settings: Settings
    database: Database
    objects: ObjectStore
    registry: Registry
    files: FileService
    uploads: UploadService
    sweeper: Sweeper
    datasets: DatasetService
    packs: Packs
    jobs: JobService
    fine_tuning: FineTuning
    feed: EventFeed
    loader: Loader
    residency: Residency
    pool: Pool
    metrics: Metrics
    doorbell: Doorbell

    def why_missing(self, principal: Principal, reference: str) -> ModelNotReady | None:
        """If a job that is under way will bring this model: the error that says how far it is."""
        name = reference.partition(":")[0].partition("@")[0]
        for job in self.jobs.list(principal, kind="import", limit=20):
            if job.spec.get("name") == name and not job.status.has_ended:
                return ModelNotReady(
                    f"{name} is being imported: {job.phase or job.status}, {job.progress:.0%}.",
                    param="model",
                    hint=f"GET /v1/jobs/{job.id} shows the progress.",
                    retry_after_s=2.0,
                )
        return None

    def begin(self) -> None:
        """Follow the registry, load what is pinned, sweep; once, however often it is asked."""
        self.loader.may_measure.set()
        self._begin()

    def begin_beside_imports(self) -> None:
        """The same, until `begin` without measuring anything."""
        self.loader.may_measure.clear()
        self._begin()

    def _begin(self) -> None:
        if not self.pool.has_begun:
            self.pool.start(self._preload)
            self.sweeper.start()

    def _preload(self) -> None:
        """Load what is pinned, so that the first request does not wait for it."""
        for tenant_id, reference in self.pool.pinned().values():
            principal = Principal(tenant_id=tenant_id)
            if self.pool.find(principal, reference) is None:
                try:
                    self.pool.load(principal, reference)
                except AppError:
                    continue  # not servable, or no room: the request that asks for it is told which

    def close(self) -> None:
        """Let go of everything, engines first."""
        self.feed.close()
        self.sweeper.stop()
        self.pool.close()
        self.doorbell.close()
        self.database.close()


def build_services(settings: Settings) -> Services:
    """Compose the services. Opens nothing: connections and threads begin when they are used."""
    database = Database(settings.sqlalchemy_url)
    objects = ObjectStore.from_settings(settings)
    registry = Registry(database, objects)
    files = FileService(database, objects, settings)
    uploads = UploadService(database, objects, files)
    datasets = DatasetService(database, objects)
    metrics = Metrics()
    doorbell = Doorbell(settings)
    jobs = JobService(
        database, doorbell.ring, max_queued_jobs=settings.max_queued_jobs, disk=Disk.of(settings)
    )
    loader = Loader(settings=settings, objects=objects, tunings=TuningStore(database), metrics=metrics)
    residency = Residency(
        limit_bytes=memory_limit(settings.model_memory_bytes),
        metrics=metrics,
        drain_timeout_s=settings.drain_timeout_s,
    )
    return Services(
        settings=settings,
        database=database,
        objects=objects,
        registry=registry,
        files=files,
        uploads=uploads,
        sweeper=Sweeper(uploads),
        datasets=datasets,
        packs=Packs(objects),
        jobs=jobs,
        fine_tuning=FineTuning(database, jobs, References(registry=registry, files=files, datasets=datasets)),
        feed=EventFeed(database),
        loader=loader,
        residency=residency,
        pool=Pool(
            registry=registry,
            loader=loader,
            residency=residency,
            default_classifier=settings.default_classifier,
            drain_timeout_s=settings.drain_timeout_s,
        ),
        metrics=metrics,
        doorbell=doorbell,
    )
