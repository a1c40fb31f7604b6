"""Jobs as people read them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from app.cli.tables import moment, size

if TYPE_CHECKING:
    from app.client.client import Client

Json = dict[str, Any]
_PAGE = 1000


def describe(job: Json) -> str:
    """One job, a fact a line."""
    is_training = job["object"] == "fine_tuning.job"
    error = job["error"]
    facts = {
        "status": _status(job),
        "from": job["model"] if is_training else None,
        "data": (job["dataset"] or job["training_file"]) if is_training else None,
        "model": (job["fine_tuned_model"] or f"{job['planned_model']} (to come)") if is_training else None,
        "parameters": _parameters(job) if is_training else None,
        "estimate": (estimate_text(job["estimate"] or {}) or None) if is_training else None,
        "report": job["report"]["html"] if is_training and job["report"] else None,
        "result": None if is_training else _plain(job["result"]),
        "attempts": str(job["attempts"]),
        "created": f"{moment(job['created_at'])} UTC",
        "ended": f"{moment(job['finished_at'])} UTC" if job["finished_at"] else None,
        "error": error["message"] if error else None,
        "hint": error["hint"] if error else None,
    }
    kind = ("dry run" if job["dry_run"] else "training") if is_training else job["kind"]
    lines = [f"{name:<11} {value}" for name, value in facts.items() if value is not None]
    return "\n".join([f"{job['id']}: {kind}", *lines])


def conclude(job: Json) -> str:
    """How a job that succeeded ended, in a sentence."""
    if job["object"] != "fine_tuning.job":
        return f"{job['id']} has {job['status']}."
    if job["dry_run"]:
        estimate = estimate_text(job["estimate"] or {})
        return f"{job['id']}: the request is sound" + (f"; training takes {estimate}." if estimate else ".")
    return f"{job['fine_tuned_model']} is ready. Report: {job['report']['html']}"


def estimate_text(estimate: Json) -> str:
    """A preflight's estimate; what it does not say is left out."""
    said = []
    if (seconds := estimate.get("seconds")) is not None:
        said.append(f"about {seconds:.{0 if seconds >= 10 else 1}f} s")
    if (size_bytes := estimate.get("peak_bytes")) is not None:
        said.append(f"{size(size_bytes)} of memory")
    return ", ".join(said)


def past_events(client: "Client", job_id: str) -> Iterator[Json]:
    """Everything that has happened to a job, metrics among it, oldest first."""
    is_training = client.job(job_id)["kind"] in ("fine_tune", "preflight")
    after: Any = None
    while True:
        if is_training:
            page = client.fine_tuning_events(job_id, limit=_PAGE, after=after)
        else:
            page = client.job_events(job_id, limit=_PAGE, after=after or 0)
        yield from page["data"]
        if not page["has_more"]:
            return
        after = page["data"][-1]["id"]


def streamed_events(client: "Client", job_id: str) -> Iterator[Json]:
    """The same, and then what happens until the job ends."""
    for event in client.stream_job(job_id):
        if event is not None and event.name != "status":
            yield orjson.loads(event.data)


def log_line(event: Json) -> str:
    """Time, level where it matters, and message."""
    at = f"{datetime.fromtimestamp(event['created_at'], UTC):%H:%M:%S}"
    level = event["level"] if event["level"] != "info" else ""
    return " ".join(part for part in (at, level, event["message"]) if part)


def _status(job: Json) -> str:
    doing = f", {job['phase']}" if job["phase"] and job["status"] == "running" else ""
    return f"{job['status']}{doing}, {job['progress']:.0%} done"


def _parameters(job: Json) -> str | None:
    total, trainable = job["total_parameters"], job["trainable_parameters"]
    return f"{trainable:,} of {total:,} are trained" if total and trainable else None


def _plain(facts: Json | None) -> str | None:
    return ", ".join(f"{name} {value}" for name, value in facts.items()) if facts else None
