"""`athanor reports`: how good a trained version is, in the terminal or as a page."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.output import Output
from app.cli.service import Url, service
from app.cli.tables import size, table
from app.errors import NotFound

if TYPE_CHECKING:
    from app.client.client import Client
    from models.evaluate.report import MaskReport, PictureReport, RunReport, TrainingReport

cli = typer.Typer(add_completion=False, help="Show and save the reports of trainings.", no_args_is_help=True)

_JOB = re.compile(r"job_[0-9a-z]{24}")
_MOST_CLASSES = 20
"""Rows of the table; `--json` has them all."""
_Subject = Annotated[
    str,
    typer.Argument(metavar="JOB_OR_MODEL", help="A job that has ended, NAME, NAME@ALIAS or NAME:VERSION."),
]


@cli.command("show")
def show(context: typer.Context, subject: _Subject, *, url: Url = None) -> None:
    """Show a report: its marks beside those of its comparisons, and the hardest classes."""
    import orjson  # noqa: PLC0415 - what `--help` does not need

    from models.evaluate.report import REPORT_JSON_FILE  # noqa: PLC0415 - as above

    with service(url) as client:
        name, number = _find(client, subject)
        data = _file(client, name, number, REPORT_JSON_FILE)
    output: Output = context.obj
    if output.as_json:
        output.result(orjson.loads(data), "")
    else:
        output.result(None, _told(f"{name}:{number}", data))


@cli.command("save")
def save(
    context: typer.Context,
    subject: _Subject,
    *,
    to: Annotated[Path, typer.Option("--to", help="Where to write it.")] = Path("report.html"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    url: Url = None,
) -> None:
    """Save a report as one page that needs nothing else."""
    from models.evaluate.report import REPORT_HTML_FILE  # noqa: PLC0415 - as above

    if to.is_dir():
        to /= REPORT_HTML_FILE
    if to.exists() and not force:
        raise typer.BadParameter(f"{to} is there already; --force replaces it.", param_hint="--to")
    with service(url) as client:
        name, number = _find(client, subject)
        data = _file(client, name, number, REPORT_HTML_FILE)
    try:
        to.write_bytes(data)
    except OSError as error:
        raise typer.BadParameter(f"{to} cannot be written: {error.strerror}.", param_hint="--to") from error
    facts = {"model": f"{name}:{number}", "path": str(to), "bytes": len(data)}
    output: Output = context.obj
    output.result(facts, f"{to}: the report of {name}:{number}, {size(len(data))}.")


def _find(client: "Client", subject: str) -> tuple[str, int]:
    """The version that a job has published, or that a reference means now."""
    from app.registry.reference import DEFAULT_ALIAS, parse_reference  # noqa: PLC0415 - as above

    if _JOB.fullmatch(subject):
        job = client.job(subject)
        published = (job["result"] or {}).get("model")
        if published is None:
            hint = f"`athanor jobs watch {subject}` shows how it goes."
            raise NotFound(f"{subject} is {job['status']} and has published no version.", hint=hint)
        subject = published
    reference = parse_reference(subject)
    if reference.number is not None:
        return reference.name, reference.number
    aliases, alias = client.model(reference.name)["aliases"], reference.alias or DEFAULT_ALIAS
    if alias not in aliases:
        hint = f"It has: {', '.join(sorted(aliases))}."
        raise NotFound(f"{reference.name} has no alias {alias!r}.", hint=hint)
    return reference.name, aliases[alias]


def _file(client: "Client", name: str, number: int, file: str) -> bytes:
    files = [artifact["name"] for artifact in client.version(name, number)["artifacts"]]
    if file not in files:
        hint = "`athanor jobs list --kind fine_tune` shows what was."
        raise NotFound(f"{name}:{number} has no report: it was not trained here.", hint=hint)
    return client.artifact(name, number, file)


def _told(model: str, data: bytes) -> str:
    """What the report says, by what was trained."""
    from models.evaluate.report import MaskReport, PictureReport, read_report  # noqa: PLC0415 - as above

    report = read_report(data)
    if isinstance(report, MaskReport):
        return _mask_text(model, report)
    if isinstance(report, PictureReport):
        return _picture_text(model, report)
    return _text(model, report)


def _text(model: str, report: "TrainingReport") -> str:
    from models.evaluate.quantities import count, decimal, percent  # noqa: PLC0415 - as above

    evaluation = report.evaluation
    low, high = evaluation.accuracy_interval
    rows = [
        (_plain(each.name), percent(each.accuracy), percent(each.macro_f1), decimal(each.nll))
        for each in report.comparisons()
    ]
    lines = [
        _origin(model, report),
        f"Right on {round(evaluation.accuracy * evaluation.samples)} of {count(evaluation.samples)}"
        f" {report.split} pictures (95% interval {percent(low)} to {percent(high)});"
        f" calibration error {percent(evaluation.ece)}.",
        _effort(report),
        "",
        table(("", "accuracy", "macro F1", "log loss"), rows, right=("accuracy", "macro F1", "log loss")),
        "",
        _classes(report),
    ]
    return "\n".join(lines)


def _origin(model: str, report: "RunReport") -> str:
    return f"{model}: {_plain(report.base)} trained on {_plain(report.dataset.reference)} by {report.job_id}"


def _effort(report: "RunReport") -> str:
    from models.evaluate.quantities import count, duration  # noqa: PLC0415 - as above

    weights, seconds = report.parameters, sum(report.times_s.values())
    return (
        f"{count(weights.trainable)} of {count(weights.total)} weights, {count(report.steps)} steps"
        f" (kept: {count(report.best_step)}), {duration(seconds)}."
    )


def _mask_text(model: str, report: "MaskReport") -> str:
    from models.evaluate.quantities import count, percent  # noqa: PLC0415 - as above

    marks, always = report.evaluation, report.evaluation.baseline
    rows = [
        ("this run", percent(marks.mean_iou), percent(marks.mean_dice), percent(marks.pixel_accuracy)),
        (f"{_plain(always.label)} everywhere", percent(always.mean_iou), "", percent(always.pixel_accuracy)),
    ]
    hardest = sorted(marks.classes, key=lambda each: (each.iou is None, each.iou or 0.0))
    labels = [
        (_plain(each.label), percent(each.iou), percent(each.dice), count(each.pixels), count(each.pictures))
        for each in hardest[:_MOST_CLASSES]
    ]
    columns, measures = ("mean IoU", "mean Dice", "pixel accuracy"), ("IoU", "Dice", "pixels", "pictures")
    return "\n".join(
        [
            _origin(model, report),
            f"Mean IoU {percent(marks.mean_iou)} on {count(marks.samples)} {report.split} pictures.",
            _effort(report),
            "",
            table(("", *columns), rows, right=columns),
            "",
            table(("label, hardest first", *measures), labels, right=measures),
        ]
    )


def _picture_text(model: str, report: "PictureReport") -> str:
    from models.evaluate.quantities import count  # noqa: PLC0415 - as above

    marks = report.evaluation
    rows = [
        ("this run", f"{marks.psnr:.2f} dB", f"{marks.ssim:.4f}"),
        ("cubic interpolation", f"{marks.cubic_psnr:.2f} dB", f"{marks.cubic_ssim:.4f}"),
    ]
    pictures = [
        (_plain(each.name), f"{each.gain:+.2f} dB", f"{each.psnr:.2f} dB", f"{each.ssim:.4f}")
        for each in marks.worst
    ]
    columns, measures = ("PSNR", "SSIM"), ("gain", "PSNR", "SSIM")
    return "\n".join(
        [
            _origin(model, report),
            f"{marks.gain:+.2f} dB over cubic interpolation on {count(marks.samples)} {report.split}"
            f" pictures, {marks.scale} times as large.",
            _effort(report),
            "",
            table(("", *columns), rows, right=columns),
            "",
            table(("picture, least gain first", *measures), pictures, right=measures),
        ]
    )


def _classes(report: "TrainingReport") -> str:
    from models.evaluate.quantities import count, percent  # noqa: PLC0415 - as above

    hardest = sorted(report.evaluation.classes, key=lambda each: (each.f1 is None, each.f1 or 0.0))
    rows = [
        (
            _plain(each.label),
            percent(each.f1),
            percent(each.precision),
            percent(each.recall),
            count(each.support),
        )
        for each in hardest[:_MOST_CLASSES]
    ]
    header = ("hardest classes", "F1", "precision", "recall", "pictures")
    shown = table(header, rows, right=header[1:])
    left = len(hardest) - len(rows)
    return f"{shown}\n… and {count(left)} more; --json has all." if left else shown


def _plain(text: str) -> str:
    """What strangers called something, unable to steer the terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
