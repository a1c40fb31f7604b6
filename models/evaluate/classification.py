"""How good a classifier is on pictures that it was not trained on.

Everything is computed from logits and targets alone, in float64. Where several logits are highest, the first
one is the answer, as the codec gives it.
"""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

BINS = 15
"""Of the calibration, as in Guo et al. 2017, On Calibration of Modern Neural Networks."""
_TOP = 5
_ROWS_AT_ONCE = 4096
_Z95 = 1.959963984540054
"""Of the normal distribution, for an interval that holds 95 %."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassScores(_Frozen):
    """One class. None where there is nothing to divide by."""

    label: str
    support: int = Field(ge=0)
    """Pictures of this class."""
    predicted: int = Field(ge=0)
    """Pictures that were said to be of it."""
    precision: float | None
    """Share of the predicted that are."""
    recall: float | None
    """Share of its pictures that were found."""
    f1: float | None
    """2 TP / (2 TP + FP + FN)."""


class CalibrationBin(_Frozen):
    """Pictures whose confidence, the share of the predicted label, is in (low, high]."""

    low: float
    high: float
    count: int = Field(ge=0)
    confidence: float | None
    """Their mean confidence."""
    accuracy: float | None
    """Share of them that is right."""


class WorstSample(_Frozen):
    """A picture with a high loss."""

    index: int
    """Row of the logits."""
    name: str
    label: str
    """What it is."""
    predicted: str
    confidence: float
    """Share given to `predicted`, 0..1."""
    share: float
    """Share given to `label`, 0..1."""
    loss: float
    """- log share, nats."""


class Baseline(_Frozen):
    """The best that an answer can do which never looks at the picture."""

    label: str
    """The commonest: what it always says."""
    accuracy: float
    macro_f1: float
    nll: float
    """Of always giving each label the share that it has: the entropy of the labels, nats."""


class Evaluation(_Frozen):
    """A classifier's marks."""

    samples: int = Field(ge=1)
    accuracy: float
    accuracy_interval: tuple[float, float]
    """Wilson's score interval, 95 %: what chance alone leaves open with so many pictures."""
    top5_accuracy: float | None
    """None where there are no more than five classes."""
    macro_f1: float
    """Mean over the classes that occur, among the pictures or among the answers."""
    nll: float
    """Mean negative log-likelihood, nats."""
    ece: float
    """Expected calibration error: mean distance of confidence and accuracy over the bins, by their counts."""
    classes: tuple[ClassScores, ...]
    """In the order of the labels."""
    confusion: tuple[tuple[int, int, int], ...]
    """(actual, predicted, pictures), without the empty cells, in ascending order."""
    calibration: tuple[CalibrationBin, ...]
    worst: tuple[WorstSample, ...]
    """Highest loss first."""
    baseline: Baseline


def evaluate(
    logits: NDArray[np.floating],
    targets: NDArray[np.integer],
    labels: Sequence[str],
    names: Sequence[str],
    *,
    worst: int = 24,
) -> Evaluation:
    """Mark logits (n, c) against targets (n,); `names` are the pictures', `worst` how many to list.

    Raises:
        ValueError: the shapes do not fit, there is nothing to mark, or a logit is not finite.

    """
    _check(logits, targets, labels, names)
    rows = _rows(logits, targets)
    predicted = logits.argmax(axis=1)
    is_right = predicted == targets
    right, samples = int(is_right.sum()), len(targets)
    confusion = _confusion(targets, predicted, len(labels))
    classes = _class_scores(confusion, labels)
    calibration = _calibration(rows.confidence, is_right)
    return Evaluation(
        samples=samples,
        accuracy=right / samples,
        accuracy_interval=_wilson(right, samples),
        top5_accuracy=float((rows.rank < _TOP).mean()) if len(labels) > _TOP else None,
        macro_f1=_macro_f1(classes),
        nll=float(rows.loss.mean()),
        ece=_ece(calibration),
        classes=classes,
        confusion=confusion,
        calibration=calibration,
        worst=tuple(
            WorstSample(
                index=int(index),
                name=names[index],
                label=labels[targets[index]],
                predicted=labels[predicted[index]],
                confidence=float(rows.confidence[index]),
                share=float(np.exp(-rows.loss[index])),
                loss=float(rows.loss[index]),
            )
            for index in np.argsort(-rows.loss, kind="stable")[:worst]
        ),
        baseline=_baseline(targets, labels),
    )


