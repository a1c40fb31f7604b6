"""What registry tests publish: real manifests and certificates over small stand-in files."""

from pathlib import Path

from app.access.principal import SYSTEM
from app.registry.service import PublishedVersion, Registry
from models.manifest import (
    MODEL_FILE,
    REFERENCE_FILE,
    Agreement,
    Certificate,
    Level,
    Manifest,
    Preprocessing,
    Task,
    TensorFacts,
    sha256_hex,
)


def build_manifest(*, labels: tuple[str, ...] = ("cat", "dog"), task: Task = Task.CLASSIFICATION) -> Manifest:
    return Manifest(
        task=task,
        inputs=(TensorFacts(name="image", dtype="uint8", shape=(-1, 8, 8, 3)),),
        outputs=(TensorFacts(name="logits", dtype="float32", shape=(-1, len(labels))),),
        preprocessing=Preprocessing(height=8, width=8),
        labels=labels,
    )


def build_certificate(
    manifest: Manifest,
    model: bytes,
    reference: bytes | None = None,
    *,
    level: Level | None = None,
    **agreement: float,
) -> Certificate:
    """Level `certified` if there are reference bytes; keywords change the perfect agreement."""
    perfect = {"samples": 4, "max_abs": 1e-6, "tolerance": 1e-4, "cosine": 1.0, "top1": 1.0, "decided": 4}
    return Certificate(
        level=level or (Level.CERTIFIED if reference else Level.IMPORTED),
        model_sha256=sha256_hex(model),
        manifest_sha256=sha256_hex(manifest.to_json()),
        reference_sha256=sha256_hex(reference) if reference else None,
        agreement=Agreement(**{**perfect, **agreement}) if reference or agreement else None,
        size_bytes=len(model),
        runtime="onnxruntime",
        created_at="2026-01-01T00:00:00Z",
    )


def publish(
    registry: Registry,
    principal,
    folder: Path,
    *,
    name: str,
    model: bytes = b"onnx",
    reference: bytes | None = b"samples",
    task: Task = Task.CLASSIFICATION,
    labels: tuple[str, ...] = ("cat", "dog"),
    **options,
) -> PublishedVersion:
    """Publish a version whose model file holds these bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = build_manifest(task=task, labels=labels)
    artifacts = {MODEL_FILE: folder / MODEL_FILE}
    artifacts[MODEL_FILE].write_bytes(model)
    if reference is not None:
        artifacts[REFERENCE_FILE] = folder / REFERENCE_FILE
        artifacts[REFERENCE_FILE].write_bytes(reference)
    certificate = build_certificate(manifest, model, reference)
    return registry.publish(
        principal, name=name, manifest=manifest, certificate=certificate, artifacts=artifacts, **options
    )


def publish_parcel(registry, parcel, *, name=None):
    """Publish what a run gives, as its worker does."""
    return registry.publish(
        SYSTEM,
        name=name or parcel.name,
        manifest=parcel.manifest,
        certificate=parcel.certificate,
        artifacts=parcel.artifacts,
    )
