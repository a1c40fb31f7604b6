"""The data sets and what is tried on each."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.fine_tuning.linear import measure_linear
from benchmarks.fine_tuning.masks import judge_masks, measure_middles, measure_otsu, measure_thresholds
from benchmarks.fine_tuning.photographs import judge_photographs

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
STARTER = "efficientnet-lite0"


@dataclass(frozen=True, kw_only=True)
class RecipeSet:
    """A data set and the specs that train on it."""

    make: Callable[[Path], Path]
    """Writes the archive into a folder."""
    recipes: Mapping[str, dict[str, Any]]
    options: dict[str, Any] = field(default_factory=dict)
    """Of the data set."""
    baselines: Mapping[str, Callable[[Path], dict[str, Any]]] = field(default_factory=dict)
    """What learns from the archive without the service, and its figures; without chance, so once."""
    task: str = "classification"
    starters: tuple[str, ...] = (STARTER,)
    judge: Callable[[httpx.Client, str, Path], dict[str, Any]] | None = None
    """What a served model gets right of the archive's held-out pictures, asked over HTTP."""
    before: tuple[str, ...] = ()
    """Models that are judged before anything is trained."""
    compressed: tuple[str, ...] = ()
    """Recipes whose first model is compressed by jobs, calibrated and compared on the same data set."""


def _run_example(script: str, *options: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        archive = folder / f"{Path(script).stem}.zip"
        subprocess.run([sys.executable, str(EXAMPLES / script), str(archive), *options], check=True)
        return archive

    return make


_LORA = {"method": "lora", "r": 8}

_UNET_OVER_LITE = {
    "model": "unet_tf_efficientnet_lite0",
    "adapter": {"method": "full"},
    "augmentation": ["flip"],
    "image_size": 96,
    "batch_size": 16,
    "n_epochs": 12,
    "learning_rate": 1e-3,
    "loss": {"method": "dice", "cross_entropy_weight": 1.0},
}
_SMALL_UNET = {"model": "unet_small", "adapter": {"method": "full"}, "augmentation": ["flip"]}

SETS: Mapping[str, RecipeSet] = {
    "digits": RecipeSet(
        make=_run_example("digits.py"),
        recipes={
            "lora": {"model": STARTER, "adapter": _LORA},
            "head": {"model": STARTER, "adapter": {"method": "head"}},
        },
    ),
    "fashion_mnist": RecipeSet(
        make=_run_example("fashion_mnist.py"),
        recipes={
            # The defaults, 96 pixels and three epochs, would take half an hour; this takes minutes. Over so
            # many steps the default rate, found on 1,400 pictures, is too high: 0.906 and 0.900.
            "lora": {
                "model": STARTER,
                "adapter": _LORA,
                "image_size": 64,
                "n_epochs": 1,
                "learning_rate": 0.002,
                "head_rate_scale": 0.25,
            },
            "lenet5 from scratch": {
                "model": "lenet5",
                "adapter": {"method": "full"},
            },
            "resnet50 from scratch": {
                "model": "resnet50",
                "adapter": {"method": "full"},
                "image_size": 64,
                "batch_size": 64,
                "n_epochs": 1,
                "precision": "bf16",
            },
        },
        baselines={"linear": measure_linear},
        compressed=("lora", "resnet50 from scratch"),
    ),
    "composites": RecipeSet(
        make=_run_example("composites.py", "--train", "320"),
        task="segmentation",
        starters=("u2netp",),
        judge=judge_masks,
        before=("u2netp",),
        recipes={
            "u2netp": {
                "model": "u2netp",
                "adapter": {"method": "full"},
                "augmentation": ["flip"],
                "image_size": 320,
                "batch_size": 4,
                "n_epochs": 1,
            },
        },
    ),
    "small_composites": RecipeSet(
        make=_run_example("composites.py", "--side", "96", "--train", "3000", "--test", "300"),
        task="segmentation",
        starters=(),
        judge=judge_masks,
        recipes={
            "unet_small": {
                **_SMALL_UNET,
                "image_size": 96,
                "batch_size": 16,
                "n_epochs": 8,
                "learning_rate": 3e-3,
                "loss": {"method": "dice", "cross_entropy_weight": 1.0},
            },
        },
        compressed=("unet_small",),
    ),
    "few_composites": RecipeSet(
        make=_run_example("composites.py", "--side", "96", "--train", "200", "--test", "300"),
        task="segmentation",
        judge=judge_masks,
        recipes={
            "unet over lite0 from scratch": _UNET_OVER_LITE,
            "unet over lite0 over the starter": {**_UNET_OVER_LITE, "encoder": STARTER},
        },
    ),
    "mni152": RecipeSet(
        make=_run_example("mni152.py"),
        task="segmentation",
        starters=(),
        judge=judge_masks,
        recipes={
            "unet_small": {**_SMALL_UNET, "image_size": 224, "batch_size": 4, "n_epochs": 30},
            "unet_small in windows": {
                **_SMALL_UNET,
                "fit": "tiles",
                "image_size": 64,
                "batch_size": 16,
                "n_epochs": 50,
                "learning_rate": 2e-3,
            },
        },
        baselines={
            "otsu": measure_otsu,
            "thresholds halfway": measure_middles,
            "best thresholds": measure_thresholds,
        },
    ),
    "photographs": RecipeSet(
        make=_run_example("photos_to_enlarge.py"),
        task="super-resolution",
        starters=(),
        judge=judge_photographs,
        recipes={
            "espcn_residual": {
                "model": "espcn_residual",
                "scale": 2,
                "image_size": 60,
                "learning_rate": 2e-3,
                "max_steps": 6000,
            },
        },
    ),
}
