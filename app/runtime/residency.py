"""Which engines are loaded, how much they hold together, and who leaves when another comes.

    newcomer ──► room? ── no ──► the least recently used engine that is neither pinned nor held leaves; while
                   │             all are held, the least recently used is drained; if all are pinned, or none
                   │             drains in time, the newcomer is refused
                   └─ yes ─► load · weigh ─► more than expected? others leave, or the newcomer does

One load at a time: what it holds can be weighed, and nobody is promised the same room twice.
"""

import threading
import time
from collections.abc import Callable, Collection

import structlog

from app.errors import AppError, ModelNotReady, NotServable, OutOfMemory
from app.observability.metrics import Metrics
from app.registry.snapshot import ServingOptions
from app.runtime.engine import Engine
from app.runtime.footprint import Footprint
from app.runtime.heap import trim_heap
from models.train.memory import total_bytes

EngineKey = tuple[str, int | None, int | None, int | None]
"""(version id, instances, threads, most inputs per run; None as measured)"""

_POLL_S = 0.005
_RETRY_AFTER_S = 1.0
_SHARE = 2
_log = structlog.get_logger(__name__)


def engine_key(version_id: str, options: ServingOptions) -> EngineKey:
    """What makes two engines the same."""
    return version_id, options.instances, options.threads, options.max_batch


def memory_limit(setting_bytes: int) -> int:
    """What models may hold together: as set, or half of what there is. The other half is for pictures,
    answers and everything else on the machine."""
    return setting_bytes or total_bytes() // _SHARE


