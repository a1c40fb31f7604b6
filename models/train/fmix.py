"""FMix, Harris et al. 2020, https://arxiv.org/abs/2002.12047: a blot of one picture in another.

    Z ~ N(0, 1) + i N(0, 1), (h, w/2 + 1);   G = Re F⁻¹(Z / max(f, 1 / max(h, w))^δ), f in cycles a pixel
    M = the round(λ h w) pixels of the greatest G, λ ~ Beta(alpha, alpha), one mask for the batch
    x ← M x + (1 - M) x',   t ← λ t + (1 - λ) t' with the share λ that M has

The paper sets λ of the targets as drawn; here it is that of the whole pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from models.catalogue import Parameters
from models.catalogue import augmentations as told
from models.train.mixing import Mixed, draw_partners, now_and_then
from models.train.parts import Mix


def build_fmix(parameters: Parameters) -> Mix:
    """Pictures (n, 3, h, w) and shares (n, c)."""
    assert isinstance(parameters, told.Fmix)

    def mix(images: torch.Tensor, targets: torch.Tensor, generator: np.random.Generator) -> Mixed:
        height, width = images.shape[2:]
        kept = round(float(generator.beta(parameters.alpha, parameters.alpha)) * height * width)
        order = np.argsort(_clouds(height, width, parameters.decay, generator), axis=None, kind="stable")
        is_own = np.zeros(height * width, dtype=np.bool_)
        is_own[order[order.size - kept :]] = True
        mask = torch.from_numpy(is_own.reshape(height, width)).to(images.device)
        others = draw_partners(images, generator)
        mixed = torch.where(mask, images, images[others])
        return mixed, torch.lerp(targets[others], targets, kept / (height * width))

    return now_and_then(parameters.share, mix)


def _clouds(height: int, width: int, decay: float, generator: np.random.Generator) -> NDArray[np.float64]:
    """Noise (h, w) whose amplitudes fall with the frequency to the power of `decay`."""
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    amplitudes = np.maximum(frequencies, 1 / max(height, width)) ** -decay
    real, imaginary = generator.standard_normal((2, *amplitudes.shape))
    return np.fft.irfft2((real + 1j * imaginary) * amplitudes, s=(height, width))
