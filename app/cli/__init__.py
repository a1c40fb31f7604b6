"""The `athanor` command: one file per verb or noun, imported only when it is called for.

To add one, write `app/cli/NAME.py` with `cli = typer.Typer(…)` in it and add NAME to `VERBS`. Its commands
take `context: typer.Context` and speak through `context.obj`, an `app.cli.output.Output`. They raise
AppErrors or ClientErrors (exit code 1) or `typer.BadParameter` (exit code 2); `run` turns these into one line
and a hint. What takes long to import, a command imports inside its function: `--help` imports every verb.
"""

import gc
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from app.cli.configuration import Misconfigured
from app.cli.output import Output
from app.client.errors import ClientError
from app.errors import AppError

VERBS = {
    "serve": "serve",
    "pull": "pull",
    "import": "import_",
    "models": "models",
    "datasets": "datasets",
    "jobs": "jobs",
    "reports": "reports",
    "classify": "classify",
    "compress": "compress",
    "tune": "tune",
    "verify": "verify",
    "doctor": "doctor",
    "worker": "worker",
    "migrate": "migrate",
}
"""Verb -> module under `app.cli`, in the order of `athanor --help`."""


class Verbs(TyperGroup):
    """The commands of VERBS. `athanor serve` must not wait for the imports of all the others."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override] # typer's public name for it
        """Every verb."""
        return list(VERBS)

    def get_command(self, ctx: typer.Context, cmd_name: str) -> Any:  # type: ignore[override] # noqa: ANN401 - as above
        """Import one verb; None when there is no such verb."""
        if cmd_name not in VERBS:
            return None
        command = typer.main.get_command(import_module(f"app.cli.{VERBS[cmd_name]}").cli)
        command.name = cmd_name
        return command


cli = typer.Typer(cls=Verbs, no_args_is_help=True, add_completion=False)


@cli.callback()
def athanor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Answer in JSON, for machines.")] = False,
) -> None:
    """Train, prove and serve deep-learning models."""
    context.obj = Output(as_json=as_json)


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line; `--json` may stand anywhere in it. Returns the exit code:

    0 done, 1 refused or failed, 2 the command line or the settings are wrong, 130 interrupted.
    """
    as_json = "--json" in arguments
    rest = [argument for argument in arguments if argument != "--json"]
    output = Output(as_json=as_json)
    try:
        code = typer.main.get_command(cli).main(
            args=["--json", *rest] if as_json else rest, prog_name="athanor", standalone_mode=False
        )
    except (AppError, ClientError) as error:
        output.error(error.code, error.message, error.hint)
        return 1
    except typer.TyperException as error:
        if message := error.format_message():  # without one, the help has been shown
            output.error("usage", message, None if "--help" in message else _usage_hint(error))
        return error.exit_code
    except typer.Abort:
        return 130
    return code if isinstance(code, int) else 0


def _usage_hint(error: typer.TyperException) -> str:
    if isinstance(error, Misconfigured):
        return "docs/settings.md says what it may be."
    where = getattr(error, "ctx", None)
    return f"`{where.command_path if where else 'athanor'} --help` shows how."


def main() -> None:
    """Entry point of the console command."""
    code = run(sys.argv[1:])
    gc.freeze()  # a short command would spend a fifth of its time on a last look for garbage
    sys.exit(code)
