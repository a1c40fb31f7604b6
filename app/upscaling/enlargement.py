"""What the options mean for one picture: found from its headers alone, and refused before any work is
done."""

from dataclasses import dataclass

from app.errors import ImageTooLarge, InvalidRequest, UnsupportedMedia, image_error
from app.upscaling.options import UpscaleOptions
from models.manifest import TileFacts
from models.tasks.encoding import FORMATS, PictureFormat
from models.tasks.image_facts import ImageError, ImageLimits
from models.tasks.images import has_deep_samples, probe_image
from models.tasks.restoration import passes_for


@dataclass(frozen=True, kw_only=True)
class Enlargement:
    """One picture's way."""

    height: int
    """Of the result, as are `width` and `format`."""
    width: int
    format: PictureFormat
    quality: int
    scale: int
    passes: int
    """How often the network is applied."""
    pixels: int
    """That go through the network, over all passes."""

    @classmethod
    def of(
        cls,
        data: bytes,
        options: UpscaleOptions,
        tiles: TileFacts,
        *,
        limits: ImageLimits,
        max_result_pixels: int,
        accepted: PictureFormat | None = None,
    ) -> "Enlargement":
        """Raises ImageUndecodable, UnsupportedMedia, ImageTooLarge: for the picture, or for its result."""
        try:
            facts = probe_image(data, limits)
            is_deep = has_deep_samples(data, facts.format)
        except ImageError as error:
            raise image_error(error) from error
        if is_deep and options.depth is None:
            raise UnsupportedMedia(
                "The picture has 16 bits per sample; networks see 8, and the result has 8.",
                param="image",
                hint="Say depth=8 to accept that, or save it with 8 bits.",
            )
        scale = options.scale or tiles.scale
        passes = passes_for(scale, tiles.scale)
        seen = sum(facts.height * facts.width * tiles.scale ** (2 * turn) for turn in range(passes))
        made = cls(
            height=facts.height * scale,
            width=facts.width * scale,
            format=FORMATS[options.format] if options.format else accepted or FORMATS["png"],
            quality=options.quality,
            scale=scale,
            passes=passes,
            pixels=seen,
        )
        made._check(max_result_pixels)
        return made

    def _check(self, max_result_pixels: int) -> None:
        size = f"{self.width} x {self.height}"
        if self.height * self.width > max_result_pixels:
            raise ImageTooLarge(
                f"The result would have {size} pixels; at most {max_result_pixels} are made.",
                param="scale",
                hint="Ask for a smaller scale, or raise ATHANOR_MAX_RESULT_PIXELS.",
            )
        if max(self.height, self.width) > self.format.max_side:
            raise ImageTooLarge(
                f"{self.format.name.upper()} holds at most {self.format.max_side} pixels per side; "
                f"the result would have {size}.",
                param="format",
                hint="Ask for format=png or a smaller scale.",
            )

    def check_alpha(self, has_alpha: bool) -> None:
        """Raises InvalidRequest for a picture that is partly clear, in a format that cannot say so."""
        if has_alpha and not self.format.has_alpha:
            raise InvalidRequest(
                f"The picture is partly transparent; {self.format.name.upper()} cannot hold that.",
                param="format",
                hint="Ask for format=png or format=webp.",
            )
