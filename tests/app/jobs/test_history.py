"""Events and metrics as one line: pages over it, and cursors into it, on both databases."""

import pytest

from app.access.principal import SYSTEM, Principal
from app.db.tables import JobMetricsRow
from app.errors import InvalidRequest
from app.jobs.history import Cursor, HistoryRepository, Place
from app.jobs.job import Note
from app.jobs.records import RunRecords
from app.jobs.store import JobStore


@pytest.fixture
def run(database, jobs):
    """A job that has begun, with twelve messages and as many metrics; four of each in one transaction."""
    job = jobs.create(SYSTEM, kind="probe", spec={})
    claimed = JobStore(database).claim(job.id, holder="w", lease_s=60)
    records = RunRecords(database)
    for batch in range(3):
        steps = range(batch * 40, batch * 40 + 40, 10)
        records.write(
            claimed.id,
            claimed.token,
            Note(
                messages=tuple(f"message {step}" for step in steps),
                metrics={step: {"loss": 1.0} for step in steps},
            ),
        )
    return claimed


def page(database, job_id, principal=SYSTEM, **options):
    with database.read() as session:
        return HistoryRepository(session).page(principal, job_id, **options)


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_pages_hold_everything_once_and_in_order(database, run, newest_first, limit):
    told, after = [], None
    while moments := page(database, run.id, after=after, newest_first=newest_first, limit=limit):
        assert len(moments) <= limit
        told += moments
        after = Place.parse(str(moments[-1].place), param="after")
    if newest_first:
        told.reverse()
    assert len(told) == 2 + 12 + 12
    assert [moment.message for moment in told[:2]] == ["created", "started"]
    assert [moment.place for moment in told] == sorted(moment.place for moment in told)
    metrics = [moment for moment in told if moment.is_metrics]
    assert [moment.data for moment in metrics] == [{"step": n * 10, "loss": 1.0} for n in range(12)]
    messages = [moment.message for moment in told if moment.kind == "message"]
    assert messages == [f"message {n * 10}" for n in range(12)]


def test_another_tenants_history_is_empty(database, run):
    assert page(database, run.id, Principal(tenant_id="b"), after=None, newest_first=True, limit=9) == []


@pytest.mark.parametrize("limit", [1, 5, 1000])
def test_a_cursor_finds_what_is_new_exactly_once_whatever_the_limit(database, jobs, run, limit):
    other = jobs.create(SYSTEM, kind="probe", spec={})
    cursors = {run.id: Cursor(), other.id: Cursor()}
    told = {run.id: [], other.id: []}
    for _ in range(100):
        with database.read() as session:
            news = HistoryRepository(session).news(cursors, limit=limit)
        for job_id, moments in news.moments.items():
            for moment in moments:
                assert not cursors[job_id].sees(moment)
                cursors[job_id] = Cursor.parse(str(cursors[job_id].past(moment)), param="x")
                told[job_id].append(moment)
        if news.is_all:
            break
    assert news.is_all
    assert len(told[run.id]) == 2 + 12 + 12
    assert len({moment.place for moment in told[run.id]}) == 2 + 12 + 12
    assert [moment.message for moment in told[other.id]] == ["created"]


def test_metrics_that_a_new_attempt_measures_again_are_told_again(database, run):
    with database.read() as session:
        news = HistoryRepository(session).news({run.id: Cursor()}, limit=1000)
    cursor = Cursor()
    for moment in news.moments[run.id]:
        cursor = cursor.past(moment)
    RunRecords(database).write(run.id, run.token, Note(metrics={30: {"loss": 0.5}}))
    with database.read() as session:
        again = HistoryRepository(session).news({run.id: cursor}, limit=1000)
        assert session.get(JobMetricsRow, (run.id, 30)).values == {"loss": 0.5}
    assert [(moment.number, moment.data["loss"]) for moment in again.moments[run.id]] == [(30, 0.5)]


@pytest.mark.parametrize(
    "text",
    ["", "x", "41dac0", "41dac075ddf21cd8x3", "7ff8000000000000e1", "bff0000000000000e1", "e", "é" * 20],
)
def test_what_is_no_place_is_refused(text):
    with pytest.raises(InvalidRequest) as refused:
        Place.parse(text, param="after")
    assert refused.value.param == "after"
    with pytest.raises(InvalidRequest):
        Cursor.parse(text, param="after")


@pytest.mark.parametrize("text", ["1-2", "1-0000000000000000-", "-1-0000000000000000-1", "9" * 11])
def test_what_is_no_cursor_is_refused(text):
    with pytest.raises(InvalidRequest):
        Cursor.parse(text, param="Last-Event-ID")
