"""Cold start, memory and import time: `python -m benchmarks.footprint [--data-dir DIR]`.

Starts `athanor serve` on a data directory (importing the starter on the first start), then several times
again with the network cut (in a network namespace of its own when run as root), and measures the time to
the first correct answer to a real photo, and the memory of each process. Appends to `results.jsonl`.
"""

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import ROOT, machine_facts
from benchmarks.results import Results

HERE = Path(__file__).parent
PHOTO = ROOT / "examples" / "photos" / "chelsea.png"
EXPECTED = "tiger cat"
PORT = 18431
_ASK = f"""
import http.client, sys, time
photo = open({str(PHOTO)!r}, "rb").read()
until = time.monotonic() + float(sys.argv[1])
while time.monotonic() < until:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", {PORT}, timeout=60)
        connection.request("POST", "/v1/classification", photo)
        if b'[{{"label":"{EXPECTED}"' in connection.getresponse().read():
            sys.exit(0)
    except OSError:
        pass
    time.sleep(0.01)
sys.exit(1)
"""


def start_and_ask(data_dir: Path, *, cut: bool, limit_s: float) -> tuple[float, list[dict[str, Any]]]:
    """Seconds from the command to the first correct answer, and what each process then holds."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(data_dir),
        "ATHANOR_DATA_DIR": str(data_dir),
        "ATHANOR_PORT": str(PORT),
        "ATHANOR_STARTERS": "efficientnet-lite0",
    }
    script = (
        f"ip link set lo up 2>/dev/null; \"{sys.executable}\" -c 'import sys; exec(sys.stdin.read())' "
        f"{limit_s} "
        f'<"$ASK" & ask=$!; "{Path(sys.executable).parent / "athanor"}" serve >"$LOG" 2>&1 & '
        'trap "kill $!; wait" TERM; wait $ask; echo "asked $?"; wait'
    )
    with tempfile.TemporaryDirectory() as folder:
        ask, log = Path(folder, "ask.py"), Path(folder, "log")
        ask.write_text(_ASK)
        started_s = time.perf_counter()
        process = subprocess.Popen(
            [*(["unshare", "--net"] if cut else []), "bash", "-c", script],
            env={**environment, "ASK": str(ask), "LOG": str(log)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        verdict = process.stdout.readline().strip()
        seconds = time.perf_counter() - started_s
        time.sleep(1.0)
        held = [_held(child) for child in psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        if verdict != "asked 0":
            raise SystemExit(f"no correct answer within {limit_s} s:\n{log.read_text()[-3000:]}")
    return seconds, [row for row in held if row["rss_mb"] > 5]


def _held(process: psutil.Process) -> dict[str, Any]:
    memory = process.memory_full_info()
    command = " ".join(process.cmdline()[1:4])
    known = {"app.gateway": "gateway", "workers.child": "child", "workers": "worker", "serve": "supervisor"}
    name = next((name for part, name in known.items() if part in command), command)
    return {"process": name, "rss_mb": round(memory.rss / 1e6, 1), "pss_mb": round(memory.pss / 1e6, 1)}


def import_seconds(module: str) -> float:
    """Median seconds of three fresh interpreters that import a module, less an empty one."""

    def once(code: str) -> float:
        started_s = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
        return time.perf_counter() - started_s

    return statistics.median(once(f"import {module}") - once("pass") for _ in range(3))


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--starts", type=int, default=5)
    arguments = parser.parse_args()
    data_dir = arguments.data_dir or Path(tempfile.mkdtemp())
    cut = os.geteuid() == 0 and shutil.which("unshare") is not None
    facts = machine_facts("onnxruntime", "numpy", "fastapi")
    first_s, _ = start_and_ask(data_dir, cut=False, limit_s=900)
    again = [start_and_ask(data_dir, cut=cut, limit_s=60) for _ in range(arguments.starts)]
    row = {
        "first_start_s": round(first_s, 2),
        "network_cut": cut,
        "second_start_s": [round(seconds, 2) for seconds, _ in again],
        "second_start_median_s": round(statistics.median(seconds for seconds, _ in again), 2),
        "processes": again[-1][1],
        "gateway_import_s": round(import_seconds("app.main"), 2),
        "worker_import_s": round(import_seconds("workers.celery_app"), 2),
        "cli_import_s": round(import_seconds("app.cli"), 2),
    }
    Results(HERE / "results.jsonl", facts).write("footprint", **row)


if __name__ == "__main__":
    main()
