"""What a network makes of whole pictures: in windows, and in 8 bits, as they are served."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from torch import nn

from models.evaluate.picture_marks import cubic, mean_error, psnr
from models.tasks.tiles import to_bytes
from models.train.patches import Levels, WholePictures
from models.train.windows import in_windows


class Made(NamedTuple):
    """A picture."""

    name: str
    made: Levels
    """(scale h, scale w, 3)"""
    wanted: Levels
    small: Levels
    """(h, w, 3)"""


def predict_pictures(
    network: nn.Module,
    source: WholePictures,
    *,
    precision: str = "fp32",
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Made]:
    """All pictures in order. Leaves the network in eval mode.

    Raises Stopped when `should_stop`, asked before every window, says so; ValueError for what is not finite.
    """
    for name, (large, small) in source:
        made = enlarged(network, small, source, precision=precision, should_stop=should_stop)
        yield Made(name, made, large, small)


def enlarged(
    network: nn.Module,
    small: Levels,
    source: WholePictures,
    *,
    precision: str = "fp32",
    should_stop: Callable[[], bool] = lambda: False,
) -> Levels:
    """One picture, made larger. Raises as `predict_pictures`."""
    rows = in_windows(network, small, source, precision=precision, should_stop=should_stop)
    return np.concatenate([to_bytes(one) for one in rows])


def picture_metrics(made: Iterable[Made], *, scale: int) -> dict[str, float]:
    """`valid_loss`, the mean absolute difference of colours, white being 1; `valid_psnr` of luminance,
    decibels; and `valid_psnr_gain`, by how much that is over cubic interpolation's."""
    errors, own, plain = [], [], []
    for one in made:
        errors.append(mean_error(one.made, one.wanted))
        own.append(psnr(one.made, one.wanted, border=scale))
        plain.append(psnr(cubic(one.small, scale), one.wanted, border=scale))
    return {
        "valid_loss": float(np.mean(errors)),
        "valid_psnr": float(np.mean(own)),
        "valid_psnr_gain": float(np.mean(own) - np.mean(plain)),
    }
