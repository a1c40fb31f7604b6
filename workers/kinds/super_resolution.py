"""The job kind `super_resolution`: a picture too large to wait for is made larger, in bounded memory.

    decoding ─► enlarging, window by window, as often as the scale needs ─► encoding ─► a file of its owner

Spec: `source` (`file:ID`), `model` (`name:version`), `scale`, `format`, `quality`. A PNG is written strip by
strip as its rows come. Asked to stop, it leaves off between two windows, and goes on from its checkpoint when
it is taken up again (`super_resolution_passes.py`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from app.db.session import Database
from app.errors import NotServable, image_error
from app.registry.finding import find_version
from app.registry.service import Registry
from app.registry.snapshot import VersionFacts
from app.runtime.plan import serving_cores
from app.upscaling.enlargement import Enlargement
from app.upscaling.options import UpscaleOptions
from app.upscaling.submissions import RESULT_PURPOSE
from models.export.served import ServedSession
from models.manifest import MODEL_FILE, TileFacts
from models.tasks.encoding import channels_of, encode_picture
from models.tasks.images import ImageError, ImageLimits, Picture, decode_picture
from models.tasks.png_writer import PngWriter
from models.tasks.restoration import enlarged_alpha, resampled
from workers.context import Handout, JobContext, Outcome
from workers.kinds.import_sources import bring_source
from workers.kinds.super_resolution_passes import Passes

_ENLARGED = 0.95
"""How far the job is when all windows are done."""


class UpscaleSpec(BaseModel):
    """The job's spec."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    source: str
    model: str
    scale: int = Field(ge=1, le=8)
    format: str
    quality: int = Field(ge=1, le=100)


def run(context: JobContext) -> Outcome:
    """Decode, enlarge, encode.

    Raises:
        Interrupted: left off.
        NotFound, UnknownModel, UnknownVersion, NotServable: picture or model have gone.
        ImageUndecodable and what else `Enlargement` refuses.

    """
    resume = context.resume
    context.begin("decoding", at=0.0 if resume is None else float(resume.metrics.get("progress", 0.0)))
    spec = UpscaleSpec.model_validate(context.spec)
    data = bring_source(context, spec.source, sha256=None).path.read_bytes()
    version = _find(context, spec.model)
    tiles = version.manifest.tiles
    if tiles is None:
        raise NotServable(f"{spec.model} does not enlarge pictures.", param="model")
    limits = ImageLimits(max_pixels=context.settings.max_image_pixels)
    options = UpscaleOptions(
        model=spec.model, scale=spec.scale, format=spec.format, quality=spec.quality, depth=8
    )
    enlargement = Enlargement.of(
        data, options, tiles, limits=limits, max_result_pixels=context.settings.max_result_pixels
    )
    try:
        picture = decode_picture(data, limits=limits)
    except ImageError as error:
        raise image_error(error) from error
    enlargement.check_alpha(picture.alpha is not None)
    work = _Work(context, _session(context, version), tiles, enlargement)
    path = work.write(picture)
    result = {"width": enlargement.width, "height": enlargement.height, "format": enlargement.format.name}
    handout = Handout(path=path, filename=f"upscaled.{enlargement.format.name}", purpose=RESULT_PURPOSE)
    return Outcome(result=result | {"upscaled_by": spec.model}, file=handout)


class _Work:
    def __init__(
        self, context: JobContext, session: ServedSession, tiles: TileFacts, enlargement: Enlargement
    ) -> None:
        self._context, self._session = context, session
        self._tiles, self._enlargement = tiles, enlargement

    def write(self, picture: Picture) -> Path:
        """The result's file."""
        made, path = self._enlargement, self._context.work_dir / "result"
        strips = self._strips(picture.pixels)
        alpha = None if picture.alpha is None else enlarged_alpha(picture.alpha, made.scale)
        with path.open("wb") as file:
            if made.format.name == "png":
                _write_png(file, made, strips, alpha, is_grey=picture.is_grey)
            else:
                pixels = np.empty((made.height, made.width, 3), np.uint8)
                _fill(pixels, strips)
                whole = Picture(pixels, alpha, picture.is_grey)
                file.write(encode_picture(whole, made.format, quality=made.quality))
        return path

    def _strips(self, pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        """Rows of the result from top to bottom."""
        made = self._enlargement
        passes = Passes(
            self._context, self._session, self._tiles, pixels, count=made.passes, enlarged=_ENLARGED
        )
        if self._tiles.scale**made.passes == made.scale:
            yield from passes.rows()
        else:
            yield from resampled(passes.whole(), (made.height, made.width))


def _write_png(
    file: BinaryIO,
    made: Enlargement,
    strips: Iterator[NDArray[np.uint8]],
    alpha: NDArray[np.uint8] | None,
    *,
    is_grey: bool,
) -> None:
    channels = (1 if is_grey else 3) + (alpha is not None)
    writer = PngWriter(file, width=made.width, height=made.height, channels=channels)
    top = 0
    for strip in strips:
        beside = None if alpha is None else alpha[top : top + len(strip)]
        writer.add(channels_of(Picture(strip, beside, is_grey)))
        top += len(strip)
    writer.close()


def _fill(pixels: NDArray[np.uint8], strips: Iterator[NDArray[np.uint8]]) -> None:
    top = 0
    for strip in strips:
        pixels[top : top + len(strip)] = strip
        top += len(strip)


def _find(context: JobContext, model: str) -> VersionFacts:
    database = Database(context.settings.sqlalchemy_url)
    try:
        return find_version(Registry(database, context.objects), context.principal, model)[1]
    finally:
        database.close()


def _session(context: JobContext, version: VersionFacts) -> ServedSession:
    artifact = version.artifact(MODEL_FILE)
    if artifact is None:
        raise NotServable("The version has no graph.", hint="Import it again.")
    threads = serving_cores(context.settings.cpu_threads)
    return ServedSession(context.objects.fetch(context.principal, artifact.sha256), threads=threads)
