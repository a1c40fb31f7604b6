"""A job that does nothing: it shows that worker, child process and job rows work together.

Spec: `steps` (default 3) and `step_s` (default 0.1), the number and length of its naps.
"""

import time

from workers.context import Interrupted, JobContext, Outcome

LOOK_EVERY_S = 0.05


def run(context: JobContext) -> Outcome:
    """Nap, say so, nap again."""
    steps = int(context.spec.get("steps", 3))
    step_s = float(context.spec.get("step_s", 0.1))
    started_s = time.monotonic()
    for step in range(steps):
        context.progress(step / steps, "napping")
        _nap(context, step_s)
    context.message(f"napped {steps} times")
    return Outcome(result={"steps": steps, "seconds": round(time.monotonic() - started_s, 3)})


def _nap(context: JobContext, seconds: float) -> None:
    """Sleep lightly: whoever asks the job to stop wakes it."""
    until_s = time.monotonic() + seconds
    while (left_s := until_s - time.monotonic()) > 0:
        if context.stop_asked():
            raise Interrupted
        time.sleep(min(left_s, LOOK_EVERY_S))
