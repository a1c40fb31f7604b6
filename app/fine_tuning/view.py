"""What a fine-tuning job says of itself beyond its row: names, reports, the time that is left."""

from app.jobs.job import Job, Json
from app.jobs.states import JobStatus

REPORT_HTML, REPORT_JSON = "report.html", "report.json"


def published(job: Job) -> tuple[str, int] | None:
    """Name and number of the version that the job has published."""
    reference = str((job.result or {}).get("model") or "")
    name, colon, number = reference.partition(":")
    return (name, int(number)) if colon and number.isdecimal() else None


def fine_tuned_model(job: Job) -> str | None:
    """What to ask for: the bare name of a new model, `name:3` for a further version of one."""
    version = published(job)
    if version is None:
        return None
    return version[0] if version[1] == 1 else f"{version[0]}:{version[1]}"


def planned_name(job: Job) -> str:
    """The name of the model whose version the job has made, or will make."""
    version = published(job)
    if version is not None:
        return version[0]
    return name_to_come(job.spec, job.id)


def name_to_come(spec: Json, job_id: str) -> str:
    """The name of the model that a training makes a version of: as it was asked for; else its base, and the
    end of the job's id."""
    asked = spec.get("output_model") or spec.get("suffix")
    if asked:
        return str(asked)
    base = str(spec["train"]["model"]).partition(":")[0].partition("@")[0]
    return f"{base[:50].rstrip('._-')}-{job_id[-8:].lower()}"


def report_urls(job: Job) -> dict[str, str] | None:
    """Where the report is, relative to the server."""
    version = published(job)
    if version is None:
        return None
    base = f"/v1/models/{version[0]}/versions/{version[1]}/artifacts"
    return {"html": f"{base}/{REPORT_HTML}", "json": f"{base}/{REPORT_JSON}"}


def resolved_spec(job: Job) -> Json:
    """The training's spec; with what was chosen, once the run has."""
    chosen = job.facts.get("spec") or {}
    return {**job.spec["train"], **chosen}


def estimated_finish(job: Job) -> int | None:
    """When a running job will be done at the pace it has, seconds since the epoch."""
    return job.facts.get("estimated_finish") if job.status is JobStatus.RUNNING else None
