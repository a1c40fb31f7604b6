"""`athanor serve`. Imports little: the gateway, whose imports take longest, is started at once."""

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from app.supervisor.processes import GatewayProcess

cli = typer.Typer(add_completion=False)


@cli.command()
def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on; ATHANOR_HOST.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one; ATHANOR_PORT.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where everything is kept; ATHANOR_DATA_DIR.")] = None,
    gateway_only: Annotated[
        bool, typer.Option("--gateway-only", help="No worker, no migration: one of many behind a URL.")
    ] = False,
) -> None:
    """Run the service on this machine: gateway and worker."""
    started_s = time.monotonic()
    for name, value in (("HOST", host), ("PORT", port), ("DATA_DIR", data_dir and data_dir.absolute())):
        if value is not None:
            os.environ[f"ATHANOR_{name}"] = str(value)  # for the processes too
    if gateway_only:
        _become_gateway()
    gateway = GatewayProcess()
    gateway.start()
    try:
        _supervise(gateway, started_s)
    finally:
        gateway.kill()


def _supervise(gateway: GatewayProcess, started_s: float) -> None:
    # Imported while the gateway imports, too.
    from app.cli.configuration import load_settings  # noqa: PLC0415 - 0.3 s
    from app.supervisor.service import Supervisor  # noqa: PLC0415 - 0.4 s

    Supervisor(load_settings(), gateway, started_s=started_s).run()


def _become_gateway() -> None:
    from app.cli.configuration import load_settings  # noqa: PLC0415 - as above
    from app.supervisor.bind import check_bind  # noqa: PLC0415 - as above

    check_bind(load_settings())
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "app.gateway"])  # noqa: S606 - this Python
