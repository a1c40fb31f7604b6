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

from torch import nn

from app.db.session import Database
from app.errors import NotServable, ParityFailed
from app.jobs.repository import JobRepository
from models.build.network import save_weights
from models.data.pack import Split
from models.evaluate.curves import curves_of
from models.evaluate.masks import MaskEvaluation
from models.evaluate.picture_marks import PictureEvaluation
from models.evaluate.report import (
    REPORT_HTML_FILE,
    REPORT_JSON_FILE,
    AnyReport,
    DatasetSummary,
    Environment,
    MaskReport,
    ParameterCounts,
    PictureReport,
    RunReport,
    TrainingReport,
)
from models.export.onnx import ExportFailed, Origin, export_classifier, export_restorer, export_segmenter
from models.export.parity import ParityError, certify
from models.manifest import (
    CERTIFICATE_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    REFERENCE_FILE,
    WEIGHTS_FILE,
    Certificate,
    Manifest,
    MaskFacts,
    Task,
)
from models.tasks.images import ImageLimits
from workers.context import JobContext, Outcome, Publication
from workers.kinds.fine_tune_marks import Marked, mark, page_of
from workers.kinds.fine_tune_prepare import Prepared
from workers.kinds.fine_tune_reference import write_run_reference

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

    Raises ParityFailed, NotServable, TrainingDiverged, Interrupted.
    """

    def begin(phase: str, share: float) -> None:
        context.begin(phase, at=begins_at + (1 - begins_at) * share)

    begin("evaluating", _EVALUATING)
    started_s = time.monotonic()
    marked = mark(context, run.prepared)
    times_s = {**run.times_s, "evaluating": time.monotonic() - started_s}
    begin("exporting", _EXPORTING)
    manifest, artifacts = _export(context, run.prepared)
    begin("certifying", _CERTIFYING)
    certificate = _certify(context, artifacts, manifest)
    artifacts[CERTIFICATE_FILE] = _write(context, CERTIFICATE_FILE, certificate.to_json())
    report = _report(run, marked, certificate, times_s)
    artifacts[REPORT_JSON_FILE] = _write(context, REPORT_JSON_FILE, report.to_json())
    page = page_of(run.prepared, marked.split, report, limits=_limits(context))
    artifacts[REPORT_HTML_FILE] = _write(context, REPORT_HTML_FILE, page.encode())
    context.message(f"{marked.told}; the graph equals the network to {_worst(certificate):.1e}.")
    return Outcome(
        result={
            "dataset": run.prepared.data.reference,
            **marked.result,
            "split": str(marked.split),
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


def _limits(context: JobContext) -> ImageLimits:
    return ImageLimits(max_pixels=context.settings.max_image_pixels)


def _export(context: JobContext, prepared: Prepared) -> tuple[Manifest, dict[str, Path]]:
    """The manifest; and reference, adapter, merged weights, graph and manifest by artefact name."""
    adapted = prepared.adapted
    artifacts = {path.name: path for path in adapted.save(context.work_dir / "adapter")}
    merged = adapted.merge().eval()
    artifacts[REFERENCE_FILE] = write_run_reference(context, prepared, merged, limits=_limits(context))
    model = context.work_dir / MODEL_FILE
    try:
        manifest = _write_graph(prepared, merged, model)
    except ExportFailed as error:
        hint = "Train another base; the checkpoints of this job are kept."
        raise NotServable(f"The trained network does not become a graph: {error}", hint=hint) from error
    weights = context.work_dir / WEIGHTS_FILE
    save_weights(merged, weights)
    artifacts |= {MODEL_FILE: model, WEIGHTS_FILE: weights}
    artifacts[MANIFEST_FILE] = _write(context, MANIFEST_FILE, manifest.to_json())
    return manifest, artifacts


def _write_graph(prepared: Prepared, merged: nn.Module, path: Path) -> Manifest:
    base, labels, tiles = prepared.base, prepared.data.pack.labels, prepared.tiles
    origin = Origin(architecture=base.architecture.timm, source=base.source, licence=base.licence)
    if prepared.spec.task is Task.SUPER_RESOLUTION:
        assert tiles is not None
        return export_restorer(merged, tiles, path, origin=origin)
    if prepared.spec.task is Task.SEGMENTATION:
        masks = MaskFacts(activation="sigmoid" if len(labels) == 1 else "softmax")
        return export_segmenter(
            merged, base.preprocessing, labels, path, origin=origin, masks=masks, tiles=tiles
        )
    return export_classifier(merged, base.preprocessing, labels, path, origin=origin)


def _certify(context: JobContext, artifacts: dict[str, Path], manifest: Manifest) -> Certificate:
    try:
        return certify(artifacts[MODEL_FILE], manifest, artifacts[REFERENCE_FILE], limits=_limits(context))
    except ParityError as error:
        raise ParityFailed(error.message, hint=error.hint) from error


def _worst(certificate: Certificate) -> float:
    assert certificate.agreement is not None  # it was made from a reference
    return certificate.agreement.max_abs


def _report(run: Run, marked: Marked, certificate: Certificate, times_s: dict[str, float]) -> AnyReport:
    data, spec, adapted = run.prepared.data, run.prepared.spec, run.prepared.adapted
    about = RunReport(
        model=run.name,
        base=run.prepared.base.source,
        job_id=run.trained_by.job_id,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        split="test" if marked.split is Split.TEST else "validation",
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
    facts = {name: getattr(about, name) for name in RunReport.model_fields}
    if isinstance(marked.evaluation, MaskEvaluation):
        return MaskReport(**facts, evaluation=marked.evaluation)
    if isinstance(marked.evaluation, PictureEvaluation):
        return PictureReport(**facts, evaluation=marked.evaluation)
    return TrainingReport(**facts, evaluation=marked.evaluation)


def _write(context: JobContext, name: str, data: bytes) -> Path:
    path = context.work_dir / name
    path.write_bytes(data)
    return path
