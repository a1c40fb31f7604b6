"""All SQL of the registry. Methods work inside the caller's transaction; those that change something expect
the revision lock to be held (`app/db/revision.py`), so that what they read stays true until the commit.
"""

import time
from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from app.access.principal import Principal
from app.db.tables import AliasRow, ApiKeyRow, ModelRow, VersionRow
from app.ids import new_id
from app.registry.reference import DEFAULT_ALIAS
from app.registry.snapshot import ModelFacts, ServingOptions, VersionFacts
from models.manifest import Artifact, Certificate, Manifest, Task


class RegistryRepository:
    """Rows of models, versions, aliases and keys, seen through one session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    # -- reading -------------------------------------------------------------------------------------

    def models(
        self,
        known: Mapping[str, VersionFacts],
        *,
        principal: Principal | None = None,
        name: str | None = None,
    ) -> dict[tuple[str, str], ModelFacts]:
        """Models by (tenant, name): of one tenant or of all, of one name or all. Versions never change, so
        those in `known` (by id) are not read again."""
        wanted: list[ColumnElement[bool]] = [ModelRow.deleted_at.is_(None)]
        if principal is not None:
            wanted.append(ModelRow.tenant_id == principal.tenant_id)
        if name is not None:
            wanted.append(ModelRow.name == name)
        columns = (ModelRow.id, ModelRow.tenant_id, ModelRow.name, ModelRow.task, ModelRow.created_at)
        query = select(*columns, ModelRow.serving).where(*wanted).order_by(ModelRow.name)
        models = self._session.execute(query).all()
        aliases, versions = self._aliases(wanted), self._versions(wanted, known)
        return {
            (model.tenant_id, model.name): ModelFacts(
                name=model.name,
                task=Task(model.task),
                aliases=aliases.get(model.id, {}),
                versions=versions.get(model.id, {}),
                created_at=model.created_at,
                serving=ServingOptions(**model.serving or {}),
            )
            for model in models
        }

    def keys(self) -> dict[str, Principal]:
        """Keys in force, by hash."""
        rows = self._session.execute(
            select(ApiKeyRow.id, ApiKeyRow.tenant_id, ApiKeyRow.sha256).where(ApiKeyRow.revoked_at.is_(None))
        )
        return {row.sha256: Principal(tenant_id=row.tenant_id, key_id=row.id) for row in rows}

    def names(self, principal: Principal) -> list[str]:
        """Names of the tenant's models."""
        return list(
            self._session.scalars(
                select(ModelRow.name).where(
                    ModelRow.tenant_id == principal.tenant_id, ModelRow.deleted_at.is_(None)
                )
            )
        )

    def model(self, principal: Principal, name: str, *, deleted: bool = False) -> ModelRow | None:
        """One model; with `deleted=True` also one that only keeps its count of versions."""
        query = select(ModelRow).where(ModelRow.tenant_id == principal.tenant_id, ModelRow.name == name)
        if not deleted:
            query = query.where(ModelRow.deleted_at.is_(None))
        return self._session.scalars(query.execution_options(populate_existing=True)).one_or_none()

    def version(self, model: ModelRow, number: int) -> VersionRow | None:
        """One version of a model."""
        query = select(VersionRow).where(VersionRow.model_id == model.id, VersionRow.number == number)
        return self._session.scalars(query).one_or_none()

    def numbers(self, model: ModelRow) -> list[int]:
        """Numbers of a model's versions, ascending."""
        query = select(VersionRow.number).where(VersionRow.model_id == model.id)
        return list(self._session.scalars(query.order_by(VersionRow.number)))

    def published_by(self, principal: Principal, job_id: str) -> tuple[str, int] | None:
        """Name and number of the version that a job has published."""
        query = select(ModelRow.name, VersionRow.number).join(ModelRow, VersionRow.model_id == ModelRow.id)
        query = query.where(VersionRow.job_id == job_id, VersionRow.tenant_id == principal.tenant_id)
        row = self._session.execute(query).one_or_none()
        return None if row is None else (row.name, row.number)

    def alias(self, model: ModelRow, name: str) -> AliasRow | None:
        """One alias of a model."""
        query = select(AliasRow).where(AliasRow.model_id == model.id, AliasRow.name == name)
        return self._session.scalars(query.execution_options(populate_existing=True)).one_or_none()

    def aliases(self, model: ModelRow) -> dict[str, int]:
        """All aliases of a model and the numbers they point at."""
        query = select(AliasRow.name, AliasRow.version_number).where(AliasRow.model_id == model.id)
        return {row.name: row.version_number for row in self._session.execute(query)}

    # -- changing ------------------------------------------------------------------------------------

    def add_version(
        self,
        principal: Principal,
        name: str,
        *,
        manifest: Manifest,
        certificate: Certificate,
        artifacts: Sequence[Artifact],
        job_id: str | None,
    ) -> int:
        """Add the next version; the first of a line makes the model (or revives its name) and `default`."""
        now = time.time()
        model = self.model(principal, name, deleted=True)
        if model is None:
            model = ModelRow(
                id=new_id("model"),
                tenant_id=principal.tenant_id,
                name=name,
                task=manifest.task,
                next_version=1,
                created_at=now,
            )
            self._session.add(model)
            self._session.flush()  # versions and aliases refer to it, without an ORM relation to order them
            is_first = True
        else:
            is_first = model.deleted_at is not None
        number = model.next_version
        model.next_version = number + 1
        if is_first:
            model.task, model.deleted_at, model.created_at = manifest.task, None, now
            self.set_alias(model, DEFAULT_ALIAS, number)
        self._session.add(
            VersionRow(
                id=new_id("version"),
                tenant_id=principal.tenant_id,
                model_id=model.id,
                number=number,
                manifest=manifest.model_dump(mode="json"),
                certificate=certificate.model_dump(mode="json"),
                artifacts=[artifact.model_dump(mode="json") for artifact in artifacts],
                job_id=job_id,
                created_at=now,
            )
        )
        return number

    def set_alias(self, model: ModelRow, name: str, number: int) -> AliasRow:
        """Point an alias at a version and remember where it pointed before: one row, one write."""
        alias = self.alias(model, name)
        if alias is None:
            alias = AliasRow(id=new_id("alias"), tenant_id=model.tenant_id, model_id=model.id, name=name)
            alias.previous_number = None
            self._session.add(alias)
        else:
            alias.previous_number = alias.version_number
        alias.version_number = number
        alias.updated_at = time.time()
        return alias

    def remove_alias(self, alias: AliasRow) -> None:
        """Delete one alias."""
        self._session.delete(alias)

    def remove_version(self, model: ModelRow, version: VersionRow) -> None:
        """Delete one version; no alias can roll back to it any more."""
        gone = (AliasRow.model_id == model.id, AliasRow.previous_number == version.number)
        self._session.execute(update(AliasRow).where(*gone).values(previous_number=None))
        self._session.delete(version)

    def remove_model(self, model: ModelRow) -> None:
        """Delete a model with all it has; its row stays, so that no number is ever given twice."""
        self._session.execute(delete(AliasRow).where(AliasRow.model_id == model.id))
        self._session.execute(delete(VersionRow).where(VersionRow.model_id == model.id))
        model.deleted_at, model.serving = time.time(), None

    def hashes(self, model: ModelRow, number: int | None = None) -> set[str]:
        """Hashes of the files of one version, or of all versions, of a model."""
        query = select(VersionRow.artifacts).where(VersionRow.model_id == model.id)
        if number is not None:
            query = query.where(VersionRow.number == number)
        return {artifact["sha256"] for artifacts in self._session.scalars(query) for artifact in artifacts}

    def _aliases(self, wanted: Sequence[ColumnElement[bool]]) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        query = select(AliasRow.model_id, AliasRow.name, AliasRow.version_number).join(ModelRow)
        for row in self._session.execute(query.where(*wanted).order_by(AliasRow.name)):
            found.setdefault(row.model_id, {})[row.name] = row.version_number
        return found

    def _versions(
        self, wanted: Sequence[ColumnElement[bool]], known: Mapping[str, VersionFacts]
    ) -> dict[str, dict[int, VersionFacts]]:
        query = select(VersionRow.id, VersionRow.model_id).join(ModelRow).where(*wanted)
        listed = self._session.execute(query.order_by(VersionRow.number)).all()
        facts = {row.id: known[row.id] for row in listed if row.id in known}
        missing = [row.id for row in listed if row.id not in known]
        for start in range(0, len(missing), 500):  # databases bound the number of parameters
            full = select(VersionRow).where(VersionRow.id.in_(missing[start : start + 500]))
            facts |= {row.id: _facts(row) for row in self._session.scalars(full)}
        found: dict[str, dict[int, VersionFacts]] = {}
        for row in listed:
            found.setdefault(row.model_id, {})[facts[row.id].number] = facts[row.id]
        return found


def _facts(row: VersionRow) -> VersionFacts:
    return VersionFacts(
        id=row.id,
        number=row.number,
        manifest=Manifest.model_validate(row.manifest),
        certificate=Certificate.model_validate(row.certificate),
        artifacts=tuple(Artifact.model_validate(artifact) for artifact in row.artifacts),
        job_id=row.job_id,
        created_at=row.created_at,
    )
