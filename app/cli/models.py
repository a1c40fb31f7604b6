"""`athanor models`: what there is, and which version answers."""

from typing import Annotated, Any

import typer

from app.cli.output import Output
from app.cli.service import Url, service
from app.cli.tables import moment, table

cli = typer.Typer(
    add_completion=False,
    help="List, inspect, promote, roll back and delete models.",
    invoke_without_command=True,
)

_Name = Annotated[str, typer.Argument(help="The model.")]
_Alias = Annotated[str, typer.Option("--alias", help="Which alias to move.")]


@cli.callback()
def _list_by_default(context: typer.Context, *, url: Url = None) -> None:
    if context.invoked_subcommand is None:
        list_models(context, url=url)


@cli.command("list")
def list_models(context: typer.Context, *, url: Url = None) -> None:
    """List all models."""
    with service(url) as client:
        answer = client.models()
    rows = [
        (
            model["id"],
            model["task"],
            " ".join(f"{alias}={number}" for alias, number in sorted(model["aliases"].items())),
            str(len(model["versions"])),
            model["level"] or "",
            "yes" if model["ready"] else "on demand",
        )
        for model in answer["data"]
    ]
    header = ("model", "task", "aliases", "versions", "level", "loaded")
    text = (
        table(header, rows, right=["versions"])
        if rows
        else "There is no model yet; `athanor pull` brings one."
    )
    _say(context, answer, text)


@cli.command("show")
def show(context: typer.Context, name: _Name, *, url: Url = None) -> None:
    """Show one model and its versions."""
    with service(url) as client:
        model, versions = client.model(name), client.versions(name)["data"]
    rows = [
        (
            str(version["version"]),
            moment(version["created"]),
            version["level"],
            " ".join(sorted(version["aliases"])),
            version["job_id"] or "",
        )
        for version in versions
    ]
    header = ("version", "created (UTC)", "level", "aliases", "job")
    title = f"{model['id']}: {model['task']}, since {moment(model['created'])} UTC"
    text = f"{title}\n{table(header, rows, right=['version'])}"
    _say(context, {**model, "versions": versions}, text)


@cli.command("promote")
def promote(
    context: typer.Context,
    name: _Name,
    version: Annotated[int, typer.Argument(min=1, help="The version to point at.")],
    *,
    alias: _Alias = "default",
    url: Url = None,
) -> None:
    """Point an alias at a version, once that version has been loaded and answers."""
    with service(url) as client:
        _say_moved(context, client.promote(name, alias, version))


@cli.command("rollback")
def rollback(context: typer.Context, name: _Name, *, alias: _Alias = "default", url: Url = None) -> None:
    """Point an alias back at where it was before."""
    with service(url) as client:
        _say_moved(context, client.rollback(name, alias))


@cli.command("delete")
def delete(
    context: typer.Context,
    reference: Annotated[
        str, typer.Argument(help="NAME (with all versions), NAME:VERSION, or NAME@ALIAS (the alias alone).")
    ],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = None,
) -> None:
    """Delete a model, one of its versions, or an alias."""
    name, colon, number = reference.partition(":")
    name, at, alias = (name, "", "") if colon else reference.partition("@")
    if colon and not number.isdecimal():
        raise typer.BadParameter(f"{reference!r} names no version, as NAME:3 does.")
    if not yes:
        typer.confirm(f"Delete {reference}?", abort=True, err=True)
    with service(url) as client:
        if colon:
            answer = client.delete_version(name, int(number))
        elif at:
            answer = client.delete_alias(name, alias)
        else:
            answer = client.delete_model(name)
    _say(context, answer, f"{answer['id']} is deleted.")


def _say(context: typer.Context, facts: dict[str, Any], text: str) -> None:
    output: Output = context.obj
    output.result(facts, text)


def _say_moved(context: typer.Context, answer: dict[str, Any]) -> None:
    before = answer["previous_version"]
    was = "" if before is None else f"; before it was {before}"
    _say(context, answer, f"{answer['model']}@{answer['alias']} is version {answer['version']}{was}.")
