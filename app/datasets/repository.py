"""All SQL of data sets. Methods work inside the caller's transaction; those that change something expect the
revision lock to be held (`app/db/revision.py`).
"""

import time
from collections.abc import Iterable

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from app.access.principal import Principal
from app.datasets.dataset import DatasetFacts, DatasetVersionFacts, Json, Making
from app.db.tables import DatasetRow, DatasetVersionRow, JobRow
from app.ids import new_id
from app.jobs.needs import NeedsRepository
from app.jobs.states import JobStatus
from app.storage.objects import Stored

JOB_KIND = "dataset"


class DatasetRepository:
    """Rows of data sets and their versions, seen through one session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    # -- reading -------------------------------------------------------------------------------------

    def datasets(self, principal: Principal, *, name: str | None = None) -> list[DatasetFacts]:
        """The tenant's data sets by name, or the one of this name."""
        wanted = [DatasetRow.tenant_id == principal.tenant_id, DatasetRow.deleted_at.is_(None)]
        if name is not None:
            wanted.append(DatasetRow.name == name)
        rows = self._session.scalars(select(DatasetRow).where(*wanted).order_by(DatasetRow.name)).all()
        versions = self._versions(wanted)
        makings = self._makings(principal, name)
        return [_facts(row, versions.get(row.id, []), makings.get(row.name)) for row in rows]

    def names(self, principal: Principal) -> list[str]:
        """Names of the tenant's data sets."""
        query = select(DatasetRow.name).where(DatasetRow.tenant_id == principal.tenant_id)
        return list(self._session.scalars(query.where(DatasetRow.deleted_at.is_(None))))

    def dataset(self, principal: Principal, name: str, *, deleted: bool = False) -> DatasetRow | None:
        """One data set; with `deleted=True` also one that only keeps its count of versions."""
        query = select(DatasetRow).where(DatasetRow.tenant_id == principal.tenant_id, DatasetRow.name == name)
        if not deleted:
            query = query.where(DatasetRow.deleted_at.is_(None))
        return self._session.scalars(query.execution_options(populate_existing=True)).one_or_none()

    def versions(self, dataset: DatasetRow) -> list[DatasetVersionFacts]:
        """All versions of a data set, ascending."""
        query = select(DatasetVersionRow).where(DatasetVersionRow.dataset_id == dataset.id)
        rows = self._session.scalars(query.order_by(DatasetVersionRow.number))
        return [_version_facts(dataset, row) for row in rows]

    def version(self, dataset: DatasetRow, number: int | None) -> DatasetVersionFacts | None:
        """One version; the newest without a number."""
        query = select(DatasetVersionRow).where(DatasetVersionRow.dataset_id == dataset.id)
        if number is not None:
            query = query.where(DatasetVersionRow.number == number)
        row = self._session.scalars(query.order_by(DatasetVersionRow.number.desc()).limit(1)).one_or_none()
        return None if row is None else _version_facts(dataset, row)

    def numbers(self, dataset: DatasetRow) -> list[int]:
        """Numbers of a data set's versions, ascending."""
        query = select(DatasetVersionRow.number).where(DatasetVersionRow.dataset_id == dataset.id)
        return list(self._session.scalars(query.order_by(DatasetVersionRow.number)))

    def made_by(self, principal: Principal, job_id: str) -> tuple[str, int] | None:
        """Name and number of the version that a job has made."""
        query = select(DatasetRow.name, DatasetVersionRow.number)
        query = query.join(DatasetRow, DatasetVersionRow.dataset_id == DatasetRow.id)
        mine = (DatasetVersionRow.tenant_id == principal.tenant_id, DatasetVersionRow.job_id == job_id)
        row = self._session.execute(query.where(*mine)).one_or_none()
        return None if row is None else (row.name, row.number)

    def refuse_if_needed(self, principal: Principal, name: str, number: int | None = None) -> None:
        """Raises Conflict when a job that has not ended needs the data set, or this version of it."""
        NeedsRepository(self._session, principal).refuse_dataset(name, number)

    # -- changing ------------------------------------------------------------------------------------

    def ensure(self, principal: Principal, name: str, task: str) -> DatasetRow:
        """The data set of this name: there already, revived, or new."""
        row = self.dataset(principal, name, deleted=True)
        now = time.time()
        if row is None:
            row = DatasetRow(
                id=new_id("dataset"),
                tenant_id=principal.tenant_id,
                name=name,
                task=task,
                next_version=1,
                created_at=now,
            )
            self._session.add(row)
            self._session.flush()  # versions refer to it, without an ORM relation to order them
        elif row.deleted_at is not None:
            row.task, row.deleted_at, row.created_at = task, None, now
        elif not self.numbers(row):
            row.task = task  # nothing has been made of it yet
        return row

    def add_version(
        self, dataset: DatasetRow, pack: Stored, *, source: Json, report: Json, job_id: str | None
    ) -> int:
        """Add the next version. Its number is never given twice."""
        number = dataset.next_version
        dataset.next_version = number + 1
        self._session.add(
            DatasetVersionRow(
                id=new_id("datasetversion"),
                tenant_id=dataset.tenant_id,
                dataset_id=dataset.id,
                number=number,
                sha256=pack.sha256,
                size_bytes=pack.size_bytes,
                source=source,
                report=report,
                job_id=job_id,
                created_at=time.time(),
            )
        )
        return number

    def remove_version(self, dataset: DatasetRow, number: int) -> None:
        """Delete one version."""
        this = (DatasetVersionRow.dataset_id == dataset.id, DatasetVersionRow.number == number)
        self._session.execute(delete(DatasetVersionRow).where(*this))

    def remove(self, dataset: DatasetRow) -> None:
        """Delete a data set with all versions; its row stays, so that no number is ever given twice."""
        self._session.execute(delete(DatasetVersionRow).where(DatasetVersionRow.dataset_id == dataset.id))
        dataset.deleted_at = time.time()

    def _versions(self, wanted: Iterable[ColumnElement[bool]]) -> dict[str, list[tuple[int, float]]]:
        columns = (DatasetVersionRow.dataset_id, DatasetVersionRow.number, DatasetVersionRow.created_at)
        query = select(*columns).join(DatasetRow, DatasetVersionRow.dataset_id == DatasetRow.id)
        found: dict[str, list[tuple[int, float]]] = {}
        for row in self._session.execute(query.where(*wanted).order_by(DatasetVersionRow.number)):
            found.setdefault(row.dataset_id, []).append((row.number, row.created_at))
        return found

    def _makings(self, principal: Principal, name: str | None) -> dict[str, Making]:
        """The newest job of each data set (ids sort by age)."""
        of_name = JobRow.spec["name"].as_string()
        newest = select(func.max(JobRow.id)).where(
            JobRow.tenant_id == principal.tenant_id, JobRow.kind == JOB_KIND
        )
        newest = newest.group_by(of_name) if name is None else newest.where(of_name == name)
        rows = self._session.scalars(select(JobRow).where(JobRow.id.in_(newest)))
        return {row.spec["name"]: _making(row) for row in rows}


def _making(row: JobRow) -> Making:
    return Making(
        job_id=row.id,
        status=JobStatus(row.status),
        error=row.error,
        problems=tuple((row.facts or {}).get("problems", ())),
        created_at=row.created_at,
    )


def _facts(row: DatasetRow, versions: list[tuple[int, float]], making: Making | None) -> DatasetFacts:
    return DatasetFacts(
        name=row.name,
        task=row.task,
        created_at=row.created_at,
        numbers=tuple(number for number, _ in versions),
        changed_at=versions[-1][1] if versions else row.created_at,
        making=making,
    )


def _version_facts(dataset: DatasetRow, row: DatasetVersionRow) -> DatasetVersionFacts:
    return DatasetVersionFacts(
        name=dataset.name,
        number=row.number,
        task=dataset.task,
        sha256=row.sha256,
        size_bytes=row.size_bytes,
        source=row.source,
        report=row.report,
        job_id=row.job_id,
        created_at=row.created_at,
    )
