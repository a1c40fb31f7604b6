"""`athanor doctor`: what runs where, what works, what is missing."""

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.output import Output
from app.cli.tables import console, size, table

if TYPE_CHECKING:
    from app.doctor import Finding, VersionSize

cli = typer.Typer(add_completion=False)

_MARKS = {"ok": ("✓", "green"), "note": ("·", "yellow"), "broken": ("✗", "red")}


@cli.command()
def doctor(
    context: typer.Context,
    *,
    url: Annotated[str | None, typer.Option("--url", help="Look at the service at this address.")] = None,
) -> None:
    """Look at every part of Athanor on this machine. Exit code 1 if something needed is broken."""
    from app.cli.configuration import load_settings  # noqa: PLC0415 - 0.8 s that `--help` does not pay
    from app.doctor import examine, is_healthy, version_sizes  # noqa: PLC0415 - as above

    settings = load_settings()
    output: Output = context.obj
    findings = []
    for finding in examine(settings, url=url):
        findings.append(finding)
        if not output.as_json:
            _show(finding)
    sizes = version_sizes(settings)
    if output.as_json:
        facts = {
            "healthy": is_healthy(findings),
            "findings": [vars(finding) for finding in findings],
            "versions": [vars(each) for each in sizes],
        }
        output.result(facts, "")
    elif sizes:
        output.result(None, _sizes(sizes))
    if not is_healthy(findings):
        raise typer.Exit(1)


def _show(finding: "Finding") -> None:
    mark, colour = _MARKS[finding.state]
    out = console()
    out.print(mark, f"{finding.part:<14}", style=colour, end=" ")
    out.print(finding.text, soft_wrap=True)
    if finding.hint:
        out.print(f"{'':<17}{finding.hint}", soft_wrap=True, style="dim")


def _sizes(sizes: "list[VersionSize]") -> str:
    rows = [(each.model, size(each.size_bytes), str(each.files)) for each in sizes]
    total = sum(each.size_bytes for each in sizes)
    if len(rows) > 1:
        rows.append(("all", size(total), ""))
    return "\n" + table(("version", "disk", "files"), rows, right=("disk", "files"))
