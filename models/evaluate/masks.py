"""How good masks are: everything from one confusion matrix of pixels, in whole numbers until the end.

With c_ij pixels of label i that are said to be of j, and IGNORED ones left out:

    PA = Σ c_ii / Σ c_ij      CPA_i = c_ii / Σ_j c_ij      IoU_i = c_ii / (Σ_j c_ij + Σ_j c_ji - c_ii)
    Dice_i = 2 c_ii / (Σ_j c_ij + Σ_j c_ji)      FWIoU = Σ_i (Σ_j c_ij / Σ c) IoU_i

MPA, MIoU and the mean of Dice are over the labels that occur, in masks or in answers. With one label "not
it" is a row of the matrix as well, and counts for PA and FWIoU; the others are of the label alone.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.data.pack import IGNORED

Levels = NDArray[np.uint8]
"""(n, h, w)"""
NOT_IT = "(none)"
"""Row of the matrix for pixels without the one label."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MaskScores(_Frozen):
    """One label. None where there is nothing to divide by."""

    label: str
    pixels: int = Field(ge=0)
    """Of this label."""
    predicted: int = Field(ge=0)
    """That were said to be of it."""
    pictures: int = Field(ge=0)
    """With pixels of it."""
    pixel_accuracy: float | None
    """Share of its pixels that were found."""
    iou: float | None
    dice: float | None


class MaskSample(_Frozen):
    """A picture."""

    index: int
    """Its place in the split."""
    name: str
    mean_iou: float
    """Over the labels that are in its mask or in the answer."""


class ConstantAnswer(_Frozen):
    """The best that an answer can do which never looks: one label everywhere."""

    label: str
    pixel_accuracy: float
    mean_iou: float


class MaskEvaluation(_Frozen):
    """Marks of masks, at the network's own size, or at the pictures' if that takes them in windows."""

    samples: int = Field(ge=1)
    pixels: int = Field(ge=0)
    """That count."""
    pixel_accuracy: float
    mean_pixel_accuracy: float
    mean_iou: float
    frequency_weighted_iou: float
    mean_dice: float
    classes: tuple[MaskScores, ...]
    """In the order of the labels."""
    confusion: tuple[tuple[int, int, int], ...]
    """(actual, predicted, pixels), ascending, without the empty cells; with one label 0 is not it."""
    worst: tuple[MaskSample, ...]
    """Lowest mean IoU first."""
    best: tuple[MaskSample, ...]
    """Highest first."""
    baseline: ConstantAnswer


class _Marks(NamedTuple):
    """Of each label of a matrix, (labels,); not a number where there is nothing to divide by."""

    accuracy: NDArray[np.float64]
    iou: NDArray[np.float64]
    dice: NDArray[np.float64]


class MaskTally:
    """Counts pixels, batch by batch."""

    def __init__(self, labels: int) -> None:
        self._is_one = labels == 1
        self._levels = max(2, labels)
        self.confusion = np.zeros((self._levels, self._levels), np.int64)
        """(actual, predicted)"""
        self.pictures = np.zeros(self._levels, np.int64)
        """With pixels of each level."""
        self.ious: list[float] = []
        """Mean IoU of each picture so far."""

    def add(self, said: Levels, wanted: Levels) -> None:
        """Count pictures. Raises ValueError for levels that no label has."""
        for answer, mask in zip(said, wanted, strict=True):
            counts = mask != IGNORED
            actual, predicted = mask[counts].astype(np.int64), answer[counts].astype(np.int64)
            if actual.size and max(actual.max(), predicted.max()) >= self._levels:
                raise ValueError(f"a level is above {self._levels - 1}")
            cells = np.bincount(actual * self._levels + predicted, minlength=self._levels**2)
            matrix = cells.reshape(self._levels, self._levels)
            self.confusion += matrix
            self.pictures += matrix.sum(axis=1) > 0
            self.ious.append(self._mean(self._marks(matrix).iou, if_none=1.0))

    @property
    def pixel_accuracy(self) -> float:
        """PA; 0 where nothing counts."""
        return float(np.trace(self.confusion) / max(1, self.confusion.sum()))

    @property
    def mean_iou(self) -> float:
        """MIoU."""
        return self._mean(self._marks(self.confusion).iou)

    def _marks(self, matrix: NDArray[np.int64]) -> _Marks:
        right, actual, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return _Marks(
                right / actual, right / (actual + predicted - right), 2 * right / (actual + predicted)
            )

    def _mean(self, values: NDArray[np.float64], *, if_none: float = 0.0) -> float:
        """Over the labels that have a value."""
        of_labels = values[1:] if self._is_one else values
        known = of_labels[~np.isnan(of_labels)]
        return float(known.mean()) if known.size else if_none

    def evaluation(self, labels: Sequence[str], names: Sequence[str], *, listed: int = 12) -> MaskEvaluation:
        """All marks; `names` are the pictures', `listed` how many of the worst and best are named.

        Raises ValueError when there is no picture, or names are of another number.
        """
        if not self.ious or len(names) != len(self.ious):
            raise ValueError(f"{len(self.ious)} pictures, {len(names)} names")
        marks, total = self._marks(self.confusion), int(self.confusion.sum())
        frequencies = self.confusion.sum(axis=1) / max(1, total)
        order = np.argsort(self.ious, kind="stable")
        samples = [MaskSample(index=int(at), name=names[at], mean_iou=self.ious[at]) for at in order.tolist()]
        return MaskEvaluation(
            samples=len(names),
            pixels=total,
            pixel_accuracy=self.pixel_accuracy,
            mean_pixel_accuracy=self._mean(marks.accuracy),
            mean_iou=self.mean_iou,
            frequency_weighted_iou=float((frequencies * np.nan_to_num(marks.iou)).sum()),
            mean_dice=self._mean(marks.dice),
            classes=tuple(self._scores(marks, at, label) for at, label in enumerate(labels)),
            confusion=tuple(
                (int(actual), int(said), int(self.confusion[actual, said]))
                for actual, said in np.argwhere(self.confusion)
            ),
            worst=tuple(samples[:listed]),
            best=tuple(samples[: -listed - 1 : -1]),
            baseline=self._baseline(labels),
        )

    def _scores(self, marks: _Marks, at: int, label: str) -> MaskScores:
        level = 1 if self._is_one else at
        return MaskScores(
            label=label,
            pixels=int(self.confusion[level].sum()),
            predicted=int(self.confusion[:, level].sum()),
            pictures=int(self.pictures[level]),
            pixel_accuracy=_known(marks.accuracy[level]),
            iou=_known(marks.iou[level]),
            dice=_known(marks.dice[level]),
        )

    def _baseline(self, labels: Sequence[str]) -> ConstantAnswer:
        names = (NOT_IT, *labels) if self._is_one else tuple(labels)
        answers = []
        for level, name in enumerate(names):
            matrix = np.zeros_like(self.confusion)
            matrix[:, level] = self.confusion.sum(axis=1)
            accuracy = float(matrix[level, level] / max(1, matrix.sum()))
            iou = self._mean(self._marks(matrix).iou)
            answers.append(ConstantAnswer(label=name, pixel_accuracy=accuracy, mean_iou=iou))
        return max(answers, key=lambda answer: answer.mean_iou)


def _known(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
