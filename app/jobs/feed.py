"""The history of jobs as it happens: one reader for all who watch.

    thread: every quarter of a second one read for all watched jobs ──► event loop: each watcher's backlog

The thread runs only while somebody watches. A watcher whose client reads slowly is left out until it has
taken what it was given; what it missed is then read again from where it stands, so nothing piles up here.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from app.access.principal import Principal
from app.db.session import Database
from app.errors import AppError, NotFound, StorageUnavailable
from app.jobs.history import Cursor, HistoryRepository, JobState, Moment, News
from app.observability.logs import get_logger

POLL_S = 0.25
"""Pause between two reads, seconds."""
_READ_LIMIT = 1000
"""Moments that one read takes from a table."""
_BACKLOG_LIMIT = 2000
"""Moments that may wait for one watcher."""
_SLICE = 16
"""Watchers that are handed something at once; requests of others come in between."""
_SLICE_PAUSE_S = 0.002

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Told:
    """One thing that a watcher is told: a moment and the cursor behind it, or how far the job is now."""

    moment: Moment | None = None
    cursor: Cursor | None = None
    state: JobState | None = None


class Watcher:
    """One stream's end of the feed; a context manager. Its methods belong to the loop that made it."""

    def __init__(self, feed: "EventFeed", principal: Principal, job_id: str, cursor: Cursor | None) -> None:
        self._feed = feed
        self._told: list[Told] = []
        self._has_ended = False
        self._error: AppError | None = None
        self._news = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self.principal = principal
        self.job_id = job_id
        self.cursor = cursor or Cursor()
        """What it has been given. Only the feed's thread changes it."""
        self.state: JobState | None = None
        """The state that it was told last. Only the feed's thread changes it."""
        self.given = 0
        """How much it was given. Only the feed's thread changes it."""
        self._taken = 0
        self.is_return = cursor is not None
        """It has been here before, and has seen something."""

    def __enter__(self) -> "Watcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Be told nothing more."""
        self._feed.leave(self)

    @property
    def is_full(self) -> bool:
        """It has not taken what it was given."""
        return self.given - self._taken >= _BACKLOG_LIMIT

    async def next(self, *, timeout_s: float) -> list[Told] | None:
        """What came since the last call: at once if there is something, empty after the time-out, and None
        when the job has ended and all has been told.

        Raises NotFound when there is no such job for the principal.
        """
        if not self._told and not self._has_ended:
            try:
                await asyncio.wait_for(self._news.wait(), timeout_s)
            except TimeoutError:
                return []
        self._news.clear()
        if self._error is not None:
            raise self._error
        told, self._told = self._told, []
        self._taken += len(told)
        return told or (None if self._has_ended else [])

    def take(self, told: Sequence[Told], *, is_last: bool, error: AppError | None = None) -> None:
        """Keep this until it is asked for."""
        self._told += told
        self._has_ended = self._has_ended or is_last
        self._error = error
        self._news.set()


class EventFeed:
    """Whoever wants to know what happens to jobs. `close` ends every stream."""

    def __init__(self, database: Database, *, poll_s: float = POLL_S) -> None:
        self._database = database
        self._poll_s = poll_s
        self._watchers: set[Watcher] = set()
        self._changed = threading.Condition()
        self._is_asked = False
        self._is_closed = False
        self._thread: threading.Thread | None = None

    @property
    def watchers(self) -> int:
        """How many watch now."""
        return len(self._watchers)

    def watch(self, principal: Principal, job_id: str, cursor: Cursor | None = None) -> Watcher:
        """Watch a job from behind a cursor, or from its beginning. Called on an event loop."""
        watcher = Watcher(self, principal, job_id, cursor)
        with self._changed:
            self._watchers.add(watcher)
            if self._is_closed:
                watcher.take([], is_last=True)
            elif self._thread is None:
                self._thread = threading.Thread(target=self._run, name="event-feed", daemon=True)
                self._thread.start()
            self._is_asked = True
            self._changed.notify()
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Forget a watcher."""
        with self._changed:
            self._watchers.discard(watcher)

    def end(self) -> None:
        """End every stream; a service that stops waits for none of them. Does not block."""
        with self._changed:
            self._is_closed = True
            watchers = list(self._watchers)
            self._changed.notify()
        for watcher in watchers:
            _hand(watcher, [], is_last=True)

    def close(self) -> None:
        """End every stream, and the thread."""
        self.end()
        thread = self._thread
        if thread is not None:
            thread.join()

    # -- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._read_on()
        finally:  # a reader that dies takes its streams with it: they come back to a new one
            with self._changed:
                self._thread, watchers = None, list(self._watchers)
            for watcher in watchers:
                _hand(watcher, [], is_last=True)

    def _read_on(self) -> None:
        is_all = True
        while True:
            with self._changed:
                if is_all and not (self._is_asked or self._is_closed):
                    self._changed.wait(self._poll_s if self._watchers else None)
                self._is_asked = False
                if self._is_closed:
                    return
                watchers = [watcher for watcher in self._watchers if not watcher.is_full]
            try:
                is_all = not watchers or self._tell(watchers)
            except StorageUnavailable as error:
                _log.warning("feed_cannot_read", error=repr(error.__cause__))
                is_all = True

    def _tell(self, watchers: Sequence[Watcher]) -> bool:
        """Read once, and hand everybody what is theirs. False when there is more to read."""
        floors: dict[str, Cursor] = {}
        for watcher in watchers:
            floor = floors.get(watcher.job_id)
            floors[watcher.job_id] = watcher.cursor if floor is None else floor.behind(watcher.cursor)
        with self._database.read() as session:
            history = HistoryRepository(session)
            states = history.states(list(floors))
            news = history.news({job_id: floors[job_id] for job_id in states}, limit=_READ_LIMIT)
        handed = 0
        for watcher in watchers:
            if _serve(watcher, states.get(watcher.job_id), news):
                handed += 1
                if handed % _SLICE == 0:
                    time.sleep(_SLICE_PAUSE_S)
        return news.is_all


def _serve(watcher: Watcher, state: JobState | None, news: News) -> bool:
    """Hand a watcher what it has not seen. True when there was something."""
    if state is None or state.tenant_id != watcher.principal.tenant_id:
        hint = "GET /v1/jobs lists them."
        missing = NotFound(f"There is no job {watcher.job_id!r}.", param="job_id", hint=hint)
        return _hand(watcher, [], is_last=True, error=missing)
    told: list[Told] = []
    for moment in news.moments.get(watcher.job_id, []):
        if not watcher.cursor.sees(moment):
            watcher.cursor = watcher.cursor.past(moment)
            told.append(Told(moment=moment, cursor=watcher.cursor))
    is_last = state.status.has_ended and news.is_all
    has_seen_the_end = is_last and watcher.is_return and not told and watcher.state is None
    if state != watcher.state and not has_seen_the_end:
        watcher.state = state
        told.append(Told(state=state))
    return bool(told or is_last) and _hand(watcher, told, is_last=is_last)


def _hand(watcher: Watcher, told: Sequence[Told], *, is_last: bool, error: AppError | None = None) -> bool:
    watcher.given += len(told)
    if is_last:
        watcher.leave()
    try:
        watcher.loop.call_soon_threadsafe(lambda: watcher.take(told, is_last=is_last, error=error))
    except RuntimeError:  # its loop has gone, and with it whoever would read this
        watcher.leave()
        return False
    return True
