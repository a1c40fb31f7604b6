"""The feed: one reader, many watchers."""

import asyncio
import time
from contextlib import contextmanager

import pytest
from sqlalchemy import event

from app.access.principal import SYSTEM, Principal
from app.errors import NotFound
from app.jobs.feed import EventFeed
from app.jobs.history import Cursor
from app.jobs.job import Note
from app.jobs.records import RunRecords
from app.jobs.service import JobService
from app.jobs.states import JobStatus
from app.jobs.store import JobStore


class Work:
    """A job and the run that writes about it."""

    def __init__(self, database):
        self.database = database
        self.jobs = JobService(database, lambda _: None)
        self.store, self.records = JobStore(database), RunRecords(database)
        self.id = self.jobs.create(SYSTEM, kind="probe", spec={}).id
        self.job = self.store.claim(self.id, holder="w", lease_s=60)

    def say(self, *messages, **note):
        self.records.write(self.id, self.job.token, Note(messages=messages, **note))

    def end(self):
        with self.database.begin() as session:
            self.store.finish(session, self.id, self.job.token, JobStatus.SUCCEEDED)


@pytest.fixture
def work(database):
    return Work(database)


@pytest.fixture
def feed(database):
    feed = EventFeed(database, poll_s=0.02)
    yield feed
    feed.close()


async def hear(watcher, *, until):
    """What is told until a message comes, or (`until=None`) to the end."""
    told = []
    while (some := await watcher.next(timeout_s=10)) is not None:
        assert some, "nothing came within ten seconds"
        told += some
        if until is not None and until in messages(some):
            break
    return told


def messages(told):
    return [one.moment.message for one in told if one.moment is not None]


def test_a_watcher_is_told_the_past_then_what_happens_then_the_end(feed, work):
    async def watch():
        with feed.watch(SYSTEM, work.id) as watcher:
            past = await hear(watcher, until="started")
            await asyncio.to_thread(work.say, "hello", metrics={3: {"loss": 0.5}}, progress=0.5)
            live = await hear(watcher, until="hello")
            await asyncio.to_thread(work.end)
            return past, live, await hear(watcher, until=None)

    past, live, rest = asyncio.run(watch())
    assert messages(past) == ["created", "started"]
    assert messages(live + rest) == ["hello", "Step 3: loss=0.5", "succeeded"]
    states = [one.state for one in live + rest if one.state is not None]
    assert [(state.status, state.progress) for state in states] == [
        (JobStatus.RUNNING, 0.5),
        (JobStatus.SUCCEEDED, 1.0),
    ]
    assert feed.watchers == 0


def test_one_who_comes_back_is_told_what_he_has_not_seen_and_nothing_once_he_has_seen_all(feed, work):
    work.say("one", "two", metrics={1: {"loss": 1.0}, 2: {"loss": 0.5}})
    work.end()

    async def watch(cursor):
        with feed.watch(SYSTEM, work.id, cursor) as watcher:
            return await hear(watcher, until=None)

    everything = [one for one in asyncio.run(watch(None)) if one.moment is not None]
    assert len(everything) == 7
    for at in range(6):
        rest = asyncio.run(watch(everything[at].cursor))
        assert messages(rest) == messages(everything[at + 1 :])
    assert asyncio.run(watch(everything[6].cursor)) == []


def test_a_job_of_another_tenant_or_none_is_not_found(feed, work):
    async def watch(principal, job_id):
        with feed.watch(principal, job_id) as watcher:
            await watcher.next(timeout_s=10)

    for principal, job_id in ((Principal(tenant_id="b"), work.id), (SYSTEM, "job_none")):
        with pytest.raises(NotFound):
            asyncio.run(watch(principal, job_id))


@contextmanager
def counted_statements(database):
    statements = []

    def count(*arguments):
        statements.append(arguments[2])

    event.listen(database.db_engine, "before_cursor_execute", count)
    yield statements
    event.remove(database.db_engine, "before_cursor_execute", count)


def test_two_hundred_watchers_cost_one_read_and_all_are_told(database, feed, work):
    other = Work(database)

    async def watch(number):
        job_id = (work if number % 2 else other).id
        with feed.watch(SYSTEM, job_id) as watcher:
            return await hear(watcher, until="hello")

    async def watch_all():
        watching = [asyncio.create_task(watch(number)) for number in range(200)]
        while feed.watchers < 200:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        with counted_statements(database) as statements:
            begun_s = time.monotonic()
            await asyncio.sleep(0.5)
            reads = (time.monotonic() - begun_s) / 0.02 + 2
        for one in (work, other):
            await asyncio.to_thread(one.say, "hello")
        return await asyncio.gather(*watching), len(statements), reads

    told, statements, reads = asyncio.run(watch_all())
    assert len(told) == 200
    assert all(messages(some)[-1] == "hello" for some in told)
    assert 0 < statements <= 5 * reads  # states, events, metrics, and the transaction around them


def test_a_slow_watcher_is_given_no_more_than_it_can_hold_and_misses_nothing(feed, work):
    work.say(metrics={step: {"loss": 0.5} for step in range(6000)})
    work.end()

    async def watch():
        with feed.watch(SYSTEM, work.id) as slow, feed.watch(SYSTEM, work.id) as quick:
            heard = await hear(quick, until=None)
            await asyncio.sleep(0.2)
            held = slow.given
            return heard, held, await hear(slow, until=None)

    quick, held, slow = asyncio.run(watch())
    expected = ["created", "started", *(f"Step {step}: loss=0.5" for step in range(6000)), "succeeded"]
    assert messages(quick) == expected
    assert held < 4000
    assert messages(slow) == expected


def test_closing_ends_every_stream_at_once(database, work):
    feed = EventFeed(database)

    async def watch():
        with feed.watch(SYSTEM, work.id) as watcher:
            await hear(watcher, until="started")
            waiting = asyncio.create_task(watcher.next(timeout_s=60))
            await asyncio.sleep(0)
            await asyncio.to_thread(feed.close)
            return await asyncio.wait_for(waiting, 5)

    assert asyncio.run(watch()) is None

    async def come_late():
        with feed.watch(SYSTEM, work.id) as watcher:
            return await watcher.next(timeout_s=5)

    assert asyncio.run(come_late()) is None


def test_the_feed_outlives_a_database_that_is_away(database, feed, work, monkeypatch):
    from app.errors import StorageUnavailable

    read, calls = database.read, []

    def away():
        calls.append(1)
        raise StorageUnavailable("away")

    async def watch():
        with feed.watch(SYSTEM, work.id) as watcher:
            await hear(watcher, until="started")
            monkeypatch.setattr(database, "read", away)
            while len(calls) < 3:
                await asyncio.sleep(0.01)
            monkeypatch.setattr(database, "read", read)
            await asyncio.to_thread(work.say, "back")
            return await hear(watcher, until="back")

    assert messages(asyncio.run(watch())) == ["back"]


def test_a_cursor_of_a_watcher_is_the_one_that_streams_send(feed, work):
    async def watch():
        with feed.watch(SYSTEM, work.id) as watcher:
            return await hear(watcher, until="started")

    [first, second] = [one for one in asyncio.run(watch()) if one.moment is not None]
    assert Cursor.parse(str(second.cursor), param="x") == second.cursor
    assert first.cursor.sees(first.moment)
    assert not first.cursor.sees(second.moment)
