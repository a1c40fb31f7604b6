"""The job kind `preflight`: the first phase of a training, and its estimate for a result."""

import torch

from workers.context import JobContext, Outcome
from workers.kinds.fine_tune_prepare import prepare


def run(context: JobContext) -> Outcome:
    """Validate, measure one step, train nothing. Raises what `prepare` raises."""
    prepared, estimate = prepare(context)
    assert estimate is not None  # there is no checkpoint that it could go on from
    return Outcome(
        result={
            "dataset": prepared.data.reference,
            "estimate": estimate.to_dict(),
            "spec": prepared.spec.model_dump(mode="json"),
            "total_parameters": prepared.adapted.total_parameters,
            "trainable_parameters": prepared.adapted.trainable_parameters,
            "threads": torch.get_num_threads(),
        }
    )
