"""Super-resolution measured: `python -m benchmarks.upscaling`, on an idle machine, some minutes.

Starts a service with waifu2x, and appends to `results.jsonl`:

quality   PSNR-Y (BT.601, 8 bits, 2 pixels of border left out) and seconds of six photographs, halved by
Pillow's
          bicubic and sent to be doubled; beside it bicubic
seams     largest difference between a picture in windows and in one piece pace      pixels per second of one
picture through HTTP, and of its windows through the bare session: the limit clients   32 clients with
different pictures at once: how many got their own large     a picture of 4,096 x 4,096 as a job: seconds, and
how much more memory all processes held at most
"""

import argparse
import io
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import httpx
import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image

from app.access.principal import SYSTEM
from app.db.session import Database
from app.registry.service import Registry
from app.settings import Settings
from app.storage.objects import ObjectStore
from benchmarks.machine import machine_facts
from benchmarks.results import Results
from benchmarks.running_service import check, finish, service
from models.export.served import ServedSession
from models.manifest import MODEL_FILE, TileFacts
from models.tasks.tiles import TileGrid, tiled

HERE = Path(__file__).parent
URL = "/v1/super-resolution"
_SKIMAGE = ("astronaut", "chelsea", "coffee", "motorcycle_left")
_SKLEARN = ("china", "flower")
Pixels = NDArray[np.uint8]


def photographs() -> dict[str, Image.Image]:
    """The six, with sides that 24 divides."""
    paths = [files("skimage") / "data" / f"{name}.png" for name in _SKIMAGE]
    paths += [files("sklearn.datasets") / "images" / f"{name}.jpg" for name in _SKLEARN]
    found = {}
    for path in paths:
        with path.open("rb") as file:
            image = Image.open(file).convert("RGB")
        size = image.width // 24 * 24, image.height // 24 * 24
        found[path.name.partition(".")[0]] = image.crop((0, 0, *size))
    return found


def psnr_y(one: Pixels, other: Pixels, border: int = 2) -> float:
    """Of BT.601 luma, dB."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    difference = ((one.astype(float) - other) @ weights)[border:-border, border:-border]
    return float(10 * np.log10(255**2 / np.mean(difference**2)))


def png(pixels: Pixels) -> bytes:
    """Encoded without loss."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def ask(client: httpx.Client, data: bytes, query: str = "") -> Pixels:
    """The larger picture."""
    response = client.post(f"{URL}{query}", content=data, timeout=600)
    check(response)
    return np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB"))


