"""Weights without a graph: build the network, export it, hold the graph against it, keep both."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from app.errors import ImportRefused, ParityFailed
from models.build.ncnn_weights import load_ncnn
from models.build.network import save_weights
from models.build.onnx_weights import load_convolutions
from models.build.rrdbnet import RRDBNet
from models.build.state_file import read_state
from models.build.timm_ import WeightsMismatch, build_timm, load_by_name, load_by_position
from models.build.u2net import U2Net
from models.build.upconv7 import UpConv7
from models.export.eager import hold_against_eager
from models.export.onnx import (
    ExportFailed,
    Origin,
    export_classifier,
    export_restorer,
    export_segmenter,
)
from models.export.parity import ParityError
from models.export.reference import read_reference
from models.export.served import ServedSession
from models.manifest import MODEL_FILE, WEIGHTS_FILE, Manifest, Preprocessing
from models.starters import Starter
from models.tasks.codecs import codec_of
from models.tasks.images import ImageLimits
from workers.context import JobContext
from workers.kinds.import_sources import Brought
from workers.kinds.import_spec import ImportSpec

_SEGMENTERS: Mapping[str, Callable[[int], nn.Module]] = {"u2netp": U2Net}
"""Of starters that timm does not know, by their architecture; with the number of labels."""
_RESTORERS: Mapping[str, Callable[[], nn.Module]] = {"upconv7": UpConv7, "rrdbnet": RRDBNet}
_EXAMPLE_SIDE = 64
"""In what order layers run does not depend on it."""


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
        preprocessing=starter.preprocessing,
        reference_path=starter.reference_path,
        network=lambda: _starter_network(starter, weights),
        export=lambda network, path: _export_by_task(network, starter, path, origin=origin),
    )


def _export_by_task(network: nn.Module, starter: Starter, path: Path, *, origin: Origin) -> Manifest:
    if starter.tiles is not None:
        return export_restorer(network, starter.tiles, path, origin=origin)
    how, labels = starter.preprocessing, starter.labels
    if starter.masks is not None:
        return export_segmenter(network, how, labels, path, origin=origin, masks=starter.masks)
    return export_classifier(network, how, labels, path, origin=origin)


def export_weights(context: JobContext, weights: Brought, order: ImportSpec) -> Manifest:
    """Write served graph and weights of a timm network. Raises as `export_starter`."""
    usage = order.manifest
    labels = usage.checked_labels()
    origin = Origin(
        architecture=usage.architecture,
        source=order.source,
        source_sha256=weights.sha256,
        licence=usage.licence,
    )
    preprocessing = usage.preprocessing(order.task)
    return _export(
        context,
        preprocessing=preprocessing,
        reference_path=None,
        network=lambda: _named_network(usage.architecture or "", weights, len(labels)),
        export=lambda network, path: export_classifier(network, preprocessing, labels, path, origin=origin),
    )


def _export(
    context: JobContext,
    *,
    preprocessing: Preprocessing,
    reference_path: Path | None,
    network: Callable[[], nn.Module],
    export: Callable[[nn.Module, Path], Manifest],
) -> Manifest:
    context.begin("building", at=0.45)
    path = context.work_dir / MODEL_FILE
    try:
        built = network()
        context.begin("exporting", at=0.6)
        manifest = export(built, path)
    except (WeightsMismatch, ExportFailed) as error:
        raise ImportRefused(
            str(error)[:500], param="source", hint="Name the architecture that these weights belong to."
        ) from error
    context.begin("certifying", at=0.85)
    images = _images(context, manifest, reference_path)
    try:
        worst = hold_against_eager(ServedSession(path).run, built, preprocessing, images)
    except ParityError as error:
        raise ParityFailed(error.message, hint=error.hint) from error
    save_weights(built, context.work_dir / WEIGHTS_FILE)
    context.message(f"The graph equals the PyTorch network on {len(images)} images to {worst:.1e}.")
    return manifest


def _starter_network(starter: Starter, weights: Brought) -> nn.Module:
    if starter.architecture in _RESTORERS:
        network = _RESTORERS[starter.architecture]().eval()
        load_ncnn(network, weights.path, example=torch.zeros(1, 3, _EXAMPLE_SIDE, _EXAMPLE_SIDE))
        return network
    if starter.architecture in _SEGMENTERS:
        network = _SEGMENTERS[starter.architecture](len(starter.labels)).eval()
        load_convolutions(network, weights.path, example=torch.zeros(1, 3, _EXAMPLE_SIDE, _EXAMPLE_SIDE))
        return network
    network = build_timm(starter.architecture, num_classes=len(starter.labels))
    load_by_position(network, read_state(weights.path, file_name=weights.file_name))
    return network


def _named_network(architecture: str, weights: Brought, classes: int) -> nn.Module:
    network = build_timm(architecture, num_classes=classes)
    load_by_name(network, read_state(weights.path, file_name=weights.file_name))
    return network


def _images(context: JobContext, manifest: Manifest, reference_path: Path | None) -> NDArray[np.uint8]:
    """What both are run on: the reference's samples, or, without one, seeded noise."""
    if reference_path is None:
        height, width = manifest.preprocessing.height, manifest.preprocessing.width
        return np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    limits = ImageLimits(context.settings.max_image_pixels)
    samples = read_reference(reference_path).samples
    codec = codec_of(manifest, limits)
    return np.stack([codec.decode(sample) for sample in samples])
