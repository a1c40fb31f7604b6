"""What jobs need that others could delete: files, models, data sets.

    delete ─► lock ─► a job that has not ended needs it? 409 ─► rows go ─► commit
    queue  ─► lock ─► is all there that it needs?  no: 409 ─► new row   ─► commit

Both hold the revision lock (`app/db/revision.py`), so whichever comes second sees what the first has done: no
job is queued for what is gone, and nothing goes that a job waits for.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import String, cast, select
from sqlalchemy.orm import Session

from app.access.principal import Principal
from app.datasets.reference import parse_dataset
from app.db.tables import DatasetRow, DatasetVersionRow, FileRow, JobRow, ModelRow, VersionRow
from app.errors import Conflict, InvalidRequest
from app.jobs.job import Json
from app.jobs.states import JobStatus
from app.registry.reference import parse_reference
from models.catalogue import CATALOGUE, Kind, UnknownMethod

_UNFINISHED = tuple(status.value for status in JobStatus if not status.has_ended)
_NAMED = 3
"""Jobs that a refusal names; of more, it says how many."""
_DATASET = "dataset"
_OF_A_MODEL = frozenset({"super_resolution", "compress"})
"""Kinds whose spec names, as `model`, a version that they use."""
_COMPRESS = "compress"

Line = tuple[str, int | None]
"""A version of a model or data set; without a number, any of its versions may be meant."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a job refers to."""

    files: frozenset[str] = frozenset()
    models: frozenset[Line] = frozenset()
    datasets: frozenset[Line] = frozenset()
    output_model: str | None = None
    """The model that gets a further version. What `compress` names may be new."""
    output_dataset: str | None = None
    """The data set that gets one, or that is made."""


def needs_of(kind: str, spec: Json) -> Needs:
    """What a spec refers to. An architecture of the catalogue, from which training starts from scratch, is no
    model."""
    train = spec.get("train")
    bases = [train.get("model"), train.get("encoder")] if isinstance(train, dict) else []
    if kind in _OF_A_MODEL:
        bases = [spec.get("model")]
    files, source = spec.get("file_ids"), spec.get("source")
    return Needs(
        files=frozenset(
            [
                *_texts(spec.get("training_file"), spec.get("validation_file"), spec.get("reference")),
                *(_texts(*files) if isinstance(files, list) else ()),
                *(text.removeprefix("file:") for text in _texts(source) if text.startswith("file:")),
            ]
        ),
        models=frozenset(line for base in bases for line in _model(base)),
        datasets=frozenset([*_dataset(spec.get("dataset")), *_dataset(spec.get("base"))]),
        output_model=None if kind == _COMPRESS else next(iter(_texts(spec.get("output_model"))), None),
        output_dataset=spec.get("name") if kind == _DATASET else None,
    )


