"""Small copies of pictures, for pages."""

from io import BytesIO

from PIL import Image

from models.tasks.images import ImageLimits, decode_image

SIDE = 160
"""Longest side of a thumbnail, pixels."""


def thumbnail(data: bytes, *, limits: ImageLimits | None = None) -> bytes:
    """The picture as a JPEG of a few kB, upright, no side longer than SIDE; none of its metadata is kept.

    Raises ImageError as `models.tasks.images.decode_image` does.
    """
    pixels = decode_image(data, at_least=(SIDE, SIDE), limits=limits or ImageLimits())
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    out = BytesIO()
    picture.save(out, "JPEG", quality=80)
    return out.getvalue()
