"""What the certificate of a trained network is computed from: pictures of the user's own, and what the
network, before it was merged, gives for them in eager PyTorch."""

from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from models.data.pack import Split
from models.export.eager import rounding_of, run_eager
from models.export.reference import Reference, labels_sha256, write_reference
from models.manifest import REFERENCE_FILE, Task, TileFacts
from models.tasks.fitting import ImageFitter
from models.tasks.images import ImageLimits
from models.tasks.tiles import TileGrid
from models.train.feed import PackSource
from workers.context import JobContext
from workers.kinds.fine_tune_prepare import Prepared

_SAMPLES = 32
"""Pictures that the certificate compares."""
_MOST_MAP_BYTES = 8 << 20
"""Of all their maps or results together: fewer pictures then, and a file of a size to keep."""
_WINDOW_SIDE = 48
"""Of the part of a picture that goes through a network that takes windows, pixels."""


class _Samples(NamedTuple):
    encoded: tuple[bytes, ...]
    images: NDArray[np.uint8]
    """(n, h, w, 3), as the codec makes them of the encoded ones."""


def write_run_reference(
    context: JobContext, prepared: Prepared, merged: nn.Module, *, limits: ImageLimits
) -> Path:
    """Pictures spread over the validation split, and the unmerged network's answers. Rounding is that of the
    merged one, which is what is served: so nothing that merging may have changed is taken for it."""
    tiles, preprocessing = prepared.tiles, prepared.base.preprocessing
    samples = _pictures(prepared, limits) if tiles is None else _windows(prepared, tiles)
    outputs = run_eager(prepared.adapted.network.eval(), preprocessing, samples.images)
    labels = () if prepared.spec.task is Task.SUPER_RESOLUTION else prepared.data.pack.labels
    has_labels = prepared.spec.task is Task.CLASSIFICATION
    answers = tuple(labels[at] for at in outputs.argmax(axis=1)) if has_labels else ("",) * len(outputs)
    path = context.work_dir / REFERENCE_FILE
    reference = Reference(
        samples=samples.encoded,
        logits=outputs,
        labels=answers,
        by=f"eager PyTorch {version('torch')}, the trained network before it was merged",
        all_labels_sha256=labels_sha256(labels),
        rounding=rounding_of(merged, preprocessing, samples.images),
    )
    write_reference(path, reference)
    return path


def _split(prepared: Prepared) -> Split:
    return Split.VALIDATION if prepared.data.pack.of(Split.VALIDATION) else Split.TEST


def _spread(items: int, samples: int) -> list[int]:
    return sorted({*np.linspace(0, items - 1, max(1, min(_SAMPLES, samples))).astype(int).tolist()})


def _pictures(prepared: Prepared, limits: ImageLimits) -> _Samples:
    pack, preprocessing = prepared.data.pack, prepared.base.preprocessing
    items = pack.of(_split(prepared))
    has_maps = prepared.spec.task is Task.SEGMENTATION
    map_bytes = 4 * len(pack.labels) * preprocessing.height * preprocessing.width
    chosen = _spread(len(items), _MOST_MAP_BYTES // map_bytes if has_maps else _SAMPLES)
    encoded = tuple(pack.read(items[index]) for index in chosen)
    fitter = ImageFitter(preprocessing, limits)
    return _Samples(encoded, np.stack([fitter.decode(one) for one in encoded]))


def _windows(prepared: Prepared, tiles: TileFacts) -> _Samples:
    """The middles of what the network is shown, all of one size."""
    source = prepared.held_out(_split(prepared))
    assert not isinstance(source, PackSource)
    window = _WINDOW_SIDE + 2 * tiles.surround
    map_bytes = 4 * source.channels * (window * tiles.scale) ** 2
    shown = [source.shown(index) for index in _spread(len(source.batch_sizes), _MOST_MAP_BYTES // map_bytes)]
    side = min(_WINDOW_SIDE, *(min(pixels.shape[:2]) for pixels in shown))
    encoded, images = [], []
    for pixels in shown:
        top, left = ((length - side) // 2 for length in pixels.shape[:2])
        part = np.ascontiguousarray(pixels[top : top + side, left : left + side])
        png = BytesIO()
        Image.fromarray(part).save(png, "PNG")
        encoded.append(png.getvalue())
        images.append(TileGrid(side, side, tiles).window(part, 0, 0))
    return _Samples(tuple(encoded), np.stack(images))