class NeedsRepository:
    """Looks inside one session, under the revision lock that the caller holds."""

    def __init__(self, session: Session, principal: Principal) -> None:
        self._session = session
        self._principal = principal

    def refuse_file(self, file_id: str) -> None:
        """Raises Conflict, which names the jobs, when one that has not ended needs the file."""
        _refuse([job_id for job_id, _ in self._unfinished(file_id)], file_id, param="file_id")

    def refuse_model(self, name: str, number: int | None = None) -> None:
        """Likewise a version of a model, or, without a number, all of it."""
        users = [
            job_id
            for job_id, needs in self._unfinished(name)
            if _is_meant(needs.models, name, number) or (number is None and needs.output_model == name)
        ]
        _refuse(users, _text(name, number), param="name" if number is None else "version")

    def refuse_dataset(self, name: str, number: int | None = None) -> None:
        """Likewise a version of a data set, or all of it: also while a training goes on that has made it."""
        users = [
            job_id
            for job_id, needs in self._unfinished(name)
            if _is_meant(needs.datasets, name, number) or (number is None and needs.output_dataset == name)
        ]
        _refuse(sorted({*users, *self._makers(name, number)}), _text(name, number), param="name")

    def check_there(self, needs: Needs) -> None:
        """Raises Conflict when something of it is not there (any more)."""
        mine = FileRow.tenant_id == self._principal.tenant_id
        known = set(self._session.scalars(select(FileRow.id).where(mine, FileRow.id.in_(needs.files))))
        missing = sorted(needs.files - known)
        models = needs.models | ({(needs.output_model, None)} if needs.output_model else set())
        missing += [_text(*line) for line in sorted(models, key=str) if not self._has_model(*line)]
        missing += [_text(*line) for line in sorted(needs.datasets, key=str) if not self._has_dataset(*line)]
        if missing:
            hint = "It may have been deleted just now. Name another."
            raise Conflict(f"The job needs {', '.join(missing[:_NAMED])}, which is not there.", hint=hint)

    # -- inside --------------------------------------------------------------------------------------

    def _unfinished(self, mention: str) -> Iterator[tuple[str, Needs]]:
        """Jobs that have not ended and whose spec has this text somewhere, oldest first."""
        query = select(JobRow.id, JobRow.kind, JobRow.spec).where(
            JobRow.tenant_id == self._principal.tenant_id,
            JobRow.status.in_(_UNFINISHED),
            cast(JobRow.spec, String).contains(mention, autoescape=True),
        )
        for row in self._session.execute(query.order_by(JobRow.id)):
            yield row.id, needs_of(row.kind, row.spec)

    def _makers(self, name: str, number: int | None) -> list[str]:
        query = (
            select(JobRow.id)
            .join(DatasetVersionRow, DatasetVersionRow.job_id == JobRow.id)
            .join(DatasetRow, DatasetVersionRow.dataset_id == DatasetRow.id)
            .where(DatasetRow.tenant_id == self._principal.tenant_id, DatasetRow.name == name)
            .where(JobRow.kind != _DATASET, JobRow.status.in_(_UNFINISHED))
        )
        if number is not None:
            query = query.where(DatasetVersionRow.number == number)
        return list(self._session.scalars(query))

    def _has_model(self, name: str, number: int | None) -> bool:
        query = select(ModelRow.id).where(
            ModelRow.tenant_id == self._principal.tenant_id,
            ModelRow.name == name,
            ModelRow.deleted_at.is_(None),
        )
        if number is not None:
            query = query.join(VersionRow, VersionRow.model_id == ModelRow.id)
            query = query.where(VersionRow.number == number)
        return self._session.scalars(query).first() is not None

    def _has_dataset(self, name: str, number: int | None) -> bool:
        query = (
            select(DatasetRow.id)
            .join(DatasetVersionRow, DatasetVersionRow.dataset_id == DatasetRow.id)
            .where(DatasetRow.tenant_id == self._principal.tenant_id, DatasetRow.name == name)
            .where(DatasetRow.deleted_at.is_(None))
        )
        if number is not None:
            query = query.where(DatasetVersionRow.number == number)
        return self._session.scalars(query).first() is not None


def _texts(*values: object) -> list[str]:
    return [value for value in values if isinstance(value, str) and value.isprintable()]


def _model(base: object) -> list[Line]:
    try:
        references = [parse_reference(text) for text in _texts(base)]
    except InvalidRequest:
        return []
    return [
        (each.name, each.number)
        for each in references
        if each.number is not None or each.alias is not None or not _is_architecture(each.name)
    ]


def _dataset(given: object) -> list[Line]:
    try:
        return [parse_dataset(text) for text in _texts(given)]
    except InvalidRequest:
        return []


def _is_architecture(name: str) -> bool:
    try:
        CATALOGUE.get(Kind.ARCHITECTURE, name)
    except UnknownMethod:
        return False
    return True


def _is_meant(lines: frozenset[Line], name: str, number: int | None) -> bool:
    return any(
        known == name and (number is None or which is None or which == number) for known, which in lines
    )


def _text(name: str, number: int | None) -> str:
    return name if number is None else f"{name}:{number}"


def _refuse(job_ids: list[str], what: str, *, param: str) -> None:
    if not job_ids:
        return
    named = ", ".join(job_ids[:_NAMED])
    if len(job_ids) > _NAMED:
        named += f" and {len(job_ids) - _NAMED} more"
    who = f"The job {named} needs" if len(job_ids) == 1 else f"The jobs {named} need"
    hint = f"Wait for it, or cancel it: POST /v1/jobs/{job_ids[0]}/cancel."
    raise Conflict(f"{who} {what}.", param=param, hint=hint)
