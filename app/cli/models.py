"""`athanor models`: what there is, and which version answers."""

from typing import Annotated

import typer

from app.cli.console import USAGE, AsJson, Json, Url, console, day, fail, print_json, service, table

models = typer.Typer(help="List, inspect, promote, roll back and delete models.", invoke_without_command=True)

_Name = Annotated[str, typer.Argument(help="The model.")]
_Alias = Annotated[str, typer.Option("--alias", help="Which alias to move.")]


@models.callback()
def _default(context: typer.Context, *, url: Url = None, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is None:
        list_models(url=url, as_json=as_json)


@models.command("list")
def list_models(*, url: Url = None, as_json: AsJson = False) -> None:
    """List all models."""
    with service(url) as client:
        answer = client.models()
    if as_json:
        print_json(answer)
        return
    rows = table("model", "task", "aliases", "versions", "level", "loaded", right=("versions",))
    for model in answer["data"]:
        rows.add_row(
            model["id"],
            model["task"],
            _aliases(model),
            str(len(model["versions"])),
            model["level"] or "",
            "yes" if model["ready"] else "on demand",
        )
    console().print(rows if answer["data"] else "There are no models yet. `athanor pull` brings one.")


@models.command("show")
def show(name: _Name, *, url: Url = None, as_json: AsJson = False) -> None:
    """Show one model and its versions."""
    with service(url) as client:
        model, versions = client.model(name), client.versions(name)["data"]
    if as_json:
        print_json({**model, "versions": versions})
        return
    out = console()
    out.print(f"{model['id']}: {model['task']}, since {day(model['created'])}")
    rows = table("version", "created (UTC)", "level", "aliases", "job", right=("version",))
    for version in versions:
        aliases = " ".join(sorted(version["aliases"]))
        rows.add_row(
            str(version["version"]),
            day(version["created"]),
            version["level"],
            aliases,
            version["job_id"] or "",
        )
    out.print(rows)


@models.command("promote")
def promote(
    name: _Name,
    version: Annotated[int, typer.Argument(min=1, help="The version to point at.")],
    *,
    alias: _Alias = "default",
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Point an alias at a version, once that version has been loaded and answers."""
    with service(url) as client:
        _moved(client.promote(name, alias, version), as_json=as_json)


@models.command("rollback")
def rollback(name: _Name, *, alias: _Alias = "default", url: Url = None, as_json: AsJson = False) -> None:
    """Point an alias back at where it was before."""
    with service(url) as client:
        _moved(client.rollback(name, alias), as_json=as_json)


@models.command("delete")
def delete(
    reference: Annotated[
        str, typer.Argument(help="NAME (with all versions), NAME:VERSION, or NAME@ALIAS (the alias alone).")
    ],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Delete a model, one of its versions, or an alias."""
    name, colon, number = reference.partition(":")
    name, at, alias = (name, "", "") if colon else reference.partition("@")
    if colon and not number.isdecimal():
        fail(f"{reference!r} names no version.", "Versions are numbers: NAME:3", code=USAGE)
    if not yes and not as_json:
        typer.confirm(f"Delete {reference}?", abort=True, err=True)
    with service(url) as client:
        if colon:
            answer = client.delete_version(name, int(number))
        elif at:
            answer = client.delete_alias(name, alias)
        else:
            answer = client.delete_model(name)
    if as_json:
        print_json(answer)
    else:
        print(f"{answer['id']} is deleted.")  # noqa: T201 - the answer


def _moved(answer: Json, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    before = answer["previous_version"]
    was = f" (it was {before})" if before is not None else ""
    print(f"{answer['model']}@{answer['alias']} is version {answer['version']}{was}.")  # noqa: T201 - the answer


def _aliases(model: Json) -> str:
    return " ".join(f"{alias}={number}" for alias, number in sorted(model["aliases"].items()))
