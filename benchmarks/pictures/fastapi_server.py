"""Plain FastAPI with a thread pool: what most people write first."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fastapi import FastAPI, Request, Response

from benchmarks.pictures.work import work_of

app = FastAPI()
work = work_of(Path(os.environ["BENCH_MODEL"]), threads=int(os.environ["BENCH_SESSION_THREADS"]))
pool = ThreadPoolExecutor(int(os.environ["BENCH_POOL"]))


@app.post("/v1/picture")
async def picture(request: Request) -> Response:
    """Read the body, leave the work to the pool."""
    photo = await request.body()
    png = await asyncio.get_running_loop().run_in_executor(pool, work, photo)
    return Response(png, media_type="image/png")
