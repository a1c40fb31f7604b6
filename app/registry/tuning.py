"""Measure again how a version is served fastest on this machine.

Needs the database and the object store of the settings; no service need run, and one that does should have
nothing to do meanwhile. What is found holds from the version's next load on.
"""

from dataclasses import dataclass

from app.access.principal import SYSTEM
from app.db.session import Database
from app.errors import NotServable
from app.registry.finding import find_version
from app.registry.service import Registry
from app.registry.verification import require_database
from app.runtime.plan import Plan, machine_key, measure_for, serving_cores
from app.runtime.providers import Providers
from app.runtime.tunings import TuningStore
from app.settings import Settings
from app.storage.objects import ObjectStore
from models.manifest import MODEL_FILE


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What was measured."""

    model: str
    """`name:version`"""
    tried: tuple[Plan, ...]
    chosen: Plan
    before: Plan | None
    """What was stored so far."""


def tune(settings: Settings, text: str) -> Tuning:
    """Measure the plan of what a model reference means now, and store it.

    Raises:
        UnknownModel, UnknownVersion, InvalidRequest: there is nothing of that name.
        NotServable, StorageUnavailable: the file, or the rows, cannot be had whole.

    """
    require_database(settings)
    objects = ObjectStore.from_settings(settings)
    database = Database(settings.sqlalchemy_url)
    try:
        name, version = find_version(Registry(database, objects), SYSTEM, text)
        model, artifact = f"{name}:{version.number}", version.artifact(MODEL_FILE)
        if artifact is None:
            raise NotServable(f"{model} has no {MODEL_FILE}.", hint="Import it again.")
        cores, providers = serving_cores(settings.cpu_threads), Providers.of(settings)
        store, machine = TuningStore(database), machine_key(cores, providers)
        before, tried = store.find(artifact.sha256, machine), list[Plan]()
        chosen = measure_for(
            version.manifest,
            objects.fetch(SYSTEM, artifact.sha256),
            cores=cores,
            tell=tried.append,
            providers=providers,
        )
        store.keep(artifact.sha256, machine, chosen)
    finally:
        database.close()
    return Tuning(model=model, tried=tuple(tried), chosen=chosen, before=before)
