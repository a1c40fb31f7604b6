"""What a trained network goes through to become a version: evaluation, graph, certificate, report.

The reference that the certificate is computed from are pictures of the user's own, and what the trained
network, unmerged, gives for them in eager PyTorch. The graph is the merged network.
"""

import datetime
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from torch import nn

from app.db.session import Database
from app.errors import ParityFailed, TrainingDiverged
from app.jobs.repository import JobRepository
from models.build.network import save_weights
from models.data.pack import Split
from models.evaluate.classification import Evaluation, evaluate
from models.evaluate.curves import curves_of
from models.evaluate.report import (
    REPORT_HTML_FILE,
    REPORT_JSON_FILE,
    DatasetSummary,
    Environment,
    ParameterCounts,
    TrainingReport,
)
from models.evaluate.report_html import render
from models.evaluate.thumbnail import thumbnail
from models.export.eager import rounding_of, run_eager
from models.export.onnx import Origin, export_classifier
from models.export.parity import ParityError, certify
from models.export.reference import Reference, labels_sha256, write_reference
from models.export.served_form import tensor_facts
from models.manifest import (
    CERTIFICATE_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    REFERENCE_FILE,
    WEIGHTS_FILE,
    Certificate,
    Manifest,
    Preprocessing,
    Task,
)
from models.tasks.classification import ClassificationCodec
from models.tasks.images import ImageLimits
from models.train.predict import Stopped, predict
from workers.context import Interrupted, JobContext, Outcome, Publication
from workers.kinds.fine_tune_prepare import Prepared

_SAMPLES = 32
"""Pictures that the certificate compares."""
_MOST_ROWS = 100_000
_LIBRARIES = ("torch", "timm", "peft", "onnxruntime", "numpy")
_EVALUATING, _EXPORTING, _CERTIFYING = 0.0, 0.4, 0.7
"""Where these phases begin, as shares of all that is done here."""

Measured = dict[int, Mapping[str, float]]
"""Values by step."""


@dataclass(frozen=True, kw_only=True)
class TrainedBy:
    """The job that trained."""

    job_id: str
    attempts: int
    resumed_from_step: int | None


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training that is over, its network holding the weights to publish."""

    prepared: Prepared
    name: str
    """Of the model that gets the version."""
    trained_by: TrainedBy
    steps: int
    """Taken in all."""
    best_step: int
    """Whose weights these are."""
    checkpoint_step: int | None = None
    """As in `Publication`."""
    measured: Measured
    times_s: Mapping[str, float]
    """Seconds by phase."""


def publish(context: JobContext, run: Run, *, begins_at: float) -> Outcome:
    """Put everything that becomes a version into the work folder. `begins_at`: of the job's progress.

    Raises ParityFailed, TrainingDiverged, Interrupted.
    """

    def begin(phase: str, share: float) -> None:
        context.begin(phase, at=begins_at + (1 - begins_at) * share)

    begin("evaluating", _EVALUATING)
    started_s = time.monotonic()
    evaluated = split, evaluation = _evaluate(context, run.prepared)
    times_s = {**run.times_s, "evaluating": time.monotonic() - started_s}
    begin("exporting", _EXPORTING)
    manifest, artifacts = _export(context, run.prepared)
    begin("certifying", _CERTIFYING)
    certificate = _certify(context, artifacts, manifest)
    artifacts[CERTIFICATE_FILE] = _write(context, CERTIFICATE_FILE, certificate.to_json())
    report = _report(run, evaluated, certificate, times_s)
    artifacts[REPORT_JSON_FILE] = _write(context, REPORT_JSON_FILE, report.to_json())
    artifacts[REPORT_HTML_FILE] = _write(
        context, REPORT_HTML_FILE, _page(context, run.prepared, split, report).encode()
    )
    context.message(
        f"Held-out accuracy {evaluation.accuracy:.4f} on {evaluation.samples} pictures ({split}); "
        f"the graph equals the network to {_worst(certificate):.1e}."
    )
    return Outcome(
        result={
            "dataset": run.prepared.data.reference,
            "accuracy": evaluation.accuracy,
            "macro_f1": evaluation.macro_f1,
            "split": str(split),
            "steps": run.steps,
            "best_step": run.best_step,
        },
        publish=Publication(
            name=run.name,
            manifest=manifest,
            certificate=certificate,
            artifacts=artifacts,
            checkpoint_step=run.checkpoint_step,
        ),
    )


def measured_by(context: JobContext, job_id: str) -> Measured:
    """What a job has measured, as far as it is written down."""
    database = Database(context.settings.sqlalchemy_url)
    try:
        with database.read() as session:
            rows = JobRepository(session).metrics(
                context.principal, job_id, after_step=None, limit=_MOST_ROWS
            )
    finally:
        database.close()
    return {
        row.step: {name: value for name, value in row.values.items() if value is not None} for row in rows
    }


def _codec(context: JobContext, preprocessing: Preprocessing, labels: tuple[str, ...]) -> ClassificationCodec:
    """The codec that will serve the version."""
    image, logits = tensor_facts(preprocessing, classes=len(labels), batch=None)
    manifest = Manifest(
        task=Task.CLASSIFICATION,
        inputs=(image,),
        outputs=(logits,),
        preprocessing=preprocessing,
        labels=labels,
    )
    return ClassificationCodec(manifest, _limits(context))


def _limits(context: JobContext) -> ImageLimits:
    return ImageLimits(max_pixels=context.settings.max_image_pixels)


Evaluated = tuple[Split, Evaluation]


def _evaluate(context: JobContext, prepared: Prepared) -> Evaluated:
    """In full precision, whatever the training's was: what is published is served so."""
    pack = prepared.data.pack
    split = Split.TEST if pack.of(Split.TEST) else Split.VALIDATION
    try:
        logits, targets = predict(
            prepared.adapted.network, prepared.source(split), should_stop=context.stop_asked
        )
        return split, evaluate(logits, targets, pack.labels, [item.name for item in pack.of(split)])
    except Stopped as error:
        raise Interrupted from error
    except ValueError as error:  # logits that are not finite
        raise TrainingDiverged(str(error), hint="Lower learning_rate, or clip_norm.") from error


