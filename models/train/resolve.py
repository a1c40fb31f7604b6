"""What a spec leaves open, filled in from the base's family and from the data. Torch-free.

    TrainSpec ──resolve──► ResolvedSpec ──`Estimate.applied_to` (measure.py)──► the run's frozen spec

The rates were found on small photographs and scanned digits, with the optimiser adamw, and go by the adapter:
what has few parameters, or begins at zero, takes larger moves than weights that already know something.
"""

import hashlib
import os
from collections import Counter
from difflib import get_close_matches
from math import ceil
from statistics import median
from typing import Annotated

import numpy as np
import orjson
from pydantic import Field

from models.catalogue.architecture import Architecture
from models.data.masks import read_mask
from models.data.pack import Item, Pack, Split
from models.manifest import CONTEXT_PART, CONTEXT_STEP, Preprocessing, Task, TileFacts
from models.tasks.image_facts import ImageLimits
from models.train.spec import Choice, SpecError, TrainSpec

_RATES = {
    "full": 2e-4,
    "head": 5e-3,
    "lora": 5e-3,
    "rslora": 1e-3,
    "dora": 2e-3,
    "loha": 3e-3,
    "lokr": 3e-3,
    "oft": 2e-3,
    "boft": 2e-3,
    "ia3": 1e-2,
    "vera": 1e-2,
    "glora": 2e-3,
    "adalora": 4e-3,
    "pissa": 5e-4,
    "bitfit": 5e-3,
    "ln_tuning": 5e-3,
}
_OTHER_RATE = 2e-3
_SCRATCH_RATE = 1e-3
_HIGHEST_HEAD_RATE = 5e-4
"""A head sums a thousand features that are all positive: one step by Adam moves its logits by
their sum."""
_LEAVE_IT_TO_THE_HEAD = frozenset({"head", "bitfit", "ln_tuning", "ia3", "vera"})
"""Methods that move features little or not at all: there a slow head learns nothing in time."""
_FAMILY_FACTORS = {
    "vit": 0.5,
    "deit": 0.5,
    "swin": 0.5,
    "convnext": 0.5,
    "segformer": 0.5,
    "vdsr": 0.3,
    "edsr": 0.5,
}
"""Networks of attention and layer norms diverge sooner, and so do deep ones without norms."""
_OPTIMIZER_FACTORS = {
    "sgd": 20.0,
    "lion": 0.2,
    "lamb": 10.0,
    "adagrad": 5.0,
    "rmsprop": 0.5,
    "adadelta": 500.0,
}
_BATCH = 32
_PATCHES = 16
"""A batch of super-resolution."""
_DEFAULT_SCALE = 2
_SEEN_IMAGES = 10_000
"""Pictures, repeated ones too, that a job sees by default."""
_FEWEST_EPOCHS, _MOST_EPOCHS = 5, 60
_FEWEST_EPOCHS_OF_MANY = 3
_SEEN_FROM_SCRATCH = 500_000
_FEWEST_FROM_SCRATCH, _MOST_FROM_SCRATCH = 10, 100
_FEW_IMAGES = 20_000
"""Below this, pictures are shifted a little by default: the one change that no label minds. From here on,
fewer epochs are enough."""
_SMALLEST_SIDE = 96
"""Networks that halve the sides five times see nothing in less."""
_ROUND_SIDE = 16
_LEAST_WINDOW = 256
"""Pixels a side: of smaller ones most would be their surroundings."""
_ENLARGEMENT = 1.75
"""Small pictures, of their shorter side: beyond that time goes and nothing is seen."""
_CHECKPOINTS = 20
_METRIC_ROWS = 500
_COUNTED_MASKS = 2000
"""From so many, evenly taken, shares of pixels are known well enough."""
_SMALLEST_SHARE = 1e-4
"""A label with less weighs as if it had so much: a few pixels must not decide a step."""
_MOST_THREADS = 32


