"""LitServe: decode, batch, predict and unbatch in worker processes."""

import os
from pathlib import Path
from typing import Annotated

import litserve
import numpy as np
from fastapi import Body
from numpy.typing import NDArray

from benchmarks.serving.fast_decode import SIDE, decode_into, top_five
from benchmarks.serving.limit import open_session

BATCH = int(os.environ["BENCH_BATCH"])


class Classifier(litserve.LitAPI):
    """One worker, one session."""

    def setup(self, device: str) -> None:
        self.session = open_session(
            Path(os.environ["BENCH_MODEL"]), threads=int(os.environ["BENCH_SESSION_THREADS"])
        )

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = np.empty((SIDE, SIDE, 3), np.uint8)
        decode_into(request, image)
        return image

    def predict(self, x: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.session.run(None, {"image": x if BATCH > 1 else x[None]})[0]

    def encode_response(self, output: NDArray[np.float32]) -> dict[str, object]:
        return {"predictions": top_five(output.reshape(-1))}


if __name__ == "__main__":
    server = litserve.LitServer(
        Classifier(
            max_batch_size=BATCH,
            batch_timeout=float(os.environ["BENCH_BATCH_TIMEOUT_S"]),
            api_path="/v1/classification",
        ),
        accelerator="cpu",
        workers_per_device=int(os.environ["BENCH_WORKERS"]),
        timeout=120,
        fast_queue=os.environ["BENCH_FAST_QUEUE"] == "1",
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        num_api_servers=int(os.environ["BENCH_API_SERVERS"]),
        log_level="warning",
        generate_client_file=False,
    )
