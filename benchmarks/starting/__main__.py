"""How long a training takes that has next to nothing to do: `python -m benchmarks.starting`.

A service of its own on an empty data directory trains LeNet-5 for one step, five times, and then LoRA on what
came out, five times: what such jobs take is what every job takes besides its work. The first of each imports
what the others find. Appended to `results.jsonl` with machine and commit.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_facts
from benchmarks.results import Results
from benchmarks.running_service import fine_tune, make_dataset, service
from tests.e2e.training import digits_zip

HERE = Path(__file__).parent
_LEAST: dict[str, Any] = {"task": "classification", "max_steps": 1, "threads": 1, "dataset": "digits:1"}
_JOBS = {
    "full": {"model": "lenet5", "adapter": {"method": "full"}},
    "lora": {"model": "full-0", "adapter": {"method": "lora", "r": 2}},
}


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    arguments = parser.parse_args()
    results = Results(arguments.results, machine_facts("torch", "timm", "peft"))
    with tempfile.TemporaryDirectory(prefix="athanor-bench-") as name:
        archive = Path(name) / "digits.zip"
        archive.write_bytes(digits_zip())
        with service(Path(name), STARTERS="", DEFAULT_CLASSIFIER="") as client:
            make_dataset(client, archive, "digits", {})
            for kind, spec in _JOBS.items():
                seconds = [
                    fine_tune(client, {**_LEAST, **spec, "suffix": f"{kind}-{time}"})["seconds"]
                    for time in range(arguments.times)
                ]
                later = statistics.median(seconds[1:])
                results.write("job", adapter=kind, seconds=seconds, first_s=seconds[0], later_s=later)


if __name__ == "__main__":
    main()
