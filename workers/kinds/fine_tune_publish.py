"""The second half of a fine-tuning job: evaluation, graph, certificate, report, everything to take home.

The reference that the certificate is computed from are pictures of the user's own, and what the trained
network, unmerged, gives for them in eager PyTorch. The graph is the merged network.
"""

import datetime
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from app.db.session import Database
from app.errors import ParityFailed, TrainingDiverged
from app.jobs.repository import JobRepository
from models.adapt.adapter import Adapted
from models.build.network import save_weights
from models.data.pack import Item, Split
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
from models.export.eager import run_eager
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
from models.train.loop import Trained
from models.train.resolve import ResolvedSpec
from workers.context import Interrupted, JobContext, Outcome, Publication
from workers.kinds.fine_tune_order import Base, FineTuneOrder, TrainingData

_SAMPLES = 32
"""Pictures that the certificate compares."""
_BATCH = 32
_MOST_ROWS = 100_000
_LIBRARIES = ("torch", "timm", "peft", "onnxruntime", "numpy")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run whose training is over."""

    order: FineTuneOrder
    base: Base
    data: TrainingData
    spec: ResolvedSpec
    adapted: Adapted
    trained: Trained
    times_s: dict[str, float]
    """Seconds by phase."""


def publish(context: JobContext, run: Run) -> Outcome:
    """Put everything that becomes a version into the work folder. Raises ParityFailed."""
    times_s = dict(run.times_s)
    context.progress(0.90, "evaluating")
    started_s = time.monotonic()
    evaluated = split, evaluation = _evaluate(context, run)
    times_s["evaluating"] = time.monotonic() - started_s
    context.progress(0.94, "exporting")
    artifacts = _export(context, run)
    manifest = Manifest.model_validate_json(artifacts[MANIFEST_FILE].read_bytes())
    context.progress(0.97, "certifying")
    certificate = _certify(context, artifacts, manifest)
    artifacts[CERTIFICATE_FILE] = _write(context, CERTIFICATE_FILE, certificate.to_json())
    report = _report(context, run, evaluated, certificate, times_s)
    artifacts[REPORT_JSON_FILE] = _write(context, REPORT_JSON_FILE, report.to_json())
    artifacts[REPORT_HTML_FILE] = _write(
        context, REPORT_HTML_FILE, _page(context, run, split, report).encode()
    )
    context.message(
        f"Held-out accuracy {evaluation.accuracy:.4f} on {evaluation.samples} pictures ({split}); "
        f"the graph equals the network to {_worst(certificate):.1e}."
    )
    return Outcome(
        result={
            "dataset": run.data.reference,
            "accuracy": evaluation.accuracy,
            "macro_f1": evaluation.macro_f1,
            "split": str(split),
            "steps": run.trained.steps,
            "best_step": run.trained.best_step,
        },
        publish=Publication(
            name=model_name(context, run.order),
            manifest=manifest,
            certificate=certificate,
            artifacts=artifacts,
        ),
    )


def model_name(context: JobContext, order: FineTuneOrder) -> str:
    """Of the model whose version the run becomes: as given, or the base's with the end of the job's id."""
    base = order.train.model.partition(":")[0].partition("@")[0]
    return order.output_model or order.suffix or f"{base[:50]}-{context.job_id[-8:].lower()}"


def codec_of(
    context: JobContext, preprocessing: Preprocessing, labels: tuple[str, ...]
) -> ClassificationCodec:
    """The codec that will serve the version: what evaluation sees is what clients get."""
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


def _evaluate(context: JobContext, run: Run) -> Evaluated:
    split = Split.TEST if run.data.pack.of(Split.TEST) else Split.VALIDATION
    items = run.data.pack.of(split)
    logits = _logits(context, run, run.adapted.network.eval(), items)
    targets = np.array([item.label for item in items])
    try:
        return split, evaluate(logits, targets, run.data.pack.labels, [item.name for item in items])
    except ValueError as error:  # logits that are not finite
        raise TrainingDiverged(str(error), hint="Lower learning_rate, or clip_norm.") from error


def _logits(context: JobContext, run: Run, network: nn.Module, items: list[Item]) -> NDArray[np.float32]:
    codec = codec_of(context, run.base.preprocessing, run.data.pack.labels)
    parts = []
    for start in range(0, len(items), _BATCH):
        if context.stop_asked():
            raise Interrupted
        images = np.stack([codec.decode(run.data.pack.read(item)) for item in items[start : start + _BATCH]])
        parts.append(run_eager(network, run.base.preprocessing, images))
    return np.concatenate(parts)


def _export(context: JobContext, run: Run) -> dict[str, Path]:
    """Reference, adapter, merged weights, graph and manifest by artefact name."""
    artifacts = {REFERENCE_FILE: _write_reference(context, run)}
    artifacts |= {path.name: path for path in run.adapted.save(context.work_dir / "adapter")}
    merged = run.adapted.merge().eval()
    model = context.work_dir / MODEL_FILE
    origin = Origin(architecture=run.base.architecture.timm, source=run.base.source, licence=run.base.licence)
    manifest = export_classifier(merged, run.base.preprocessing, run.data.pack.labels, model, origin=origin)
    weights = context.work_dir / WEIGHTS_FILE
    save_weights(merged, weights)
    artifacts |= {MODEL_FILE: model, WEIGHTS_FILE: weights}
    artifacts[MANIFEST_FILE] = _write(context, MANIFEST_FILE, manifest.to_json())
    return artifacts


def _write_reference(context: JobContext, run: Run) -> Path:
    """Pictures spread over the validation split, and the unmerged network's answers."""
    items = run.data.pack.of(Split.VALIDATION) or run.data.pack.of(Split.TEST)
    chosen = [
        items[index] for index in sorted({*np.linspace(0, len(items) - 1, _SAMPLES).astype(int).tolist()})
    ]
    logits = _logits(context, run, run.adapted.network.eval(), chosen)
    path = context.work_dir / REFERENCE_FILE
    reference = Reference(
        samples=tuple(run.data.pack.read(item) for item in chosen),
        logits=logits,
        labels=tuple(run.data.pack.labels[index] for index in logits.argmax(axis=1)),
        by=f"eager PyTorch {version('torch')}, the trained network before it was merged",
        all_labels_sha256=labels_sha256(run.data.pack.labels),
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
    context: JobContext, run: Run, evaluated: Evaluated, certificate: Certificate, times_s: dict[str, float]
) -> TrainingReport:
    split, evaluation = evaluated
    counts = run.data.pack.counts()
    return TrainingReport(
        model=model_name(context, run.order),
        base=run.base.source,
        job_id=context.job_id,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        split="test" if split is Split.TEST else "validation",
        evaluation=evaluation,
        curves=curves_of(_history(context)),
        steps=run.trained.steps,
        best_step=run.trained.best_step,
        spec=run.spec.model_dump(mode="json"),
        dataset=DatasetSummary(
            reference=run.data.reference,
            images={str(part): sum(by_label.values()) for part, by_label in counts.items()},
            labels=len(run.data.pack.labels),
            duplicates=run.data.report.get("duplicate_count"),
            left_out=run.data.report.get("left_out_count"),
            sha256=run.data.sha256,
        ),
        parameters=ParameterCounts(
            total=run.adapted.total_parameters,
            trainable=run.adapted.trainable_parameters,
            skipped=run.adapted.skipped,
        ),
        times_s=times_s,
        certificate=certificate,
        environment=Environment(
            versions={
                "python": platform.python_version(),
                **{name: version(name) for name in _LIBRARIES},
                "machine": platform.machine(),
            },
            threads=run.spec.threads,
            seed=run.spec.seed,
            attempts=context.attempt,
            resumed_from_step=context.resume.step if context.resume is not None else None,
        ),
    )


def _history(context: JobContext) -> list[tuple[int, dict[str, float]]]:
    """What was measured in all attempts of this job."""
    database = Database(context.settings.sqlalchemy_url)
    try:
        with database.read() as session:
            rows = JobRepository(session).metrics(
                context.principal, context.job_id, after_step=None, limit=_MOST_ROWS
            )
    finally:
        database.close()
    return [(row.step, row.values) for row in rows]


def _page(context: JobContext, run: Run, split: Split, report: TrainingReport) -> str:
    items = run.data.pack.of(split)
    thumbnails = {
        worst.index: thumbnail(run.data.pack.read(items[worst.index]), limits=_limits(context))
        for worst in report.evaluation.worst
    }
    return render(report, thumbnails=thumbnails)


def _write(context: JobContext, name: str, data: bytes) -> Path:
    path = context.work_dir / name
    path.write_bytes(data)
    return path
