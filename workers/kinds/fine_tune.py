"""The job kinds `fine_tune` and `preflight`: from a data set and a base to a certified version.

    validating_files ─► training ─► evaluating ─► exporting ─► certifying ─► published by the worker
           └─ preflight ends here, with the estimate

A run that is interrupted, or killed, goes on from its newest checkpoint in the next attempt. Everything
before training is done anew then: it depends on spec and data alone, so it comes out the same.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from app.errors import InvalidSpec, OutOfMemory, TrainingDiverged
from models.adapt.adapter import Adapted, AdaptError, adapt
from models.build.network import CannotBuild, build_network, head_of, load_base
from models.build.timm_ import WeightsMismatch
from models.catalogue import Kind
from models.data.pack import Pack, Split
from models.train.checkpoint import read_checkpoint
from models.train.feed import PackSource
from models.train.loop import Diverged, Hooks, Trained, TrainRun, train
from models.train.loop import Interrupted as LeftOff
from models.train.measure import Estimate, measure
from models.train.resolve import ResolvedSpec, resolve
from models.train.spec import SpecError
from workers.context import Interrupted, JobContext, Json, Outcome
from workers.kinds.fine_tune_order import Base, FineTuneOrder, TrainingData, bring_base, bring_data
from workers.kinds.fine_tune_publish import Run, publish

_TRAINING = (0.05, 0.90)
"""Where in the job's progress training begins and ends."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that training needs."""

    order: FineTuneOrder
    base: Base
    data: TrainingData
    spec: ResolvedSpec
    adapted: Adapted
    estimate: Estimate | None
    """None in an attempt that goes on from a checkpoint: the spec was frozen by the first."""


def run(context: JobContext) -> Outcome:
    """Train, evaluate, export, certify.

    Raises:
        InvalidSpec, InvalidDataset, NotFound, NotTrainable: what is wrong, before the first step.
        ParityFailed: the exported graph does not reproduce the network.
        Interrupted: left off after a checkpoint.

    """
    started_s = time.monotonic()
    prepared = _prepare(context)
    if prepared.order.dry_run:
        return Outcome(result=_preflight(prepared))
    prepared_s = time.monotonic()
    trained = _train(context, prepared)
    times_s = {"validating_files": prepared_s - started_s, "training": time.monotonic() - prepared_s}
    return publish(
        context,
        Run(
            order=prepared.order,
            base=prepared.base,
            data=prepared.data,
            spec=prepared.spec,
            adapted=prepared.adapted,
            trained=trained,
            times_s=times_s,
        ),
    )


def _prepare(context: JobContext) -> Prepared:
    context.progress(0.0, "validating_files")
    order = FineTuneOrder.model_validate(context.spec)
    data = bring_data(context, order)
    base = bring_base(context, order.train)
    try:
        spec = _resolved(context, order, base, data.pack)
        base = base.sized(spec)
        adapted = _adapted(spec, base, data.pack)
    except SpecError as error:
        raise InvalidSpec(error.message, param=error.param, hint=error.hint) from error
    except (CannotBuild, AdaptError, WeightsMismatch) as error:
        raise InvalidSpec(str(error), param="adapter") from error
    estimate = None
    if context.resume is None:
        estimate = measure(adapted, spec, data.pack, base.preprocessing)
        spec = estimate.applied_to(spec)
    _tell(context, spec, adapted, data.reference, estimate)
    return Prepared(order=order, base=base, data=data, spec=spec, adapted=adapted, estimate=estimate)


def _resolved(context: JobContext, order: FineTuneOrder, base: Base, pack: Pack) -> ResolvedSpec:
    """The frozen spec of the first attempt, if it left a checkpoint: what it measured decides bits."""
    if context.resume is not None:
        return ResolvedSpec.model_validate(read_checkpoint(context.resume.path).facts["spec"])
    return resolve(order.train, base.architecture, pack=pack, is_pretrained=base.state is not None)


def _adapted(spec: ResolvedSpec, base: Base, pack: Pack) -> Adapted:
    network = build_network(
        base.architecture, num_classes=len(pack.labels), image_size=spec.image_size, seed=spec.seed
    )
    if base.state is not None:
        load_base(network, base.state, keeps_head=base.labels == pack.labels)
    elif spec.adapter.method != "full":
        raise SpecError(
            f"{spec.model} starts from scratch: there is nothing that {spec.adapter.method} could adapt.",
            param="adapter.method",
            hint='Use {"method": "full"}, or a model with weights.',
        )
    return adapt(
        network,
        spec.adapter.row(Kind.ADAPTER),
        spec.adapter.told(Kind.ADAPTER),
        architecture=base.architecture,
        head=head_of(network),
        total_steps=spec.total_steps,
        seed=spec.seed,
    )


def _tell(
    context: JobContext, spec: ResolvedSpec, adapted: Adapted, dataset: str, estimate: Estimate | None
) -> None:
    """Put what was found into the job's facts; refuse what cannot fit into memory."""
    facts: Json = {
        "dataset": dataset,
        "spec": spec.model_dump(mode="json"),
        "total_parameters": adapted.total_parameters,
        "trainable_parameters": adapted.trainable_parameters,
        "skipped": list(adapted.skipped),
    }
    if estimate is not None:
        facts["estimate"] = estimate.to_dict()
    context.facts(facts)
    if adapted.skipped:
        context.message(f"{len(adapted.skipped)} layers are left alone: {'; '.join(adapted.skipped[:3])}; …")
    if estimate is not None and not estimate.fits:
        raise OutOfMemory(
            f"The run would take {estimate.peak_bytes / 2**30:.1f} GiB of memory; "
            f"{estimate.free_bytes / 2**30:.1f} GiB are free.",
            hint="Choose a smaller model or image_size, or a machine with more memory.",
        )


def _preflight(prepared: Prepared) -> Json:
    assert prepared.estimate is not None  # a dry run takes no checkpoints
    return {
        "dataset": prepared.data.reference,
        "estimate": prepared.estimate.to_dict(),
        "spec": prepared.spec.model_dump(mode="json"),
        "total_parameters": prepared.adapted.total_parameters,
        "trainable_parameters": prepared.adapted.trainable_parameters,
        "threads": torch.get_num_threads(),
    }


def _train(context: JobContext, prepared: Prepared) -> Trained:
    begin, end = _TRAINING
    context.progress(begin, "training")

    def progress(fraction: float) -> None:
        context.progress(begin + (end - begin) * fraction, "training")

    def checkpoint(step: int, path: Path, metrics: Mapping[str, float]) -> None:
        score = metrics.get("valid_accuracy")
        context.checkpoint(step, path, {**metrics, **({} if score is None else {"score": score})})

    def source(split: Split) -> PackSource:
        return PackSource.of(
            prepared.data.pack, split, prepared.spec, preprocessing=prepared.base.preprocessing
        )

    try:
        return train(
            TrainRun(
                adapted=prepared.adapted,
                spec=prepared.spec,
                batches=source(Split.TRAIN),
                validation=source(Split.VALIDATION),
                resume=context.resume.path if context.resume is not None else None,
                work_dir=context.work_dir,
            ),
            Hooks(
                metrics=context.metrics,
                checkpoint=checkpoint,
                progress=progress,
                should_stop=context.stop_asked,
            ),
        )
    except LeftOff as error:
        raise Interrupted from error
    except Diverged as error:
        raise TrainingDiverged(str(error), hint="Lower learning_rate, or clip_norm.") from error
