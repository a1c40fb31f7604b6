"""Prove a version again from what is stored with it: the same files, the same outputs on the same samples.

Needs the database and the object store of the settings; no service need run.
"""

from dataclasses import dataclass

from app.access.principal import SYSTEM
from app.db import migrate
from app.db.session import Database
from app.errors import NotServable, ParityFailed, StorageUnavailable
from app.registry.finding import find_version
from app.registry.service import Registry
from app.settings import Settings
from app.storage.objects import ObjectStore
from models.export import parity
from models.manifest import MODEL_FILE, REFERENCE_FILE, Certificate


@dataclass(frozen=True, kw_only=True)
class Verification:
    """A certificate that holds."""

    model: str
    """`name:version`"""
    stored: Certificate
    computed: Certificate


def verify(settings: Settings, text: str) -> Verification:
    """Verify what a model reference means now.

    Raises:
        ParityFailed: the certificate does not hold; the message says where it breaks.
        UnknownModel, UnknownVersion, InvalidRequest: there is nothing of that name.
        NotServable, StorageUnavailable: the files, or the rows, cannot be had whole.

    """
    require_database(settings)
    objects = ObjectStore.from_settings(settings)
    database = Database(settings.sqlalchemy_url)
    try:
        name, version = find_version(Registry(database, objects), SYSTEM, text)
    finally:
        database.close()
    model = f"{name}:{version.number}"
    files = {
        file: objects.fetch(SYSTEM, artifact.sha256)
        for file in (MODEL_FILE, REFERENCE_FILE)
        if (artifact := version.artifact(file)) is not None
    }
    if MODEL_FILE not in files:
        raise NotServable(f"{model} has no {MODEL_FILE}.", hint="Import it again.")
    try:
        computed = parity.verify(
            files[MODEL_FILE], version.manifest, files.get(REFERENCE_FILE), against=version.certificate
        )
    except parity.ParityError as error:
        raise ParityFailed(f"{model} does not hold: {error.message}", hint=error.hint) from error
    return Verification(model=model, stored=version.certificate, computed=computed)


def require_database(settings: Settings) -> None:
    """Raises StorageUnavailable where nothing was kept yet, or by another release."""
    if not settings.database_url and not (settings.data_dir / "athanor.db").exists():
        raise StorageUnavailable(
            f"Nothing has been kept in {settings.data_dir} yet.",
            hint="Start `athanor serve`, or set ATHANOR_DATA_DIR to where it was started.",
        )
    if not migrate.is_current(settings.sqlalchemy_url):
        raise StorageUnavailable("The database is of another release.", hint="Run `athanor migrate`.")
