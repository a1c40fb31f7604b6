"""The job kind `import`: a source becomes a version with a certificate.

    starter:NAME, weights   downloading → building → exporting → certifying   import_network.py
    an ONNX file            downloading → checking ────────────→ certifying   import_onnx.py

A starter must reproduce what the source package's own code gives; somebody's ONNX file what the uploaded
reference says, or it stays at level `imported`. An ONNX file is taken in without loading torch.
"""

from pathlib import Path

from app.errors import ImportRefused, ParityFailed
from models.export.adopt import Adopted
from models.export.parity import ParityError, certify
from models.manifest import (
    CERTIFICATE_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    REFERENCE_FILE,
    WEIGHTS_FILE,
    Certificate,
    Manifest,
)
from models.starters import get_starter
from models.starters.rows import UnknownStarter
from models.tasks.images import ImageLimits
from workers.context import JobContext, Outcome, Publication
from workers.kinds.import_onnx import adopt_onnx, check_normalisation
from workers.kinds.import_sources import bring_source, bring_upload
from workers.kinds.import_spec import ImportSpec, read_spec

_STARTER = "starter:"
WEIGHT_SUFFIXES = frozenset({".safetensors", ".pth", ".pt", ".bin"})


def run(context: JobContext) -> Outcome:
    """Bring a model in.

    Raises:
        InvalidRequest: the spec makes no sense.
        ImportRefused: source, file or what was said about them cannot be taken.
        ParityFailed: the graph does not reproduce its reference.
        NotFound: an uploaded file does not exist.

    """
    context.begin("downloading", at=0.0)
    order = read_spec(context.spec)
    if order.source.startswith(_STARTER):
        return _import_starter(context, order)
    return _import_file(context, order)


def _import_starter(context: JobContext, order: ImportSpec) -> Outcome:
    try:
        starter = get_starter(order.source.removeprefix(_STARTER))
    except UnknownStarter as error:
        raise ImportRefused(str(error), param="source", hint="`athanor pull` lists the starters.") from error
    weights = bring_source(
        context,
        starter.source,
        sha256=starter.sha256,
        archive_sha256=starter.archive_sha256,
        expected_bytes=starter.size_bytes,
    )
    context.message(f"Have the weights of {starter.name}, SHA-256 {weights.sha256}.")
    from workers.kinds.import_network import export_starter  # noqa: PLC0415 - torch

    manifest = export_starter(context, weights, starter)
    return _finish(context, order, manifest, reference=_copy(starter.reference_path, context.work_dir))


def _import_file(context: JobContext, order: ImportSpec) -> Outcome:
    file = bring_source(context, order.source, sha256=order.sha256, archive_sha256=order.archive_sha256)
    context.message(f"Have {file.file_name}, SHA-256 {file.sha256}.")
    reference = None
    if order.reference is not None:
        reference = _copy(bring_upload(context, order.reference).path, context.work_dir)
    is_weights = Path(file.file_name).suffix.lower() in WEIGHT_SUFFIXES
    if is_weights and order.manifest.architecture is None:
        raise ImportRefused(
            f"{file.file_name} holds weights without a graph.",
            param="manifest.architecture",
            hint="Give `architecture`, timm's name of the network, in the spec's `manifest`.",
        )
    if not is_weights:
        manifest, adopted = adopt_onnx(context, order, file)
        return _finish(context, order, manifest, reference=reference, adopted=adopted)
    from workers.kinds.import_network import export_weights  # noqa: PLC0415 - torch

    manifest = export_weights(context, file, order)
    return _finish(context, order, manifest, reference=reference)


def _finish(
    context: JobContext,
    order: ImportSpec,
    manifest: Manifest,
    *,
    reference: Path | None,
    adopted: Adopted | None = None,
) -> Outcome:
    """Certify what lies in the work folder and hand it over for publication."""
    context.begin("certifying", at=0.9)
    model = context.work_dir / MODEL_FILE
    limits = ImageLimits(max_pixels=context.settings.max_image_pixels)
    try:
        certificate = certify(model, manifest, reference, limits=limits)
    except ParityError as error:
        raise ParityFailed(error.message, hint=error.hint) from error
    if adopted is not None:
        check_normalisation(manifest, adopted)
    context.message(_summary(certificate))
    artifacts = {
        MODEL_FILE: model,
        MANIFEST_FILE: _write(context.work_dir / MANIFEST_FILE, manifest.to_json()),
        CERTIFICATE_FILE: _write(context.work_dir / CERTIFICATE_FILE, certificate.to_json()),
    }
    if reference is not None:
        artifacts[REFERENCE_FILE] = reference
    if adopted is None:  # built from weights: it can be trained on
        artifacts[WEIGHTS_FILE] = context.work_dir / WEIGHTS_FILE
    publication = Publication(
        name=order.name, manifest=manifest, certificate=certificate, artifacts=artifacts
    )
    return Outcome(result={"level": str(certificate.level)}, publish=publication)


def _summary(certificate: Certificate) -> str:
    agreement = certificate.agreement
    if agreement is None:
        return "It loads and answers; without reference outputs its level is `imported`."
    return (
        f"Certified: equals {certificate.reference_by} on {agreement.samples} samples to "
        f"{agreement.max_abs:.1e} (allowed {agreement.tolerance:.1e})."
    )


def _copy(path: Path, folder: Path) -> Path:
    return _write(folder / REFERENCE_FILE, path.read_bytes())


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
