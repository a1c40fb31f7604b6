"""The report as one page for people: everything in one file, no scripts, nothing fetched from anywhere.

What strangers named (labels, files) is text by construction (`markup.py`), and should that ever fail, the
page's own policy forbids it to run or to load anything.
"""

import re
from collections.abc import Iterable, Mapping

from models.evaluate.classification import Evaluation
from models.evaluate.confusion_plot import MOST_CLASSES, confused_pairs, confusion_plot
from models.evaluate.line_plot import Series, line_plot
from models.evaluate.markup import Markup, foreign, joined, tag
from models.evaluate.quantities import count, decimal, percent, pictures
from models.evaluate.reliability_plot import reliability_plot
from models.evaluate.report import RunReport, TrainingReport
from models.evaluate.report_style import STYLE
from models.evaluate.report_tables import class_table, comparison_table, how_it_was_made, worst_samples

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


_PLAIN = frozenset({"epoch", "step"})
"""Measured, and a straight line."""
_DECIBELS = ("PSNR, dB", "Gain over cubic interpolation, dB")
_LONGER = {"valid": "validation", "train": "training", "grad": "gradient", "psnr": "PSNR"}
_WORDS = re.compile(rf"(?<![a-z])({'|'.join(_LONGER)})(?![a-z])")


def render(report: TrainingReport, *, thumbnails: Mapping[int, bytes] | None = None) -> str:
    """The page. `thumbnails`: JPEGs of the worst samples (`thumbnail.py`) by `WorstSample.index`."""
    evaluation = report.evaluation
    return page(
        report,
        opening(report, _verdict(report), _tiles(evaluation), comparison_table(report)),
        _confusion(evaluation),
        class_table(evaluation),
        _calibration(evaluation),
        worst_samples(evaluation, thumbnails or {}),
    )


