"""The parts of the report's page that are lists: classes, worst samples, how it was made."""

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping

from models.evaluate.classification import ClassScores, Evaluation, WorstSample
from models.evaluate.markup import Markup, cut, foreign, tag
from models.evaluate.quantities import count, decimal, duration, percent, pictures, size
from models.evaluate.report import RunReport, TrainingReport
from models.manifest import Certificate

_MOST_CLASSES = 1000
"""Rows of the table of classes; report.json has all."""
_AT_ONCE = 20
_LOW = 0.5
"""An F1 below it is drawn in the colour of mistakes."""
_SPEC_LETTERS = 100_000


def comparison_table(report: TrainingReport) -> Markup:
    """This run beside what it was compared with: the baseline at least."""
    rows = [
        table_row(foreign(each.name), percent(each.accuracy), percent(each.macro_f1), decimal(each.nll))
        for each in report.comparisons()
    ]
    head = table_head("", "accuracy", "macro F1", "log loss")
    return tag("div", tag("table", head, tag("tbody", *rows)), class_="card scroll beside")


def class_table(evaluation: Evaluation) -> Markup:
    """Every class with its marks, those that need attention first."""
    ordered = sorted(evaluation.classes, key=lambda each: (each.f1 is None, each.f1 or 0.0, -each.support))
    seen = [_class_row(each) for each in ordered[:_MOST_CLASSES]]
    head = table_head("class", "F1", "F1", "precision", "recall", "pictures", meter=1)
    parts = [tag("div", tag("table", head, tag("tbody", *seen[:_AT_ONCE])), class_="card scroll")]
    if rest := seen[_AT_ONCE:]:
        table = tag("div", tag("table", head, tag("tbody", *rest)), class_="card scroll")
        parts.append(tag("details", tag("summary", f"{count(len(rest))} more"), table))
    note = "Hardest first. Precision: share of those called so that are; recall: share of its pictures found."
    if len(ordered) > _MOST_CLASSES:
        note += f" The {count(_MOST_CLASSES)} hardest of {count(len(ordered))} classes; report.json has all."
    return tag("section", tag("h2", "Class by class"), tag("p", note), *parts)


def worst_samples(evaluation: Evaluation, thumbnails: Mapping[int, bytes]) -> Markup:
    """The pictures that it got most wrong, or was least sure of."""
    cards = [_card(each, thumbnails.get(each.index)) for each in evaluation.worst]
    note = "Highest loss first. Look here for wrong labels in the data, too."
    return tag(
        "section", tag("h2", "Where it was most wrong"), tag("p", note), tag("div", *cards, class_="worst")
    )


def how_it_was_made(report: RunReport) -> Markup:
    """All that somebody else needs to do it again."""
    dataset, parameters, environment = report.dataset, report.parameters, report.environment
    share = parameters.trainable / parameters.total if parameters.total else 0.0
    origin = [("data set", dataset.reference), ("labels", count(dataset.labels))]
    origin += [(f"{split} pictures", count(number)) for split, number in dataset.images.items()]
    left_out = {"duplicates": dataset.duplicates, "left out": dataset.left_out}
    origin += [(name, count(number)) for name, number in left_out.items() if number is not None]
    weights = [("all", count(parameters.total)), ("trained", f"{count(parameters.trainable)} ({share:.2%})")]
    if parameters.skipped:
        weights.append(("layers not adapted", count(len(parameters.skipped))))
    ran = [(name, version) for name, version in environment.versions.items()]
    ran += [("threads", count(environment.threads)), ("seed", str(environment.seed))]
    ran.append(("attempts", count(environment.attempts)))
    if environment.resumed_from_step is not None:
        ran.append(("resumed from step", count(environment.resumed_from_step)))
    times = [(phase.replace("_", " "), duration(seconds)) for phase, seconds in report.times_s.items()]
    clock = "Time" if environment.resumed_from_step is None else "Time since it went on"
    cards = [_facts("Data", origin), _facts("Weights", weights), _facts(clock, times), _facts("Ran on", ran)]
    if report.certificate is not None:
        cards.insert(2, _facts("Certificate", _certificate(report.certificate)))
    spec = json.dumps(report.spec, indent=2, ensure_ascii=False)
    if len(spec) > _SPEC_LETTERS:
        spec = f"{spec[:_SPEC_LETTERS]}\n… report.json has the rest."
    return tag(
        "section",
        tag("h2", "How it was made"),
        tag("p", "The same spec, data, seed, threads and versions give the same weights, to the bit."),
        tag("div", *cards, class_="facts"),
        tag("details", tag("summary", "The whole spec"), tag("pre", spec)),
    )


def _class_row(each: ClassScores) -> Markup:
    width = 100 * (each.f1 or 0.0)
    bar = tag("i", style=f"width:{width:.1f}%", class_="low" if width < 100 * _LOW else None)
    return tag(
        "tr",
        tag("th", foreign(each.label), scope="row"),
        tag("td", bar, class_="meter"),
        *(
            tag("td", text, class_="n")
            for text in (percent(each.f1), percent(each.precision), percent(each.recall))
        ),
        tag("td", count(each.support), class_="n"),
    )


def _card(sample: WorstSample, jpeg: bytes | None) -> Markup:
    picture = Markup()
    if jpeg is not None:
        source = f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"
        picture = tag("img", src=source, alt=f"A picture of {cut(sample.label)}", loading="lazy")
    if sample.label == sample.predicted:
        said = tag("b", foreign(sample.label))
        sure = f"right, {percent(sample.confidence)} sure"
    else:
        said = tag(
            "span", tag("b", foreign(sample.label)), " taken for ", tag("b", foreign(sample.predicted))
        )
        sure = f"{percent(sample.confidence)} sure; {percent(sample.share)} for the right one"
    text = tag("div", said, tag("small", sure), tag("small", foreign(sample.name, most=60)))
    return tag("article", picture, text, class_="card shot")


def _certificate(certificate: Certificate) -> list[tuple[str, str]]:
    facts = [("level", certificate.level.value)]
    if (agreement := certificate.agreement) is not None:
        facts += [
            ("compared on", pictures(agreement.samples)),
            ("largest difference", f"{agreement.max_abs:.2g}"),
            ("allowed", f"{agreement.tolerance:.2g}"),
            ("labels kept", f"{agreement.top1:.0%} of {count(agreement.decided)}"),
        ]
    if certificate.latency_ms is not None:
        facts.append(("one picture", f"{certificate.latency_ms:.1f} ms"))
    return [*facts, ("graph", size(certificate.size_bytes)), ("runtime", certificate.runtime)]


def _facts(title: str, facts: Iterable[tuple[str, str]]) -> Markup:
    entries = [
        part for name, value in facts for part in (tag("dt", foreign(name)), tag("dd", foreign(value)))
    ]
    return tag("div", tag("h3", title), tag("dl", *entries), class_="card")


def table_head(*names: str, meter: int = -1) -> Markup:
    """Names of columns; the one numbered `meter` stays without."""
    cells = [
        tag(
            "th",
            "" if at == meter else name,
            scope="col",
            class_=("meter" if at == meter else "n") if at else None,
        )
        for at, name in enumerate(names)
    ]
    return tag("thead", tag("tr", *cells))


def table_row(first: Markup, *rest: str) -> Markup:
    """A row with its name and numbers."""
    return tag("tr", tag("th", first, scope="row"), *(tag("td", text, class_="n") for text in rest))
