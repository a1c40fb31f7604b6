"""What a run reads of a data set, by its task."""

from models.data.pack import Pack, Split
from models.manifest import Preprocessing, Task, TileFacts
from models.train.feed import NumberedBatches, PackSource
from models.train.mask_patches import WholeMasks, mask_patch_source
from models.train.patches import WholePictures, patch_source
from models.train.resolve import ResolvedSpec

HeldOut = PackSource | WholePictures | WholeMasks
"""What marks are made from."""


def training_source(
    pack: Pack, spec: ResolvedSpec, *, preprocessing: Preprocessing, tiles: TileFacts | None = None
) -> NumberedBatches:
    """Batches of the training split; `tiles`: of networks that take windows."""
    if tiles is not None and spec.task is Task.SUPER_RESOLUTION:
        return patch_source(pack, spec, tiles)
    if tiles is not None:
        return mask_patch_source(pack, spec, preprocessing)
    return PackSource.of(pack, Split.TRAIN, spec, preprocessing=preprocessing)


def held_out_source(
    pack: Pack,
    split: Split,
    spec: ResolvedSpec,
    *,
    preprocessing: Preprocessing,
    tiles: TileFacts | None = None,
) -> HeldOut:
    """Another split than that for training."""
    if tiles is not None and spec.task is Task.SUPER_RESOLUTION:
        return WholePictures(pack, split, spec, tiles)
    if tiles is not None:
        return WholeMasks(pack, split, spec, preprocessing=preprocessing, tiles=tiles)
    return PackSource.of(pack, split, spec, preprocessing=preprocessing)
