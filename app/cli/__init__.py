"""The `athanor` command."""

import typer
import uvicorn

from app.main import create_app
from app.settings import Settings

cli = typer.Typer(no_args_is_help=True, add_completion=False)


@cli.callback()
def athanor() -> None:
    """Train, prove and serve deep-learning models."""


@cli.command()
def serve() -> None:
    """Run the service."""
    settings = Settings()
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port)


def main() -> None:
    """Entry point of the console command."""
    cli()
