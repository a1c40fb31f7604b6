"""Plain FastAPI with a thread pool, no batching: what most people write first."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from fastapi import FastAPI, Request
from numpy.typing import NDArray

from benchmarks.serving.fast_decode import SIDE, decode_into, top_five
from benchmarks.serving.limit import open_session

app = FastAPI()
session = open_session(Path(os.environ["BENCH_MODEL"]), threads=int(os.environ["BENCH_SESSION_THREADS"]))
pool = ThreadPoolExecutor(int(os.environ["BENCH_POOL"]))


def predict(photo: bytes) -> dict[str, object]:
    """Decode, run, name the five best."""
    image: NDArray[np.uint8] = np.empty((1, SIDE, SIDE, 3), np.uint8)
    decode_into(photo, image[0])
    return {"predictions": top_five(session.run(None, {"image": image})[0][0])}


@app.post("/v1/classification")
async def classify(request: Request) -> dict[str, object]:
    """Read the body, leave the work to the pool."""
    photo = await request.body()
    return await asyncio.get_running_loop().run_in_executor(pool, predict, photo)
