"""The data sets and what is tried on each."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fine_tuning.linear import measure_linear

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


def _run_example(script: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        archive = folder / f"{Path(script).stem}.zip"
        subprocess.run([sys.executable, str(EXAMPLES / script), str(archive)], check=True)
        return archive

    return make


_LORA = {"method": "lora", "r": 8}

SETS: Mapping[str, RecipeSet] = {
    "digits": RecipeSet(
        make=_run_example("digits.py"),
        recipes={
            "lora": {"model": STARTER, "task": "classification", "adapter": _LORA},
            "head": {"model": STARTER, "task": "classification", "adapter": {"method": "head"}},
        },
    ),
    "fashion_mnist": RecipeSet(
        make=_run_example("fashion_mnist.py"),
        recipes={
            # The defaults, 96 pixels and three epochs, would take half an hour; this takes minutes. Over so
            # many steps the default rate, found on 1,400 pictures, is too high: 0.906 and 0.900.
            "lora": {
                "model": STARTER,
                "task": "classification",
                "adapter": _LORA,
                "image_size": 64,
                "n_epochs": 1,
                "learning_rate": 0.002,
                "head_rate_scale": 0.25,
            },
            "lenet5 from scratch": {
                "model": "lenet5",
                "task": "classification",
                "adapter": {"method": "full"},
            },
        },
        baselines={"linear": measure_linear},
    ),
}
