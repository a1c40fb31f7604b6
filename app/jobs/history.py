"""What happened to jobs in the order it was written: events, and what was measured at steps, as one line.

The two are kept in two tables. Whatever is written about one job is written under the lock of its row, so
within a job both tables grow in the order of their times. A `Cursor` holds a place in each table, so that
what comes next is found exactly even where the clock of the database is coarse.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.access.principal import Principal
from app.db.tables import JobEventRow, JobMetricsRow, JobRow
from app.errors import InvalidRequest
from app.jobs.job import Json
from app.jobs.states import JobStatus

METRICS = "metrics"
_JOBS_PER_QUERY = 100
_MAX_EVENT_ID = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Something that happened to a job."""

    job_id: str
    created_at: float
    """UTC, seconds since the epoch, by the database's clock."""
    level: str
    """info | warning | error"""
    kind: str
    """state | progress | message | metrics"""
    message: str
    data: Json | None
    number: int
    """Id of the event; of metrics, the step."""

    @property
    def is_metrics(self) -> bool:
        """Measured at a step, and no event."""
        return self.kind == METRICS

    @property
    def place(self) -> "Place":
        """Where in the job's history it stands."""
        return Place(at=self.created_at, is_metrics=self.is_metrics, number=self.number)


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """A place in the history of one job, from which a page can begin."""

    at: float
    is_metrics: bool
    number: int

    def __str__(self) -> str:
        return f"{_hex(self.at)}{'m' if self.is_metrics else 'e'}{self.number}"

    @classmethod
    def parse(cls, text: str, *, param: str) -> Self:
        """Read what `str` wrote. Raises InvalidRequest."""
        kind, number = text[16:17], text[17:]
        if kind not in ("e", "m") or not number.isascii() or not number.isdecimal() or len(number) > 9:
            raise _no_place(text, param)
        return cls(at=_unhex(text[:16], text, param), is_metrics=kind == "m", number=int(number))


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """What somebody has seen of a job: all events up to an id, all metrics up to a time and step."""

    event_id: int = 0
    metrics_at: float = 0.0
    step: int = -1

    def __str__(self) -> str:
        return f"{self.event_id}-{_hex(self.metrics_at)}-{self.step + 1}"

    @classmethod
    def parse(cls, text: str, *, param: str) -> Self:
        """Read what `str` wrote. Raises InvalidRequest."""
        event_id, _, rest = text.partition("-")
        at, _, step = rest.partition("-")
        if not all(part.isascii() and part.isdecimal() and len(part) <= 10 for part in (event_id, step)):
            raise _no_place(text, param)
        if int(event_id) > _MAX_EVENT_ID or int(step) > _MAX_EVENT_ID:
            raise _no_place(text, param)
        return cls(event_id=int(event_id), metrics_at=_unhex(at, text, param), step=int(step) - 1)

    def sees(self, moment: Moment) -> bool:
        """It lies behind."""
        if moment.is_metrics:
            return (moment.created_at, moment.number) <= (self.metrics_at, self.step)
        return moment.number <= self.event_id

    def past(self, moment: Moment) -> "Cursor":
        """The cursor once this has been seen too."""
        if moment.is_metrics:
            return replace(self, metrics_at=moment.created_at, step=moment.number)
        return replace(self, event_id=max(self.event_id, moment.number))  # clocks may be set back

    def behind(self, other: "Cursor") -> "Cursor":
        """The latest from which nothing is missed that either has not seen."""
        metrics = min((self.metrics_at, self.step), (other.metrics_at, other.step))
        event_id = min(self.event_id, other.event_id)
        return Cursor(event_id=event_id, metrics_at=metrics[0], step=metrics[1])


@dataclass(frozen=True, kw_only=True)
class JobState:
    """How far a job is."""

    tenant_id: str
    status: JobStatus
    phase: str | None
    progress: float
    """0..1"""


@dataclass(frozen=True, kw_only=True)
class News:
    """What several jobs have to tell."""

    moments: Mapping[str, list[Moment]]
    """Job -> what lies beyond its cursor, in order."""
    is_all: bool
    """There is no more beyond these."""


