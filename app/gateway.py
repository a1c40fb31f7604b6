"""The gateway process: `python -m app.gateway`.

With `--parent PID` it belongs to a supervisor, which hands it the listening socket on stdin, and dies when
that does. Imports little itself: all else is imported without looks for garbage.
"""

import argparse
import gc
import sys

from app.supervisor.lifeline import die_with


def main() -> int:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="athanor serve --gateway-only", description="Serve HTTP.")
    parser.add_argument("--parent", type=int, help="process id of the supervisor, whose socket is on stdin")
    parent_pid = parser.parse_args().parent
    gc.disable()  # what a start makes stays; to look through it again and again takes a tenth of the start
    if parent_pid is not None:
        die_with(parent_pid)
    from app.serve import serve_alone, serve_for_supervisor  # noqa: PLC0415 - a second and a half

    return serve_alone() if parent_pid is None else serve_for_supervisor()


if __name__ == "__main__":
    sys.exit(main())
