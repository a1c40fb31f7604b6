"""Changes of whole batches: two pictures become one, and their targets with them."""

from math import sqrt

import numpy as np
import torch

from models.catalogue import Parameters
from models.catalogue import augmentations as told
from models.train.parts import Mix

Mixed = tuple[torch.Tensor, torch.Tensor]


def build_mixup(parameters: Parameters) -> Mix:
    """x ← λ x + (1 - λ) x', t ← λ t + (1 - λ) t', λ ~ Beta(alpha, alpha), one for the batch."""
    assert isinstance(parameters, told.Mixup)

    def mix(images: torch.Tensor, targets: torch.Tensor, generator: np.random.Generator) -> Mixed:
        share = float(generator.beta(parameters.alpha, parameters.alpha))
        partners = draw_partners(images, generator)
        return (
            torch.lerp(images[partners], images, share),
            torch.lerp(targets[partners], targets, share),
        )

    return now_and_then(parameters.share, mix)


def build_cutmix(parameters: Parameters) -> Mix:
    """A rectangle of x' in x; targets by the area left, which is Beta(alpha, alpha) before borders cut it."""
    assert isinstance(parameters, told.Cutmix)

    def mix(images: torch.Tensor, targets: torch.Tensor, generator: np.random.Generator) -> Mixed:
        height, width = images.shape[2:]
        side = sqrt(1.0 - float(generator.beta(parameters.alpha, parameters.alpha)))
        top, bottom = _span(height, side, generator)
        left, right = _span(width, side, generator)
        partners = draw_partners(images, generator)
        mixed = images.clone(memory_format=torch.preserve_format)
        mixed[:, :, top:bottom, left:right] = images[partners, :, top:bottom, left:right]
        share = 1.0 - (bottom - top) * (right - left) / (height * width)
        return mixed, torch.lerp(targets[partners], targets, share)

    return now_and_then(parameters.share, mix)


def now_and_then(share: float, mix: Mix) -> Mix:
    """Mix this share of the batches, drawn anew for each, and leave the others as they are."""

    def mix_or_not(images: torch.Tensor, targets: torch.Tensor, generator: np.random.Generator) -> Mixed:
        return mix(images, targets, generator) if generator.random() < share else (images, targets)

    return mix_or_not


def draw_partners(images: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Index of the picture that each of a batch is mixed with, (n,) int64; some are their own."""
    return torch.from_numpy(generator.permutation(images.shape[0])).to(images.device)


def _span(length: int, share: float, generator: np.random.Generator) -> tuple[int, int]:
    """Part of a side around a point drawn from all of it, cut at the borders."""
    middle, half = int(generator.integers(0, length)), round(share * length) // 2
    return max(0, middle - half), min(length, middle + half)
