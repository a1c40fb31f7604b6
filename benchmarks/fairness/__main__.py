"""One key floods, another asks once a second: `python -m benchmarks.fairness`, on an idle machine, some
minutes.

A service has two keys. The first sends photographs of 512 x 512 to be doubled on eight connections, as fast
as answers come; the second classifies one photograph a second. Rounds without and with the flood take turns.
`results.jsonl` gets the latencies of the second key, by how much their 99th percentile rises, and the longest
that one run of a model may take (`ATHANOR_MAX_RUN_S`), which is what it may rise by.
"""

import argparse
import io
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from app.access.door import hash_key
from app.db import migrate
from app.db.session import Database
from app.db.tables import ApiKeyRow
from app.settings import Settings
from benchmarks.machine import machine_facts
from benchmarks.results import Results
from benchmarks.running_service import check, service, wait_for_model

HERE = Path(__file__).parent
FLOODING, ASKING = "the-key-that-floods", "the-key-that-asks"
CLASSIFIER, UPSCALER = "efficientnet-lite0", "waifu2x-photo"
CONNECTIONS = 8
EVERY_S = 1.0


def register_keys(folder: Path) -> None:
    """Two keys of the one tenant, in a data directory that nothing runs on."""
    settings = Settings(data_dir=folder / "data", _env_file=None)  # type: ignore[call-arg]
    migrate.upgrade(settings.sqlalchemy_url)
    database = Database(settings.sqlalchemy_url)
    with database.begin() as session:
        for key in (FLOODING, ASKING):
            session.add(
                ApiKeyRow(id=key, tenant_id="default", name=key, sha256=hash_key(key), created_at=time.time())
            )
    database.close()


def photograph(name: str, side: int, format_: str) -> bytes:
    """Encoded."""
    with (files("skimage") / "data" / f"{name}.png").open("rb") as file:
        picture = Image.open(file).convert("RGB").resize((side, side))
    encoded = io.BytesIO()
    picture.save(encoded, format_)
    return encoded.getvalue()


class Flood:
    """What the first key sends, until it is told to stop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._picture = photograph("astronaut", 512, "PNG")
        self._stop = threading.Event()
        self.statuses: list[int] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Flood within the block, which begins when the first answer has come."""
        self._stop.clear()
        before = len(self.statuses)
        threads = [threading.Thread(target=self._send) for _ in range(CONNECTIONS)]
        for thread in threads:
            thread.start()
        while len(self.statuses) == before:
            time.sleep(0.05)
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _send(self) -> None:
        with _client(self._url, FLOODING) as client:
            while not self._stop.is_set():
                answer = client.post(f"/v1/super-resolution?model={UPSCALER}", content=self._picture)
                self.statuses.append(answer.status_code)
                if answer.status_code == 429:
                    self._stop.wait(float(answer.headers["retry-after"]))


def _client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=120)


def ask(client: httpx.Client, picture: bytes, seconds: float) -> list[float]:
    """Milliseconds of a classification a second, for so long."""
    latencies = []
    for _ in range(round(seconds / EVERY_S)):
        began_s = time.perf_counter()
        check(client.post(f"/v1/classification?model={CLASSIFIER}", content=picture))
        latencies.append((time.perf_counter() - began_s) * 1e3)
        time.sleep(max(0.0, EVERY_S - (time.perf_counter() - began_s)))
    return latencies


def measure(client: httpx.Client, flood: Flood, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Latencies without and with the flood."""
    picture = photograph("chelsea", 512, "JPEG")
    alone: list[float] = []
    beside: list[float] = []
    ask(client, picture, 5)
    for _ in range(rounds):
        alone += ask(client, picture, seconds)
        with flood.running():
            beside += ask(client, picture, seconds)
    marks = {
        f"{name}_ms": {f"p{share}": round(float(np.percentile(values, share)), 2) for share in (50, 90, 99)}
        for name, values in (("alone", alone), ("beside", beside))
    }
    return {**marks, "rise_of_p99_ms": marks["beside_ms"]["p99"] - marks["alone_ms"]["p99"]}


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=40.0, help="of each half of a round")
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    asked = parser.parse_args()
    results = Results(asked.results, machine_facts("onnxruntime", "numpy"))
    with tempfile.TemporaryDirectory() as name:
        register_keys(Path(name))
        with service(Path(name), STARTERS=f"{CLASSIFIER},{UPSCALER}") as plain:
            url = str(plain.base_url)
            with _client(url, ASKING) as client:
                wait_for_model(client, UPSCALER)
                flood = Flood(url)
                figures = measure(client, flood, rounds=asked.rounds, seconds=asked.seconds)
        results.write(
            "fairness",
            requests_each=asked.rounds * round(asked.seconds / EVERY_S),
            **figures,
            flood={str(status): flood.statuses.count(status) for status in sorted(set(flood.statuses))},
            max_run_s=Settings(_env_file=None).max_run_s,  # type: ignore[call-arg]
        )


if __name__ == "__main__":
    main()
