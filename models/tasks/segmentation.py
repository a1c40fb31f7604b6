"""Segmentation: encoded image → uint8 tensor (see `fitting`); maps of logits → masks as large as the picture.

    logits (c, h, w) ─activation─► shares 0..1 ─bilinear, one label at a time─► (height, width) ─► masks

Full-size maps exist for one label at a time and for the best so far, so that memory goes by the picture and
not by the number of labels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.manifest import Manifest, MaskFacts
from models.tasks.fitting import ImageFitter
from models.tasks.image_facts import ImageLimits
from models.tasks.windows import WindowCodec

_IS_THERE = 0.5
Shares = NDArray[np.float32] | NDArray[np.float16]
"""(labels, h, w), 0..1"""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Where one label is."""

    label: str
    score: float
    """Mean share of the label over its mask, 0..1."""
    mask: NDArray[np.bool_]
    """(height, width) of the picture."""


class SegmentationCodec(ImageFitter):
    """Turns encoded images into one version's input, and its maps into masks. Thread-safe."""

    def __init__(self, manifest: Manifest, limits: ImageLimits) -> None:
        super().__init__(manifest.preprocessing, limits)
        self.labels = manifest.labels
        self._facts = manifest.masks or MaskFacts(activation="softmax")
        self._is_padded = manifest.preprocessing.fit == "pad"

    def encode_batch(
        self, logits: NDArray[np.float32], asked: Sequence[object], /
    ) -> list[Shares | ValueError]:
        """Shares of each row of logits (N, C, h, w); a row that is not finite gets a ValueError instead."""
        if logits.ndim != 4 or logits.shape[1] != len(self.labels):
            error = ValueError(f"{logits.shape[1:]} logits for {len(self.labels)} labels")
            return [error] * len(asked)
        return [_shares_or_error(row, self._facts) for row in logits]

    def decisions(self, logits: NDArray[np.float32]) -> NDArray[np.intp] | NDArray[np.bool_]:
        """What maps (c, h, w) say of each pixel: the index of its label (h, w); where labels do not exclude
        each other, whether each is there (c, h, w). Raises ValueError for what is not finite."""
        return _decisions(logits, self._facts)

    def masks_of(self, shares: Shares, size: tuple[int, int]) -> "PictureMasks":
        """The masks of a picture of `size` (height, width), upright, as a person sees it."""
        height, width = size
        if self._is_padded:  # what lies around the picture is not part of it
            rows, columns = shares.shape[1:]
            scale = min(rows / height, columns / width)
            inner = max(1, round(height * scale)), max(1, round(width * scale))
            top, left = (rows - inner[0]) // 2, (columns - inner[1]) // 2
            shares = shares[:, top : top + inner[0], left : left + inner[1]]
        return PictureMasks(shares, size, self.labels, self._facts)


class TiledSegmentationCodec(WindowCodec):
    """The same for a graph that takes a picture in windows, each of whose pixels gets its own logits."""

    def __init__(self, manifest: Manifest, limits: ImageLimits) -> None:
        super().__init__(manifest, limits)
        self.labels = manifest.labels
        self._facts = manifest.masks or MaskFacts(activation="softmax")

    def encode_batch(
        self, logits: NDArray[np.float32], asked: Sequence[object], /
    ) -> list[NDArray[np.float32] | ValueError]:
        """Shares (h, w, labels) of each window's logits (N, C, h, w), or why there are none."""
        if logits.ndim != 4 or logits.shape[1] != len(self.labels):
            error = ValueError(f"{logits.shape[1:]} logits for {len(self.labels)} labels")
            return [error] * len(asked)
        found = (_shares_or_error(row, self._facts) for row in logits)
        return [one if isinstance(one, ValueError) else one.transpose(1, 2, 0) for one in found]

    def decisions(self, logits: NDArray[np.float32]) -> NDArray[np.intp] | NDArray[np.bool_]:
        """The same as `SegmentationCodec.decisions`, of a window."""
        return _decisions(logits, self._facts)

    def masks_of(self, shares: Shares, size: tuple[int, int]) -> "PictureMasks":
        """The masks of a picture of `size` (height, width), which its shares have already."""
        return PictureMasks(shares, size, self.labels, self._facts)


def _decisions(logits: NDArray[np.float32], facts: MaskFacts) -> NDArray[np.intp] | NDArray[np.bool_]:
    shares = _shares_or_error(logits, facts)
    if isinstance(shares, ValueError):
        raise shares
    return shares.argmax(axis=0) if facts.activation == "softmax" else shares >= _IS_THERE


