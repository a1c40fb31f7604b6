"""Which engine answers which reference: loaded on demand, swapped without a gap, unloaded when unused.

    registry ── revision ──► snapshot ──► routes: (tenant, reference) ─► Engine
    when an alias moved: load · warm · probe · switch · drain · unload

Requests only read `routes`, a dictionary; everything that blocks happens in the pool's own threads or
in the threads of synchronous routes. A request holds its engine from look-up to answer, so a switch
neither fails nor mixes anything: what began on the old version ends on it.
"""

import threading
from collections.abc import Callable

import structlog

from app.access.principal import Principal
from app.errors import AppError, StorageUnavailable, UnknownModel, UnknownVersion
from app.observability.metrics import Metrics
from app.registry.reference import DEFAULT_ALIAS, Reference, parse_reference, unknown_alias
from app.registry.service import Registry
from app.registry.snapshot import ModelFacts, SnapshotData, VersionFacts
from app.runtime.engine import Engine
from app.runtime.heap import trim_heap
from app.runtime.loader import Loader
from models.starters import STARTERS

_POLL_S = 0.5
_log = structlog.get_logger(__name__)

RouteKey = tuple[str, str]
"""(tenant id, reference as written)"""


class Pool:
    """All engines of this process."""

    def __init__(
        self, *, registry: Registry, loader: Loader, metrics: Metrics, drain_timeout_s: float
    ) -> None:
        self._registry = registry
        self._loader = loader
        self._metrics = metrics
        self._drain_timeout_s = drain_timeout_s
        self._snapshot = SnapshotData.empty()
        self._routes: dict[RouteKey, Engine] = {}
        self._engines: dict[str, Engine] = {}
        """Loaded engines by version id."""
        self._lock = threading.RLock()
        """Guards routes and engines against other writers; readers take no lock."""
        self._load_locks: dict[str, threading.Lock] = {}
        self._preload: Callable[[], None] | None = None
        self._stop = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="registry-poll", daemon=True)

    # -- what requests use --------------------------------------------------------------------------

    def find(self, principal: Principal, reference: str) -> Engine | None:
        """The engine that answers this reference now, if one is loaded. Takes no lock."""
        return self._routes.get((principal.tenant_id, reference))

    @property
    def snapshot(self) -> SnapshotData:
        """The registry as this process knows it, at most half a second old."""
        return self._snapshot

    def load(self, principal: Principal, reference: str) -> Engine:
        """Load what a reference means and route it. Blocking.

        Raises:
            UnknownModel, UnknownVersion: also after one refresh of the snapshot.
            NotServable: it does not load.

        """
        parsed = parse_reference(reference)
        try:
            self._resolve(principal, parsed)
        except (UnknownModel, UnknownVersion):
            self._read_snapshot()
        version = self._resolve(principal, parsed)
        engine = self._engine(principal, parsed.name, version)
        with self._lock:
            self._routes[principal.tenant_id, reference] = engine
        return engine

    # -- what the registry's routes use ----------------------------------------------------------------

    def prepare(self, principal: Principal, name: str, number: int) -> None:
        """Load and prove a version before an alias moves to it; a version that fails moves no alias."""
        self._read_snapshot()
        version = self._resolve(principal, Reference(name=name, alias=None, number=number))
        self._engine(principal, name, version)

    def refresh(self) -> None:
        """Follow the registry now: switch routes whose alias has moved, unload what nobody routes to."""
        self._read_snapshot()
        with self._lock:
            routes = list(self._routes)
        for key in routes:
            self._follow(key)
        self._unload_unrouted()

    # -- life ------------------------------------------------------------------------------------------

    def start(self, preload: Callable[[], None] | None = None) -> None:
        """Read the registry and begin to follow it; `preload` runs first on the polling thread."""
        self._preload = preload
        self._poller.start()

    def close(self) -> None:
        """Stop following and unload everything, waiting for requests in flight."""
        self._stop.set()
        if self._poller.is_alive():
            self._poller.join(self._drain_timeout_s)
        with self._lock:
            engines = list(self._engines.values())
            self._engines.clear()
            self._routes.clear()
        for engine in engines:
            engine.drain_and_close(self._drain_timeout_s)
        self._loader.close()

    # -- inside ------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        if self._preload is not None:
            self._preload()
        trimmed_at = seen = 0
        while not self._stop.wait(_POLL_S):
            now = sum(engine.large_decodes for engine in list(self._engines.values()))
            if now != trimmed_at and now == seen:  # some came, and none since the last look
                trim_heap()
                trimmed_at = now
            seen = now
            try:
                if self._registry.revision() != self._snapshot.revision:
                    self.refresh()
                    if self._preload is not None:
                        self._preload()
            except StorageUnavailable as error:
                _log.warning("registry not readable; serving what is loaded", error=error.message)

    def _read_snapshot(self) -> None:
        data = self._registry.load_snapshot()
        with self._lock:
            if data.revision >= self._snapshot.revision:
                self._snapshot = data

    def _model(self, principal: Principal, reference: Reference) -> ModelFacts:
        snapshot = self._snapshot
        model = snapshot.models.get((principal.tenant_id, reference.name))
        if model is None:
            if reference.alias is not None and reference.is_checkpoint:  # its job may have made no model
                raise unknown_alias(reference.name, reference.alias, (), param="model")
            known = [known for tenant, known in snapshot.models if tenant == principal.tenant_id]
            hint = f"`athanor pull {reference.name}` brings it." if reference.name in STARTERS else None
            raise UnknownModel(reference.name, known, hint=hint)
        return model

    def _resolve(self, principal: Principal, reference: Reference) -> VersionFacts:
        model = self._model(principal, reference)
        number = reference.number
        if number is None:
            alias = reference.alias or DEFAULT_ALIAS
            if alias not in model.aliases:
                raise unknown_alias(reference.name, alias, model.aliases, param="model")
            number = model.aliases[alias]
        version = model.versions.get(number)
        if version is None:
            raise UnknownVersion(
                f"{reference.name} has no version {number}.",
                param="model",
                hint=f"Its versions: {', '.join(map(str, sorted(model.versions))) or 'none'}.",
            )
        return version

    def _engine(self, principal: Principal, name: str, version: VersionFacts) -> Engine:
        """The engine of a version, loaded by whoever comes first; others wait for that load alone."""
        with self._lock:
            load_lock = self._load_locks.setdefault(version.id, threading.Lock())
        with load_lock:
            engine = self._engines.get(version.id)
            if engine is None:
                engine = self._loader.load(principal, name, version)
                with self._lock:
                    self._engines[version.id] = engine
                    self._metrics.models_loaded.set(len(self._engines))
        return engine

    def _follow(self, key: RouteKey) -> None:
        """Point one route at what it means now. A version that does not load leaves the old one serving."""
        tenant_id, text = key
        principal = Principal(tenant_id=tenant_id)
        reference = parse_reference(text)
        try:
            version = self._resolve(principal, reference)
        except (UnknownModel, UnknownVersion):
            with self._lock:
                self._routes.pop(key, None)
            return
        try:
            engine = self._engine(principal, reference.name, version)
        except AppError as error:
            _log.error("new version does not load; the old one goes on", reference=text, error=error.message)
            return
        with self._lock:
            self._routes[key] = engine

    def _unload_unrouted(self) -> None:
        with self._lock:
            routed = set(map(id, self._routes.values()))
            unused = {key: engine for key, engine in self._engines.items() if id(engine) not in routed}
            for key in unused:
                del self._engines[key]
            self._metrics.models_loaded.set(len(self._engines))
        for engine in unused.values():
            threading.Thread(
                target=engine.drain_and_close, args=(self._drain_timeout_s,), name="unload", daemon=True
            ).start()
