"""Any pixel format → uint8 sRGB as a person sees it.

- Alpha, and palette or grey with transparency, is laid over **white**, the paper of most viewers.
- An embedded ICC profile is converted to sRGB, perceptual intent. One that is broken, or is made for
  another kind of pixels, is ignored: the picture without it is better than none.
- 16 bits are scaled to 8, never clipped: 65535 is white.
- CMYK without a profile is R = (255 - C)(255 - K) / 255, and so on, as browsers do.
"""

from functools import lru_cache
from io import BytesIO
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from models.tasks.image_facts import ImageError

_MAX_CACHED_PROFILE_BYTES = 1 << 20
_LEVELS_APART = 2
"""Profiles whose colours are all this near to sRGB's are taken for sRGB: there are many spellings of it."""


class Layers(NamedTuple):
    """A picture's colours, and apart from them how opaque they are."""

    rgb: Image.Image
    """Mode RGB, sRGB."""
    alpha: Image.Image | None
    """Mode L, 255 is opaque; None: all of it is."""
    is_grey: bool
    """Its samples were grey."""


def srgb_pixels(image: Image.Image, profile: bytes | None, *, white: int = 65_535) -> NDArray[np.uint8]:
    """The loaded image as (H, W, 3) sRGB over white. `white` is the highest level of 16-bit modes."""
    return over_white(srgb_layers(image, profile, white=white))


def srgb_layers(image: Image.Image, profile: bytes | None, *, white: int = 65_535) -> Layers:
    """The loaded image's layers. Raises ImageError for samples that have no agreed white."""
    if image.mode.startswith("I;16"):
        image = _eight_bits(image, white)
    elif image.mode in {"I", "F"}:
        raise ImageError(
            "unsupported_media",
            "The image holds 32-bit samples, which have no agreed white.",
            hint="Save it with 8 or 16 bits per sample.",
        )
    is_grey = image.mode in {"1", "L", "LA"}
    alpha = None
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        alpha = layers.getchannel("A")
        # A grey image keeps its grey, to which its profile belongs.
        image = image.getchannel("L") if image.mode == "LA" else layers.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in {"L", "RGB", "CMYK"}:
        image = image.convert("RGB")
    if alpha is not None and alpha.getextrema() == (255, 255):
        alpha = None
    return Layers(_to_srgb(image, profile), alpha, is_grey)


def over_white(layers: Layers) -> NDArray[np.uint8]:
    """(H, W, 3): the colours on paper."""
    image = layers.rgb
    if layers.alpha is not None:
        paper = Image.new("RGB", image.size, "white")
        paper.paste(image, mask=layers.alpha)
        image = paper
    return rgb_array(image)


def rgb_array(image: Image.Image) -> NDArray[np.uint8]:
    """Copy an RGB image into a read-only (H, W, 3) array: one copy, where numpy's own way makes two."""
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, 3)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    transform = profile_transform(profile, image.mode) if profile else None
    if transform is not None:
        converted = ImageCms.applyTransform(image, transform)
        if converted is not None:
            return converted
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image, white: int) -> Image.Image:
    """Grey of more than 8 bits, scaled and rounded; a level declared transparent becomes white."""
    levels = np.asarray(image).astype(np.uint32)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        levels[levels == transparent] = white
    scaled = np.minimum((levels * 255 + white // 2) // white, 255)
    return Image.fromarray(scaled.astype(np.uint8))


def profile_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """How to get from an ICC profile's colours to sRGB; None where there is nothing to do or no way.

    Small profiles' transforms are kept: a camera writes the same one into every file.
    """
    if len(profile) <= _MAX_CACHED_PROFILE_BYTES:
        return _kept_transform(profile, mode)
    return _transform(profile, mode)


def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        return None if mode == "RGB" and _changes_nothing(transform) else transform
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return None  # unreadable, or for other pixels than these


_kept_transform = lru_cache(maxsize=8)(_transform)


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    cube = np.array(list(product(range(0, 256, 51), repeat=3)), np.uint8)[None]
    seen = ImageCms.applyTransform(Image.fromarray(cube), transform)
    return seen is not None and bool(np.abs(np.asarray(seen).astype(int) - cube).max() <= _LEVELS_APART)