def _shares_or_error(logits: NDArray[np.float32], facts: MaskFacts) -> NDArray[np.float32] | ValueError:
    if not np.isfinite(logits).all():
        return ValueError("the logits are not finite")
    if facts.activation == "softmax":
        raised = np.exp(logits - logits.max(axis=0))
        shares = raised / raised.sum(axis=0)
    else:
        with np.errstate(over="ignore"):
            shares = 1 / (1 + np.exp(-logits))
    if facts.is_stretched:
        low, high = float(shares.min()), float(shares.max())
        shares = (shares - low) / max(high - low, 1e-12)
    return np.asarray(shares, np.float32)


class PictureMasks:
    """Masks of one picture."""

    def __init__(
        self, shares: Shares, size: tuple[int, int], labels: Sequence[str], facts: MaskFacts
    ) -> None:
        self._small = shares
        self._labels = labels
        self._is_exclusive = facts.activation == "softmax"
        self.size = size

    def share(self, index: int) -> NDArray[np.float32]:
        """(height, width): the share of one label, between the network's own points linearly."""
        height, width = self.size
        small = np.ascontiguousarray(self._small[index], np.float32)
        if small.shape == self.size:
            return small
        return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))

    def segments(self, chosen: Sequence[int], threshold: float) -> Iterator[Segment]:
        """Of the chosen labels those that are somewhere, in their order.

        A label's mask is where its share is at least `threshold`; where labels exclude each other, it must be
        the largest as well.
        """
        best = self.best(threshold)[0] if self._is_exclusive else None
        for index in chosen:
            share = self.share(index)
            mask = share >= threshold if best is None else best == index + 1
            if mask.any():
                score = float(share[mask].mean(dtype=np.float64))
                yield Segment(label=self._labels[index], score=score, mask=mask)

    def best(
        self, threshold: float, chosen: Sequence[int] | None = None
    ) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
        """For each pixel 1 + the index of the label with the largest share, and that share; 0 where none has
        `threshold`. Equal shares go to the lower index."""
        indices = range(len(self._labels)) if chosen is None else chosen
        first, *others = indices
        highest = self.share(first).copy()
        winner = np.full(self.size, first + 1, np.uint16)
        for index in others:
            share = self.share(index)
            is_higher = share > highest
            winner[is_higher] = index + 1
            np.maximum(highest, share, out=highest)
        winner[highest < threshold] = 0
        return winner, highest


Rendering = Callable[[NDArray[np.uint8], PictureMasks, Sequence[int], float], Image.Image]
"""Upright pixels (height, width, 3), masks, chosen labels and threshold to a picture of the same size."""


def labelmap(
    pixels: NDArray[np.uint8], masks: PictureMasks, chosen: Sequence[int], threshold: float
) -> Image.Image:
    """Palette image: 0 where no label is, else 1 + the label's index; from 255 labels on, 16-bit grey."""
    winner, _ = masks.best(threshold, chosen)
    if max(chosen) + 1 > np.iinfo(np.uint8).max:
        return Image.fromarray(winner)
    image = Image.fromarray(winner.astype(np.uint8))
    image.putpalette(palette().tobytes())
    return image


def overlay(
    pixels: NDArray[np.uint8], masks: PictureMasks, chosen: Sequence[int], threshold: float
) -> Image.Image:
    """The picture, half tinted with each label's colour where that label is."""
    winner, _ = masks.best(threshold, chosen)
    colours = palette()[winner % 256]
    tinted = np.where(winner[..., None] > 0, (pixels.astype(np.uint16) + colours + 1) // 2, pixels)
    return Image.fromarray(tinted.astype(np.uint8))


def cutout(
    pixels: NDArray[np.uint8], masks: PictureMasks, chosen: Sequence[int], threshold: float
) -> Image.Image:
    """The picture with the share of the chosen labels as its opacity; below `threshold` / 2 it is clear.

    Soft: a hair's edge is half there. `threshold` sets where the picture is half opaque.
    """
    _, highest = masks.best(0.0, chosen)
    opacity = np.clip((highest - threshold / 2) / max(threshold, 1e-6), 0, 1)
    alpha = np.round(opacity * 255).astype(np.uint8)
    return Image.fromarray(np.dstack([pixels, alpha]))


def palette() -> NDArray[np.uint8]:
    """(256, 3): black, then colours whose bits are spread so that neighbours differ (PASCAL VOC's map)."""
    indices = np.arange(256, dtype=np.uint16)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((indices >> channel) & 1) << (7 - bit)).astype(np.uint8)
        indices >>= 3
    return colours
