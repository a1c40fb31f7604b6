"""What two graphs make of the same pictures: which share is the same, how far their masks overlap, how near
the pictures are that they make."""

from collections.abc import Iterable
from math import isfinite, log10, nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_OF_SEVERAL = 3
"""Dimensions of decisions on pixels that may have several labels."""
_HIGHEST_DB = 120.0


def same_share(got: NDArray[Any], expected: NDArray[Any]) -> float:
    """Share of a picture of which two decisions say the same: all or none of its one label (), of its pixels
    (h, w) or (labels, h, w). A pixel of which several labels may be true keeps all of them or is not kept."""
    same = np.asarray(got == expected)
    return float((same.all(axis=0) if same.ndim == _OF_SEVERAL else same).mean())


class Overlap(NamedTuple):
    """Of one picture, pixels by label, (labels,)."""

    both: NDArray[np.int64]
    """That both masks have."""
    either: NDArray[np.int64]


def overlap(got: NDArray[Any], expected: NDArray[Any], labels: int) -> Overlap:
    """Of two decisions on one picture's pixels: the index of a label each (h, w), or for each label whether
    it is there (labels, h, w)."""
    if got.ndim == _OF_SEVERAL:
        there = got.astype(bool), expected.astype(bool)
        return Overlap((there[0] & there[1]).sum(axis=(1, 2)), (there[0] | there[1]).sum(axis=(1, 2)))
    cells = np.bincount((got.astype(np.int64) * labels + expected).ravel(), minlength=labels**2)
    matrix = cells.reshape(labels, labels)
    both = np.diag(matrix)
    return Overlap(both, matrix.sum(axis=0) + matrix.sum(axis=1) - both)


def mean_iou(overlaps: Iterable[Overlap]) -> float | None:
    """Mean over labels of intersection over union of all pictures together, of the labels that either side
    sees; 1 if none is seen. None without pictures."""
    listed = list(overlaps)
    if not listed:
        return None
    both, either = (np.sum(counts, axis=0) for counts in zip(*listed, strict=True))
    seen = either > 0
    return float((both[seen] / either[seen]).mean()) if seen.any() else 1.0


def squared_error(got: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Mean squared difference of two pictures in 0..1; what lies beyond is cut off, as when it is served."""
    difference = np.clip(got, 0.0, 1.0) - np.clip(expected, 0.0, 1.0)
    return float(np.square(difference).mean(dtype=np.float64))


def psnr_db(errors: Iterable[float]) -> float | None:
    """Peak signal-to-noise ratio of all pictures together, decibels, from the squared error of each; at most
    120, also of equal ones; not a number if an
    error is none. None without pictures."""
    listed = list(errors)
    if not listed:
        return None
    error = sum(listed) / len(listed)
    if not isfinite(error):
        return nan
    return min(_HIGHEST_DB, -10 * log10(max(error, 10 ** (-_HIGHEST_DB / 10))))
