"""LitServe: worker processes do everything; its batches would only wait, as a run fills its cores."""

import os
from pathlib import Path
from typing import Annotated

import litserve
from fastapi import Body, Response

from benchmarks.pictures.work import work_of


class Pictures(litserve.LitAPI):
    """One worker, one session."""

    def setup(self, device: str) -> None:
        self.work = work_of(Path(os.environ["BENCH_MODEL"]), threads=int(os.environ["BENCH_SESSION_THREADS"]))

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> bytes:
        return request

    def predict(self, x: bytes) -> bytes:
        return self.work(x)

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="image/png")


if __name__ == "__main__":
    server = litserve.LitServer(
        Pictures(api_path="/v1/picture"),
        accelerator="cpu",
        workers_per_device=int(os.environ["BENCH_WORKERS"]),
        timeout=120,
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
