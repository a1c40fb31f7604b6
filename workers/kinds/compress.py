"""The job kind `compress`: a version in fewer bits, certified on held-out pictures, kept where it is faster.

    preparing ─► calibrating, choosing ─► comparing ─► timing ─► certifying ─► published by the worker
                 (int8 only)              labels of    both in   the original's outputs are the reference,
                                          both         turns     from which `athanor verify` computes it again

Calibration sees pictures for training; those for validation choose how much stays in float32; those for test
are compared. Without any for test, those for validation are, and those for training choose. Loads no torch.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from app.compression.spec import CompressSpec
from app.errors import InvalidSpec, NotFaster, NotServable, ParityFailed
from app.runtime.plan import serving_cores
from models.compress.fp16 import to_float16
from models.compress.int8 import Calibration, quantize, quantize_dynamically
from models.compress.layers import NothingToCompress, layers_of, simplified
from models.compress.pace import gain, measure_paces
from models.export.decisions import mean_iou, overlap, same_share
from models.export.parity import ParityError, certify, compare_samples, masks_kept, share_kept
from models.export.reference import Reference, labels_sha256, write_reference
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
from workers.kinds.compress_subject import Subject, bring_subject, outputs

_FLOAT_LAYERS = (0, 3, 8, 16)
"""How many of the first layers may be left in float32; the fewest with which enough labels are kept are."""
_ALLOWED = 1.25
"""Times the largest difference that was measured: other processors round otherwise."""
_FEW = 100
_FEW_MAPS = 20
"""Fewer held-out pictures say little, which the job says."""


class _Both(NamedTuple):
    """A mark before and after, where the right answers are known."""

    before: float | None
    after: float | None

    def told(self, name: str) -> Iterator[str]:
        if self.before is not None and self.after is not None:
            yield f"{name} {self.before:.2%} before and {self.after:.2%} after"


@dataclass(frozen=True, kw_only=True)
class _Agreed:
    """Held-out pictures through both graphs."""

    reference: Reference
    same_label: float
    max_abs: float
    cosine: float
    accuracy: _Both
    mean_iou: _Both
    masks_kept: float | None
    """Mean IoU of masks before and after with each other."""

    def __str__(self) -> str:
        compared = _kept_of(self.masks_kept is not None, len(self.reference.samples))
        facts = [
            f"outputs differ by at most {self.max_abs:.3g}",
            f"cosine at least {self.cosine:.4f}",
            *([f"mean IoU of both {self.masks_kept:.2%}"] if self.masks_kept is not None else []),
            *self.accuracy.told("accuracy"),
            *self.mean_iou.told("mean IoU"),
        ]
        return (
            f"the same label for {self.same_label:.2%} of {compared} held-out pictures ({', '.join(facts)})"
        )


def run(context: JobContext) -> Outcome:
    """Compress, compare, time, certify.

    Raises:
        Interrupted: left off.
        InvalidSpec: the graph or the data set are not fit for it.
        ParityFailed: too few held-out pictures, or pixels of them, keep their label, or masks are too unlike.
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
        paces=paces,
        gain=round(gain(paces), 3),
        kept_though_slower=not gain(paces) >= spec.least_gain,
    )
    _demand_faster(context, spec, comparison, agreed)
    return _finish(context, spec, subject, agreed, comparison)


def _compress(context: JobContext, spec: CompressSpec, subject: Subject) -> int:
    """Write the graph; how many layers were left in float32."""
    graph, target = simplified(subject.graph, context.work_dir), context.work_dir / MODEL_FILE
    if spec.precision is Precision.FP16:
        to_float16(graph, target)
    elif spec.precision is Precision.INT8_DYNAMIC:
        quantize_dynamically(graph, target)
    else:
        return _calibrate(context, spec, subject, graph)
    return 0


def _calibrate(context: JobContext, spec: CompressSpec, subject: Subject, graph: Path) -> int:
    calibration, shown = Calibration(graph, context.work_dir), 0
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
    best: tuple[_Tried, int] | None = None
    for count in (count for count in _FLOAT_LAYERS if count == 0 or count < layers):
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
        f"Calibrated on {len(subject.calibration)} pictures; {count} of {layers} layers stay in float32, "
        f"with which {chosen.same:.1%} of {_kept_of(subject.has_maps, len(expected))} pictures keep their "
        "label."
    )
    return count


