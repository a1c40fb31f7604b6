"""Classification: encoded image → uint8 tensor (see `fitting`); logits → labelled scores."""

from collections.abc import Sequence
from math import isfinite
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from models.manifest import Manifest
from models.tasks.fitting import ImageFitter
from models.tasks.image_facts import ImageLimits


class Prediction(TypedDict):
    """One label and its share of the soft-max, 0..1. Each request makes several, and JSON of them: nothing is
    sooner made."""

    label: str
    score: float


class ClassificationCodec(ImageFitter):
    """Turns encoded images into one version's input, and its logits into predictions. Thread-safe."""

    def __init__(self, manifest: Manifest, limits: ImageLimits) -> None:
        super().__init__(manifest.preprocessing, limits)
        self._labels = manifest.labels

    def encode(self, logits: NDArray[np.float32], top_k: int) -> list[Prediction]:
        """The `top_k` likeliest labels of logits (C,), highest score first, equal logits in index order.

        Raises ValueError as `encode_batch` says it.
        """
        predictions = self.encode_batch(logits[None], [top_k])[0]
        if isinstance(predictions, ValueError):
            raise predictions
        return predictions

    def encode_batch(
        self, logits: NDArray[np.float32], top_ks: Sequence[int]
    ) -> list[list[Prediction] | ValueError]:
        """`encode` for each row of logits (N, C): its predictions, or why it has none.

        score_i = exp(z_i - max z) / sum_j exp(z_j - max z): the terms in float32, the sum in float64. A row
        whose logits are not finite gets a ValueError and spoils no other. All rows go through each array
        operation together: NumPy gives the GIL away in each, and getting it back is what costs in a busy
        process.
        """
        if logits.shape[1:] != (len(self._labels),):
            error = ValueError(f"{logits.shape[1:]} logits for {len(self._labels)} labels")
            return [error] * len(top_ks)
        highest = np.maximum.reduce(logits, axis=1)  # NaN carries through
        with np.errstate(over="ignore", invalid="ignore"):  # in rows that are refused below
            shares = np.exp(logits - highest[:, None])
        totals = np.add.reduce(shares, axis=1, dtype=np.float64).tolist()
        # Everything not below the k-th highest, so that ties at the border go by index too.
        border = logits.shape[1] - min(max(top_ks), logits.shape[1])
        borders = np.partition(logits, border, axis=1)[:, border, None]
        chosen = np.flatnonzero(logits >= borders)
        candidates: list[list[tuple[float, int, float]]] = [[] for _ in top_ks]
        for place, logit, share in zip(
            chosen.tolist(), logits.take(chosen).tolist(), shares.take(chosen).tolist(), strict=True
        ):
            row, column = divmod(place, logits.shape[1])
            candidates[row].append((-logit, column, share))
        return [
            [
                {"label": self._labels[index], "score": share / total}
                for _, index, share in sorted(row)[:top_k]
            ]
            if isfinite(high)
            else ValueError("the logits are not finite")
            for row, total, high, top_k in zip(candidates, totals, highest.tolist(), top_ks, strict=True)
        ]
