"""What a network says of whole pictures: in windows whose shares are blended, as masks are served."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.data.masks import Mask
from models.data.pack import IGNORED
from models.train.feed import BatchSource
from models.train.mask_patches import WholeMasks
from models.train.predict import Answered, predict_masks
from models.train.windows import in_windows

_LEAST_SHARE = 1e-7
"""Of the right label, where its logarithm is taken."""


def predict_masks_of(
    network: nn.Module,
    source: BatchSource | WholeMasks,
    *,
    precision: str = "fp32",
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Answered]:
    """`predict_masks` or `predict_whole_masks`, by the source."""
    if isinstance(source, WholeMasks):
        return predict_whole_masks(network, source, precision=precision, should_stop=should_stop)
    return predict_masks(network, source, precision=precision, should_stop=should_stop)


def predict_whole_masks(
    network: nn.Module,
    source: WholeMasks,
    *,
    precision: str = "fp32",
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Answered]:
    """Answers for all pictures, in order, one at a time. Else as `in_windows`."""
    for pixels, mask in source:
        said, cost, top = np.empty_like(mask), 0.0, 0
        for rows in in_windows(network, pixels, source, precision=precision, should_stop=should_stop):
            wanted = mask[top : top + len(rows)]
            right = _of_the_right(rows, wanted)[wanted != IGNORED]
            cost -= float(np.log(np.maximum(right, _LEAST_SHARE)).sum(dtype=np.float64))
            said[top : top + len(rows)] = said_by(rows)
            top += len(rows)
        yield Answered(said[None], mask[None], cost, int((mask != IGNORED).sum()))


def said_by(shares: NDArray[np.float32]) -> Mask:
    """(k, w): index of the largest share; of a lone label 1 where it has more than half."""
    largest = shares[..., 0] > 0.5 if shares.shape[2] == 1 else shares.argmax(axis=2)
    return np.asarray(largest, np.uint8)


def _of_the_right(shares: NDArray[np.float32], mask: Mask) -> NDArray[np.float32]:
    """(k, w): share of the label that the mask names; anything where it names none."""
    if shares.shape[2] == 1:
        own = shares[..., 0]
        return np.where(mask == 1, own, 1 - own)
    named = np.where(mask == IGNORED, 0, mask)[..., None].astype(np.int64)
    return np.take_along_axis(shares, named, axis=2)[..., 0]