def _export(context: JobContext, prepared: Prepared) -> tuple[Manifest, dict[str, Path]]:
    """The manifest; and reference, adapter, merged weights, graph and manifest by artefact name."""
    base, adapted = prepared.base, prepared.adapted
    artifacts = {path.name: path for path in adapted.save(context.work_dir / "adapter")}
    merged = adapted.merge().eval()
    artifacts[REFERENCE_FILE] = _write_reference(context, prepared, merged)
    model = context.work_dir / MODEL_FILE
    origin = Origin(architecture=base.architecture.timm, source=base.source, licence=base.licence)
    manifest = export_classifier(merged, base.preprocessing, prepared.data.pack.labels, model, origin=origin)
    weights = context.work_dir / WEIGHTS_FILE
    save_weights(merged, weights)
    artifacts |= {MODEL_FILE: model, WEIGHTS_FILE: weights}
    artifacts[MANIFEST_FILE] = _write(context, MANIFEST_FILE, manifest.to_json())
    return manifest, artifacts


def _write_reference(context: JobContext, prepared: Prepared, merged: nn.Module) -> Path:
    """Pictures spread over the validation split, and the unmerged network's answers. Rounding is that of the
    merged one, which is what is served: so nothing that merging may have changed is taken for it."""
    pack, preprocessing = prepared.data.pack, prepared.base.preprocessing
    items = pack.of(Split.VALIDATION) or pack.of(Split.TEST)
    chosen = sorted({*np.linspace(0, len(items) - 1, _SAMPLES).astype(int).tolist()})
    samples = tuple(pack.read(items[index]) for index in chosen)
    codec = _codec(context, preprocessing, pack.labels)
    images = np.stack([codec.decode(sample) for sample in samples])
    logits = run_eager(prepared.adapted.network.eval(), preprocessing, images)
    path = context.work_dir / REFERENCE_FILE
    reference = Reference(
        samples=samples,
        logits=logits,
        labels=tuple(pack.labels[index] for index in logits.argmax(axis=1)),
        by=f"eager PyTorch {version('torch')}, the trained network before it was merged",
        all_labels_sha256=labels_sha256(pack.labels),
        rounding=rounding_of(merged, preprocessing, images),
    )
    write_reference(path, reference)
    return path


def _certify(context: JobContext, artifacts: dict[str, Path], manifest: Manifest) -> Certificate:
    try:
        return certify(artifacts[MODEL_FILE], manifest, artifacts[REFERENCE_FILE], limits=_limits(context))
    except ParityError as error:
        raise ParityFailed(error.message, hint=error.hint) from error


def _worst(certificate: Certificate) -> float:
    assert certificate.agreement is not None  # it was made from a reference
    return certificate.agreement.max_abs


def _report(
    run: Run, evaluated: Evaluated, certificate: Certificate, times_s: dict[str, float]
) -> TrainingReport:
    split, evaluation = evaluated
    data, spec, adapted = run.prepared.data, run.prepared.spec, run.prepared.adapted
    return TrainingReport(
        model=run.name,
        base=run.prepared.base.source,
        job_id=run.trained_by.job_id,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        split="test" if split is Split.TEST else "validation",
        evaluation=evaluation,
        curves=curves_of(run.measured.items()),
        steps=run.steps,
        best_step=run.best_step,
        spec=spec.model_dump(mode="json"),
        dataset=DatasetSummary(
            reference=data.reference,
            images={str(part): sum(by_label.values()) for part, by_label in data.pack.counts().items()},
            labels=len(data.pack.labels),
            duplicates=data.report.get("duplicate_count"),
            left_out=data.report.get("left_out_count"),
            sha256=data.sha256,
        ),
        parameters=ParameterCounts(
            total=adapted.total_parameters, trainable=adapted.trainable_parameters, skipped=adapted.skipped
        ),
        times_s=times_s,
        certificate=certificate,
        environment=Environment(
            versions={
                "python": platform.python_version(),
                **{name: version(name) for name in _LIBRARIES},
                "machine": platform.machine(),
            },
            threads=spec.threads,
            seed=spec.seed,
            attempts=run.trained_by.attempts,
            resumed_from_step=run.trained_by.resumed_from_step,
        ),
    )


def _page(context: JobContext, prepared: Prepared, split: Split, report: TrainingReport) -> str:
    pack = prepared.data.pack
    items = pack.of(split)
    thumbnails = {
        worst.index: thumbnail(pack.read(items[worst.index]), limits=_limits(context))
        for worst in report.evaluation.worst
    }
    return render(report, thumbnails=thumbnails)


def _write(context: JobContext, name: str, data: bytes) -> Path:
    path = context.work_dir / name
    path.write_bytes(data)
    return path
