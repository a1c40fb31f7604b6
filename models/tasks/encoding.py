"""Pixels → PNG, JPEG or WebP: what each format holds, said before any work is done for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.tasks.images import Picture
from models.tasks.png_writer import MAX_SIDE as PNG_MAX_SIDE

_PNG_EFFORT = 3


@dataclass(frozen=True, kw_only=True)
class PictureFormat:
    """One way to write a picture."""

    name: str
    media_type: str
    max_side: int
    """Longest side that it can say, pixels."""
    has_alpha: bool
    has_quality: bool


FORMATS: Mapping[str, PictureFormat] = MappingProxyType(
    {
        each.name: each
        for each in (
            PictureFormat(
                name="png",
                media_type="image/png",
                max_side=PNG_MAX_SIDE,
                has_alpha=True,
                has_quality=False,
            ),
            PictureFormat(
                name="jpeg", media_type="image/jpeg", max_side=65_500, has_alpha=False, has_quality=True
            ),
            PictureFormat(
                name="webp", media_type="image/webp", max_side=16_383, has_alpha=True, has_quality=True
            ),
        )
    }
)


def channels_of(picture: Picture) -> NDArray[np.uint8]:
    """(H, W, channels): grey, grey with alpha, RGB or RGB with alpha, as the picture is."""
    colours = picture.pixels[..., :1] if picture.is_grey else picture.pixels
    if picture.alpha is None:
        return colours
    return np.concatenate([colours, picture.alpha[..., None]], axis=2)


def encode_picture(picture: Picture, format_: PictureFormat, *, quality: int) -> bytes:
    """The file's bytes. `quality` 1..100 where the format has one. A format without alpha gets none to
    hold."""
    channels = channels_of(picture)
    image = Image.fromarray(channels[..., 0] if channels.shape[2] == 1 else channels)
    file = BytesIO()
    if format_.has_quality:
        image.save(file, format_.name, quality=quality)
    else:
        image.save(file, format_.name, compress_level=_PNG_EFFORT)
    return file.getvalue()
