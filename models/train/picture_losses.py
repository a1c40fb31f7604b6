"""Losses of super-resolution: what is made, (n, 3, h, w) in 0..1, about, against what is wanted.

What is wanted may be larger all around, where a network makes no result for its border: the middle of it
counts. Each loss is a mean over pixels and the three colours.
"""

import torch
from torch.nn import functional

from models.catalogue import Parameters
from models.catalogue import losses as told
from models.train.parts import Loss

Weights = torch.Tensor | None
_WINDOW, _DEVIATION = 11, 1.5
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2


def middle(wanted: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
    """The part of (…, H, W) that results (…, h, w) are for."""
    top, left = ((wanted.shape[axis] - made.shape[axis]) // 2 for axis in (-2, -1))
    return wanted[..., top : top + made.shape[-2], left : left + made.shape[-1]]


def build_l1(parameters: Parameters, *, class_weights: Weights) -> Loss:
    """|x - y|"""
    return lambda made, wanted: functional.l1_loss(made, middle(wanted, made))


def build_mse(parameters: Parameters, *, class_weights: Weights) -> Loss:
    """(x - y)²"""
    return lambda made, wanted: functional.mse_loss(made, middle(wanted, made))


def build_charbonnier(parameters: Parameters, *, class_weights: Weights) -> Loss:
    """sqrt((x - y)² + e²)"""
    assert isinstance(parameters, told.Charbonnier)
    epsilon = parameters.epsilon
    return lambda made, wanted: (made - middle(wanted, made)).square().add(epsilon**2).sqrt().mean()


def build_ssim(parameters: Parameters, *, class_weights: Weights) -> Loss:
    """1 - SSIM of the two, with what is made cut to 0..1 as it is served, + w |x - y| of what is not cut

    SSIM = (2 m_x m_y + c_1) (2 s_xy + c_2) / ((m_x² + m_y² + c_1) (s_x² + s_y² + c_2)), means, variances and
    covariance by a Gaussian window of 11 x 11 pixels and a deviation of 1.5, where it fits; c_1 = 0.01²,
    c_2 = 0.03².
    """
    assert isinstance(parameters, told.StructuralSimilarity)
    weight = parameters.l1_weight

    def loss(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        wanted = middle(wanted, made)
        cost = 1 - _similarity(made.clamp(0, 1), wanted)
        return cost + weight * functional.l1_loss(made, wanted) if weight else cost

    return loss


def _similarity(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Mean SSIM."""
    mean_one, mean_other = _blurred(one), _blurred(other)
    spread_one = _blurred(one * one) - mean_one**2
    spread_other = _blurred(other * other) - mean_other**2
    together = _blurred(one * other) - mean_one * mean_other
    above = (2 * mean_one * mean_other + _LUMINANCE) * (2 * together + _CONTRAST)
    below = (mean_one**2 + mean_other**2 + _LUMINANCE) * (spread_one + spread_other + _CONTRAST)
    return (above / below).mean()


def _blurred(pixels: torch.Tensor) -> torch.Tensor:
    """(n, c, h, w) to (n, c, h - 10, w - 10)."""
    offsets = torch.arange(_WINDOW, dtype=pixels.dtype, device=pixels.device) - _WINDOW // 2
    weights = torch.exp(-(offsets**2) / (2 * _DEVIATION**2))
    line = (weights / weights.sum()).view(1, 1, 1, -1).expand(pixels.shape[1], 1, 1, -1)
    across = functional.conv2d(pixels, line, groups=pixels.shape[1])
    return functional.conv2d(across, line.transpose(2, 3), groups=pixels.shape[1])
