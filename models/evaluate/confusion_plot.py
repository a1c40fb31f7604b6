"""Who is taken for whom: the confusion matrix as SVG, of the classes that are confused most when all are too
many to see."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from models.evaluate.classification import Evaluation
from models.evaluate.markup import Markup, cut, foreign, joined, tag
from models.evaluate.quantities import count, percent, pictures

MOST_CLASSES = 30
"""More rows than this say nothing."""
_KEPT = 24
"""Classes that are shown when there are more."""
_LETTERS = 16
_LETTER_PX = 6.2


@dataclass(frozen=True, kw_only=True)
class _Matrix:
    labels: Sequence[str]
    cells: Counter[tuple[int, int]]
    rows: Counter[int]
    """Pictures of each class."""
    others: int | None = None
    """Row and column of all that are not shown on their own."""


def confusion_plot(evaluation: Evaluation) -> Markup:
    """The matrix, scrollable where it is wider than the screen."""
    matrix = _matrix(evaluation)
    side = 34 if len(matrix.labels) <= 12 else 24
    longest = max(min(len(label), _LETTERS) for label in matrix.labels)
    margin = longest * _LETTER_PX + 12
    head = longest * _LETTER_PX * 0.72 + 16  # of slanted labels
    extent = side * len(matrix.labels)
    width, height = margin + extent + head * 0.9, head + extent + 4
    drawing = tag(
        "svg",
        tag("title", "Confusion matrix: a row for what pictures are, a column for what they are called"),
        tag("rect", x=margin, y=head, width=extent, height=extent, class_="wash"),
        *(_names(label, at, margin, head, side) for at, label in enumerate(matrix.labels)),
        *(_cell(matrix, cell, margin, head, side) for cell in sorted(matrix.cells)),
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        role="img",
    )
    return tag("div", drawing, class_="scroll", tabindex=0)


def confused_pairs(evaluation: Evaluation, *, most: int = 8) -> Markup:
    """The commonest mistakes as a list; nothing if there are none."""
    wrong = [(number, *pair) for *pair, number in evaluation.confusion if pair[0] != pair[1]]
    wrong.sort(key=lambda each: (-each[0], each[1:]))
    items = [
        tag(
            "li",
            foreign(evaluation.classes[actual].label),
            tag("span", " taken for ", class_="soft"),
            foreign(evaluation.classes[predicted].label),
            tag("b", f"{count(number)} of {count(evaluation.classes[actual].support)}"),
        )
        for number, actual, predicted in wrong[:most]
    ]
    return tag("ol", *items, class_="pairs") if items else Markup()


def _matrix(evaluation: Evaluation) -> _Matrix:
    classes = evaluation.classes
    shown = list(range(len(classes)))
    if len(classes) > MOST_CLASSES:
        mistakes: Counter[int] = Counter()
        for actual, predicted, number in evaluation.confusion:
            if actual != predicted:
                mistakes[actual] += number
                mistakes[predicted] += number
        shown = sorted(sorted(shown, key=lambda index: (-mistakes[index], index))[:_KEPT])
    place = {index: at for at, index in enumerate(shown)}
    cells: Counter[tuple[int, int]] = Counter()
    rows: Counter[int] = Counter()
    for actual, predicted, number in evaluation.confusion:
        row, column = (place.get(index, len(shown)) for index in (actual, predicted))
        cells[row, column] += number
        rows[row] += number
    labels = [classes[index].label for index in shown]
    if len(shown) == len(classes):
        return _Matrix(labels=labels, cells=cells, rows=rows)
    rest = f"{count(len(classes) - len(shown))} others"
    return _Matrix(labels=[*labels, rest], cells=cells, rows=rows, others=len(shown))


def _names(label: str, at: int, margin: float, head: float, side: int) -> Markup:
    text = cut(label, _LETTERS)
    middle = (at + 0.5) * side
    x, y = margin + middle, head - 6
    return joined(
        tag("text", text, x=margin - 7, y=head + middle + 4, class_="end"),
        tag("text", text, x=x, y=y, transform=f"rotate(-46 {x:.1f} {y:.1f})"),
    )


def _cell(matrix: _Matrix, cell: tuple[int, int], margin: float, head: float, side: int) -> Markup:
    row, column = cell
    number, share = matrix.cells[cell], matrix.cells[cell] / matrix.rows[row]
    is_right = row == column
    colour = "quiet" if row == column == matrix.others else "right" if is_right else "wrong"
    weight = 0.15 + 0.85 * (share if is_right else sqrt(share))
    x, y = margin + column * side, head + row * side
    text = count(number) if number < 1000 else f"{number / 1000:.3g}k"
    names = f"{cut(matrix.labels[row])} called {cut(matrix.labels[column])}"
    said = f"{pictures(number)} of {names}, {percent(share)}"
    return tag(
        "g",
        tag("title", said),
        tag(
            "rect",
            x=x + 0.5,
            y=y + 0.5,
            width=side - 1,
            height=side - 1,
            rx=3,
            fill_opacity=weight,
            class_=colour,
        ),
        tag(
            "text",
            text,
            x=x + side / 2,
            y=y + side / 2 + 4,
            class_="mid strong" if weight > 0.55 else "mid ink",
        ),
    )
