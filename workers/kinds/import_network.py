"""Weights without a graph: build the network, export it, hold the graph against it, keep both."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.errors import ImportRefused, ParityFailed
from models.build.network import save_weights
from models.build.state_file import read_state
from models.build.timm_ import WeightsMismatch, build_timm, load_by_name, load_by_position
from models.export.eager import hold_against_eager
from models.export.onnx import ExportFailed, Origin, export_classifier
from models.export.parity import ParityError
from models.export.reference import read_reference
from models.export.served import ServedSession
from models.manifest import MODEL_FILE, WEIGHTS_FILE, Manifest, Preprocessing
from models.starters import Starter
from models.tasks.classification import ClassificationCodec
from models.tasks.images import ImageLimits
from workers.context import JobContext
from workers.kinds.import_sources import Brought
from workers.kinds.import_spec import ImportSpec


def export_starter(context: JobContext, weights: Brought, starter: Starter) -> Manifest:
    """Write a starter's served graph and its weights into the work folder.

    The graph equals eager PyTorch on the samples; the weights have the network's own names.

    Raises:
        ImportRefused: the weights are no tensors, or do not fit the network.
        ParityFailed: the graph computes something else than the network.

    """
    origin = Origin(
        architecture=starter.architecture,
        source=starter.source,
        source_sha256=weights.sha256,
        licence=starter.licence,
    )
    return _export(
        context,
        weights,
        origin=origin,
        preprocessing=starter.preprocessing,
        labels=starter.labels,
        reference_path=starter.reference_path,
        is_positional=True,
    )


def export_weights(context: JobContext, weights: Brought, order: ImportSpec) -> Manifest:
    """Write served graph and weights of a timm network. Raises as `export_starter`."""
    usage = order.manifest
    origin = Origin(
        architecture=usage.architecture,
        source=order.source,
        source_sha256=weights.sha256,
        licence=usage.licence,
    )
    return _export(
        context,
        weights,
        origin=origin,
        preprocessing=usage.preprocessing(),
        labels=usage.checked_labels(),
        reference_path=None,
        is_positional=False,
    )


def _export(
    context: JobContext,
    weights: Brought,
    *,
    origin: Origin,
    preprocessing: Preprocessing,
    labels: tuple[str, ...],
    reference_path: Path | None,
    is_positional: bool,
) -> Manifest:
    context.begin("building", at=0.45)
    path = context.work_dir / MODEL_FILE
    try:
        network = build_timm(origin.architecture or "", num_classes=len(labels))
        state = read_state(weights.path, file_name=weights.file_name)
        (load_by_position if is_positional else load_by_name)(network, state)
        context.begin("exporting", at=0.6)
        manifest = export_classifier(network, preprocessing, labels, path, origin=origin)
    except (WeightsMismatch, ExportFailed) as error:
        raise ImportRefused(
            str(error)[:500], param="source", hint="Name the architecture that these weights belong to."
        ) from error
    context.begin("certifying", at=0.85)
    images = _images(context, manifest, reference_path)
    try:
        worst = hold_against_eager(ServedSession(path).run, network, preprocessing, images)
    except ParityError as error:
        raise ParityFailed(error.message, hint=error.hint) from error
    save_weights(network, context.work_dir / WEIGHTS_FILE)
    context.message(f"The graph equals the PyTorch network on {len(images)} images to {worst:.1e}.")
    return manifest


def _images(context: JobContext, manifest: Manifest, reference_path: Path | None) -> NDArray[np.uint8]:
    """What both are run on: the reference's samples, or, without one, seeded noise."""
    if reference_path is None:
        height, width = manifest.preprocessing.height, manifest.preprocessing.width
        return np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    codec = ClassificationCodec(manifest, ImageLimits(max_pixels=context.settings.max_image_pixels))
    return np.stack([codec.decode(sample) for sample in read_reference(reference_path).samples])
