"""The registry: publish, promote, roll back, read, delete.

    publish ──► version n (immutable) ◄── alias `default`, `production`, … ◄── promote / rollback

Every change is one transaction under one lock and bumps the revision that gateways poll. Files go into the
object store first and durably; only then a row speaks of them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from app.access.principal import Principal
from app.db.revision import bump_revision, lock_revision, read_revision
from app.db.session import Database
from app.db.tables import AliasRow, ModelRow, VersionRow
from app.errors import Conflict, StorageUnavailable, UnknownModel, UnknownVersion
from app.jobs.needs import NeedsRepository
from app.registry.policy import check_promotable, check_publishable, check_unused, refuse_checkpoint
from app.registry.reference import (
    DEFAULT_ALIAS,
    MAX_NUMBER,
    check_alias_name,
    check_model_name,
    checkpoint_alias,
    is_name,
    unknown_alias,
)
from app.registry.repository import RegistryRepository
from app.registry.snapshot import ModelFacts, ServingOptions, SnapshotData, VersionFacts
from app.storage.objects import ObjectStore, Stored
from app.storage.reclaim import reclaim
from models.manifest import CERTIFICATE_FILE, MANIFEST_FILE, Artifact, Certificate, Manifest


@dataclass(frozen=True, kw_only=True)
class PublishedVersion:
    """Where a publication went."""

    name: str
    number: int

    def __str__(self) -> str:
        return f"{self.name}:{self.number}"


@dataclass(frozen=True, kw_only=True)
class AliasFacts:
    """Where an alias points, and where a rollback would point it."""

    name: str
    number: int
    previous_number: int | None


class Registry:
    """Models of every tenant. All methods block, and may be called from any thread."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects
        self._known: dict[str, VersionFacts] = {}
        """Versions by id, as of the last snapshot: they never change, so they are read once."""

    # -- publishing ----------------------------------------------------------------------------------

    def stage(self, principal: Principal, artifacts: Mapping[str, Path]) -> dict[str, Stored]:
        """Store files ahead of `publish`, so that its transaction is short. Safe to repeat."""
        return {name: self._objects.put_file(principal, path) for name, path in artifacts.items()}

    def publish(
        self,
        principal: Principal,
        *,
        name: str,
        manifest: Manifest,
        certificate: Certificate,
        artifacts: Mapping[str, Path | Stored],
        job_id: str | None = None,
        session: Session | None = None,
    ) -> PublishedVersion:
        """Make a version out of files (by name; manifest and certificate are added if they are not among
        them). A new name becomes a model with version 1 and the alias `default`; a known one gets its next
        number and no alias moves. A job publishes once: a second time it gets the same version back. With
        `session`, joins that transaction and takes effect when it commits.

        Raises:
            InvalidRequest: the name cannot be a model's.
            Conflict: the model is for another task.
            NotServable, ParityFailed: the certificate is about other files, or does not hold.

        """
        check_model_name(name)
        stored = self._store(principal, manifest, certificate, artifacts)
        check_publishable(certificate, stored)
        with self._change(session) as (session_, repository):
            if job_id is not None and (done := repository.published_by(principal, job_id)) is not None:
                return PublishedVersion(name=done[0], number=done[1])
            model = repository.model(principal, name)
            if model is not None and model.task != manifest.task:
                raise Conflict(f"{name} is a {model.task} model; this is for {manifest.task}.", param="name")
            self._check_kept(principal, stored)
            number = repository.add_version(
                principal,
                name,
                manifest=manifest,
                certificate=certificate,
                artifacts=[
                    Artifact(name=file, sha256=kept.sha256, size_bytes=kept.size_bytes)
                    for file, kept in sorted(stored.items())
                ],
                job_id=job_id,
            )
            bump_revision(session_)
        return PublishedVersion(name=name, number=number)

    # -- aliases -------------------------------------------------------------------------------------

    def promote(self, principal: Principal, name: str, alias: str, number: int) -> AliasFacts:
        """Point an alias (made if it is new) at a version. Where it pointed before is kept for `rollback`.

        Raises:
            UnknownModel, UnknownVersion: there is no such thing.
            NotServable: the version's certificate does not hold.

        """
        check_alias_name(alias)
        with self._change(None) as (session, repository):
            model = _model(repository, principal, name)
            version = _version(repository, model, number)
            check_promotable(name, number, Certificate.model_validate(version.certificate))
            row = repository.alias(model, alias)
            if row is None or row.version_number != number:
                row = repository.set_alias(model, alias, number)
                bump_revision(session)
            return _alias_facts(row)

    def rollback(self, principal: Principal, name: str, alias: str) -> AliasFacts:
        """Point an alias back at where it was before; a second rollback undoes the first.

        Raises:
            UnknownModel, UnknownVersion: there is no such model or alias.
            Conflict: it never pointed anywhere else, or that version has been deleted.

        """
        with self._change(None) as (session, repository):
            model = _model(repository, principal, name)
            row = _alias(repository, model, alias)
            if row.previous_number is None:
                hint = f"Its versions: {', '.join(map(str, repository.numbers(model)))}. Promote one."
                raise Conflict(f"{name}@{alias} has no version to go back to.", param="alias", hint=hint)
            version = _version(repository, model, row.previous_number)
            check_promotable(name, version.number, Certificate.model_validate(version.certificate))
            row = repository.set_alias(model, alias, version.number)
            bump_revision(session)
            return _alias_facts(row)

    def mark_checkpoint(
        self,
        principal: Principal,
        version: PublishedVersion,
        *,
        step: int,
        session: Session | None = None,
    ) -> None:
        """Have `name@ckpt-<step>` mean this version, from now on for good: unlike others it never moves.
        With `session`, joins that transaction.

        Raises Conflict when it means another; UnknownModel, UnknownVersion.
        """
        alias = checkpoint_alias(step)
        with self._change(session) as (session_, repository):
            model = _model(repository, principal, version.name)
            _version(repository, model, version.number)
            row = repository.alias(model, alias)
            if row is None:
                repository.set_alias(model, alias, version.number)
                bump_revision(session_)
            elif row.version_number != version.number:
                refuse_checkpoint(version.name, alias, row.version_number)

    # -- serving -------------------------------------------------------------------------------------

    def set_serving(self, principal: Principal, name: str, options: ServingOptions) -> None:
        """Say how a model shall be served; every gateway follows. Raises UnknownModel."""
        with self._change(None) as (session, repository):
            model = _model(repository, principal, name)
            if ServingOptions(**model.serving or {}) != options:
                model.serving = asdict(options)
                bump_revision(session)

    # -- reading -------------------------------------------------------------------------------------

    def list_models(self, principal: Principal) -> list[ModelFacts]:
        """The tenant's models by name."""
        with self._database.read() as session:
            return list(RegistryRepository(session).models(self._known, principal=principal).values())

    def get_model(self, principal: Principal, name: str) -> ModelFacts:
        """One model with its versions and aliases, or UnknownModel."""
        with self._database.read() as session:
            repository = RegistryRepository(session)
            if is_name(name):
                models = repository.models(self._known, principal=principal, name=name)
                for model in models.values():
                    return model
            raise UnknownModel(name, repository.names(principal))

    def get_version(self, principal: Principal, name: str, number: int) -> VersionFacts:
        """One version, or UnknownModel, or UnknownVersion with the numbers there are."""
        model = self.get_model(principal, name)
        if number not in model.versions:
            raise _unknown_version(name, number, list(model.versions))
        return model.versions[number]

    def get_alias(self, principal: Principal, name: str, alias: str) -> AliasFacts:
        """One alias, or UnknownModel, or UnknownVersion with the aliases there are."""
        with self._database.read() as session:
            repository = RegistryRepository(session)
            return _alias_facts(_alias(repository, _model(repository, principal, name), alias))

    def revision(self) -> int:
        """The counter that every change bumps: one read of one row."""
        with self._database.read() as session:
            return read_revision(session)

    def load_snapshot(self) -> SnapshotData:
        """Everything at one moment, of all tenants. Only versions that are new since the last snapshot are
        read in full."""
        with self._database.read() as session:
            repository = RegistryRepository(session)
            data = SnapshotData(
                revision=read_revision(session), models=repository.models(self._known), keys=repository.keys()
            )
        self._known = {
            version.id: version for model in data.models.values() for version in model.versions.values()
        }
        return data

    # -- deleting ------------------------------------------------------------------------------------

    def delete_alias(self, principal: Principal, name: str, alias: str) -> None:
        """Delete an alias.

        Raises:
            Conflict: it is `default`, which the bare name means.

        """
        with self._change(None) as (session, repository):
            model = _model(repository, principal, name)
            row = _alias(repository, model, alias)
            if alias == DEFAULT_ALIAS:
                hint = "Promote another version to it, or delete the model."
                raise Conflict(f"{name} itself means {name}@{alias}.", param="alias", hint=hint)
            repository.remove_alias(row)
            bump_revision(session)

    def delete_version(self, principal: Principal, name: str, number: int) -> None:
        """Delete a version, and those of its files that nothing else needs. Its number is never used again.

        Raises:
            Conflict: an alias points at it, or a job that has not ended needs it; the message names it.

        """
        with self._change(None) as (session, repository):
            model = _model(repository, principal, name)
            version = _version(repository, model, number)
            check_unused(name, number, repository.aliases(model))
            NeedsRepository(session, principal).refuse_model(name, number)
            hashes = repository.hashes(model, number)
            repository.remove_version(model, version)
            bump_revision(session)
        reclaim(self._database, self._objects, principal, hashes)

    def delete_model(self, principal: Principal, name: str) -> None:
        """Delete a model with all versions, and those of their files that nothing else needs.

        Raises:
            Conflict: an alias other than `default` says that somebody relies on it, or a job that has not
                ended needs it; the message names it.

        """
        with self._change(None) as (session, repository):
            model = _model(repository, principal, name)
            users = sorted(set(repository.aliases(model)) - {DEFAULT_ALIAS})
            if users:
                listed = ", ".join(f"{name}@{user}" for user in users)
                raise Conflict(f"{name} is in use as {listed}.", param="name", hint="Delete the alias first.")
            NeedsRepository(session, principal).refuse_model(name)
            hashes = repository.hashes(model)
            repository.remove_model(model)
            bump_revision(session)
        reclaim(self._database, self._objects, principal, hashes)

    # -- inside --------------------------------------------------------------------------------------

    @contextmanager
    def _change(self, session: Session | None) -> Iterator[tuple[Session, RegistryRepository]]:
        """A transaction that holds the revision lock: the caller's, or one of its own."""
        if session is not None:
            lock_revision(session)
            yield session, RegistryRepository(session)
            return
        with self._database.begin() as own:
            lock_revision(own)
            yield own, RegistryRepository(own)

    def _store(
        self,
        principal: Principal,
        manifest: Manifest,
        certificate: Certificate,
        artifacts: Mapping[str, Path | Stored],
    ) -> dict[str, Stored]:
        stored = {
            MANIFEST_FILE: self._objects.put_bytes(principal, manifest.to_json()),
            CERTIFICATE_FILE: self._objects.put_bytes(principal, certificate.to_json()),
        }
        for file, source in artifacts.items():
            kept = source if isinstance(source, Stored) else self._objects.put_file(principal, source)
            if stored.setdefault(file, kept) != kept:
                raise Conflict(f"The file {file} says something else than the {file} of this publication.")
        return stored

    def _check_kept(self, principal: Principal, stored: Mapping[str, Stored]) -> None:
        """Bytes that were there when they were put may have been the last of a version deleted meanwhile;
        under the lock they can no longer go."""
        for file, kept in stored.items():
            if not self._objects.exists(principal, kept.sha256):
                raise StorageUnavailable(f"{file} was deleted while it was published.", hint="Try again.")


def _model(repository: RegistryRepository, principal: Principal, name: str) -> ModelRow:
    model = repository.model(principal, name) if is_name(name) else None
    if model is None:
        raise UnknownModel(name, repository.names(principal))
    return model


def _version(repository: RegistryRepository, model: ModelRow, number: int) -> VersionRow:
    version = repository.version(model, number) if 0 < number <= MAX_NUMBER else None
    if version is None:
        raise _unknown_version(model.name, number, repository.numbers(model))
    return version


def _alias(repository: RegistryRepository, model: ModelRow, name: str) -> AliasRow:
    alias = repository.alias(model, name) if is_name(name) else None
    if alias is None:
        raise unknown_alias(model.name, name, repository.aliases(model), param="alias")
    return alias


def _unknown_version(name: str, number: int, numbers: list[int]) -> UnknownVersion:
    known = ", ".join(map(str, numbers[-10:]))
    return UnknownVersion(f"{name} has no version {number}.", param="version", hint=f"It has: {known}.")


def _alias_facts(row: AliasRow) -> AliasFacts:
    return AliasFacts(name=row.name, number=row.version_number, previous_number=row.previous_number)
