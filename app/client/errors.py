"""What can go wrong for a client.

ClientError ── Unreachable      nobody answers there
            ├─ RequestFailed    the service answered with its error body, mirrored here
            └─ JobFailed        the request was taken and the job it made did not succeed
"""

from typing import Any


class ClientError(Exception):
    """Base: `code` for machines, `message` says what went wrong, `hint` what to do."""

    code: str = "client_error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Unreachable(ClientError):
    """No connection, or it broke before the answer was complete."""

    code = "unreachable"

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"Nobody answers at {url} ({reason}).",
            hint="Start it with `athanor serve`, or name the right address with --url or ATHANOR_URL.",
        )


class RequestFailed(ClientError):
    """The service refused. `code` is one of the closed list in `docs/errors.md`, or `not_athanor`."""

    def __init__(self, status: int, body: dict[str, Any], *, retry_after_s: float | None = None) -> None:
        """`body` is the object under `error`."""
        super().__init__(body.get("message") or f"The service answered {status}.", hint=body.get("hint"))
        self.status = status
        self.code = body.get("code") or "internal"
        self.param: str | None = body.get("param")
        self.request_id: str | None = body.get("request_id")
        self.retry_after_s = retry_after_s


class JobFailed(ClientError):
    """A job ended without success; `job` is how it ended."""

    def __init__(self, job: dict[str, Any]) -> None:
        error = job.get("error") or {}
        message = error.get("message") or f"The job {job['id']} was {job['status']}."
        super().__init__(message, hint=error.get("hint"))
        self.code = error.get("code") or str(job["status"])
        self.job = job