class Residency:
    """The loaded engines of this process and the bound on what they hold."""

    def __init__(self, *, limit_bytes: int, metrics: Metrics, drain_timeout_s: float) -> None:
        self.limit_bytes = limit_bytes
        self.left: Callable[[Engine], None] = lambda _: None
        """Told of an engine that newcomers should find no more."""
        self._metrics = metrics
        self._drain_timeout_s = drain_timeout_s
        self._engines: dict[EngineKey, Engine] = {}
        self._leaving: set[Engine] = set()
        """Unrouted ones that answer their last requests and still hold their memory."""
        self._lock = threading.Lock()
        """Guards the two; held for moments only."""
        self.admission = threading.Lock()
        """Held by whoever loads."""
        metrics.model_memory(lambda: self.held_bytes, limit_bytes)

    # -- reading -------------------------------------------------------------------------------------

    def get(self, key: EngineKey) -> Engine | None:
        """The engine that is loaded under this key."""
        return self._engines.get(key)

    def engines(self) -> dict[EngineKey, Engine]:
        """All that are loaded now."""
        with self._lock:
            return dict(self._engines)

    @property
    def held_bytes(self) -> int:
        """What all engines hold, as weighed, also those that are about to leave."""
        with self._lock:
            return sum(engine.footprint.held_bytes for engine in (*self._engines.values(), *self._leaving))

    # -- coming ----------------------------------------------------------------------------------------

    def bring(
        self,
        key: EngineKey,
        load: Callable[[], Engine],
        *,
        label: str,
        expected: Footprint,
        pinned: Collection[EngineKey],
    ) -> Engine:
        """Make room, load, weigh, keep: the engine, held for the caller. The caller holds `admission`.

        Raises:
            NotServable: it is larger than the bound, or does not load.
            ModelNotReady: those in its way are pinned, or in use for longer than anybody waits.
            OutOfMemory: the system has less than the bound promises, also after the idle ones have left.

        """
        try:
            self._make_room(label, expected, pinned)
            engine = self._load(load, pinned)
            if engine.footprint.held_bytes > self.limit_bytes:  # something else may have been weighed with it
                engine.drain_and_close(self._drain_timeout_s)
                engine = self._load(load, pinned)
            try:
                self._make_room(label, engine.footprint.settled(), pinned)
            except AppError:
                engine.drain_and_close(self._drain_timeout_s)
                raise
        except (ModelNotReady, NotServable, OutOfMemory) as error:
            self._metrics.load_refused(error.code)
            raise
        engine.hold()
        with self._lock:
            self._engines[key] = engine
        self._metrics.loaded(len(self._engines))
        _log.info("model loaded", model=label, held_bytes=engine.footprint.held_bytes)
        return engine

    def _load(self, load: Callable[[], Engine], pinned: Collection[EngineKey]) -> Engine:
        try:
            return load()
        except OutOfMemory:
            if not self._evict_idle(pinned):
                raise
        return load()

    def _make_room(self, label: str, wanted: Footprint, pinned: Collection[EngineKey]) -> None:
        """Others leave until the newcomer's peak fits beside the rest, or at least what it will hold."""
        if wanted.held_bytes > self.limit_bytes:
            raise NotServable(
                f"{label} holds {_mb(wanted.held_bytes)} when loaded; all models together may hold "
                f"{_mb(self.limit_bytes)}.",
                param="model",
                hint=f"Set ATHANOR_MODEL_MEMORY_BYTES to {wanted.held_bytes} or more.",
            )
        until_s = time.monotonic() + self._drain_timeout_s
        while self.held_bytes + wanted.peak_bytes > self.limit_bytes:
            is_needed = self.held_bytes + wanted.held_bytes > self.limit_bytes
            if self._leaving and time.monotonic() < until_s:
                time.sleep(_POLL_S)
            elif not self._evict_one(pinned, until_s if is_needed else 0.0):
                if is_needed:
                    raise self._no_room(label, wanted, pinned)
                return

    def _no_room(self, label: str, wanted: Footprint, pinned: Collection[EngineKey]) -> ModelNotReady:
        stay = [engine.label for key, engine in self.engines().items() if key in pinned]
        kept = f" Pinned: {', '.join(sorted(stay))}." if stay else ""
        return ModelNotReady(
            f"There is no room to load {label}: it holds {_mb(wanted.held_bytes)}, and of the "
            f"{_mb(self.limit_bytes)} for models {_mb(self.held_bytes)} are in use or pinned.{kept}",
            param="model",
            hint="Retry, unpin a model (PUT /v1/models/NAME/serving), or raise ATHANOR_MODEL_MEMORY_BYTES.",
            retry_after_s=_RETRY_AFTER_S,
        )

    # -- leaving ---------------------------------------------------------------------------------------

    def _evict_one(self, pinned: Collection[EngineKey], until_s: float) -> bool:
        """Unload the least recently used engine that nobody holds, or else drain the least recently used one
        until then."""
        loaded = sorted(self.engines().items(), key=lambda item: item[1].used_s)
        unpinned = [(key, engine) for key, engine in loaded if key not in pinned]
        for key, engine in unpinned:
            if engine.is_idle and self._evict(key, engine, 0.0):
                return True
        for key, engine in unpinned:
            left_s = until_s - time.monotonic()
            if left_s > 0 and self._evict(key, engine, left_s):
                return True
        return False

    def _evict_idle(self, pinned: Collection[EngineKey]) -> bool:
        """Unload all that nobody needs now. False when there is no such."""
        gone = 0
        while self._evict_one(pinned, 0.0):
            gone += 1
        return gone > 0

    def _evict(self, key: EngineKey, engine: Engine, timeout_s: float) -> bool:
        """Nobody finds it any more, and when nobody holds it, it goes. False when time ran out: it stays."""
        with self._lock:
            if self._engines.pop(key, None) is None:
                return True  # dismissed meanwhile: it is leaving
        self.left(engine)
        if not engine.drain(timeout_s):
            with self._lock:
                self._engines[key] = engine
            return False
        engine.drain_and_close(self._drain_timeout_s)
        self.left(engine)  # who had found it before may have routed it once more
        trim_heap()
        self._metrics.evicted(len(self._engines))
        _log.info("model unloaded for another", model=engine.label)
        return True

    def dismiss(self, routed: Collection[Engine]) -> None:
        """Unload, in the background, every engine but these."""
        with self._lock:
            unused = {key: engine for key, engine in self._engines.items() if engine not in routed}
            for key, engine in unused.items():
                del self._engines[key]
                self._leaving.add(engine)
        self._metrics.models_loaded.set(len(self._engines))
        for engine in unused.values():
            threading.Thread(target=self._dismiss, args=(engine,), name="unload", daemon=True).start()

    def _dismiss(self, engine: Engine) -> None:
        engine.drain_and_close(self._drain_timeout_s)
        with self._lock:
            self._leaving.discard(engine)

    def close(self) -> None:
        """Unload everything, waiting for requests in flight."""
        with self._lock:
            engines = list(self._engines.values())
            self._engines.clear()
        for engine in engines:
            engine.drain_and_close(self._drain_timeout_s)


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.0f} MB"
