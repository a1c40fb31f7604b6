"""What this machine can do at most: fastest decode, then ONNX Runtime, in one process, no HTTP.

A lane is a thread with a session of its own that decodes a batch, runs it and takes the next; with
lanes x threads = cores no core waits for another. Run as a program this measures one configuration
and prints one JSON line, so that every cell of the benchmark starts from a fresh process.
"""

import argparse
import json
import resource
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.serving.fast_decode import SIDE, decode_into

BATCHES = (1, 2, 4, 8)


def configurations(cores: int) -> Iterator[tuple[int, int, int]]:
    """The small grid: (lanes, threads, batch) with every core busy and none asked twice."""
    for lanes in sorted({cores, 1}, reverse=True):
        for batch in BATCHES:
            yield lanes, cores // lanes, batch


def open_session(model: Path, *, threads: int) -> onnxruntime.InferenceSession:
    """A session that keeps to `threads` cores."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class _Lane:
    def __init__(self, model: Path, photo: bytes, *, threads: int, batch: int) -> None:
        self.finished: list[float] = []
        self._photo = photo
        self._session = open_session(model, threads=threads)
        self._images: NDArray[np.uint8] = np.empty((batch, SIDE, SIDE, 3), np.uint8)
        self._decoders = ThreadPoolExecutor(threads) if threads > 1 and batch > 1 else None

    def step(self) -> None:
        """Decode one batch and run it."""
        if self._decoders:
            list(self._decoders.map(lambda out: decode_into(self._photo, out), self._images))
        else:
            for out in self._images:
                decode_into(self._photo, out)
        self._session.run(None, {"image": self._images})
        self.finished.append(time.perf_counter())

    def until(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self.step()

    @property
    def images_per_s(self) -> float:
        """From the end of the first batch to the end of the last, so that no batch counts in part."""
        batches = len(self.finished) - 1
        return batches * len(self._images) / (self.finished[-1] - self.finished[0])


def measure_throughput(
    model: Path, photo: bytes, *, lanes: int, threads: int, batch: int, seconds: float
) -> dict[str, float]:
    """Images a second and CPU-seconds an image; every lane runs at least two whole batches."""
    workers = [_Lane(model, photo, threads=threads, batch=batch) for _ in range(lanes)]
    for lane in workers:
        lane.step()
        lane.finished.clear()
    stop = threading.Event()
    running = [threading.Thread(target=lane.until, args=(stop,)) for lane in workers]
    cpu_s, started = _cpu_s(), time.perf_counter()
    for thread in running:
        thread.start()
    time.sleep(seconds)
    while any(len(lane.finished) < 2 for lane in workers):
        time.sleep(0.01)
    stop.set()
    for thread in running:
        thread.join()
    cores_busy = (_cpu_s() - cpu_s) / (time.perf_counter() - started)
    images_per_s = sum(lane.images_per_s for lane in workers)
    return {"images_per_s": images_per_s, "cpu_s_per_image": cores_busy / images_per_s}


class Lone:
    """One image at a time, on an otherwise idle machine."""

    def __init__(self, model: Path, photo: bytes, *, threads: int) -> None:
        self._session = open_session(model, threads=threads)
        self._image: NDArray[np.uint8] = np.empty((1, SIDE, SIDE, 3), np.uint8)
        self._photo = photo

    def measure(self, seconds: float) -> dict[str, float]:
        """Median milliseconds of one decode, of one run and of both, one after the other."""
        decodes: list[float] = []
        runs: list[float] = []
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            begun = time.perf_counter()
            decode_into(self._photo, self._image[0])
            decoded = time.perf_counter()
            self._session.run(None, {"image": self._image})
            decodes.append(decoded - begun)
            runs.append(time.perf_counter() - decoded)
        both = [a + b for a, b in zip(decodes, runs, strict=True)]
        return {
            "decode_ms": 1e3 * median(decodes),
            "run_ms": 1e3 * median(runs),
            "decode_and_run_ms": 1e3 * median(both),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--lanes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=0, help="0: one image, again for every line of stdin")
    parser.add_argument("--seconds", type=float, default=6)
    arguments = parser.parse_args()
    photo = arguments.photo.read_bytes()
    if arguments.batch:
        facts = measure_throughput(
            arguments.model,
            photo,
            lanes=arguments.lanes,
            threads=arguments.threads,
            batch=arguments.batch,
            seconds=arguments.seconds,
        )
        print(json.dumps(facts))
        return
    lone = Lone(arguments.model, photo, threads=arguments.threads)
    for _ in sys.stdin:
        print(json.dumps(lone.measure(arguments.seconds)), flush=True)


if __name__ == "__main__":
    main()
