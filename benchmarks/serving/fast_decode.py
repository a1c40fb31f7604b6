"""The fastest exact path from this JPEG to the tensor; the limit and every peer decode with it.

libjpeg-turbo decodes 512x512 at half scale, the central 224x224 of those 256x256 is the central
crop of 0.875: nothing is resampled.
"""

import numpy as np
import simplejpeg
from numpy.typing import NDArray

RESIZED = 256
SIDE = 224
_EDGE = (RESIZED - SIDE) // 2


def decode_into(photo: bytes, out: NDArray[np.uint8]) -> None:
    """Fill `out` (224, 224, 3) with the central crop, RGB."""
    image = simplejpeg.decode_jpeg(
        photo, "RGB", fastdct=True, fastupsample=True, min_height=RESIZED, min_width=RESIZED
    )
    out[:] = image[_EDGE : _EDGE + SIDE, _EDGE : _EDGE + SIDE]


def top_five(logits: NDArray[np.float32]) -> list[dict[str, float | str]]:
    """Soft-max of (C,) logits: five labels `c<index>`, best first."""
    scores = np.exp(logits - logits.max())
    scores /= scores.sum()
    best = np.argpartition(scores, -5)[-5:]
    best = best[np.argsort(-scores[best])]
    return [{"label": f"c{index}", "score": float(scores[index])} for index in best]
