"""What a linear model makes of the pixels: multinomial logistic regression with scikit-learn's defaults."""

import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

_MOST_ROUNDS = 200


def measure_linear(archive: Path) -> dict[str, Any]:
    """Learns from all of `train/`, is marked on all of `test/`; a folder per class in each."""
    images, labels = _read(archive, "train")
    others, truth = _read(archive, "test")
    model = LogisticRegression(max_iter=_MOST_ROUNDS).fit(images, labels)
    guesses = model.predict(others)
    return {
        "accuracy": float(np.mean(guesses == truth)),
        "macro_f1": float(f1_score(truth, guesses, average="macro")),
        "samples": len(truth),
        "split": "test",
        "rounds": int(model.n_iter_[0]),
    }


def _read(archive: Path, split: str) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Grey values (n, h x w), 0..1, and folder names (n,)."""
    with zipfile.ZipFile(archive) as file:
        names = [name for name in file.namelist() if name.startswith(f"{split}/") and name.endswith(".png")]
        pixels = [np.asarray(Image.open(file.open(name)).convert("L"), np.float32).ravel() for name in names]
    return np.stack(pixels) / 255, np.array([PurePosixPath(name).parent.name for name in names])
