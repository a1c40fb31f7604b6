"""`athanor jobs`: ask for trainings, follow them, stop them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from app.cli.output import Output
from app.cli.service import Url, service
from app.cli.tables import moment, size, table

if TYPE_CHECKING:
    from app.client.client import Client

cli = typer.Typer(
    add_completion=False,
    help="Submit, list, watch, pause, cancel and re-run jobs.",
    invoke_without_command=True,
)

Json = dict[str, Any]
TRAININGS = ("fine_tune", "preflight")
_Job = Annotated[str, typer.Argument(metavar="JOB", help="Its id.")]
_Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A field: n_epochs=3, adapter.r=16. Repeatable."),
]


@cli.callback()
def _list_by_default(context: typer.Context, *, url: Url = None) -> None:
    if context.invoked_subcommand is None:
        list_jobs(context, url=url)


@cli.command("submit")
def submit(  # noqa: PLR0913 - each is a field of the request
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(exists=True, dir_okay=False, readable=True, help="The request, as YAML or JSON."),
    ] = None,
    *,
    model: Annotated[str | None, typer.Option(help="What training starts from.")] = None,
    data: Annotated[
        str | None, typer.Option(help="An archive, which is uploaded; or the id of a file; or a data set.")
    ] = None,
    adapter: Annotated[str | None, typer.Option(help="How the base is changed: lora, full, head, …")] = None,
    suffix: Annotated[str | None, typer.Option(help="Name of the new model.")] = None,
    changes: _Changes = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Validate, measure one step, estimate; train nothing.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show how it goes.")] = False,
    url: Url = None,
) -> None:
    """Queue a training. Fields come from the file, then from the options."""
    from app.cli.request import apply_changes, read_request  # noqa: PLC0415 - YAML, which `--help` does not need

    body: Json = {} if file is None else read_request(file)
    flags = {"model": model, "training_file": data, "adapter": adapter, "suffix": suffix}
    body |= {name: value for name, value in flags.items() if value is not None}
    apply_changes(body, changes or [])
    with service(url) as client:
        for field in ("training_file", "validation_file"):
            if isinstance(body.get(field), str):
                body[field] = _uploaded(client, body[field], near=file)
        job = client.fine_tune(body, dry_run=dry_run)
        if watch:
            _end(context, client, job["id"])
            return
    _say(context, job, f"{job['id']} is queued; `athanor jobs watch {job['id']}` shows how it goes.")


def _uploaded(client: "Client", given: str, *, near: Path | None) -> str:
    """The id of the file at this path, which is uploaded; or what was given, if it is no path."""
    for path in (Path(given), near.parent / given if near is not None else Path(given)):
        if path.is_file():
            return str(client.upload(path)["id"])
    if "/" in given or Path(given).suffix:
        raise typer.BadParameter(f"There is no file {given}.", param_hint="--data")
    return given


@cli.command("list")
def list_jobs(
    context: typer.Context,
    *,
    kind: Annotated[str | None, typer.Option(help="Only jobs of this kind.")] = None,
    status: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, newest first.")] = 20,
    url: Url = None,
) -> None:
    """List jobs."""
    with service(url) as client:
        answer = client.jobs(kind=kind, status=status, limit=limit)
    rows = [
        (
            job["id"],
            job["kind"],
            job["status"],
            f"{job['progress']:.0%}",
            subject_of(job),
            moment(job["created_at"]),
        )
        for job in answer["data"]
    ]
    header = ("job", "kind", "status", "done", "about", "created (UTC)")
    empty = "There is no such job." if kind or status else "There is no job yet."
    _say(context, answer, table(header, rows, right=["done"]) if rows else empty)


@cli.command("show")
def show(context: typer.Context, job_id: _Job, *, url: Url = None) -> None:
    """Show one job."""
    with service(url) as client:
        job = client.job(job_id)
        if job["kind"] in TRAININGS:
            job = client.fine_tuning_job(job_id)
    from app.cli.job_text import describe  # noqa: PLC0415 - as above

    _say(context, job, describe(job))


@cli.command("watch")
def watch(context: typer.Context, job_id: _Job, *, url: Url = None) -> None:
    """Show how a job goes until it ends. Ctrl-C stops watching, not the job."""
    with service(url) as client:
        _end(context, client, job_id)


@cli.command("logs")
def logs(
    context: typer.Context,
    job_id: _Job,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    url: Url = None,
) -> None:
    """Print what happened to a job, and what was measured at its steps, line by line."""
    from app.cli.job_text import log_line, past_events, streamed_events  # noqa: PLC0415 - as above

    output: Output = context.obj
    with service(url) as client:
        events = streamed_events(client, job_id) if follow else past_events(client, job_id)
        for event in events:
            output.result(event, log_line(event))


@cli.command("cancel")
def cancel(context: typer.Context, job_id: _Job, *, url: Url = None) -> None:
    """Cancel a job."""
    _act(context, job_id, "cancel", url)


@cli.command("pause")
def pause(context: typer.Context, job_id: _Job, *, url: Url = None) -> None:
    """Pause a job; it keeps what it has learned."""
    _act(context, job_id, "pause", url)


@cli.command("resume")
def resume(context: typer.Context, job_id: _Job, *, url: Url = None) -> None:
    """Queue a paused job again; it goes on where it was."""
    _act(context, job_id, "resume", url)


@cli.command("checkpoints")
def checkpoints(context: typer.Context, job_id: _Job, *, url: Url = None) -> None:
    """List what a training keeps of its network on its way."""
    with service(url) as client:
        answer = client.fine_tuning_checkpoints(job_id)
    rows = [
        (
            str(each["step_number"]),
            _mark(each["metrics"].get("valid_accuracy"), ".1%"),
            _mark(each["metrics"].get("valid_loss"), ".4f"),
            size(each["bytes"]),
            each["fine_tuned_model_checkpoint"],
        )
        for each in answer["data"]
    ]
    header = ("step", "accuracy", "loss", "size", "once it is published")
    right = ("step", "accuracy", "loss", "size")
    _say(context, answer, table(header, rows, right=right) if rows else "It keeps none.")


def _mark(value: float | None, style: str) -> str:
    return "" if value is None else format(value, style)


@cli.command("publish-checkpoint")
def publish_checkpoint(
    context: typer.Context,
    job_id: _Job,
    checkpoint: Annotated[str, typer.Argument(metavar="STEP", help="Its step, or its id.")],
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show how it goes.")] = False,
    url: Url = None,
) -> None:
    """Make a checkpoint of a job that has ended a version of its model, MODEL@ckpt-STEP."""
    with service(url) as client:
        job = client.publish_checkpoint(
            job_id, f"ckpt-{checkpoint}" if checkpoint.isdecimal() else checkpoint
        )
        if watch:
            _end(context, client, job["id"])
            return
    reference = f"{job['spec']['name']}@ckpt-{job['spec']['step']}"
    if job["status"] == "succeeded":
        _say(context, job, f"{reference} is {job['result']['model']}.")
    else:
        _say(
            context,
            job,
            f"{job['id']} makes {reference}; `athanor jobs watch {job['id']}` shows how it goes.",
        )


@cli.command("rerun")
def rerun(
    context: typer.Context,
    job_id: _Job,
    *,
    changes: _Changes = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show how it goes.")] = False,
    url: Url = None,
) -> None:
    """Queue a job again, with some fields changed."""
    from app.cli.request import apply_changes, parse_changes  # noqa: PLC0415 - as above

    with service(url) as client:
        if client.job(job_id)["kind"] in TRAININGS:
            job = client.rerun_fine_tuning(job_id, dict(parse_changes(changes or [])))
        else:
            fields: Json = {}
            apply_changes(fields, changes or [])
            job = client.rerun_job(job_id, fields)
        if watch:
            _end(context, client, job["id"])
            return
    _say(context, job, f"{job['id']} is queued; it runs {job_id} again.")


def _act(
    context: typer.Context, job_id: str, act: Literal["cancel", "pause", "resume"], url: str | None
) -> None:
    with service(url) as client:
        job = client.act_on_job(job_id, act)
    asked = {"cancel": "cancelled", "pause": "paused", "resume": "queued"}[act]
    now = "" if job["status"] == asked else f"; it is {job['status']} and will be {asked} soon"
    _say(context, job, f"{job_id}: {asked if not now else act + ' asked for'}{now}.")


def _end(context: typer.Context, client: "Client", job_id: str) -> None:
    """Watch a job to its end, and say how it ended. Raises JobFailed."""
    from app.cli.job_text import conclude  # noqa: PLC0415 - as above
    from app.cli.job_watch import watch_job  # noqa: PLC0415 - as above

    try:
        job = watch_job(client, job_id)
    except KeyboardInterrupt:
        sys.stderr.write(f"\nStopped watching; {job_id} goes on: `athanor jobs watch {job_id}`.\n")
        raise
    _say(context, job, conclude(job))


def subject_of(job: Json) -> str:
    """What a job is about, in a few words."""
    spec = job["spec"]
    if job["kind"] in TRAININGS:
        base = (spec.get("openai") or {}).get("model") or spec["train"]["model"]
        name = spec.get("output_model") or spec.get("suffix")
        return f"{base} → {name}" if name else str(base)
    return str(spec.get("name") or spec.get("source") or spec.get("model") or "")


def _say(context: typer.Context, facts: Json, text: str) -> None:
    output: Output = context.obj
    output.result(facts, text)
