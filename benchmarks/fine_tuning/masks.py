"""How good a model's masks are, asked over HTTP, and what two thresholds make of the same pictures.

Archives are of `test/images`, `test/masks` and so on, with `labels.txt` where there is more than one label.
Marks are by `models.evaluate.masks`, at the pictures' own size.
"""

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.filters import threshold_multiotsu

from benchmarks.running_service import check
from models.evaluate.masks import MaskTally

_LEVELS = 256


def judge_masks(client: httpx.Client, model: str, archive: Path) -> dict[str, Any]:
    """What a served model says of each picture of `test/`, beside its mask."""
    labels = _labels(archive)
    tally = MaskTally(len(labels))
    threshold = 0.5 if len(labels) == 1 else 0.01  # of several, each pixel has one
    for picture, mask in _pairs(archive, "test"):
        answer = client.post(
            f"/v1/segmentation?model={model}&output=labelmap&threshold={threshold}",
            content=picture,
            headers={"accept": "image/png"},
        )
        check(answer)
        said = _pixels(answer.content)
        if len(labels) > 1:
            said = said - np.uint8(1)  # 0 would be no label
        tally.add(said[None], mask[None])
    return _marks(tally, labels)


def measure_middles(archive: Path) -> dict[str, Any]:
    """Three labels by the grey value alone, with thresholds halfway between the labels' means in `train/`."""
    counts = _counts(archive)
    means = (counts * np.arange(_LEVELS)).sum(axis=1) / counts.sum(axis=1)
    first, second = ((means[1:] + means[:-1]) / 2).tolist()
    return _marks_of_thresholds(archive, first, second)


def measure_thresholds(archive: Path) -> dict[str, Any]:
    """The same with the two thresholds that have the highest mean IoU in `train/`."""
    return _marks_of_thresholds(archive, *_best_thresholds(_counts(archive)))


def measure_otsu(archive: Path) -> dict[str, Any]:
    """The same with the two that part the grey values of `train/` best, labels unseen (Otsu 1979)."""
    counts = _counts(archive).sum(axis=0)
    first, second = threshold_multiotsu(hist=(counts, np.arange(_LEVELS))).tolist()
    return _marks_of_thresholds(archive, first + 1, second + 1)  # theirs are the last of the lower class


def _counts(archive: Path) -> NDArray[np.int64]:
    """Pixels for training by label and grey value, (3, 256)."""
    counts = np.zeros((3, _LEVELS), np.int64)
    for picture, mask in _pairs(archive, "train"):
        np.add.at(counts, (mask, _grey(picture)), 1)
    return counts


def _marks_of_thresholds(archive: Path, first: float, second: float) -> dict[str, Any]:
    tally = MaskTally(3)
    for picture, mask in _pairs(archive, "test"):
        grey = _grey(picture)
        tally.add(((grey >= first).astype(np.uint8) + (grey >= second))[None], mask[None])
    return {"thresholds": [first, second], **_marks(tally, _labels(archive))}


def _best_thresholds(counts: NDArray[np.int64]) -> tuple[int, int]:
    below = np.concatenate((np.zeros((3, 1), np.int64), counts.cumsum(axis=1)), axis=1)
    best, found = -1.0, (0, 0)
    for first in range(_LEVELS + 1):
        for second in range(first, _LEVELS + 1):
            edges = below[:, [0, first, second, _LEVELS]]
            confusion = np.diff(edges, axis=1)  # (actual, said)
            union = confusion.sum(axis=0) + confusion.sum(axis=1) - np.diag(confusion)
            mean = float((np.diag(confusion) / np.maximum(union, 1)).mean())
            if mean > best:
                best, found = mean, (first, second)
    return found


def _labels(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as file:
        return file.read("labels.txt").decode().split() if "labels.txt" in file.namelist() else ["it"]


def _pairs(archive: Path, split: str) -> Iterator[tuple[bytes, NDArray[np.uint8]]]:
    """Encoded pictures, and masks (h, w) of levels 0, 1, …"""
    with zipfile.ZipFile(archive) as file:
        for name in sorted(file.namelist()):
            if name.startswith(f"{split}/images/"):
                mask = _pixels(file.read(name.replace("/images/", "/masks/")))
                yield file.read(name), np.where(mask == 255, np.uint8(1), mask)


def _pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)))


def _grey(picture: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("L"))


def _marks(tally: MaskTally, labels: list[str]) -> dict[str, Any]:
    """`picture_iou` is the mean of each picture's, `mean_iou` that of all pixels together."""
    evaluation = tally.evaluation(labels, [""] * len(tally.ious), listed=0)
    return {
        "picture_iou": float(np.mean(tally.ious)),
        "mean_iou": evaluation.mean_iou,
        "pixel_accuracy": evaluation.pixel_accuracy,
        "ious": {scores.label: scores.iou for scores in evaluation.classes},
        "samples": evaluation.samples,
        "split": "test",
    }