def quality(client: httpx.Client, results: Results) -> None:
    """PSNR of the six."""
    ours, bicubic = [], []
    for name, photo in photographs().items():
        half = photo.resize((photo.width // 2, photo.height // 2), Image.Resampling.BICUBIC)
        whole = np.asarray(photo)
        began_s = time.perf_counter()
        made = ask(client, png(np.asarray(half)))
        seconds = time.perf_counter() - began_s
        ours.append(psnr_y(made, whole))
        bicubic.append(psnr_y(np.asarray(half.resize(photo.size, Image.Resampling.BICUBIC)), whole))
        results.write("quality", photo=name, psnr_y=ours[-1], bicubic=bicubic[-1], seconds=seconds)
    results.write("quality", photo="mean", psnr_y=statistics.mean(ours), bicubic=statistics.mean(bicubic))


def seams(session: ServedSession, tiles: TileFacts, results: Results) -> None:
    """Windows against one piece."""
    photo = np.asarray(photographs()["coffee"])
    whole = through(photo, session, tiles.model_copy(update={"side": 2048})).astype(int)
    difference = np.abs(through(photo, session, tiles) - whole)
    results.write("seams", largest=int(difference.max()), share_that_differs=float((difference > 0).mean()))


def through(pixels: Pixels, session: ServedSession, tiles: TileFacts) -> Pixels:
    """A picture through the bare session."""
    grid = TileGrid(pixels.shape[0], pixels.shape[1], tiles)
    return np.concatenate(list(tiled(pixels, grid, session.run)))


def pace(client: httpx.Client, path: Path, tiles: TileFacts, results: Results, *, rounds: int) -> None:
    """Through HTTP against the windows alone, in turns."""
    pixels = np.asarray(photographs()["astronaut"])
    data, grid = png(pixels), TileGrid(*pixels.shape[:2], tiles)
    windows = [
        grid.window(pixels, row, column)[None] for row in range(grid.rows) for column in range(grid.columns)
    ]
    limits: dict[str, Callable[[], object]] = {
        f"{lanes} x {threads} threads": _lanes(path, windows, lanes=lanes, threads=threads)
        for lanes, threads in ((1, 2), (2, 1))
    }
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, work in {**limits, "http": lambda: ask(client, data)}.items():
            began_s = time.perf_counter()
            work()
            seconds.setdefault(name, []).append(time.perf_counter() - began_s)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    best = min(medians[name] for name in limits)
    results.write("pace", pixels=pixels.size // 3, seconds=medians, share_of_limit=best / medians["http"])


def _lanes(path: Path, windows: list[Pixels], *, lanes: int, threads: int) -> Callable[[], object]:
    session = ServedSession(path, threads=threads)

    def work() -> object:
        with ThreadPoolExecutor(lanes) as pool:
            return list(pool.map(session.run, windows))

    work()
    return work


def clients(client: httpx.Client, session: ServedSession, tiles: TileFacts, results: Results) -> None:
    """Thirty-two at once."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (60 + 3 * i, 150 - 2 * i, 3), np.uint8) for i in range(32)]
    began_s = time.perf_counter()
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda one: ask(client, png(one)), pictures))
    seconds = time.perf_counter() - began_s
    right = sum(
        int(np.abs(answer.astype(int) - through(one, session, tiles)).max() <= 1)
        for one, answer in zip(pictures, answers, strict=True)
    )
    results.write("clients", clients=len(pictures), got_their_own=right, seconds=seconds)


def large(client: httpx.Client, results: Results, *, side: int) -> None:
    """A job, watched from outside."""
    photo = photographs()["flower"].resize((side, side), Image.Resampling.LANCZOS)
    data = png(np.asarray(photo))
    time.sleep(2)
    idle, most, is_over = held_bytes(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not is_over.wait(0.05):
            most = max(most, held_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began_s = time.perf_counter()
    response = client.post(f"{URL}?background=true", content=data, timeout=600)
    check(response)
    job = finish(client, f"/v1/jobs/{response.json()['id']}")
    seconds = time.perf_counter() - began_s
    is_over.set()
    watcher.join()
    content = client.get(f"/v1/files/{job['result']['file']}/content", timeout=600).content
    results.write(
        "large",
        side=side,
        seconds=seconds,
        idle_mb=idle / 1e6,
        peak_over_idle_mb=(most - idle) / 1e6,
        result_mb=len(content) / 1e6,
    )


def held_bytes() -> int:
    """Resident memory of all processes of the service."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--side", type=int, default=4096, help="of the large picture, pixels")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    results = Results(HERE / "results.jsonl", machine_facts("onnxruntime", "numpy", "pillow"))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with service(folder) as client:
            made = client.post(
                "/v1/jobs",
                json={"kind": "import", "spec": {"source": "starter:waifu2x-photo", "name": "waifu2x-photo"}},
            )
            check(made)
            finish(client, f"/v1/jobs/{made.json()['id']}")
            path, tiles = _graph(folder)
            session = ServedSession(path, threads=2)
            quality(client, results)
            seams(session, tiles, results)
            pace(client, path, tiles, results, rounds=arguments.rounds)
            clients(client, session, tiles, results)
            large(client, results, side=arguments.side)


def _graph(folder: Path) -> tuple[Path, TileFacts]:
    settings = Settings(data_dir=folder / "data", _env_file=None)
    objects = ObjectStore.from_settings(settings)
    database = Database(settings.sqlalchemy_url)
    version = Registry(database, objects).get_version(SYSTEM, "waifu2x-photo", 1)
    database.close()
    artifact = version.artifact(MODEL_FILE)
    assert artifact is not None
    assert version.manifest.tiles is not None
    return objects.fetch(SYSTEM, artifact.sha256), version.manifest.tiles


if __name__ == "__main__":
    main()
