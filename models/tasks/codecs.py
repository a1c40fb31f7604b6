"""Which codec a version needs."""

from models.manifest import Manifest, Task
from models.tasks.classification import ClassificationCodec
from models.tasks.image_facts import ImageLimits
from models.tasks.restoration import RestorationCodec
from models.tasks.segmentation import SegmentationCodec, TiledSegmentationCodec

VersionCodec = ClassificationCodec | SegmentationCodec | TiledSegmentationCodec | RestorationCodec
SERVABLE = (Task.CLASSIFICATION, Task.SEGMENTATION, Task.SUPER_RESOLUTION)
"""Tasks that have one."""


def codec_of(manifest: Manifest, limits: ImageLimits) -> VersionCodec:
    """The codec by task and fit. Raises ValueError for a task that is not `SERVABLE`."""
    if manifest.task is Task.CLASSIFICATION:
        return ClassificationCodec(manifest, limits)
    if manifest.task is Task.SEGMENTATION:
        return (SegmentationCodec if manifest.tiles is None else TiledSegmentationCodec)(manifest, limits)
    if manifest.task is Task.SUPER_RESOLUTION:
        return RestorationCodec(manifest, limits)
    raise ValueError(f"no codec serves {manifest.task}")
