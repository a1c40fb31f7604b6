"""Which engine answers which reference: loaded on demand, swapped without a gap, unloaded when unused, or
when another needs its memory (`residency.py`).

    registry ── revision ──► snapshot ──► routes: (tenant, reference) ─► Engine
    when an alias moves, or a model shall be served otherwise: load · warm · probe · switch · drain · unload

Requests only read `routes`, a dictionary; everything that blocks happens in the pool's own threads or
in the threads of synchronous routes. A request holds its engine from look-up to answer, so a switch
neither fails nor mixes anything: what began on the old version ends on it.
"""

import threading
from collections.abc import Callable
from functools import partial

import structlog

from app.access.principal import SYSTEM, Principal
from app.errors import AppError, ModelNotReady, StorageUnavailable, UnknownModel, UnknownVersion
from app.registry.reference import DEFAULT_ALIAS, Reference, parse_reference, unknown_alias
from app.registry.service import Registry
from app.registry.snapshot import ModelFacts, ServingOptions, SnapshotData, VersionFacts
from app.runtime.engine import Engine
from app.runtime.heap import trim_heap
from app.runtime.loader import Loader
from app.runtime.residency import EngineKey, Residency, engine_key
from models.starters import STARTERS

_POLL_S = 0.5
_log = structlog.get_logger(__name__)

RouteKey = tuple[str, str]
"""(tenant id, reference as written)"""