class ResolvedSpec(TrainSpec):
    """A spec without gaps: with the data and the base, all that a run's result depends on."""

    augmentation: tuple[Choice, ...]
    learning_rate: float = Field(gt=0, le=10, allow_inf_nan=False)
    head_rate_scale: float = Field(default=1.0, gt=0, le=100, allow_inf_nan=False)
    """Runs frozen by release 0.1.0 do not say it: 1 is what they do."""
    n_epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    image_size: int = Field(ge=1)
    class_weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None
    """Of every label."""
    checkpoint_every_steps: int = Field(ge=1)
    threads: int = Field(ge=1)
    labels: tuple[str, ...]
    training_images: int = Field(ge=1)
    steps_per_epoch: int = Field(ge=1)
    total_steps: int = Field(ge=1)
    log_every_steps: int = Field(ge=1)
    """Steps between two rows of metrics."""

    def identity(self) -> str:
        """SHA-256 of everything that decides the run's bits; how often it saves and reports does not."""
        told = self.model_dump(mode="json", exclude={"checkpoint_every_steps", "log_every_steps"})
        if self.head_rate_scale == 1:
            del told["head_rate_scale"]  # checkpoints of release 0.1.0 know no such thing
        for later in ("scale", "degradation", "fit", "encoder"):  # nor these
            if told[later] is None:
                del told[later]
        return hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS)).hexdigest()

    def sized(self, preprocessing: Preprocessing) -> Preprocessing:
        """A base's preprocessing at this run's size. `crop` keeps the whole central square: the margin that a
        base cuts off is a habit of its own data."""
        if self.task is Task.SUPER_RESOLUTION:
            return preprocessing  # windows have many sizes
        tiles = self.mask_tiles
        side = self.image_size if tiles is None else tiles.window
        size: dict[str, object] = {"height": side, "width": side, "crop": 1.0}
        if self.task is Task.SEGMENTATION:
            size["fit"] = "squash" if tiles is None else "tiles"  # masks are of the whole picture
        return preprocessing.model_copy(update=size)

    @property
    def mask_tiles(self) -> TileFacts | None:
        """Of segmentation in windows: how pictures go through the network, which sees as much around what a
        window contributes as an eighth of it."""
        if self.fit != "tiles":
            return None
        window = max(_LEAST_WINDOW, self.image_size)
        return TileFacts.of_window(window, context=window // (CONTEXT_PART * CONTEXT_STEP) * CONTEXT_STEP)

    def weights_by_label(self) -> list[float] | None:
        """Class weights in the order of the labels; of a lone label of masks after that of the rest."""
        if self.class_weights is None:
            return None
        weights = [self.class_weights[label] for label in self.labels]
        return [1.0, *weights] if len(weights) == 1 else weights


def resolve(
    spec: TrainSpec,
    architecture: Architecture,
    *,
    pack: Pack,
    is_pretrained: bool = True,
    tiles: TileFacts | None = None,
) -> ResolvedSpec:
    """Fill all gaps. What memory and time allow is measured later. `tiles`: of a base that takes windows.

    Raises:
        SpecError: the spec does not go with the data or the base.

    """
    training = Counter(item.label for item in pack.items if item.split is Split.TRAIN)
    images = training.total()
    if images == 0:
        raise SpecError("The data set has no training images.", param="training_file")
    is_restorer = spec.task is Task.SUPER_RESOLUTION
    fit = spec.fit or (None if tiles is None or is_restorer else "tiles")
    chosen: dict[str, object] = {"fit": fit}
    if is_restorer:
        own = None if tiles is None else tiles.scale
        chosen["scale"] = settled_scale(spec, architecture, ratio=pack.ratio, own=own)
        side = _patch_side(spec, architecture, pack)
    else:
        side = _image_size(spec, architecture, pack, enlarges=is_pretrained, is_tiled=fit == "tiles")
    if is_restorer or fit == "tiles":
        images = sum(patches_of(item, side) for item in pack.of(Split.TRAIN))
    batch_size = min(spec.batch_size or (_PATCHES if is_restorer else _BATCH), images)
    steps_per_epoch = ceil(ceil(images / batch_size) / spec.accumulate_steps)
    n_epochs = spec.n_epochs or _epochs(spec, images, steps_per_epoch, is_pretrained)
    total_steps = min(n_epochs * steps_per_epoch, spec.max_steps or n_epochs * steps_per_epoch)
    chosen |= {
        "image_size": side,
        "augmentation": _augmentation(spec, images),
        "learning_rate": spec.learning_rate or default_learning_rate(spec, architecture, is_pretrained),
        "head_rate_scale": spec.head_rate_scale or _head_rate_scale(spec, is_pretrained),
        "n_epochs": n_epochs,
        "batch_size": batch_size,
        "class_weights": _class_weights(spec, pack, training),
        "checkpoint_every_steps": spec.checkpoint_every_steps or ceil(total_steps / _CHECKPOINTS),
        "threads": spec.threads or min(len(os.sched_getaffinity(0)), _MOST_THREADS),
        "labels": pack.labels,
        "training_images": images,
        "steps_per_epoch": steps_per_epoch,
        "total_steps": total_steps,
        "log_every_steps": ceil(total_steps / _METRIC_ROWS),
    }
    return ResolvedSpec.model_validate({**dict(spec), **chosen})


def patches_of(item: Item, side: int) -> int:
    """Patches of a picture in an epoch: as many of `side` pixels as fit beside each other."""
    return max(1, item.width // side) * max(1, item.height // side)


def settled_scale(spec: TrainSpec, architecture: Architecture, *, ratio: int | None, own: int | None) -> int:
    """How many times larger pictures become. `ratio`: of the data set's pairs; `own`: of a trained base.

    Raises:
        SpecError: two of those who have a say differ, or the architecture cannot have it.

    """
    said = {"scale of the base": own, "ratio of the pairs": ratio, "scale asked for": spec.scale}
    given = [(who, scale) for who, scale in said.items() if scale is not None]
    for who, scale in given[1:]:
        first, wanted = given[0]
        if scale != wanted:
            message = f"The {first} is {wanted}, the {who} {scale}."
            raise SpecError(message, param="scale", hint=f"It can be {wanted} only.")
    scale = given[0][1] if given else _DEFAULT_SCALE
    if scale not in architecture.scales:
        known = " or ".join(map(str, architecture.scales))
        raise SpecError(
            f"{architecture.id} enlarges {known} times, not {scale} times.",
            param="scale",
            hint=f"Give {known}.",
        )
    if ratio is not None and spec.degradation is not None:
        hint = "Leave it out; it is for data sets of large pictures alone."
        message = "The data set brings small pictures of its own."
        raise SpecError(message, param="degradation", hint=hint)
    return scale


def _patch_side(spec: TrainSpec, architecture: Architecture, pack: Pack) -> int:
    """Of large patches: what is asked for, or as much of the usual as the smallest picture has."""
    smallest = min(pack.of(Split.TRAIN), key=lambda item: min(item.width, item.height))
    most, multiple = min(smallest.width, smallest.height), architecture.side_multiple
    if spec.image_size is None:
        return min(architecture.image_size, most // multiple * multiple)
    if (refused := architecture.why_not_side(spec.image_size)) is not None:
        raise SpecError(refused[0], param="image_size", hint=refused[1])
    if spec.image_size > most:
        message = f"{smallest.name} has only {most} pixels; a patch would have {spec.image_size}."
        raise SpecError(message, param="image_size", hint=f"Give at most {most // multiple * multiple}.")
    return spec.image_size


def _augmentation(spec: TrainSpec, images: int) -> tuple[Choice, ...]:
    if spec.augmentation is not None:
        return spec.augmentation
    if spec.task is Task.SUPER_RESOLUTION:
        return Choice(method="flip"), Choice(method="quarter_turns")
    return (Choice(method="random_crop"),) if images < _FEW_IMAGES else ()


def _epochs(spec: TrainSpec, images: int, steps_per_epoch: int, is_pretrained: bool) -> int:
    if spec.max_steps is not None:
        return ceil(spec.max_steps / steps_per_epoch)
    if not is_pretrained:
        return max(_FEWEST_FROM_SCRATCH, min(_MOST_FROM_SCRATCH, ceil(_SEEN_FROM_SCRATCH / images)))
    fewest = _FEWEST_EPOCHS if images < _FEW_IMAGES else _FEWEST_EPOCHS_OF_MANY
    return max(fewest, min(_MOST_EPOCHS, ceil(_SEEN_IMAGES / images)))


def _head_rate_scale(spec: TrainSpec, is_pretrained: bool) -> float:
    if not is_pretrained or spec.adapter.method in _LEAVE_IT_TO_THE_HEAD:
        return 1.0
    return min(1.0, _HIGHEST_HEAD_RATE / _RATES.get(spec.adapter.method, _OTHER_RATE))


def default_learning_rate(spec: TrainSpec, architecture: Architecture, is_pretrained: bool) -> float:
    """The highest rate of the schedule when the spec names none."""
    rate = _RATES.get(spec.adapter.method, _OTHER_RATE) if is_pretrained else _SCRATCH_RATE
    rate *= _FAMILY_FACTORS.get(architecture.family, 1.0)
    return min(10.0, rate * _OPTIMIZER_FACTORS.get(spec.optimizer.method, 1.0))


def _image_size(
    spec: TrainSpec, architecture: Architecture, pack: Pack, *, enlarges: bool, is_tiled: bool
) -> int:
    """What is asked for; else of patches as much of the usual as most pictures have, of whole pictures the
    usual, or less where the base knows something and pictures are small."""
    if spec.image_size is not None:
        if (refused := architecture.why_not_side(spec.image_size)) is not None:
            raise SpecError(refused[0], param="image_size", hint=refused[1])
        return spec.image_size
    side = median(min(item.width, item.height) for item in pack.items)
    if is_tiled:
        multiple = architecture.side_multiple
        least = ceil(architecture.smallest_size / multiple) * multiple
        return min(architecture.image_size, max(least, int(side) // multiple * multiple))
    if not architecture.is_size_free or not enlarges:
        return architecture.image_size
    rounded = max(architecture.side_multiple, _ROUND_SIDE)
    wanted = ceil(max(_SMALLEST_SIDE, architecture.smallest_size, _ENLARGEMENT * side) / rounded) * rounded
    return min(architecture.image_size, wanted)


def _class_weights(spec: TrainSpec, pack: Pack, training: Counter[int]) -> dict[str, float] | None:
    """`balanced` is n / (C n_c): every label weighs the same in all, and a picture 1 on average."""
    weights = spec.class_weights
    if weights is None:
        return None
    if isinstance(weights, dict):
        for label in weights:
            if label not in pack.labels:
                near = get_close_matches(label, pack.labels, n=3, cutoff=0.4)
                hint = f"Did you mean {' or '.join(near)}?" if near else None
                message = f"The data set has no label {label!r}."
                raise SpecError(message, param=f"class_weights.{label}", hint=hint)
        return {label: weights.get(label, 1.0) for label in pack.labels}
    if spec.task is Task.SEGMENTATION:
        return _weights_by_pixels(pack)
    return {
        label: training.total() / (len(pack.labels) * max(1, training[index]))
        for index, label in enumerate(pack.labels)
    }


def _weights_by_pixels(pack: Pack) -> dict[str, float]:
    """1 / (C s_c), s_c the label's mean share of a training mask: all weigh the same, pixels 1 on average.

    Of a lone label: how many times as many pixels are not of it.
    """
    items = pack.of(Split.TRAIN)
    chosen = items[:: ceil(len(items) / _COUNTED_MASKS)]
    levels = max(2, len(pack.labels))
    shares = np.zeros(levels)
    for item in chosen:
        found = np.bincount(read_mask(pack.read_mask(item), ImageLimits()).ravel(), minlength=256)[:levels]
        shares += found / max(1, found.sum())
    shares = np.maximum(shares / shares.sum(), _SMALLEST_SHARE)
    if len(pack.labels) == 1:
        return {pack.labels[0]: float(shares[0] / shares[1])}
    return {label: float(1 / (levels * share)) for label, share in zip(pack.labels, shares, strict=True)}
