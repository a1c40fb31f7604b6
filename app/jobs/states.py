"""The states of a job and every legal move between them.

    (new) ──► queued ──► running ──► succeeded | failed | cancelled
    queued  ──► paused | cancelled      nobody had taken it up
    running ──► queued                  lease expired, child died, worker stopped
    running ──► paused                  asked for, or the disk has no room for its checkpoints
    paused  ──► queued | cancelled

Each move is one conditional UPDATE (`WHERE status = <from>`) and one event, in one transaction.
"""

from enum import StrEnum


class JobStatus(StrEnum):
    """Where a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def has_ended(self) -> bool:
        """No move leads out of this state."""
        return not MOVES[self]


MOVES: dict[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.CANCELLED}),
    JobStatus.RUNNING: frozenset(
        {
            JobStatus.SUCCEEDED,
            JobStatus.FAILED,
            JobStatus.CANCELLED,
            JobStatus.QUEUED,
            JobStatus.PAUSED,
        }
    ),
    JobStatus.PAUSED: frozenset({JobStatus.QUEUED, JobStatus.CANCELLED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}


class IllegalMove(ValueError):
    """A move that is not in the table: a bug of ours, never a caller's mistake."""

    def __init__(self, before: JobStatus, after: JobStatus) -> None:
        super().__init__(f"a job cannot go from {before} to {after}")


def check_move(before: JobStatus, after: JobStatus) -> None:
    """Raise IllegalMove unless the table has it."""
    if after not in MOVES[before]:
        raise IllegalMove(before, after)
