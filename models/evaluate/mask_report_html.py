"""The report of a segmenter as one page for people; what holds for `report_html.py` holds here."""

from collections.abc import Mapping, Sequence

from models.evaluate.markup import Markup, cut, foreign, joined, shot, tag
from models.evaluate.masks import MaskEvaluation, MaskSample, MaskScores
from models.evaluate.quantities import count, percent
from models.evaluate.report import MaskReport
from models.evaluate.report_html import opening, page, tiles_of
from models.evaluate.report_tables import table_head, table_row

_MOST_LABELS = 255
_LOW = 0.5
"""An IoU below it is drawn in the colour of mistakes."""


def render_masks(report: MaskReport, *, pictures: Mapping[int, bytes] | None = None) -> str:
    """The page. `pictures`: JPEGs (`mask_pictures.py`) of worst and best samples by `MaskSample.index`."""
    evaluation, shown = report.evaluation, pictures or {}
    return page(
        report,
        opening(report, _verdict(report), _tiles(evaluation), _comparison(evaluation)),
        _labels(evaluation),
        _samples("Where it was most wrong", "Lowest IoU first.", evaluation.worst, shown),
        _samples("Where it was best", "Highest IoU first.", evaluation.best, shown),
    )


def _verdict(report: MaskReport) -> Markup:
    evaluation = report.evaluation
    held_out = "held-out" if report.split == "test" else "validation"
    size = "the pictures'" if report.spec.get("fit") == "tiles" else "the network's"
    return joined(
        "Masks of ",
        tag("b", f"{count(evaluation.samples)} {held_out} pictures"),
        f" overlap with the answers by {percent(evaluation.mean_iou)} of what both cover (mean IoU, at"
        f" {size} own size). Saying “",
        foreign(evaluation.baseline.label),
        f"” everywhere would reach {percent(evaluation.baseline.mean_iou)}.",
    )


def _tiles(evaluation: MaskEvaluation) -> Markup:
    return tiles_of(
        (
            ("Mean IoU", percent(evaluation.mean_iou), "shared part of what both cover; labels count alike"),
            ("Mean Dice", percent(evaluation.mean_dice), "twice the shared part, of both areas"),
            ("Pixel accuracy", percent(evaluation.pixel_accuracy), "share of right pixels"),
            ("Mean pixel accuracy", percent(evaluation.mean_pixel_accuracy), "labels count alike"),
            ("Weighted IoU", percent(evaluation.frequency_weighted_iou), "labels count by their pixels"),
        )
    )


def _comparison(evaluation: MaskEvaluation) -> Markup:
    always = evaluation.baseline
    rows = [
        table_row(foreign("this run"), percent(evaluation.mean_iou), percent(evaluation.pixel_accuracy)),
        table_row(
            foreign(f"“{always.label}” everywhere"), percent(always.mean_iou), percent(always.pixel_accuracy)
        ),
    ]
    head = table_head("", "mean IoU", "pixel accuracy")
    return tag("div", tag("table", head, tag("tbody", *rows)), class_="card scroll beside")


def _labels(evaluation: MaskEvaluation) -> Markup:
    ordered = sorted(evaluation.classes, key=lambda each: (each.iou is None, each.iou or 0.0, -each.pixels))
    head = table_head("label", "IoU", "IoU", "Dice", "pixel accuracy", "pixels", "pictures", meter=1)
    rows = [_label_row(each) for each in ordered[:_MOST_LABELS]]
    note = "Hardest first. IoU: what mask and answer share, of what either covers."
    table = tag("div", tag("table", head, tag("tbody", *rows)), class_="card scroll")
    return tag("section", tag("h2", "Label by label"), tag("p", note), table)


def _label_row(each: MaskScores) -> Markup:
    width = 100 * (each.iou or 0.0)
    bar = tag("i", style=f"width:{width:.1f}%", class_="low" if width < 100 * _LOW else None)
    numbers = (
        percent(each.iou),
        percent(each.dice),
        percent(each.pixel_accuracy),
        count(each.pixels),
        count(each.pictures),
    )
    return tag(
        "tr",
        tag("th", foreign(each.label), scope="row"),
        tag("td", bar, class_="meter"),
        *(tag("td", text, class_="n") for text in numbers),
    )


def _samples(title: str, note: str, samples: Sequence[MaskSample], pictures: Mapping[int, bytes]) -> Markup:
    cards = []
    for sample in samples:
        alt = f"{cut(sample.name)}: the picture, its mask, the answer"
        told = tag("b", percent(sample.mean_iou)), tag("small", foreign(sample.name, most=60))
        cards.append(shot(pictures.get(sample.index), alt, *told))
    legend = f"{note} The picture, its mask, the answer."
    return tag("section", tag("h2", title), tag("p", legend), tag("div", *cards, class_="worst"))
