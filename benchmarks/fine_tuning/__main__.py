"""Fine-tuning as a user does it: `python -m benchmarks.fine_tuning digits [--seeds 0 1 2]`.

A service of its own starts on an empty data directory and imports its starter. A zip is uploaded once and
becomes a data set; each recipe trains on it with each seed, one job after the other. Every figure comes from
the job object and the report that the service publishes; the held-out split is the data set's own. Segmenters
are asked for the masks of the held-out pictures over HTTP besides, also before training, and what enlarges
for larger ones. Some models are compressed by jobs. Baselines that need no service are measured first.
All is appended to `results.jsonl` with machine and commit.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import httpx

from benchmarks.fine_tuning.sets import SETS, STARTER, RecipeSet
from benchmarks.machine import machine_facts
from benchmarks.results import Results
from benchmarks.running_service import compress, fine_tune, make_dataset, service, wait_for_model
from models.manifest import Precision

HERE = Path(__file__).parent
_MARKS = ("accuracy", "macro_f1", "pixel_accuracy", "mean_iou", "mean_dice", "psnr", "ssim", "cubic_psnr")


def _figures(done: dict[str, Any]) -> dict[str, Any]:
    report, job = done["report"], done["job"]
    evaluation = report["evaluation"]
    return {
        **{mark: evaluation[mark] for mark in _MARKS if mark in evaluation},
        "samples": evaluation["samples"],
        "split": report["split"],
        "seconds": round(done["seconds"], 1),
        "steps": report["steps"],
        "trainable_share": job["trainable_parameters"] / job["total_parameters"],
        "spec": report["spec"],
    }


def main() -> None:
    """Train, print, append."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("set", choices=sorted(SETS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipes", nargs="+", help="only these")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    arguments = parser.parse_args()
    chosen: RecipeSet = SETS[arguments.set]
    results = Results(arguments.results, {"set": arguments.set, **machine_facts("torch", "timm", "peft")})
    with tempfile.TemporaryDirectory(prefix="athanor-bench-") as name:
        folder = Path(name)
        archive = chosen.make(folder)
        for recipe, measure in chosen.baselines.items():
            if arguments.recipes is None or recipe in arguments.recipes:
                results.write("baseline", recipe=recipe, **measure(archive))
        starters = ",".join(chosen.starters)
        with service(folder, STARTERS=starters, DEFAULT_CLASSIFIER=_classifier(chosen)) as client:
            _measure(client, chosen, archive, arguments, results)


def _classifier(chosen: RecipeSet) -> str:
    """What the service waits for before it is ready."""
    return STARTER if STARTER in chosen.starters else ""


def _measure(
    client: httpx.Client, chosen: RecipeSet, archive: Path, asked: argparse.Namespace, results: Results
) -> None:
    for model in chosen.before:
        wait_for_model(client, model)
        assert chosen.judge is not None
        results.write("before", recipe=model, **chosen.judge(client, model, archive))
    name = asked.set.replace("_", "-")
    dataset = make_dataset(client, archive, name, chosen.options, task=chosen.task)
    for recipe, spec in chosen.recipes.items():
        if asked.recipes is not None and recipe not in asked.recipes:
            continue
        for seed in asked.seeds:
            done = fine_tune(client, {**spec, "task": chosen.task, "dataset": dataset, "seed": seed})
            results.write("job", recipe=recipe, seed=seed, **_figures(done))
            model = done["job"]["fine_tuned_model"]
            if chosen.judge is not None:
                results.write("judged", recipe=recipe, seed=seed, **chosen.judge(client, model, archive))
            if recipe in chosen.compressed and seed == asked.seeds[0]:
                for precision in Precision:
                    facts = compress(client, f"{model}:1", dataset, precision)
                    results.write("compressed", recipe=recipe, seed=seed, precision=precision, **facts)


if __name__ == "__main__":
    main()
