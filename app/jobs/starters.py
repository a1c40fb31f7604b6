"""Starter models: ordinary import jobs that a first start asks for."""

from app.access.principal import SYSTEM
from app.errors import UnknownModel
from app.jobs.job import Job
from app.jobs.keys import Own
from app.jobs.service import JobService
from app.jobs.states import JobStatus
from app.registry.service import Registry
from app.settings import Settings


def starter_names(settings: Settings) -> list[str]:
    """The starters that the settings name."""
    return [name.strip() for name in settings.starters.split(",") if name.strip()]


def ask_for_starters(settings: Settings, jobs: JobService, registry: Registry) -> list[Job]:
    """Queue an import for each starter that was never brought in. Safe to call at every start, from anywhere.

    One that failed or was cancelled is tried anew; one whose model somebody has deleted stays deleted.
    """
    asked = []
    for name in starter_names(settings):
        key = Own.STARTER.key(name)
        known = jobs.find(SYSTEM, key)
        if known is not None and known.status in (JobStatus.FAILED, JobStatus.CANCELLED):
            jobs.forget_key(SYSTEM, key)
        elif known is not None or _exists(registry, name):
            continue
        spec = {"source": f"starter:{name}", "name": name}
        asked.append(jobs.create(SYSTEM, kind="import", spec=spec, idempotency_key=key))
    return asked


def _exists(registry: Registry, name: str) -> bool:
    try:
        registry.get_model(SYSTEM, name)
    except UnknownModel:
        return False
    return True
