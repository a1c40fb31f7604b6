"""Ways to wait: `python -m benchmarks.waiting [--rounds 3]`.

Athanor's loop (LoRA on ViT-Tiny, from tensors in memory) at a job's niceness, with all cores: threads that
spin, as is OpenMP's default; that sleep (OMP_WAIT_POLICY=PASSIVE); that are watched (`workers/waiting.py`).
Beside nothing, and beside a process that needs a core for a share of its time. Every run and the
medians are appended to `results.jsonl`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.machine import ROOT, machine_facts
from benchmarks.results import Results
from benchmarks.training.photos import write_photos
from benchmarks.training.setting import Setting
from workers.nursery import NICENESS

HERE = Path(__file__).parent
WAYS = ("spinning", "sleeping", "watched")
BUSY_SHARES = (0.0, 0.25, 0.5, 1.0)
_BUSY = """
import sys, time
busy_s = 0.01
pause_s = busy_s / float(sys.argv[1]) - busy_s
while True:
    until_s = time.perf_counter() + busy_s
    while time.perf_counter() < until_s:
        pass
    time.sleep(pause_s)
"""


@contextmanager
def busy(share: float) -> Iterator[None]:
    """A process beside, which needs this share of one core."""
    if not share:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", _BUSY, str(share)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def steps_per_s(setting: Setting) -> float:
    """Of one run."""
    environment = {**os.environ, **({"OMP_WAIT_POLICY": "PASSIVE"} if setting.waiting == "sleeping" else {})}
    command = ["nice", "-n", str(NICENESS), sys.executable, "-m", "benchmarks.training.athanor_loop"]
    told = subprocess.check_output([*command, setting.as_argument()], cwd=ROOT, env=environment, text=True)
    return float(json.loads(told.splitlines()[-1])["steps_per_s"])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    given = parser.parse_args()
    facts = machine_facts("torch", "timm", "peft")
    results = Results(given.results, {**facts, "image_size": given.image_size})
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="athanor-bench-") as name:
        write_photos(Path(name), 64, width=64, height=64)
        for share in BUSY_SHARES:
            seen: dict[str, list[float]] = {way: [] for way in WAYS}
            for number in range(given.rounds):
                for way in WAYS:
                    setting = Setting(
                        reads_files=False,
                        folder=Path(name),
                        image_size=given.image_size,
                        batch_size=32,
                        images=64,
                        warm_steps=3,
                        steps=given.steps,
                        threads=cores,
                        waiting=way,
                    )
                    with busy(share):
                        seen[way].append(steps_per_s(setting))
                    results.write("run", busy_share=share, way=way, round=number, steps_per_s=seen[way][-1])
            medians = {way: round(median(paces), 3) for way, paces in seen.items()}
            results.write("summary", busy_share=share, median_steps_per_s=medians)


if __name__ == "__main__":
    main()
