"""The job kind `compress`: a version in fewer bits, certified on held-out pictures, kept where it is faster.

    preparing ─► calibrating, choosing ─► comparing  ─► timing ─► certifying ─► published by the worker
                 (int8 only)              labels, or    both in   the original's outputs are the reference,
                                          pictures, of  turns     from which `athanor verify` computes it
                                          both                    again

Calibration sees pictures for training; those for validation choose how much stays in float32; those for test
are compared. Without any for test, those for validation are, and those for training choose. Loads no torch.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from app.compression.spec import CompressSpec
from app.errors import InvalidSpec, NotFaster, NotServable, ParityFailed
from app.runtime.plan import serving_cores
from models.compress.fp16 import to_float16
from models.compress.int8 import calibration_of, quantize, quantize_dynamically
from models.compress.layers import NothingToCompress, layers_of, simplified
from models.compress.pace import gain, measure_paces
from models.export.parity import ParityError, certify, compare_samples
from models.export.reference import write_reference
from models.export.served import ServedGraphError, ServedSession
from models.export.served_form import opset_of
from models.manifest import (
    CERTIFICATE_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    REFERENCE_FILE,
    Certificate,
    Comparison,
    Manifest,
    Pace,
    Precision,
)
from workers.context import JobContext, Outcome, Publication
from workers.kinds.compress_likeness import Agreed, Tried, agreed_of, reference_of
from workers.kinds.compress_subject import Subject, bring_subject, outputs

_FLOAT_LAYERS = (0, 3, 8, 16)
"""How many of the first layers may be left in float32; the fewest with which enough labels are kept are."""
_FLOAT_LAYERS_OF_ENLARGERS = (0, 1, 2, 3, 8, 16)
"""Each of the first costs much, and may bring the decibel that is wanting."""
_FEW = 100
_FEW_MAPS = 20
"""Fewer held-out pictures say little, which the job says."""


def run(context: JobContext) -> Outcome:
    """Compress, compare, time, certify.

    Raises:
        Interrupted: left off.
        InvalidSpec: the graph or the data set are not fit for it.
        ParityFailed: too few held-out pictures, or pixels of them, keep their label, or what is made of them
            is too unlike.
        NotFaster: it is not worth it.
        and what `bring_subject` raises.

    """
    context.begin("preparing", at=0.0)
    spec = CompressSpec.model_validate(context.spec)
    subject = bring_subject(context, spec)
    try:
        float_layers = _compress(context, spec, subject)
        agreed = _agree(context, spec, subject)
        paces = _time(context, spec, subject)
    except NothingToCompress as error:
        raise InvalidSpec(str(error), param="precision", hint="Name another precision or model.") from error
    except ServedGraphError as error:
        raise NotServable(f"In {spec.precision} the graph does not run: {error}") from error
    comparison = Comparison(
        model=subject.model,
        model_sha256=subject.graph_sha256,
        size_bytes=subject.graph.stat().st_size,
        dataset=spec.dataset,
        calibrated_on=len(subject.calibration) if spec.precision is Precision.INT8 else 0,
        float_layers=float_layers,
        accuracy_before=agreed.accuracy.before,
        accuracy_after=agreed.accuracy.after,
        mean_iou_before=agreed.mean_iou.before,
        mean_iou_after=agreed.mean_iou.after,
        psnr_before_db=agreed.psnr_db.before,
        psnr_after_db=agreed.psnr_db.after,
        paces=paces,
        gain=round(gain(paces), 3),
        kept_though_slower=not gain(paces) >= spec.least_gain,
    )
    _demand_faster(context, spec, comparison, agreed)
    return _finish(context, spec, subject, agreed, comparison)


def _compress(context: JobContext, spec: CompressSpec, subject: Subject) -> int:
    """Write the graph; how many layers were left in float32."""
    graph, target = simplified(subject.graph, context.work_dir, subject.sizes), context.work_dir / MODEL_FILE
    if spec.precision is Precision.FP16:
        to_float16(graph, target)
    elif spec.precision is Precision.INT8_DYNAMIC:
        quantize_dynamically(graph, target)
    else:
        return _calibrate(context, spec, subject, graph)
    return 0


def _calibrate(context: JobContext, spec: CompressSpec, subject: Subject, graph: Path) -> int:
    calibration, shown = calibration_of(graph), 0
    for images in subject.batches(subject.calibration):
        context.begin("calibrating", at=0.05 + 0.3 * shown / len(subject.calibration))
        calibration.show(images)
        shown += len(images)
    calibrated = calibration.seen()
    batches = []  # decoded once for all that are tried
    for images in subject.batches(subject.choosing):
        context.leave_if_asked()
        batches.append(images)
    expected = _original(context, subject, batches)
    layers = len(layers_of(onnx.load(graph)))
    best: tuple[Tried, int] | None = None
    counts = _FLOAT_LAYERS_OF_ENLARGERS if subject.makes_pictures else _FLOAT_LAYERS
    for count in (count for count in counts if count == 0 or count < layers):
        context.begin("choosing", at=0.35)
        path = context.work_dir / f"after-{count}.onnx"
        quantize(graph, path, calibrated, float_layers=count)
        tried = _try(context, subject, path, batches, expected)
        if best is None or tried.error < best[0].error:
            best = tried, count
            path.replace(context.work_dir / MODEL_FILE)
        if tried.is_enough(spec):
            break
    assert best is not None  # none of them left in float32 is always tried
    chosen, count = best
    context.message(
        f"Calibrated on {len(subject.calibration)} {subject.noun}; {count} of {layers} layers stay in "
        f"float32, with which {chosen.told(subject, len(expected))}."
    )
    return count


def _original(
    context: JobContext, subject: Subject, batches: Iterable[NDArray[np.uint8]]
) -> list[NDArray[np.float32]]:
    """What the graph that is compressed gives for each picture. Raises NotServable if that is not finite."""
    given = list(outputs(context, ServedSession(subject.graph), batches))
    if not all(np.isfinite(one).all() for one in given):
        raise NotServable(
            f"{subject.model} itself gives outputs that are not finite.",
            hint="Verify it, or import it again.",
        )
    return given


def _try(
    context: JobContext,
    subject: Subject,
    path: Path,
    batches: Iterable[NDArray[np.uint8]],
    expected: list[NDArray[np.float32]],
) -> Tried:
    errors, kept = [], []
    for got, wanted in zip(outputs(context, ServedSession(path), batches), expected, strict=True):
        if not np.isfinite(got).all():
            return Tried(np.inf)
        errors.append(float(np.square(got - wanted).mean()))
        kept.append(subject.kept(got, wanted))
    return Tried.of(errors, kept)


def _agree(context: JobContext, spec: CompressSpec, subject: Subject) -> Agreed:
    """Raises ParityFailed, with the numbers."""
    context.begin("comparing", at=0.5)
    before = _original(context, subject, subject.batches(subject.held.samples))
    reference = reference_of(spec, subject, before)
    context.leave_if_asked()
    session = ServedSession(context.work_dir / MODEL_FILE)
    try:
        results = compare_samples(session.run, subject.codec, reference, max_batch=subject.manifest.max_batch)
    except ServedGraphError:
        raise
    except ValueError as error:  # not finite
        raise ParityFailed(
            f"{subject.model} in {spec.precision} fails on a picture: {error}.", hint="Try another precision."
        ) from error
    agreed = agreed_of(subject, reference, before, results)
    _say_if_few(context, subject)
    _demand_alike(spec, subject, agreed)
    return agreed


def _demand_alike(spec: CompressSpec, subject: Subject, agreed: Agreed) -> None:
    """Raise ParityFailed if too much of what is said, or made, has changed."""
    for name, kept in agreed.what_is_kept.items():
        least: float = getattr(spec, name)
        if not kept >= least:
            asked = f"{least:g}" if subject.makes_pictures else f"{least:.2%}"
            raise ParityFailed(
                f"{subject.model} in {spec.precision} gives {agreed}; a {name} of {asked} is asked.",
                hint=f"Try another precision, or more pictures like those it is used on, or lower {name}.",
            )


def _say_if_few(context: JobContext, subject: Subject) -> None:
    compared, there = len(subject.held.samples), subject.held.of
    if compared < there:
        context.message(f"{compared} of {there} held-out pictures are compared.")
    elif compared < (_FEW_MAPS if subject.has_maps or subject.makes_pictures else _FEW):
        context.message(f"Only {compared} {subject.noun} are held out: what they say is not much.")


def _time(context: JobContext, spec: CompressSpec, subject: Subject) -> tuple[Pace, ...]:
    context.begin("timing", at=0.8)
    return measure_paces(
        (subject.graph, context.work_dir / MODEL_FILE),
        shape=subject.shape,
        cores=serving_cores(context.settings.cpu_threads),
        batches={1, subject.batch},
        before_each=context.leave_if_asked,
    )


def _demand_faster(context: JobContext, spec: CompressSpec, comparison: Comparison, agreed: Agreed) -> None:
    """Raise NotFaster unless it is, or is wanted all the same."""
    after_bytes = (context.work_dir / MODEL_FILE).stat().st_size
    paces = "; ".join(
        f"{pace.threads} thread{'s' if pace.threads > 1 else ''}, batch {pace.batch}: "
        f"{pace.before_ms:.2f} ms before, {pace.after_ms:.2f} ms after"
        for pace in comparison.paces
    )
    numbers = (
        f"{comparison.model} in {spec.precision} gives {comparison.gain:.2f} times as many pictures per "
        f"second ({paces}); {comparison.size_bytes / 1e6:.1f} MB before, {after_bytes / 1e6:.1f} MB after; "
        f"{agreed}"
    )
    if comparison.kept_though_slower and spec.keep != "always":
        raise NotFaster(
            f"{numbers}; {spec.least_gain:g} times is asked.",
            hint='Serve it as it is, try another precision, or ask with "keep": "always".',
        )
    context.message(f"{numbers}.")


def _finish(
    context: JobContext, spec: CompressSpec, subject: Subject, agreed: Agreed, comparison: Comparison
) -> Outcome:
    """Certify what lies in the work folder and hand it over for publication."""
    context.begin("certifying", at=0.9)
    model, reference = context.work_dir / MODEL_FILE, context.work_dir / REFERENCE_FILE
    write_reference(reference, agreed.reference)
    manifest: Manifest = subject.manifest.model_copy(
        update={"precision": spec.precision, "opset": opset_of(onnx.load(model, load_external_data=False))}
    )
    try:
        certificate: Certificate = certify(model, manifest, reference, limits=subject.codec.limits)
    except ParityError as error:
        raise ParityFailed(error.message, hint=error.hint) from error
    certificate = certificate.model_copy(update={"compared_with": comparison})
    artifacts = {MODEL_FILE: model, REFERENCE_FILE: reference}
    for name, data in ((MANIFEST_FILE, manifest.to_json()), (CERTIFICATE_FILE, certificate.to_json())):
        artifacts[name] = context.work_dir / name
        artifacts[name].write_bytes(data)
    return Outcome(
        result={
            "precision": str(spec.precision),
            "gain": comparison.gain,
            "same_label": agreed.same_label,
            "same_label_of": "pixels" if subject.has_maps else "pictures",
            "mean_iou": agreed.masks_kept,
            "psnr_db": agreed.pictures_kept,
            "kept_though_slower": comparison.kept_though_slower,
        },
        publish=Publication(
            name=spec.output_model or subject.name,
            manifest=manifest,
            certificate=certificate,
            artifacts=artifacts,
        ),
    )
