"""What every image decoder here shares: the limits, the one error, and what a header says."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

ImageFormat = Literal["jpeg", "png", "webp", "bmp", "gif", "tiff"]
ImageErrorCode = Literal["image_undecodable", "image_too_large", "unsupported_media"]


@dataclass(frozen=True)
class ImageLimits:
    """What an image may cost; checked against its header, before anything of its size is allocated."""

    max_pixels: int = 64_000_000
    """Stored width x height. 64 million pixels are 192 MB once decoded."""
    max_side: int = 65_535
    """Longest side, pixels; JPEG's own limit."""

    def check(self, width: int, height: int) -> None:
        """Refuse a size that no picture has, or that is over a limit."""
        if width < 1 or height < 1:
            raise ImageError("image_undecodable", f"The image says it is {width} x {height} pixels.")
        if width > self.max_side or height > self.max_side or width * height > self.max_pixels:
            raise ImageError(
                "image_too_large",
                f"The image has {width} x {height} pixels.",
                hint=f"At most {self.max_pixels} pixels and {self.max_side} per side; make it smaller.",
            )


class ImageError(ValueError):
    """The bytes cannot become a picture: `code` says which of three ways, `hint` what to do about it."""

    def __init__(self, code: ImageErrorCode, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.code: ImageErrorCode = code
        self.message = message
        self.hint = hint


def undecodable(message: str) -> ImageError:
    """The error for bytes that begin like an image and do not go on like one."""
    return ImageError(
        "image_undecodable", message, hint="The file is damaged or cut short; save or send it again."
    )


class ImageFacts(NamedTuple):
    """What the header alone says of an image. Sizes are as displayed, EXIF orientation applied."""

    format: ImageFormat
    width: int
    height: int
    orientation: int
    """EXIF's 1..8 where this package applies it; 5 to 8 mean that the stored image lies on its side. 1 for
    TIFF, which comes upright from its decoder."""


class RasterHeader(NamedTuple):
    """Stored size of any format but JPEG, whose header has more to say; and how it has to be turned."""

    format: ImageFormat
    width: int
    height: int
    orientation: int
