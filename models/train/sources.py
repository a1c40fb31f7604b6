"""What a run reads of a data set, by its task."""

from models.data.pack import Pack, Split
from models.manifest import Preprocessing, TileFacts
from models.train.feed import NumberedBatches, PackSource
from models.train.patches import WholePictures, patch_source
from models.train.resolve import ResolvedSpec


def training_source(
    pack: Pack, spec: ResolvedSpec, *, preprocessing: Preprocessing, tiles: TileFacts | None = None
) -> NumberedBatches:
    """Batches of the training split; `tiles`: only of super-resolution."""
    if tiles is not None:
        return patch_source(pack, spec, tiles)
    return PackSource.of(pack, Split.TRAIN, spec, preprocessing=preprocessing)


def held_out_source(
    pack: Pack,
    split: Split,
    spec: ResolvedSpec,
    *,
    preprocessing: Preprocessing,
    tiles: TileFacts | None = None,
) -> PackSource | WholePictures:
    """What marks are made from."""
    if tiles is not None:
        return WholePictures(pack, split, spec, tiles)
    return PackSource.of(pack, split, spec, preprocessing=preprocessing)
