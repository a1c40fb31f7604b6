"""A job that does nothing: it shows that worker, child process and job rows work together.

Spec: `steps` (default 3) and `step_s` (default 0.1), the number and length of its naps.
"""

import time

from workers.context import JobContext, Outcome


def run(context: JobContext) -> Outcome:
    """Nap, say so, nap again."""
    steps = int(context.spec.get("steps", 3))
    step_s = float(context.spec.get("step_s", 0.1))
    started_s = time.monotonic()
    for step in range(steps):
        context.progress(step / steps, "napping")
        time.sleep(step_s)
    context.message(f"napped {steps} times")
    return Outcome(result={"steps": steps, "seconds": round(time.monotonic() - started_s, 3)})