class HistoryRepository:
    """Statements inside the session it is given."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def states(self, job_ids: Sequence[str]) -> dict[str, JobState]:
        """How far these jobs are, of whatever tenant; without those that do not exist."""
        columns = (JobRow.id, JobRow.tenant_id, JobRow.status, JobRow.phase, JobRow.progress)
        found = {}
        for some in batched_ids(job_ids):
            for row in self._session.execute(select(*columns).where(JobRow.id.in_(some))):
                found[row.id] = JobState(
                    tenant_id=row.tenant_id,
                    status=JobStatus(row.status),
                    phase=row.phase,
                    progress=row.progress,
                )
        return found

    def news(self, cursors: Mapping[str, Cursor], *, limit: int) -> News:
        """What lies beyond each job's cursor; about `limit` of it, and then of all jobs up to one time."""
        moments: list[Moment] = []
        horizons: list[float] = []
        for some in batched_ids(list(cursors)):
            for found in (
                self._new_events([(job_id, cursors[job_id]) for job_id in some], limit),
                self._new_metrics([(job_id, cursors[job_id]) for job_id in some], limit),
            ):
                moments += found
                if len(found) == limit:
                    horizons.append(found[-1].created_at)
        horizon = min(horizons, default=None)
        told: dict[str, list[Moment]] = {}
        for moment in sorted(moments, key=lambda moment: moment.place):
            if horizon is None or moment.created_at <= horizon:
                told.setdefault(moment.job_id, []).append(moment)
        return News(moments=told, is_all=horizon is None)

    def page(
        self, principal: Principal, job_id: str, *, after: Place | None, newest_first: bool, limit: int
    ) -> list[Moment]:
        """At most `limit` moments of one job beyond a place, in the order asked for."""
        events = select(JobEventRow).where(
            JobEventRow.tenant_id == principal.tenant_id, JobEventRow.job_id == job_id
        )
        metrics = select(JobMetricsRow).where(
            JobMetricsRow.tenant_id == principal.tenant_id, JobMetricsRow.job_id == job_id
        )
        if after is not None:
            event_place = (JobEventRow.created_at, JobEventRow.id)
            metrics_place = (JobMetricsRow.created_at, JobMetricsRow.step)
            events = events.where(_beyond(after, *event_place, is_metrics=False, older=newest_first))
            metrics = metrics.where(_beyond(after, *metrics_place, is_metrics=True, older=newest_first))
        if newest_first:
            events = events.order_by(JobEventRow.created_at.desc(), JobEventRow.id.desc())
            metrics = metrics.order_by(JobMetricsRow.created_at.desc(), JobMetricsRow.step.desc())
        else:
            events = events.order_by(JobEventRow.created_at, JobEventRow.id)
            metrics = metrics.order_by(JobMetricsRow.created_at, JobMetricsRow.step)
        moments = [event_moment(row) for row in self._session.scalars(events.limit(limit))]
        moments += [metrics_moment(row) for row in self._session.scalars(metrics.limit(limit))]
        moments.sort(key=lambda moment: moment.place, reverse=newest_first)
        return moments[:limit]

    def _new_events(self, cursors: Sequence[tuple[str, Cursor]], limit: int) -> list[Moment]:
        new = [
            and_(JobEventRow.job_id == job_id, JobEventRow.id > cursor.event_id) for job_id, cursor in cursors
        ]
        query = select(JobEventRow).where(or_(*new)).order_by(JobEventRow.created_at, JobEventRow.id)
        return [event_moment(row) for row in self._session.scalars(query.limit(limit))]

    def _new_metrics(self, cursors: Sequence[tuple[str, Cursor]], limit: int) -> list[Moment]:
        at, step = JobMetricsRow.created_at, JobMetricsRow.step
        new = [
            and_(
                JobMetricsRow.job_id == job_id,
                or_(at > cursor.metrics_at, and_(at == cursor.metrics_at, step > cursor.step)),
            )
            for job_id, cursor in cursors
        ]
        query = select(JobMetricsRow).where(or_(*new)).order_by(at, step)
        return [metrics_moment(row) for row in self._session.scalars(query.limit(limit))]


def event_moment(row: JobEventRow) -> Moment:
    """The value of an event's row."""
    return Moment(
        job_id=row.job_id,
        created_at=row.created_at,
        level=row.level,
        kind=row.kind,
        message=row.message,
        data=row.data,
        number=row.id,
    )


def metrics_moment(row: JobMetricsRow) -> Moment:
    """The value of a row of metrics."""
    numbers = ((name, value) for name, value in row.values.items() if isinstance(value, int | float))
    shown = ", ".join(f"{name}={value:.4g}" for name, value in numbers)
    return Moment(
        job_id=row.job_id,
        created_at=row.created_at,
        level="info",
        kind=METRICS,
        message=f"Step {row.step}: {shown}",
        data={"step": row.step, **row.values},
        number=row.step,
    )


def batched_ids(job_ids: Sequence[str]) -> list[Sequence[str]]:
    """Slices that one statement can name."""
    return [job_ids[at : at + _JOBS_PER_QUERY] for at in range(0, len(job_ids), _JOBS_PER_QUERY)]


def _beyond(
    place: Place,
    at: InstrumentedAttribute[float],
    number: InstrumentedAttribute[int],
    *,
    is_metrics: bool,
    older: bool,
) -> ColumnElement[bool]:
    """Rows of one table on the far side of a place that may lie in the other."""
    further = at < place.at if older else at > place.at
    if is_metrics == place.is_metrics:
        next_to_it = number < place.number if older else number > place.number
        return or_(further, and_(at == place.at, next_to_it))
    comes_after = is_metrics > place.is_metrics
    return or_(further, at == place.at) if comes_after != older else further


def _hex(at: float) -> str:
    return struct.pack(">d", at).hex()


def _unhex(digits: str, text: str, param: str) -> float:
    try:
        at: float = struct.unpack(">d", bytes.fromhex(digits))[0]
    except (ValueError, struct.error) as error:
        raise _no_place(text, param) from error
    if not 0.0 <= at < 1e12:  # also false for NaN
        raise _no_place(text, param)
    return at


def _no_place(text: str, param: str) -> InvalidRequest:
    hint = "Give the id of the last event you have seen, as it was sent."
    return InvalidRequest(f"{text!r} is no place in the history of a job.", param=param, hint=hint)
