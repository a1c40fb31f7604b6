"""One job for one call, however often its request comes.

A client whose answer got lost sends its request again, and must get the job that the first one made:

- With an `Idempotency-Key`, the job is found by it.
- OpenAI's client sends no such key. It only counts its retries (`x-stainless-retry-count`: 0, 1, …), so a
  retry is told by its body: it gets the newest job that was made by the same body no longer ago than the
  client can have waited. A request that is no retry always makes a job of its own: two calls may well ask
  for the same.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import select

from app.access.principal import Principal
from app.db.session import Database
from app.db.tables import JobRow
from app.errors import Conflict
from app.fine_tuning.plan import Plan
from app.ids import new_id
from app.jobs.job import Job
from app.jobs.keys import Own
from app.jobs.repository import KEY_LIFETIME_S
from app.jobs.service import JobService

LONGEST_PAUSE_S = 120.0
"""OpenAI's client waits no longer than this between two tries, seconds."""
_LOCKS = 32


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request, as far as it tells what call of a client it belongs to."""

    digest: str
    """Of everything that decides which job it makes."""
    key: str | None = None
    """`Idempotency-Key`"""
    retry_count: int = 0
    """Tries of the same call that came before; 0 also when the client does not say."""
    timeout_s: float | None = None
    """How long the client waits for an answer, when it says so."""

    @classmethod
    def digest_of(cls, body: Mapping[str, Any], *, dry_run: bool) -> str:
        """The digest of a body that orjson can write."""
        plain = orjson.dumps([dict(body), dry_run], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(plain).hexdigest()

    @property
    def window_s(self) -> float:
        """How long ago its first try can have been, seconds."""
        if self.timeout_s is None:
            return KEY_LIFETIME_S
        return min(KEY_LIFETIME_S, self.retry_count * (self.timeout_s + LONGEST_PAUSE_S))


class Submissions:
    """Makes jobs out of calls. Safe to use from any thread."""

    def __init__(self, database: Database, jobs: JobService) -> None:
        self._database = database
        self._jobs = jobs
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))

    def submit(self, principal: Principal, call: Call, plan: Callable[[], Plan]) -> Job:
        """The job that this call, or a try of it before, has made. `plan` is asked only for a new one.

        Raises Conflict when the key stands for another job; and whatever `plan` raises.
        """
        # A retry may come while the first try still works on it: it then waits here, and finds the job.
        with self._locks[int(call.digest[:8], 16) % _LOCKS]:
            known = self._known(principal, call)
            if known is not None:
                return known
            made = plan()
            return self._jobs.create(
                principal,
                kind=made.kind,
                spec={**made.spec, "openai": {**made.spec["openai"], "request_sha256": call.digest}},
                idempotency_key=call.key or Own.REQUEST.key(call.digest, new_id("call")),
                priority=made.priority,
                time_limit_s=made.time_limit_s,
            )

    def _known(self, principal: Principal, call: Call) -> Job | None:
        if call.key is not None:
            return self._of_key(principal, call)
        if call.retry_count == 0:
            return None
        query = (
            select(JobRow.id)
            .where(JobRow.tenant_id == principal.tenant_id)
            .where(JobRow.idempotency_key.startswith(Own.REQUEST.key(call.digest, ""), autoescape=True))
            .where(JobRow.created_at > time.time() - call.window_s)
            .order_by(JobRow.id.desc())
            .limit(1)
        )
        with self._database.read() as session:
            job_id = session.scalar(query)
        return None if job_id is None else self._jobs.get(principal, job_id)

    def _of_key(self, principal: Principal, call: Call) -> Job | None:
        assert call.key is not None
        known = self._jobs.find(principal, call.key)
        if known is None or known.created_at <= time.time() - KEY_LIFETIME_S:
            return None
        if known.spec.get("openai", {}).get("request_sha256") != call.digest:
            raise Conflict(
                f"The idempotency key {call.key!r} already stands for {known.id}, which is another job.",
                param="idempotency_key",
                hint="Use a new key for a new job.",
            )
        return known
