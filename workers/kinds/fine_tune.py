"""The job kind `fine_tune`: from a data set and a base to a certified version.

    validating_files ─► training ─► evaluating ─► exporting ─► certifying ─► published by the worker
           └─ the kind `preflight` ends here

A run that is interrupted, or killed, goes on from its newest checkpoint in the next attempt. Everything
before training is done anew then: it depends on spec and data alone, so it comes out the same.
"""

import time
from collections.abc import Mapping

from app.errors import TrainingDiverged
from app.fine_tuning.view import name_to_come
from models.data.pack import Split
from models.train.loop import Diverged, Hooks, Trained, TrainRun, train
from models.train.loop import Interrupted as LeftOff
from workers.context import Interrupted, JobContext, Outcome
from workers.kinds.fine_tune_prepare import Prepared, prepare
from workers.kinds.fine_tune_publish import Measured, Run, TrainedBy, measured_by, publish

_TRAINING = (0.05, 0.90)
"""Where in the job's progress training begins and ends."""


def run(context: JobContext) -> Outcome:
    """Train, evaluate, export, certify.

    Raises:
        TrainingDiverged: the loss is not a number any more.
        ParityFailed: the exported graph does not reproduce the network.
        Interrupted: left off after a checkpoint.
        and what `prepare` raises, before the first step.

    """
    started_s = time.monotonic()
    prepared, _ = prepare(context)
    prepared_s = time.monotonic()
    measured: Measured = {}
    trained = _train(context, prepared, measured)
    return publish(
        context,
        Run(
            prepared=prepared,
            name=name_to_come(context.spec, context.job_id),
            trained_by=TrainedBy(
                job_id=context.job_id,
                attempts=context.attempt,
                resumed_from_step=context.resume.step if context.resume is not None else None,
            ),
            steps=trained.steps,
            best_step=trained.best_step,
            # The worker may still be writing down the last rows; and a step that was run again counts once.
            measured=measured_by(context, context.job_id) | measured,
            times_s={"validating_files": prepared_s - started_s, "training": time.monotonic() - prepared_s},
        ),
        begins_at=_TRAINING[1],
    )


def _train(context: JobContext, prepared: Prepared, measured: Measured) -> Trained:
    begin, end = _TRAINING
    context.begin("training", at=begin)

    def progress(fraction: float) -> None:
        context.progress(begin + (end - begin) * fraction, "training")

    def metrics(step: int, values: Mapping[str, float]) -> None:
        measured[step] = values
        context.metrics(step, values)

    try:
        return train(
            TrainRun(
                adapted=prepared.adapted,
                spec=prepared.spec,
                batches=prepared.batches(),
                validation=prepared.held_out(Split.VALIDATION),
                resume=context.resume.path if context.resume is not None else None,
                work_dir=context.work_dir,
            ),
            Hooks(
                metrics=metrics,
                checkpoint=context.checkpoint,
                progress=progress,
                should_stop=context.stop_asked,
            ),
        )
    except LeftOff as error:
        raise Interrupted from error
    except Diverged as error:
        raise TrainingDiverged(str(error), hint="Lower learning_rate, or clip_norm.") from error
