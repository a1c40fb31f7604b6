"""From a version in the registry to an engine: fetch, check, measure once, open, warm, probe, weigh."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import structlog

from app.access.principal import Principal
from app.errors import AppError, InferenceFailed, NotServable, OutOfMemory
from app.observability.metrics import Metrics
from app.registry.snapshot import ServingOptions, VersionFacts
from app.runtime.engine import Engine, EngineFacts
from app.runtime.footprint import Footprint, Weighing
from app.runtime.plan import MOST_ON_GPU, Plan, full_shape, machine_key, measure_for, serving_cores
from app.runtime.providers import Providers, prepare
from app.runtime.session import OnnxSession
from app.runtime.tunings import TuningStore
from app.settings import Settings
from app.storage.objects import ObjectStore
from models.manifest import MODEL_FILE, Manifest, TileFacts
from models.tasks.codecs import SERVABLE, codec_of
from models.tasks.images import ImageLimits

_TILE_STEP = 16
_RETRY_AFTER_S = 2.0
_log = structlog.get_logger(__name__)


def _within(manifest: Manifest, plan: Plan, longest_run_s: float) -> tuple[Manifest, Plan]:
    """Batches no larger, and windows smaller if need be, so that a run takes no longer."""
    if manifest.tiles is not None and (smaller := _smaller(manifest.tiles, plan, longest_run_s)):
        before = prod(full_shape(manifest))
        sides = {"height": smaller.window, "width": smaller.window}
        preprocessing = manifest.preprocessing.model_copy(update=sides)
        manifest = manifest.model_copy(update={"tiles": smaller, "preprocessing": preprocessing})
        plan = replace(plan, images_per_s=plan.images_per_s * before / prod(full_shape(manifest)))
    return manifest, plan.within(longest_run_s)


def _smaller(tiles: TileFacts, plan: Plan, longest_run_s: float) -> TileFacts | None:
    """Tiles of which one runs in that time, by its pixels; None where they do already, or can be no
    smaller."""
    if not plan.run_s() > longest_run_s:
        return None
    window = tiles.window * (longest_run_s / plan.run_s()) ** 0.5
    side = max(_TILE_STEP, int(window - 2 * tiles.surround) // _TILE_STEP * _TILE_STEP)
    return tiles.model_copy(update={"side": side}) if side < tiles.side else None


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A version that is here and may be loaded."""

    label: str
    """`name:version`"""
    name: str
    version: VersionFacts
    options: ServingOptions
    path: Path
    sha256: str
    plan: Plan | None
    """As measured; None until it was loaded here once."""
    known: Footprint | None
    """What it held when it was last loaded."""

    @property
    def footprint(self) -> Footprint:
        """What it is known, or else guessed, to need."""
        return self.known or Footprint.unknown(self.path.stat().st_size)


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
        self._providers = Providers.of(settings)
        prepare(self._providers)
        self._machine = machine_key(self._cores, self._providers)
        self.may_measure = threading.Event()
        """Cleared while something else takes time and memory of this process: what is known of a version is
        trusted then, and one of which nothing is known waits."""
        self.may_measure.set()

    def prepare(
        self, principal: Principal, name: str, version: VersionFacts, options: ServingOptions
    ) -> Candidate:
        """Fetch what one version needs, and look up what it will hold.

        Raises:
            NotServable: its task has no codec, or it has no file.
            StorageUnavailable: its file cannot be had.

        """
        manifest, label = version.manifest, f"{name}:{version.number}"
        if manifest.task not in SERVABLE:
            raise NotServable(
                f"{label} is a {manifest.task} model; no codec of this release serves that.",
                param="model",
                hint=f"Servable tasks: {', '.join(SERVABLE)}.",
            )
        artifact = version.artifact(MODEL_FILE)
        if artifact is None:
            raise NotServable(f"{label} has no {MODEL_FILE}.", hint="Import it again.")
        path = self._objects.fetch(principal, artifact.sha256)
        known = self.measured(version, options)
        return Candidate(
            label=label,
            name=name,
            version=version,
            options=options,
            path=path,
            sha256=artifact.sha256,
            plan=self._tunings.find(artifact.sha256, self._machine),
            known=known and known[1],
        )

    def measured(
        self, version: VersionFacts, options: ServingOptions
    ) -> tuple[Plan, Footprint | None] | None:
        """How a version would be served here, and what its engine held; None while nobody has loaded it."""
        artifact = version.artifact(MODEL_FILE)
        plan = artifact and self._tunings.find(artifact.sha256, self._machine)
        if artifact is None or not plan:
            return None
        manifest, plan = self._served(version.manifest, plan, options)
        shape = _engine_shape(manifest, plan)
        return plan, self._tunings.footprint(artifact.sha256, self._machine, shape)

    def _served(self, manifest: Manifest, plan: Plan, options: ServingOptions) -> tuple[Manifest, Plan]:
        plan = plan.as_set(options)
        if manifest.max_batch is not None:
            plan = replace(plan, batch=min(plan.batch, manifest.max_batch))
        return _within(manifest, plan, self._settings.max_run_s)

    def load(self, candidate: Candidate) -> Engine:
        """Load one version, prove that it answers, and weigh it: one at a time.

        Raises:
            NotServable: its file does not load, or its probe fails.
            OutOfMemory: the system has not enough for it now.

        """
        try:
            return self._load(candidate)
        except InferenceFailed as error:
            raise NotServable(error.message, param="model", hint=error.hint) from error
        except MemoryError as error:
            raise OutOfMemory(
                f"There was not enough memory to load {candidate.label}.",
                param="model",
                hint="Retry when less is in use, or lower ATHANOR_MODEL_MEMORY_BYTES.",
                retry_after_s=_RETRY_AFTER_S,
            ) from error

    def _load(self, candidate: Candidate) -> Engine:
        manifest, plan = candidate.version.manifest, candidate.plan
        if plan is None or candidate.known is None:
            self.may_measure.wait()
        is_weighed = self.may_measure.is_set()
        providers = _for_manifest(self._providers, manifest)
        if plan is None:
            plan = measure_for(manifest, candidate.path, cores=self._cores, providers=providers)
            self._tunings.keep(candidate.sha256, self._machine, plan)
            _log.info("plan measured", model=candidate.label, **plan.as_row())
        manifest, plan = self._served(manifest, plan, candidate.options)
        engine = self._open(candidate, manifest, plan, providers)
        if candidate.known is not None and not is_weighed:
            engine.footprint = candidate.known
        elif not engine.footprint.is_like(candidate.known):
            shape = _engine_shape(manifest, plan)
            self._tunings.keep_footprint(candidate.sha256, self._machine, shape, engine.footprint)
        return engine

    def _open(self, candidate: Candidate, manifest: Manifest, plan: Plan, providers: Providers) -> Engine:
        path, shape = candidate.path, full_shape(manifest)
        weighing = Weighing(
            file_bytes=path.stat().st_size,
            sessions=2 if plan.lone_threads else 1,
            lanes=plan.lanes,
            batch_bytes=plan.batch * prod(shape),
        )
        session = OnnxSession(path, threads=plan.threads, providers=providers)
        lone = OnnxSession(path, threads=plan.lone_threads, spins=True) if plan.lone_threads else None
        weighing.opened()
        facts = EngineFacts(
            name=candidate.name,
            number=candidate.version.number,
            shape=shape,
            plan=plan,
            capacity=self._settings.queue_capacity,
        )
        metrics = self._metrics.for_model(candidate.name)
        try:
            engine = Engine(
                facts,
                session=session,
                lone_session=lone,
                codec=codec_of(manifest, self._limits),
                metrics=metrics,
                side_pool=self._side_pool,
            )
        except RuntimeError as error:
            raise MemoryError("no memory for another thread") from error
        try:
            engine.probe()
        except AppError:
            engine.drain_and_close(timeout_s=1.0)
            raise
        engine.footprint = weighing.probed()
        metrics.watch_queue(engine.batcher)
        return engine

    def close(self) -> None:
        """End the decoding threads."""
        self._side_pool.shutdown(wait=False, cancel_futures=True)


def _for_manifest(providers: Providers, manifest: Manifest) -> Providers:
    """For all sizes of its input."""
    full = full_shape(manifest)
    least = full if manifest.tiles is None else (_TILE_STEP, _TILE_STEP, 3)
    most = manifest.max_batch or MOST_ON_GPU
    return providers.for_inputs(manifest.inputs[0].name, least=(1, *least), most=(most, *full))


def _engine_shape(manifest: Manifest, plan: Plan) -> str:
    """What a footprint depends on besides the file and the machine."""
    height, width, _ = full_shape(manifest)
    return f"{plan.lanes}x{plan.threads}x{plan.batch}+{plan.lone_threads} {height}x{width}"