class Pool:
    """All engines of this process."""

    def __init__(
        self,
        *,
        registry: Registry,
        loader: Loader,
        residency: Residency,
        default_classifier: str,
        drain_timeout_s: float,
    ) -> None:
        """`default_classifier`: the reference that is pinned unless its model says otherwise."""
        self._registry = registry
        self._loader = loader
        self._residency = residency
        self._default_classifier = default_classifier
        self._drain_timeout_s = drain_timeout_s
        self._snapshot = SnapshotData.empty()
        self._routes: dict[RouteKey, Engine] = {}
        self._lock = threading.RLock()
        """Guards routes and snapshot against other writers; readers take no lock."""
        residency.left = self._unroute
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

    def acquire(self, principal: Principal, reference: str) -> Engine:
        """Load what a reference means and route it; held for the caller, who must `let_go` of it. Blocking.

        Raises:
            UnknownModel, UnknownVersion: also after one refresh of the snapshot.
            NotServable: it does not load, or is larger than all models together may be.
            ModelNotReady: those in its way are pinned, or remain in use.
            OutOfMemory: the system has not enough for it.

        """
        parsed = parse_reference(reference)
        try:
            self._resolve(principal, parsed)
        except (UnknownModel, UnknownVersion):
            self._read_snapshot()
        engine = self._engine(principal, parsed.name, self._resolve(principal, parsed))
        with self._lock:
            self._routes[principal.tenant_id, reference] = engine
        return engine

    def load(self, principal: Principal, reference: str) -> None:
        """The same ahead of any request; nobody holds it."""
        self.acquire(principal, reference).let_go()

    # -- what the registry's routes use ----------------------------------------------------------------

    def prepare(self, principal: Principal, name: str, number: int) -> None:
        """Load and prove a version before an alias moves to it; a version that fails moves no alias."""
        self._read_snapshot()
        version = self._resolve(principal, Reference(name=name, alias=None, number=number))
        self._engine(principal, name, version).let_go()

    def loaded(self, version: VersionFacts) -> list[Engine]:
        """The engines of a version: one, or two while the newer takes over."""
        return [engine for key, engine in self._residency.engines().items() if key[0] == version.id]

    def pinned(self) -> dict[EngineKey, RouteKey]:
        """What is to stay loaded, and the reference that says so: of each pinned model what its bare name
        means, and the default classifier."""
        named = [key for key, model in self._snapshot.models.items() if model.serving.pinned]
        if self._default_classifier:
            named.append((SYSTEM.tenant_id, self._default_classifier))
        found: dict[EngineKey, RouteKey] = {}
        for tenant_id, text in named:
            principal = Principal(tenant_id=tenant_id)
            try:
                reference = parse_reference(text)
                version = self._resolve(principal, reference)
            except AppError:
                continue  # not there yet
            options = self._options(principal, reference.name)
            if options.pinned is not False:
                found[engine_key(version.id, options)] = (tenant_id, text)
        return found

    def stays_loaded(self, principal: Principal, name: str) -> bool:
        """What a bare name means is pinned."""
        try:
            version = self._resolve(principal, parse_reference(name))
        except (UnknownModel, UnknownVersion):
            return False
        return engine_key(version.id, self._options(principal, name)) in self.pinned()

    def refresh(self) -> None:
        """Follow the registry now: switch routes whose alias has moved, unload what nobody routes to."""
        self._read_snapshot()
        with self._lock:
            routes = list(self._routes)
        for key in routes:
            self._follow(key)
        with self._lock:
            routed = set(self._routes.values())
        self._residency.dismiss(routed)

    # -- life ------------------------------------------------------------------------------------------

    def start(self, preload: Callable[[], None] | None = None) -> None:
        """Read the registry and begin to follow it; `preload` runs first on the polling thread."""
        self._preload = preload
        self._poller.start()

    @property
    def has_begun(self) -> bool:
        """It follows the registry, or did."""
        return self._poller.ident is not None

    def close(self) -> None:
        """Stop following and unload everything, waiting for requests in flight."""
        self._stop.set()
        if self._poller.is_alive():
            self._poller.join(self._drain_timeout_s)
        with self._lock:
            self._routes.clear()
        self._residency.close()
        self._loader.close()

    # -- inside ------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        self._begin()
        trimmed_at = seen = 0
        while not self._stop.wait(_POLL_S):
            now = sum(engine.large_decodes for engine in self._residency.engines().values())
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

    def _begin(self) -> None:
        try:
            self._read_snapshot()
        except StorageUnavailable as error:
            _log.warning("registry not readable yet", error=error.message)
        if self._preload is not None:
            self._preload()

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

    def _options(self, principal: Principal, name: str) -> ServingOptions:
        model = self._snapshot.models.get((principal.tenant_id, name))
        return model.serving if model is not None else ServingOptions()

    def _engine(self, principal: Principal, name: str, version: VersionFacts) -> Engine:
        """The engine of a version, held for the caller; loaded by whoever comes first."""
        options = self._options(principal, name)
        key = engine_key(version.id, options)
        engine = self._residency.get(key)
        if engine is not None and engine.hold():
            return engine
        candidate = self._loader.prepare(principal, name, version, options)
        with self._residency.admission:
            engine = self._residency.get(key)
            if engine is not None and engine.hold():
                return engine
            return self._residency.bring(
                key,
                partial(self._loader.load, candidate),
                label=candidate.label,
                expected=candidate.footprint,
                pinned=self.pinned(),
            )

    def _follow(self, key: RouteKey) -> None:
        """Point one route at what it means now. A version that does not load leaves the old one serving; one
        that finds no room is loaded by whoever asks for it next."""
        tenant_id, text = key
        principal = Principal(tenant_id=tenant_id)
        reference = parse_reference(text)
        try:
            version = self._resolve(principal, reference)
            engine = self._engine(principal, reference.name, version)
        except (UnknownModel, UnknownVersion, ModelNotReady):
            with self._lock:
                self._routes.pop(key, None)
            return
        except AppError as error:
            _log.error("new version does not load; the old one goes on", reference=text, error=error.message)
            return
        with self._lock:
            self._routes[key] = engine
        engine.let_go()

    def _unroute(self, engine: Engine) -> None:
        with self._lock:
            for key in [key for key, routed in self._routes.items() if routed is engine]:
                del self._routes[key]