def _check(
    logits: NDArray[np.floating], targets: NDArray[np.integer], labels: Sequence[str], names: Sequence[str]
) -> None:
    if logits.shape != (len(targets), len(labels)) or len(names) != len(targets):
        given = f"{len(targets)} targets, {len(labels)} labels, {len(names)} names"
        raise ValueError(f"logits {logits.shape} do not fit {given}")
    if not len(targets):
        raise ValueError("there is no picture to evaluate on")
    if targets.min() < 0 or targets.max() >= len(labels):
        raise ValueError(f"a target is outside 0..{len(labels) - 1}")
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        raise ValueError(f"the logits of {names[int(finite.argmin())]} are not finite")


class _Rows(NamedTuple):
    """What each picture's logits say, (n,) each."""

    loss: NDArray[np.float64]
    """- log soft-max of the target."""
    confidence: NDArray[np.float64]
    """Largest soft-max."""
    rank: NDArray[np.int64]
    """Of the target among the answers, from 0."""


def _rows(logits: NDArray[np.floating], targets: NDArray[np.integer]) -> _Rows:
    parts = []
    for start in range(0, len(targets), _ROWS_AT_ONCE):  # float64 copies of all logits may not fit
        some = logits[start : start + _ROWS_AT_ONCE].astype(np.float64)
        wanted = targets[start : start + _ROWS_AT_ONCE, None].astype(np.int64)
        highest = some.max(axis=1)
        log_total = np.log(np.exp(some - highest[:, None]).sum(axis=1))
        own = np.take_along_axis(some, wanted, axis=1)
        goes_before = (some > own) | ((some == own) & (np.arange(some.shape[1]) < wanted))
        parts.append(
            _Rows(
                log_total + highest - own[:, 0], np.exp(-log_total), goes_before.sum(axis=1).astype(np.int64)
            )
        )
    return _Rows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _confusion(
    targets: NDArray[np.integer], predicted: NDArray[np.integer], classes: int
) -> tuple[tuple[int, int, int], ...]:
    cells, counts = np.unique(targets.astype(np.int64) * classes + predicted, return_counts=True)
    return tuple(
        (*divmod(cell, classes), count) for cell, count in zip(cells.tolist(), counts.tolist(), strict=True)
    )


def _class_scores(
    confusion: Sequence[tuple[int, int, int]], labels: Sequence[str]
) -> tuple[ClassScores, ...]:
    support, predicted, right = ([0] * len(labels) for _ in range(3))
    for actual, answer, count in confusion:
        support[actual] += count
        predicted[answer] += count
        if actual == answer:
            right[actual] = count
    return tuple(
        ClassScores(
            label=label,
            support=support[index],
            predicted=predicted[index],
            precision=_share(right[index], predicted[index]),
            recall=_share(right[index], support[index]),
            f1=_share(2 * right[index], support[index] + predicted[index]),
        )
        for index, label in enumerate(labels)
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _macro_f1(classes: Sequence[ClassScores]) -> float:
    found = [each.f1 for each in classes if each.f1 is not None]
    return sum(found) / len(found)


def _calibration(confidence: NDArray[np.float64], is_right: NDArray[np.bool_]) -> tuple[CalibrationBin, ...]:
    places = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    confident = np.bincount(places, weights=confidence, minlength=BINS)
    right = np.bincount(places, weights=is_right, minlength=BINS)
    return tuple(
        CalibrationBin(
            low=place / BINS,
            high=(place + 1) / BINS,
            count=int(count),
            confidence=float(confident[place] / count) if count else None,
            accuracy=float(right[place] / count) if count else None,
        )
        for place, count in enumerate(counts)
    )


def _ece(bins: Sequence[CalibrationBin]) -> float:
    apart = 0.0
    for each in bins:
        if each.accuracy is not None and each.confidence is not None:
            apart += each.count * abs(each.accuracy - each.confidence)
    return apart / sum(each.count for each in bins)


def _wilson(right: int, samples: int) -> tuple[float, float]:
    """Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference."""
    share, z2 = right / samples, _Z95**2
    middle = share + z2 / (2 * samples)
    half = _Z95 * sqrt(share * (1 - share) / samples + z2 / (4 * samples**2))
    scale = 1 + z2 / samples
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def _baseline(targets: NDArray[np.integer], labels: Sequence[str]) -> Baseline:
    counts = np.bincount(targets, minlength=len(labels))
    commonest = int(counts.argmax())
    shares = counts[counts > 0] / len(targets)
    answers = np.full(len(targets), commonest)
    classes = _class_scores(_confusion(targets, answers, len(labels)), labels)
    return Baseline(
        label=labels[commonest],
        accuracy=float(counts[commonest] / len(targets)),
        macro_f1=_macro_f1(classes),
        nll=float(-(shares * np.log(shares)).sum()),
    )
