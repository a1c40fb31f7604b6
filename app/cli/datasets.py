"""`athanor datasets`: uploaded pictures become validated, immutable versions."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.output import Output
from app.cli.service import Url, service
from app.cli.tables import console, moment, size, table

if TYPE_CHECKING:
    from app.client.client import Client
    from app.client.sending import Watch

cli = typer.Typer(
    add_completion=False, help="Make, list, inspect and delete data sets.", invoke_without_command=True
)

Json = dict[str, Any]
_SPLITS = ("train", "validation", "test")
_MAX_LABELS = 40
"""Rows of the table; `--json` has them all."""
_MAX_PROBLEMS = 20
_Reference = Annotated[str, typer.Argument(help="NAME, or NAME:VERSION.")]


@cli.callback()
def _list_by_default(context: typer.Context, *, url: Url = None) -> None:
    if context.invoked_subcommand is None:
        list_datasets(context, url=url)


@cli.command("list")
def list_datasets(context: typer.Context, *, url: Url = None) -> None:
    """List all data sets."""
    with service(url) as client:
        answer = client.datasets()
    rows = [
        (
            dataset["id"],
            dataset["task"],
            dataset["status"],
            " ".join(map(str, dataset["versions"])),
            moment(dataset["created_at"]),
        )
        for dataset in answer["data"]
    ]
    header = ("data set", "task", "status", "versions", "created (UTC)")
    empty = "There is no data set yet; `athanor datasets create NAME FILE.zip` makes one."
    _say(context, answer, table(header, rows) if rows else empty)


@cli.command("show")
def show(context: typer.Context, reference: _Reference, *, url: Url = None) -> None:
    """Show a data set: what is in its version, the newest without a number, or why there is none."""
    name, number = _parsed(reference)
    with service(url) as client:
        dataset = client.dataset(name)
        number = number or dataset["latest"]
        version = None if number is None else client.dataset_version(name, number)
    lines = [f"{name}: {dataset['task']}, {dataset['status']}, versions {_listed(dataset['versions'])}"]
    if dataset["error"] is not None:
        lines += [f"The last files were refused: {dataset['error']['message']}", *_problems(dataset)]
    if version is not None:
        lines += ["", _report(version)]
    _say(context, {**dataset, "version": version}, "\n".join(lines))


@cli.command("create")
def create(  # noqa: PLR0913 - each is an entry of the request
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A new data set, or one that gets a further version.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE…",
            exists=True,
            dir_okay=False,
            readable=True,
            help="zip or tar of class folders or of images with a table; Parquet.",
        ),
    ],
    *,
    base: Annotated[
        str | None, typer.Option(help="NAME:VERSION that the files are added to; else they are all there is.")
    ] = None,
    validation_share: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share that chooses the checkpoint; 0.1.")
    ] = None,
    test_share: Annotated[float | None, typer.Option(min=0, max=1, help="Share held out; 0.1.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the split; 0.")] = None,
    skip_broken: Annotated[bool, typer.Option("--skip-broken", help="Leave broken pictures out.")] = False,
    task: Annotated[str | None, typer.Option(help="classification, segmentation, super-resolution.")] = None,
    url: Url = None,
) -> None:
    """Upload files, have every picture checked, and show what came of it."""
    options = {"validation_share": validation_share, "test_share": test_share, "seed": seed}
    body: Json = {
        "name": name,
        "options": {key: value for key, value in options.items() if value is not None},
        **{key: value for key, value in {"base": base, "task": task}.items() if value is not None},
    }
    if skip_broken:
        body["options"]["skip_broken"] = True
    with service(url) as client:
        from app.cli.follow import follow  # noqa: PLC0415 - 0.3 s that `--help` does not pay
        from app.client.errors import JobFailed  # noqa: PLC0415 - as above

        body["file_ids"] = [_upload(client, path)["id"] for path in files]
        dataset = client.create_dataset(body)
        try:
            ended = follow(client, client.job(dataset["job_id"]))
        except JobFailed:
            _complain(context, client.dataset(name))
            raise
        made_name, made_number = _parsed(ended["result"]["dataset"])
        version = client.dataset_version(made_name, made_number or 1)
    _say(context, version, f"{_report(version)}\n{version['id']} is ready.")


@cli.command("delete")
def delete(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(help="NAME (with all versions), or NAME:VERSION.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = None,
) -> None:
    """Delete a data set, or one of its versions, unless a job needs it."""
    name, number = _parsed(reference)
    if not yes:
        typer.confirm(f"Delete {reference}?", abort=True, err=True)
    with service(url) as client:
        answer = (
            client.delete_dataset(name) if number is None else client.delete_dataset_version(name, number)
        )
    _say(context, answer, f"{answer['id']} is deleted.")


def _upload(client: "Client", path: Path) -> Json:
    from app.client.sending import send_file  # noqa: PLC0415 - as above

    total_bytes = path.stat().st_size
    with _shown(path.name, total_bytes) as watch:
        return send_file(client, path, watch)


@contextmanager
def _shown(name: str, total_bytes: int) -> "Iterator[Watch]":
    """A bar on a terminal, one line elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        sys.stderr.write(f"{name}: {size(total_bytes)} sent\n")
        return
    from rich.progress import (  # noqa: PLC0415 - only a terminal needs it
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TransferSpeedColumn,
    )

    title = TextColumn("{task.description}", markup=False)
    columns = (title, BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        bar = progress.add_task(name, total=total_bytes)
        yield lambda sent_bytes: progress.update(bar, completed=sent_bytes)


def _parsed(reference: str) -> tuple[str, int | None]:
    name, colon, number = reference.partition(":")
    if colon and not (number.isascii() and number.isdigit() and int(number) > 0):
        raise typer.BadParameter(f"{reference!r} names no version, as NAME:3 does.")
    return name, int(number) if colon else None


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def _report(version: Json) -> str:
    """Images by label and split, and what was found wrong."""
    report = version["report"]
    counts = report["counts"]
    labels = report["labels"]
    rows = [
        (label, *(str(counts.get(split, {}).get(label, 0)) for split in _SPLITS))
        for label in labels[:_MAX_LABELS]
    ]
    if len(labels) > _MAX_LABELS:
        rows.append((f"… {len(labels) - _MAX_LABELS} more", "", "", ""))
    if report.get("pixels") is None:  # else a picture counts for each label in its mask
        totals = {split: sum(counts.get(split, {}).values()) for split in _SPLITS}
        rows.append(("all", *(str(totals[split]) for split in _SPLITS)))
    lines = [
        f"{version['id']}: {report['images']} images, {size(version['bytes'])}, {len(labels)} labels",
        table(("label", *_SPLITS), rows, right=_SPLITS),
    ]
    if report["duplicate_count"]:
        lines.append(f"{report['duplicate_count']} copies of other images were left out; --json lists them.")
    if report["left_out_count"]:
        lines.append(f"{report['left_out_count']} files were left out; --json says which and why.")
    lines += [f"Mind: {warning}" for warning in report["warnings"]]
    return "\n".join(lines)


def _problems(dataset: Json) -> list[str]:
    shown = []
    for problem in dataset["problems"][:_MAX_PROBLEMS]:
        where = problem["file"] or ""
        if problem["line"] is not None:
            where += f", line {problem['line']}"
        shown.append(f"  {where}: {problem['message']}" if where else f"  {problem['message']}")
    if len(dataset["problems"]) > _MAX_PROBLEMS:
        shown.append(f"  … {len(dataset['problems']) - _MAX_PROBLEMS} more; --json lists them.")
    return shown


def _complain(context: typer.Context, dataset: Json) -> None:
    output: Output = context.obj
    if not output.as_json and len(dataset["problems"]) > 1:
        sys.stderr.write("\n".join(_problems(dataset)) + "\n")


def _say(context: typer.Context, facts: Json, text: str) -> None:
    output: Output = context.obj
    output.result(facts, text)
