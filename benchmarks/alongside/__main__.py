"""Serving while a job trains: `python -m benchmarks.alongside [--rounds 5]`.

A service of its own fine-tunes its starter (LoRA, the digits, defaults but for the number of epochs) and
answers `POST /v1/classification` with the same starter meanwhile: a photograph of 512 x 512 pixels, over one
connection, five a second and then as fast as answers come. The job is paused for the idle half of each round
and resumed for the other, so that both halves see the same machine; that it trained is read from its metrics.

Then 200 clients, in a process of their own, watch the events of the training job, while `GET /v1/models` is
asked ten times a second: first without and then with them.

Every series and the medians are appended to `results.jsonl`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import httpx

from benchmarks.alongside.series import Series
from benchmarks.fine_tuning.sets import SETS, STARTER
from benchmarks.machine import ROOT, machine_facts
from benchmarks.results import Results
from benchmarks.running_service import check, make_dataset, service

HERE = Path(__file__).parent
PHOTO = ROOT / "examples" / "photos" / "astronaut.jpg"
PACES: dict[str, float | None] = {"five a second": 5.0, "as fast as it goes": None}
MODELS_PER_S = 10.0
_SETTLE_S = 3.0
_WARM_S = 2.0
_PATIENCE_S = 300.0


@dataclass(kw_only=True)
class Alongside:
    """A service, its training job, and what is measured of both."""

    client: httpx.Client
    results: Results
    job: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def port(self) -> int:
        """Of the service."""
        port = self.client.base_url.port
        assert port is not None
        return port

    def classify(self, rounds: int, seconds: float) -> None:
        """Both halves of each round, and the ratio of the medians."""
        for number in range(rounds):
            self._move("pause", "paused")
            self._classify_once("idle", number, seconds)
            self._move("resume", "running")
            self.wait_for_steps()
            first = self._step()
            self._classify_once("training", number, seconds)
            self.wait_for_steps(more_than=first)
        for pace in PACES:
            p50_ms = {
                state: median(
                    row["p50_ms"] for row in self.rows if (row["state"], row["pace"]) == (state, pace)
                )
                for state in ("idle", "training")
            }
            ratio = round(p50_ms["training"] / p50_ms["idle"], 3)
            self.results.write("summary", pace=pace, median_p50_ms=p50_ms, training_to_idle=ratio)

    def watch(self, watchers: int, seconds: float) -> None:
        """`GET /v1/models` without and with them."""
        self._models(0, seconds)
        command = [sys.executable, "-m", "benchmarks.alongside.watchers", str(self.port), self.job]
        with subprocess.Popen(
            [*command, str(watchers)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()
            first = self._step()
            self._models(watchers, seconds)
            steps = self._step() - first
            process.stdin.close()
            seen = json.loads(process.stdout.read())
        self.results.write("watchers", steps_meanwhile=steps, **seen)

    def _models(self, watchers: int, seconds: float) -> None:
        series = Series(port=self.port, method="GET", path="/v1/models")
        series.run(seconds=_WARM_S, per_second=MODELS_PER_S)
        seen = series.run(seconds=seconds, per_second=MODELS_PER_S)
        self.results.write("models", watchers=watchers, **seen)

    def _classify_once(self, state: str, number: int, seconds: float) -> None:
        series = Series(
            port=self.port, method="POST", path="/v1/classification?top_k=1", body=PHOTO.read_bytes()
        )
        series.run(seconds=_WARM_S, per_second=None)
        for pace, per_second in PACES.items():
            seen = series.run(seconds=seconds, per_second=per_second)
            row = {"state": state, "round": number, "pace": pace, **seen}
            self.rows.append(row)
            self.results.write("classification", **row)

    def _move(self, move: str, status: str) -> None:
        check(self.client.post(f"/v1/jobs/{self.job}/{move}"))
        until_s = time.monotonic() + _PATIENCE_S
        while self.client.get(f"/v1/jobs/{self.job}").json()["status"] != status:
            _give_up_after(until_s, f"the job is not {status}")
        time.sleep(_SETTLE_S)

    def wait_for_steps(self, more_than: int | None = None) -> None:
        """Until more are made than now, or than so many."""
        before = self._step() if more_than is None else more_than
        until_s = time.monotonic() + _PATIENCE_S
        while self._step() <= before:
            _give_up_after(until_s, "the job makes no steps")

    def _step(self) -> int:
        """The last one with metrics; 0 before the first."""
        job = self.client.get(f"/v1/jobs/{self.job}").json()
        if job["status"] in {"succeeded", "failed", "cancelled"}:
            raise SystemExit(f"the job has {job['status']} too early: {job['error']}")
        after, page = 0, {"has_more": True}
        while page["has_more"]:
            query = {"after_step": after, "limit": 1000}
            page = self.client.get(f"/v1/jobs/{self.job}/metrics", params=query).json()
            after = max((row["step"] for row in page["data"]), default=after)
        return after


def _give_up_after(until_s: float, reason: str) -> None:
    if time.monotonic() > until_s:
        raise SystemExit(f"{reason} after {_PATIENCE_S:.0f} s")
    time.sleep(0.5)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.alongside",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=int, default=5)
    add("--seconds", type=float, default=20, help="of each series")
    add("--watchers", type=int, default=200)
    add("--models-seconds", type=float, default=60, help="of asking for the models, ten times a second")
    add("--results", type=Path, default=HERE / "results.jsonl")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="athanor-bench-") as name:
        digits = SETS["digits"]
        archive = digits.make(Path(name))
        with service(Path(name)) as client:
            dataset = make_dataset(client, archive, "digits", digits.options)
            spec = {"model": STARTER, "task": "classification", "adapter": {"method": "lora", "r": 8}}
            made = client.post("/v1/fine_tuning/jobs", json={**spec, "dataset": dataset, "n_epochs": 200})
            check(made)
            alongside = Alongside(
                client=client,
                results=Results(arguments.results, machine_facts("torch", "onnxruntime", "uvicorn")),
                job=made.json()["id"],
            )
            alongside.wait_for_steps()
            alongside.classify(arguments.rounds, arguments.seconds)
            alongside.watch(arguments.watchers, arguments.models_seconds)
            check(client.post(f"/v1/jobs/{alongside.job}/cancel"))


if __name__ == "__main__":
    main()
