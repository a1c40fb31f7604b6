"""BentoML: one service that does everything in threads, or an API before a batching model service."""

import os
from pathlib import Path
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import ContentType
from numpy.typing import NDArray

from benchmarks.serving.fast_decode import SIDE, decode_into, top_five
from benchmarks.serving.limit import open_session

MODEL = Path(os.environ["BENCH_MODEL"])
BATCH = max(2, int(os.environ["BENCH_BATCH"]))  # BentoML takes no less; `Direct` does not batch
WORKERS = int(os.environ["BENCH_WORKERS"])
THREADS = int(os.environ["BENCH_THREADS"])
Jpeg = Annotated[bytes, ContentType("image/jpeg")]


def _decoded(photo: bytes) -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = np.empty((1, SIDE, SIDE, 3), np.uint8)
    decode_into(photo, image[0])
    return image


@bentoml.service(workers=WORKERS, threads=THREADS, traffic={"timeout": 120})
class Direct:
    """No batching: each worker decodes and runs."""

    def __init__(self) -> None:
        self.session = open_session(MODEL, threads=1)

    @bentoml.api(route="/v1/classification")
    def classify(self, photo: Jpeg, /) -> dict[str, object]:
        return {"predictions": top_five(self.session.run(None, {"image": _decoded(photo)})[0][0])}


@bentoml.service(workers=WORKERS, threads=1, traffic={"timeout": 120})
class Model:
    """Adaptive batching happens here."""

    def __init__(self) -> None:
        self.session = open_session(MODEL, threads=1)

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=60_000)
    def run(self, image: np.ndarray) -> np.ndarray:
        return np.asarray(self.session.run(None, {"image": image})[0])


@bentoml.service(workers=1, threads=2, traffic={"timeout": 120})
class Batched:
    """Decodes and asks the model service."""

    model = bentoml.depends(Model)

    @bentoml.api(route="/v1/classification")
    def classify(self, photo: Jpeg, /) -> dict[str, object]:
        return {"predictions": top_five(self.model.run(_decoded(photo))[0])}
