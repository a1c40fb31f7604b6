"""What a run makes small, and what its validation says, by its task."""

from collections.abc import Callable

import torch
from torch import nn

from models.catalogue import Kind
from models.manifest import Task
from models.train.feed import BatchSource
from models.train.mask_patches import WholeMasks
from models.train.parts import Loss
from models.train.patches import WholePictures
from models.train.predict import mask_metrics, predict, validation_metrics
from models.train.predict_pictures import picture_metrics, predict_pictures
from models.train.predict_windows import predict_masks_of
from models.train.resolve import ResolvedSpec
from models.train.sources import HeldOut


def build_loss(spec: ResolvedSpec, device: torch.device) -> Loss:
    """The spec's loss, with its weights of labels."""
    weights = spec.weights_by_label()
    loss: Loss = spec.loss.row(Kind.LOSS).build()(
        spec.loss.told(Kind.LOSS),
        class_weights=None if weights is None else torch.tensor(weights, device=device),
    )
    return loss


def validate(
    network: nn.Module,
    source: BatchSource | HeldOut,
    spec: ResolvedSpec,
    *,
    should_stop: Callable[[], bool],
) -> dict[str, float]:
    """Marks of one epoch of a source, in the training's precision; the network is left in eval mode.

    Raises Stopped when `should_stop`, asked after every batch, says so.
    """
    if isinstance(source, WholePictures):
        try:
            made = predict_pictures(network, source, precision=spec.precision, should_stop=should_stop)
            return picture_metrics(made, scale=source.tiles.scale)
        except ValueError:  # pixels that are not finite
            return {"valid_loss": float("nan"), "valid_psnr": 0.0, "valid_psnr_gain": 0.0}
    if spec.task is Task.SEGMENTATION:
        try:
            answers = predict_masks_of(network, source, precision=spec.precision, should_stop=should_stop)
            return mask_metrics(answers, labels=len(spec.labels))
        except ValueError:  # maps that are not finite
            return {"valid_loss": float("nan"), "valid_accuracy": 0.0, "valid_miou": 0.0}
    assert not isinstance(source, WholeMasks)
    return validation_metrics(*predict(network, source, precision=spec.precision, should_stop=should_stop))
