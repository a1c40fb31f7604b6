"""Data sets as callers use them: look, delete, and, for workers, publish. Works without HTTP.

    POST /v1/datasets ─► plan.py checks ─► job `dataset` ─► pack ─► publish ─► version n (immutable)

Every change is one transaction under the lock that keeps objects from being reclaimed. The pack goes into the
object store first and durably; only then a row speaks of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.orm import Session

from app.access.principal import Principal
from app.datasets.dataset import DatasetFacts, DatasetVersionFacts, Json, PublishedDataset
from app.datasets.reference import check_dataset_name, parse_dataset
from app.datasets.repository import DatasetRepository
from app.db.revision import lock_revision
from app.db.session import Database
from app.db.tables import DatasetRow
from app.errors import Conflict, StorageUnavailable, UnknownDataset, UnknownVersion
from app.registry.reference import MAX_NUMBER, is_name
from app.storage.objects import ObjectStore, Stored
from app.storage.reclaim import reclaim


class DatasetService:
    """Every method acts for one principal and sees nothing of another tenant."""

    def __init__(self, database: Database, objects: ObjectStore) -> None:
        self._database = database
        self._objects = objects

    # -- publishing ----------------------------------------------------------------------------------

    def stage(self, principal: Principal, pack: Path) -> Stored:
        """Store a pack ahead of `publish`, so that its transaction is short. Safe to repeat."""
        return self._objects.put_file(principal, pack)

    def publish(  # noqa: PLR0913 - what a version is made of
        self,
        principal: Principal,
        *,
        name: str,
        task: str,
        pack: Path | Stored,
        source: Json,
        report: Json,
        job_id: str | None,
        session: Session | None = None,
    ) -> PublishedDataset:
        """Make a version out of a pack. A new name becomes a data set with version 1, a known one gets its
        next number. A job makes one version: a second time it gets the same one back. With `session`, joins
        that transaction and takes effect when it commits.

        Raises:
            InvalidRequest: the name cannot be a data set's.
            Conflict: the data set is for another task.
            StorageUnavailable: the pack was reclaimed between staging and now.

        """
        check_dataset_name(name)
        stored = pack if isinstance(pack, Stored) else self.stage(principal, pack)
        with self._change(session) as datasets:
            if job_id is not None and (done := datasets.made_by(principal, job_id)) is not None:
                return PublishedDataset(name=done[0], number=done[1])
            _check_task(datasets, principal, name, task)
            if not self._objects.exists(principal, stored.sha256):
                raise StorageUnavailable("The pack was deleted while it was published.", hint="Try again.")
            dataset = datasets.ensure(principal, name, task)
            number = datasets.add_version(dataset, stored, source=source, report=report, job_id=job_id)
        return PublishedDataset(name=name, number=number)

    def announce(self, principal: Principal, name: str, task: str) -> None:
        """Let the data set be seen, without a version, while the job that makes its first one waits or runs.

        Raises Conflict when it exists for another task.
        """
        with self._change(None) as datasets:
            _check_task(datasets, principal, name, task)
            datasets.ensure(principal, name, task)

    def check_task(self, principal: Principal, name: str, task: str) -> None:
        """Raises Conflict when there is a data set of this name for another task."""
        with self._database.read() as session:
            _check_task(DatasetRepository(session), principal, name, task)

    # -- reading -------------------------------------------------------------------------------------

    def list_datasets(self, principal: Principal) -> list[DatasetFacts]:
        """The tenant's data sets by name."""
        with self._database.read() as session:
            return DatasetRepository(session).datasets(principal)

    def get(self, principal: Principal, name: str) -> DatasetFacts:
        """One data set, or UnknownDataset."""
        with self._database.read() as session:
            datasets = DatasetRepository(session)
            found = datasets.datasets(principal, name=name) if is_name(name) else []
            if not found:
                raise UnknownDataset(name, datasets.names(principal))
            return found[0]

    def versions(self, principal: Principal, name: str) -> list[DatasetVersionFacts]:
        """A data set's versions, oldest first, or UnknownDataset."""
        with self._database.read() as session:
            datasets = DatasetRepository(session)
            return datasets.versions(_dataset(datasets, principal, name))

    def get_version(
        self, principal: Principal, reference: str, *, param: str = "dataset"
    ) -> DatasetVersionFacts:
        """The version that `name:3`, or `name` for the newest, means.

        Raises:
            InvalidRequest: the text is no reference; `param` is the field to blame.
            UnknownDataset, UnknownVersion: there is no such thing.

        """
        name, number = parse_dataset(reference, param=param)
        with self._database.read() as session:
            datasets = DatasetRepository(session)
            return _version(datasets, _dataset(datasets, principal, name, param=param), number, param=param)

    def made_by(self, principal: Principal, job_id: str) -> str | None:
        """`name:number` of the version that a job has made."""
        with self._database.read() as session:
            made = DatasetRepository(session).made_by(principal, job_id)
        return None if made is None else f"{made[0]}:{made[1]}"

    # -- deleting ------------------------------------------------------------------------------------

    def delete(self, principal: Principal, name: str) -> None:
        """Delete a data set with all versions, and those of their packs that nothing else needs.

        Raises:
            UnknownDataset: there is none.
            Conflict: a job that has not ended needs it, or makes a version of it.

        """
        with self._change(None) as datasets:
            dataset = _dataset(datasets, principal, name)
            datasets.refuse_if_needed(principal, name)
            hashes = [version.sha256 for version in datasets.versions(dataset)]
            datasets.remove(dataset)
        reclaim(self._database, self._objects, principal, hashes)

    def delete_version(self, principal: Principal, name: str, number: int) -> None:
        """Delete a version, and its pack unless something else needs it. Its number is never used again.

        Raises:
            UnknownDataset, UnknownVersion: there is no such thing.
            Conflict: a job that has not ended needs it.

        """
        with self._change(None) as datasets:
            dataset = _dataset(datasets, principal, name)
            version = _version(datasets, dataset, number)
            datasets.refuse_if_needed(principal, name, number)
            datasets.remove_version(dataset, number)
        reclaim(self._database, self._objects, principal, [version.sha256])

    # -- inside --------------------------------------------------------------------------------------

    @contextmanager
    def _change(self, session: Session | None) -> Iterator[DatasetRepository]:
        """A transaction that holds the revision lock: the caller's, or one of its own."""
        if session is not None:
            lock_revision(session)
            yield DatasetRepository(session)
            return
        with self._database.begin() as own:
            lock_revision(own)
            yield DatasetRepository(own)


def _check_task(datasets: DatasetRepository, principal: Principal, name: str, task: str) -> None:
    known = datasets.dataset(principal, name)
    if known is not None and known.task != task and datasets.numbers(known):
        raise Conflict(f"The data set {name} is for {known.task}, not for {task}.", param="task")


def _dataset(
    datasets: DatasetRepository, principal: Principal, name: str, *, param: str = "name"
) -> DatasetRow:
    dataset = datasets.dataset(principal, name) if is_name(name) else None
    if dataset is None:
        raise UnknownDataset(name, datasets.names(principal), param=param)
    return dataset


def _version(
    datasets: DatasetRepository, dataset: DatasetRow, number: int | None, *, param: str = "version"
) -> DatasetVersionFacts:
    is_possible = number is None or 0 < number <= MAX_NUMBER
    version = datasets.version(dataset, number) if is_possible else None
    if version is None:
        known = ", ".join(map(str, datasets.numbers(dataset)[-10:]))
        hint = f"It has: {known}." if known else f"GET /v1/datasets/{dataset.name} says how it is coming."
        which = "version yet" if number is None else f"version {number}"
        raise UnknownVersion(f"The data set {dataset.name} has no {which}.", param=param, hint=hint)
    return version
