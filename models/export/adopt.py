"""Bring your own ONNX: a stranger's file becomes a served graph, in a child process with limits.

    adopt(path, …) ──request on stdin──►  python -m models.export.rewrite
                   ◄──facts or refusal──  limits itself, reads, checks, rewrites, runs, writes

The child has bounded memory, processor time, file size and wall clock; whatever the file makes the
libraries do, the caller gets facts or Refused.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from models.export.inspect_onnx import Refused
from models.manifest import Preprocessing


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(_Frozen):
    """What the child may use."""

    memory_bytes: int = 3 * 2**30
    """Address space, besides six times the file."""
    cpu_s: int = 120
    wall_s: float = 180.0


class Wishes(_Frozen):
    """How the uploader says the graph is to be used."""

    preprocessing: Preprocessing
    classes: int
    """Number of labels."""
    has_maps: bool = False
    """Each label has a map, as in segmentation, and not one number."""
    has_pictures: bool = False
    """It makes pictures, as in super-resolution; `classes` is then 3."""
    layout: Literal["nchw", "nhwc"] | None = None
    """None: found from the shape."""
    channels: Literal["rgb", "bgr", "grey"] | None = None
    """None: found from the shape, RGB when there are three."""


class Adopted(_Frozen):
    """What came out; the served graph lies where the caller asked."""

    max_batch: int | None
    """None: the batch dimension is free."""
    opset: int
    parameters: int
    mean: tuple[float, ...] | None
    """What Athanor's own normalisation inside the graph subtracts; None if the graph has none."""
    std: tuple[float, ...] | None
    map_size: tuple[int, ...] = ()
    """Height and width of each label's map."""
    activation: Literal["sigmoid", "softmax"] | None = None
    """What the file ended in, and the served graph leaves to the codec."""
    scale: int = 1
    """Of a graph that takes windows: pixels of the result for each of the window, along each side."""
    margin: int = 0
    """Of such a graph: pixels at each side of a window for which it makes no result."""
    reach: int | None = None
    """Of such a graph: pixels at each side of a window whose results depend on what lies beyond it, if they
    are few."""


class Request(_Frozen):
    """What the child is asked."""

    source: Path
    target: Path
    wishes: Wishes
    limits: Limits


class Answer(_Frozen):
    """What the child answers: what it made, or why it refused."""

    adopted: Adopted | None = None
    what: str = ""
    hint: str = ""


SMALLER = "Use a smaller network, or one without loops."


def adopt(source: Path, target: Path, wishes: Wishes, *, limits: Limits | None = None) -> Adopted:
    """Check `source` and write its served form to `target`.

    Raises:
        Refused: says what is wrong and what to do.

    """
    request = Request(source=source, target=target, wishes=wishes, limits=limits or Limits())
    command = [sys.executable, "-m", "models.export.rewrite"]
    # One thread: a pool's stacks would count against the address space, and its time against the rest.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    try:
        done = subprocess.run(  # noqa: S603 - nothing of the caller's is on the command line
            command,
            input=request.model_dump_json().encode(),
            stdout=subprocess.PIPE,
            timeout=request.limits.wall_s,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise Refused(f"One run took longer than {request.limits.wall_s:.0f} s.", hint=SMALLER) from error
    answer = _read_answer(done.stdout, done.returncode, request.limits)
    if answer.adopted is None:
        target.unlink(missing_ok=True)
        raise Refused(answer.what, hint=answer.hint)
    return answer.adopted


def _read_answer(output: bytes, returncode: int, limits: Limits) -> Answer:
    if returncode < 0:
        what = f"Reading and running the file ended by signal {-returncode}."
        if -returncode in {
            9,
            24,
        }:  # the kernel ends who goes on after its processor time is over: SIGXCPU, SIGKILL
            what = f"Reading and running the file took more than {limits.cpu_s} s of processor time."
        return Answer(what=what, hint=SMALLER)
    try:
        return Answer.model_validate_json(output.rpartition(b"\n")[2])
    except ValidationError:
        return Answer(
            what=f"Reading and running the file needs more than {limits.memory_bytes} bytes, or crashed.",
            hint=SMALLER,
        )