def page(report: RunReport, first: Markup, *sections: Markup) -> str:
    """A page of these parts; how it learned comes after the first, how it was made last."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{report.model}: training report"),
        Markup(f"<style>{STYLE}</style>"),
    )
    main = tag(
        "main",
        first,
        _curves(report),
        *sections,
        how_it_was_made(report),
        tag("footer", "Every number of this page is in the report.json beside it."),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', main), lang='en')}\n"


def opening(report: RunReport, verdict: Markup, *beneath: Markup) -> Markup:
    """What was made of what, and what came out in a sentence."""
    fire = tag("svg", tag("path", d="M12 3 21 20H3Z"), viewBox="0 0 24 24", aria_hidden="true")
    adapter = report.spec.get("adapter")
    method = adapter.get("method") if isinstance(adapter, dict) else None
    made = joined(
        f"{method} on " if isinstance(method, str) else "trained from ",
        foreign(report.base),
        ", data set ",
        foreign(report.dataset.reference),
        f", {report.created_at[:16].replace('T', ' ')} UTC, {report.job_id}",
    )
    return tag(
        "header",
        tag("div", fire, "Athanor training report", class_="brand"),
        tag("h1", report.model),
        tag("p", made, class_="made"),
        tag("p", verdict, class_="verdict"),
        *beneath,
    )


def _verdict(report: TrainingReport) -> Markup:
    evaluation = report.evaluation
    right = round(evaluation.accuracy * evaluation.samples)
    held_out = "held-out" if report.split == "test" else "validation"
    low, high = evaluation.accuracy_interval
    return joined(
        "Right on ",
        tag("b", count(right)),
        f" of {count(evaluation.samples)} {held_out} pictures (95% interval {percent(low)} to"
        f" {percent(high)}). Always saying “",
        foreign(evaluation.baseline.label),
        f"” would be right on {percent(evaluation.baseline.accuracy)}.",
    )


def _tiles(evaluation: Evaluation) -> Markup:
    top5 = evaluation.top5_accuracy
    tiles = [
        ("Accuracy", percent(evaluation.accuracy), "share of right answers"),
        ("Macro F1", percent(evaluation.macro_f1), "every class counts alike"),
        ("Log loss", decimal(evaluation.nll), "nats per picture; lower is better"),
        ("Calibration error", percent(evaluation.ece), "how far scores and truth are apart"),
    ]
    if top5 is not None:
        tiles.insert(1, ("Top 5", percent(top5), "right label among the first five"))
    return tiles_of(tiles)


def tiles_of(tiles: Iterable[tuple[str, str, str]]) -> Markup:
    """Name, value and note of each."""
    return tag(
        "div",
        *(
            tag(
                "div",
                tag("span", name, class_="name"),
                tag("b", value),
                tag("span", note, class_="note"),
                class_="card tile first" if at == 0 else "card tile",
            )
            for at, (name, value, note) in enumerate(tiles)
        ),
        class_="tiles",
    )


def _curves(report: RunReport) -> Markup:
    plots: dict[str, list[Series]] = {}
    for name, curve in report.curves.items():
        if curve.steps and name not in _PLAIN:
            plot, shown = _plot_of(name), _WORDS.sub(lambda word: _LONGER[word[0]], name).replace("_", " ")
            is_noisy = plot != "Learning rate"
            series = Series(name=shown, steps=curve.steps, values=curve.values, is_noisy=is_noisy)
            plots.setdefault(plot, []).append(series)
    if not plots:
        return Markup()
    order = ("Loss", "Marks", *_DECIBELS, "Learning rate")
    first = [title for title in order if title in plots]
    drawn = [
        line_plot(title, plots[title], best_step=report.best_step if title in order[:-1] else None)
        for title in (*first, *(title for title in plots if title not in order))
    ]
    rest = drawn[len(first) :]
    more = (
        tag("details", tag("summary", "More curves"), tag("div", *rest, class_="plots")) if rest else Markup()
    )
    return tag(
        "section",
        tag("h2", "How it learned"),
        tag("p", f"{count(report.steps)} steps; the weights of step {count(report.best_step)} were kept."),
        tag("div", *drawn[: len(first)], class_="plots"),
        more,
    )


def _plot_of(name: str) -> str:
    if "loss" in name or "nll" in name:
        return "Loss"
    if any(mark in name for mark in ("accuracy", "f1", "precision", "recall", "iou")):
        return "Marks"
    if "psnr" in name:
        return _DECIBELS["gain" in name]
    if name in ("lr", "learning_rate"):
        return "Learning rate"
    plain = name.replace("_", " ")
    return plain[:1].upper() + plain[1:]


def _confusion(evaluation: Evaluation) -> Markup:
    pairs = confused_pairs(evaluation)
    note = "A row for what pictures are, a column for what they are called; shades are shares of the row."
    if len(evaluation.classes) > MOST_CLASSES:
        note += " Of so many classes it shows those that are confused most."
    found = tag("div", tag("h3", "Commonest mistakes"), pairs, class_="card") if pairs else Markup()
    nothing = "" if pairs else " Nothing was confused."
    return tag(
        "section",
        tag("h2", "What it takes for what"),
        tag("p", f"{note}{nothing}"),
        tag("div", tag("div", confusion_plot(evaluation), class_="card"), found, class_="plots"),
    )


def _calibration(evaluation: Evaluation) -> Markup:
    sure = sum(each.count for each in evaluation.calibration if each.low >= 0.8)
    found = tag(
        "div",
        tag("h3", "How to read it"),
        tag(
            "p",
            "Each bar gathers the pictures with a confidence between its edges; its height is the share that"
            " was right, its orange tick how sure the answers were; faint bars gather few. Where the tick is"
            " above the bar, scores promise too much; where it is below, too little.",
            class_="soft",
        ),
        tag(
            "p",
            f"{pictures(sure)} of {count(evaluation.samples)} had a confidence of 80% or more.",
            class_="soft",
        ),
        class_="card",
    )
    return tag(
        "section",
        tag("h2", "How far to believe its scores"),
        tag("p", "Bars that end at the dashed line can be taken at their word."),
        tag(
            "div", tag("div", reliability_plot(evaluation.calibration), class_="card"), found, class_="plots"
        ),
    )
