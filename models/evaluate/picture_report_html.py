"""The report of a network that enlarges pictures as one page for people; what holds for `report_html.py`
holds here."""

from collections.abc import Mapping, Sequence

from models.evaluate.markup import Markup, cut, foreign, joined, shot, tag
from models.evaluate.picture_marks import PictureEvaluation, PictureSample
from models.evaluate.quantities import count, decimal
from models.evaluate.report import PictureReport
from models.evaluate.report_html import opening, page, tiles_of
from models.evaluate.report_tables import table_head, table_row


def render_pictures(report: PictureReport, *, crops: Mapping[int, bytes] | None = None) -> str:
    """The page. `crops`: JPEGs (`crops.py`) of worst and best samples by `PictureSample.index`."""
    evaluation, shown = report.evaluation, crops or {}
    return page(
        report,
        opening(report, _verdict(report), _tiles(evaluation), _comparison(evaluation)),
        _samples("Where it gained least", "Smallest gain first.", evaluation.worst, shown),
        _samples("Where it gained most", "Largest gain first.", evaluation.best, shown),
    )


def decibels(value: float) -> str:
    """33.01 dB."""
    return f"{value:.2f} dB"


def _verdict(report: PictureReport) -> Markup:
    evaluation = report.evaluation
    held_out = "held-out" if report.split == "test" else "validation"
    return joined(
        tag("b", f"{evaluation.gain:+.2f} dB"),
        f" over cubic interpolation on {count(evaluation.samples)} {held_out} pictures,"
        f" {evaluation.scale} times as large: {decibels(evaluation.psnr)} against"
        f" {decibels(evaluation.cubic_psnr)} (mean PSNR of luminance).",
    )


def _tiles(evaluation: PictureEvaluation) -> Markup:
    return tiles_of(
        (
            ("PSNR", decibels(evaluation.psnr), "of luminance; higher is nearer"),
            ("Gain", f"{evaluation.gain:+.2f} dB", "over cubic interpolation"),
            ("SSIM", f"{evaluation.ssim:.4f}", "shared structure; 1 is the same"),
            ("Mean error", decimal(evaluation.mean_error), "of colours; white is 1"),
        )
    )


def _comparison(evaluation: PictureEvaluation) -> Markup:
    rows = [
        table_row(foreign("this run"), decibels(evaluation.psnr), f"{evaluation.ssim:.4f}"),
        table_row(
            foreign("cubic interpolation"), decibels(evaluation.cubic_psnr), f"{evaluation.cubic_ssim:.4f}"
        ),
    ]
    head = table_head("", "PSNR", "SSIM")
    return tag("div", tag("table", head, tag("tbody", *rows)), class_="card scroll beside")


def _samples(title: str, note: str, samples: Sequence[PictureSample], crops: Mapping[int, bytes]) -> Markup:
    cards = []
    for sample in samples:
        alt = f"A part of {cut(sample.name)}: by cubic interpolation, as made, as wanted"
        marks = f"{decibels(sample.psnr)}, cubic {decibels(sample.cubic_psnr)}"
        told = (
            tag("b", f"{sample.gain:+.2f} dB"),
            tag("small", marks),
            tag("small", foreign(sample.name, most=60)),
        )
        cards.append(shot(crops.get(sample.index), alt, *told))
    legend = f"{note} The hardest part: by cubic interpolation, as it was made, as it was wanted."
    return tag("section", tag("h2", title), tag("p", legend), tag("div", *cards, class_="worst"))
