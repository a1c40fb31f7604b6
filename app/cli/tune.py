"""`athanor tune`: measure again how a version is served fastest here."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.output import Output
from app.cli.tables import table

if TYPE_CHECKING:
    from app.registry.tuning import Tuning
    from app.runtime.plan import Plan

cli = typer.Typer(add_completion=False)


@cli.command()
def tune(
    context: typer.Context,
    reference: Annotated[str, typer.Argument(metavar="MODEL", help="NAME, NAME@ALIAS or NAME:VERSION.")],
) -> None:
    """Measure how many lanes, threads and pictures per run serve a version fastest on this machine.

    Reads and writes the database of the settings; no service need run. Holds from the next load on.
    """
    from app.cli.configuration import load_settings  # noqa: PLC0415 - 0.5 s that `--help` does not pay
    from app.registry.tuning import tune as measure  # noqa: PLC0415 - as above

    done = measure(load_settings(), reference)
    facts = {
        "model": done.model,
        "tried": [asdict(plan) for plan in done.tried],
        "chosen": asdict(done.chosen),
        "before": None if done.before is None else asdict(done.before),
    }
    output: Output = context.obj
    output.result(facts, _text(done))


def _text(done: "Tuning") -> str:
    rows = [
        (
            str(plan.lanes),
            str(plan.threads),
            str(plan.batch),
            f"{plan.images_per_s:.1f}",
            "chosen" if _is_same(plan, done.chosen) else "",
        )
        for plan in done.tried
    ]
    header = ("lanes", "threads", "batch", "pictures/s", "")
    lone = done.chosen.lone_threads
    alone = f"a lone picture has {lone} threads" if lone else "a lone picture runs as others do"
    before = "" if done.before is None else f" Before it was {_short(done.before)}."
    return (
        f"{table(header, rows, right=header[:4])}\n"
        f"{done.model} is served by {_short(done.chosen)}, from its next load on; {alone}.{before}"
    )


def _is_same(one: "Plan", other: "Plan") -> bool:
    return (one.lanes, one.threads, one.batch) == (other.lanes, other.threads, other.batch)


def _short(plan: "Plan") -> str:
    lanes, threads = (
        f"{n} {word}{'s' if n > 1 else ''}" for n, word in ((plan.lanes, "lane"), (plan.threads, "thread"))
    )
    return f"{lanes} of {threads}, batches of up to {plan.batch}"