class _Tried(NamedTuple):
    """A candidate on the pictures that choose."""

    error: float
    """Mean squared, of outputs: it tells more than a few labels that happen to change."""
    same: float
    """Share that keeps its label."""
    masks_kept: float | None

    def is_enough(self, spec: CompressSpec) -> bool:
        """By half more than is asked: what is held out will do somewhat worse."""
        masks = self.masks_kept is None or self.masks_kept >= (1 + spec.least_iou) / 2
        return masks and self.same >= (1 + spec.least_agreement) / 2


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
) -> _Tried:
    error = same = 0.0
    overlaps = []
    for got, wanted in zip(outputs(context, ServedSession(path), batches), expected, strict=True):
        if not np.isfinite(got).all():
            return _Tried(np.inf, 0.0, 0.0)
        error += float(np.square(got - wanted).mean())
        said, before = subject.decision(got), subject.decision(wanted)
        same += same_share(said, before)
        if subject.has_maps:
            overlaps.append(overlap(said, before, len(wanted)))
    return _Tried(error / len(expected), same / len(expected), mean_iou(overlaps))


def _agree(context: JobContext, spec: CompressSpec, subject: Subject) -> _Agreed:
    """Raises ParityFailed, with the numbers."""
    context.begin("comparing", at=0.5)
    held, names = subject.held, subject.manifest.labels
    before = _original(context, subject, subject.batches(held.samples))
    reference = Reference(
        samples=held.samples,
        logits=np.stack(before),
        labels=tuple("" if subject.has_maps else names[int(subject.decision(one))] for one in before),
        by=f"{subject.model}, which it was made from",
        all_labels_sha256=labels_sha256(names),
        least_same_label=spec.least_agreement,
        least_iou=spec.least_iou if subject.has_maps else None,
    )
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
    worst, after = max(result.max_abs for result in results), [result.outputs for result in results]
    agreed = _Agreed(
        reference=replace(reference, allowed=_ALLOWED * worst),
        same_label=share_kept(results),
        max_abs=worst,
        cosine=min(result.cosine for result in results),
        accuracy=_Both(subject.accuracy(before), subject.accuracy(after)),
        mean_iou=_Both(subject.mean_iou(before), subject.mean_iou(after)),
        masks_kept=masks_kept(results),
    )
    _say_if_few(context, subject)
    _demand_alike(spec, subject, agreed)
    return agreed


def _demand_alike(spec: CompressSpec, subject: Subject, agreed: _Agreed) -> None:
    """Raise ParityFailed if too much of what is said has changed."""
    asked = {"least_agreement": (agreed.same_label, spec.least_agreement)}
    if agreed.masks_kept is not None:
        asked["least_iou"] = agreed.masks_kept, spec.least_iou
    for name, (is_there, least) in asked.items():
        if not is_there >= least:
            raise ParityFailed(
                f"{subject.model} in {spec.precision} gives {agreed}; a {name} of {least:.2%} is asked.",
                hint=f"Try another precision, or more pictures like those it is used on, or lower {name}.",
            )


def _say_if_few(context: JobContext, subject: Subject) -> None:
    compared, there = len(subject.held.samples), subject.held.of
    if compared < there:
        context.message(f"{compared} of {there} held-out pictures are compared.")
    elif compared < (_FEW_MAPS if subject.has_maps else _FEW):
        context.message(f"Only {compared} pictures are held out: what they say is not much.")


def _kept_of(has_maps: bool, pictures: int) -> str:
    """What keeps its label."""
    return f"{'the pixels of ' if has_maps else ''}{pictures}"


def _time(context: JobContext, spec: CompressSpec, subject: Subject) -> tuple[Pace, ...]:
    context.begin("timing", at=0.8)
    return measure_paces(
        (subject.graph, context.work_dir / MODEL_FILE),
        shape=subject.shape,
        cores=serving_cores(context.settings.cpu_threads),
        batches={1, subject.batch},
        before_each=context.leave_if_asked,
    )


def _demand_faster(context: JobContext, spec: CompressSpec, comparison: Comparison, agreed: _Agreed) -> None:
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
    context: JobContext, spec: CompressSpec, subject: Subject, agreed: _Agreed, comparison: Comparison
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
            "kept_though_slower": comparison.kept_though_slower,
        },
        publish=Publication(
            name=spec.output_model or subject.name,
            manifest=manifest,
            certificate=certificate,
            artifacts=artifacts,
        ),
    )
