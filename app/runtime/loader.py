"""From a version in the registry to an engine: fetch, check, measure once, open, warm, probe."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from app.access.principal import Principal
from app.errors import InferenceFailed, NotServable
from app.observability.metrics import Metrics
from app.registry.snapshot import VersionFacts
from app.runtime.engine import Codec, Engine, EngineFacts
from app.runtime.plan import machine_key, measure_plan, serving_cores
from app.runtime.session import OnnxSession
from app.runtime.tunings import TuningStore
from app.settings import Settings
from app.storage.objects import ObjectStore
from models.manifest import MODEL_FILE, Manifest, Task
from models.tasks.classification import ClassificationCodec
from models.tasks.images import ImageLimits
from models.tasks.segmentation import SegmentationCodec

_log = structlog.get_logger(__name__)


CODECS: dict[Task, Callable[[Manifest, ImageLimits], Codec]] = {
    Task.CLASSIFICATION: ClassificationCodec,
    Task.SEGMENTATION: SegmentationCodec,
}
"""Which codec serves a task; a task that is not here cannot be served yet."""


class Loader:
    """Makes engines. Blocking: called from the pool's threads only."""

    def __init__(
        self, *, settings: Settings, objects: ObjectStore, tunings: TuningStore, metrics: Metrics
    ) -> None:
        self._objects = objects
        self._tunings = tunings
        self._metrics = metrics
        self._settings = settings
        self._cores = serving_cores(settings.cpu_threads)
        self._limits = ImageLimits(max_pixels=settings.max_image_pixels)
        self._side_pool = ThreadPoolExecutor(max_workers=self._cores, thread_name_prefix="decode")
        self._machine = machine_key(self._cores)

    def load(self, principal: Principal, name: str, version: VersionFacts) -> Engine:
        """Load one version and prove that it answers.

        Raises:
            NotServable: its task has no codec, its file does not load, or its probe fails.

        """
        manifest = version.manifest
        if manifest.task not in CODECS:
            raise NotServable(
                f"{name}:{version.number} is a {manifest.task} model; no codec of this release serves that.",
                param="model",
                hint=f"Servable tasks: {', '.join(sorted(CODECS))}.",
            )
        artifact = version.artifact(MODEL_FILE)
        if artifact is None:
            raise NotServable(f"{name}:{version.number} has no {MODEL_FILE}.", hint="Import it again.")
        path = self._objects.fetch(principal, artifact.sha256)
        shape = (manifest.preprocessing.height, manifest.preprocessing.width, 3)
        plan = self._tunings.find(artifact.sha256, self._machine)
        if plan is None:
            plan = measure_plan(path, shape=shape, cores=self._cores, max_batch=manifest.max_batch)
            self._tunings.keep(artifact.sha256, self._machine, plan)
            _log.info("plan measured", model=f"{name}:{version.number}", **plan.as_row())
        metrics = self._metrics.for_model(name)
        engine = Engine(
            EngineFacts(
                name=name,
                number=version.number,
                shape=shape,
                plan=plan,
                capacity=self._settings.queue_capacity,
            ),
            session=OnnxSession(path, threads=plan.threads),
            lone_session=OnnxSession(path, threads=plan.lone_threads, spins=True)
            if plan.lone_threads
            else None,
            codec=CODECS[manifest.task](manifest, self._limits),
            metrics=metrics,
            side_pool=self._side_pool,
        )
        metrics.watch_queue(engine.batcher)
        try:
            engine.probe()
        except InferenceFailed as error:
            engine.drain_and_close(timeout_s=1.0)
            raise NotServable(error.message, param="model", hint=error.hint) from error
        return engine

    def close(self) -> None:
        """End the decoding threads."""
        self._side_pool.shutdown(wait=False, cancel_futures=True)
