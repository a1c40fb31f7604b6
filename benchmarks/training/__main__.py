"""The loop against others: `python -m benchmarks.training [--rounds 5] [--image-sizes 224 96]`.

LoRA (r = 8 in every linear layer of the blocks, and a new head) on ViT-Tiny, float32: batch, threads, AdamW
(fused), cosine schedule and clipping at 1 are the same for all, and so are the numbers of parameters trained,
which is checked. Weights are random: they do not change the speed.

- From tensors in memory, normalised float32: Athanor's loop, `plain_loop.py`, `hf_trainer.py`.
- From JPEG files, cut and mirrored at random: Athanor's loop with its own feed, and the Trainer with a
  DataLoader and torchvision's transforms, with as many workers (0, 1, 2) as turn out fastest. Athanor
  decodes a picture once, then keeps it at the network's size while memory lasts; a run is three epochs, the
  fewest that a job does by default, and the epochs after the first are given alone too.

Each run is a process of its own, one at a time; contestants take turns, in an order that moves on each round.
Steps are timed after the first few. Every run and the medians are appended to `results.jsonl`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import ROOT, machine_facts
from benchmarks.results import Results
from benchmarks.training.photos import write_photos
from benchmarks.training.setting import Setting

HERE = Path(__file__).parent
SCRIPTS = {"athanor": "athanor_loop", "plain": "plain_loop", "trainer": "hf_trainer"}
CONTESTS = {"tensors": ("athanor", "plain", "trainer"), "files": ("athanor", "trainer")}
WORKERS = (0, 1, 2)
_VERSIONS = ("torch", "timm", "peft", "transformers", "accelerate", "torchvision", "pillow", "numpy")


@dataclass(kw_only=True)
class Contest:
    """All rounds of one source of batches at one size."""

    source: str
    setting: Setting
    results: Results
    trainable: set[int] = field(default_factory=set)

    def run(self, rounds: int) -> None:
        """Measure and append."""
        names = CONTESTS[self.source]
        tuned = {name: self._tuned(name) for name in names}
        seen: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for number in range(rounds):
            for at in range(len(names)):
                name = names[(number + at) % len(names)]
                seen[name].append(self._once(name, tuned[name], kind="run", round=number))
        self._summarise(seen)

    def _tuned(self, name: str) -> Setting:
        """Athanor as a job has it; the Trainer with as many workers as are fastest."""
        if name == "athanor":
            return replace(self.setting, waiting="watched")
        if name == "plain" or not self.setting.reads_files:
            return self.setting
        ways = [replace(self.setting, workers=number) for number in WORKERS]
        return max(ways, key=lambda way: self._once(name, way, kind="grid")["steps_per_s"])

    def _once(self, name: str, setting: Setting, *, kind: str, **told: object) -> dict[str, Any]:
        command = [sys.executable, "-m", f"benchmarks.training.{SCRIPTS[name]}", setting.as_argument()]
        done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
        seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        self.trainable.add(seen["trainable"])
        if len(self.trainable) > 1:
            raise SystemExit(f"{name} trains another number of parameters: {sorted(self.trainable)}")
        self._write(kind, **told, contestant=name, workers=setting.workers, **seen)
        return seen

    def _summarise(self, seen: dict[str, list[dict[str, Any]]]) -> None:
        for measure in ("steps_per_s", "later_epochs_steps_per_s"):
            paces = {name: [run[measure] for run in runs if measure in run] for name, runs in seen.items()}
            if not all(paces.values()):
                continue
            medians = {name: median(values) for name, values in paces.items()}
            ours = paces.pop("athanor")
            ratios = {
                name: {
                    "of_medians": round(medians["athanor"] / medians[name], 3),
                    "by_round": [round(mine / theirs, 3) for mine, theirs in zip(ours, values, strict=True)],
                }
                for name, values in paces.items()
            }
            self._write("summary", measure=measure, medians=medians, athanor_to=ratios)

    def _write(self, kind: str, **values: object) -> None:
        self.results.write(kind, source=self.source, image_size=self.setting.image_size, **values)


def main() -> None:
    """Run from the command line."""
    arguments = _parse()
    results = Results(arguments.results, machine_facts(*_VERSIONS))
    batch_size, steps = arguments.batch_size, arguments.warm_steps + arguments.steps
    with tempfile.TemporaryDirectory(prefix="athanor-bench-") as name:
        folder = Path(name)
        images = arguments.batches * batch_size
        width, height = arguments.photo
        size_bytes = write_photos(folder, images, width=width, height=height)
        told = {name: value for name, value in vars(arguments).items() if name != "results"}
        results.write("start", **told, images=images, photo_bytes=size_bytes // images)
        for image_size in arguments.image_sizes:
            for source in arguments.sources:
                is_files = source == "files"
                setting = Setting(
                    reads_files=is_files,
                    folder=folder,
                    image_size=image_size,
                    batch_size=batch_size,
                    images=images,
                    warm_steps=arguments.warm_steps,
                    steps=arguments.epochs * arguments.batches if is_files else steps,
                    threads=arguments.threads,
                )
                Contest(source=source, setting=setting, results=results).run(arguments.rounds)


def _parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=int, default=5)
    add("--image-sizes", type=int, nargs="+", default=[224, 96])
    add("--sources", nargs="+", default=list(CONTESTS), choices=CONTESTS)
    add("--batch-size", type=int, default=32)
    add("--batches", type=int, default=16, help="of an epoch")
    add("--epochs", type=int, default=3, help="of a run from files")
    add("--steps", type=int, default=40, help="timed, of a run from tensors")
    add("--warm-steps", type=int, default=3)
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--photo", type=int, nargs=2, default=[640, 480], help="width and height of the JPEG files")
    add("--results", type=Path, default=HERE / "results.jsonl")
    return parser.parse_args(given)


if __name__ == "__main__":
    main()
