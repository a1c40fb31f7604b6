"""`POST /v1/super-resolution`: a picture two, three or four times as large.

The route is hot (see `gateway.py`): `SuperResolutionRoute` answers; `router` only documents it. What takes
longer than a caller waits is not computed here: it becomes a job, and the answer is that job.
"""

import asyncio
import base64
import time
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple, TypeVar

import numpy as np
import orjson
from fastapi import APIRouter
from numpy.typing import NDArray

from app.api.errors import error_object
from app.api.gateway import Answer, Exchange, Pending, Reply
from app.api.inference import Asker, Inference
from app.api.patience import aside
from app.api.picture_request import CODES, body_of, parameters_of, read_pictures, read_query
from app.api.schemas.errors import error_responses
from app.api.schemas.jobs import JobObject
from app.api.schemas.super_resolution import UpscaledPicture, UpscaledPictures, UpscaleInput
from app.api.tiling import Tiling
from app.errors import AppError, ClientClosed, ImageTooLarge, Internal, NotServable, image_error
from app.runtime.batcher import Member
from app.runtime.engine import Engine
from app.settings import Settings
from app.upscaling.enlargement import Enlargement
from app.upscaling.options import DENOISE_LEVELS, SCALES, UpscaleOptions, changed
from app.upscaling.submissions import UpscaleSubmissions
from models.tasks.encoding import FORMATS, PictureFormat, encode_picture
from models.tasks.image_facts import ImageError
from models.tasks.images import Picture, decode_picture
from models.tasks.restoration import RestorationCodec, finished

PATH = "/v1/super-resolution"
_JSON = b"application/json"
_Result = TypeVar("_Result")


class _Made(NamedTuple):
    """One picture's result."""

    data: bytes
    enlargement: Enlargement
    members: list[Member]
    decode_s: float
    encode_s: float


class SuperResolutionRoute:
    """The hot route."""

    def __init__(self, inference: Inference, settings: Settings, submissions: UpscaleSubmissions) -> None:
        self._inference = inference
        self._settings = settings
        self._submissions = submissions
        self.max_body_bytes = settings.max_body_bytes
        self._defaults = UpscaleOptions(model=settings.default_upscaler)
        self._from_query = lru_cache(maxsize=1024)(self._parse_query)

    async def __call__(self, exchange: Exchange) -> Answer:
        """Answer one request, whatever its form."""
        options = self._from_query(exchange.query)
        asker = self._inference.asker(exchange)
        pictures = await read_pictures(exchange, self.max_body_bytes)
        if pictures.options:
            options = changed(options, pictures.options)
        engine = await self._inference.engine(exchange, options.reference, asker=asker)
        try:
            work = _Work(self, exchange, engine, options, asker)
            if not pictures.are_several:
                return await work.answer(pictures.inputs[0])
            results = [await work.entry(data) for data in pictures.inputs]
            return Answer(orjson.dumps({"results": results}))
        finally:
            engine.let_go()

    def begin(self, exchange: Exchange, body: bytes, reply: Reply) -> Pending | None:
        """Windows are cut and blended aside, which only the long way waits for."""
        return None

    def _parse_query(self, query: bytes) -> UpscaleOptions:
        return changed(self._defaults, read_query(query))

    def enlargement(
        self, data: bytes, options: UpscaleOptions, codec: RestorationCodec, accepted: PictureFormat | None
    ) -> Enlargement:
        """What is to be done for a picture. Raises what `Enlargement.of` does."""
        return Enlargement.of(
            data,
            options,
            codec.tiles,
            limits=codec.limits,
            max_result_pixels=self._settings.max_result_pixels,
            accepted=accepted,
        )

    def takes_long(self, enlargement: Enlargement) -> bool:
        """More than a caller waits for."""
        return enlargement.pixels > self._settings.upscale_at_once_pixels

    async def submit(self, exchange: Exchange, data: bytes, model: str, enlargement: Enlargement) -> Answer:
        """A job, and the answer that shows it."""
        work = partial(
            self._submissions.submit, exchange.principal, data, model=model, enlargement=enlargement
        )
        job = JobObject.of(await asyncio.to_thread(work))
        location = [(b"location", f"/v1/jobs/{job.id}".encode())]
        return Answer(job.model_dump_json().encode(), status=202, headers=location)

    def tiling(self, exchange: Exchange, engine: Engine, asker: Asker) -> Tiling:
        """What sends a picture through the engine."""
        return Tiling(self._inference, exchange, engine, asker=asker)


class _Work:
    """One request: an engine, held by the caller, and what was asked of it."""

    def __init__(
        self,
        route: SuperResolutionRoute,
        exchange: Exchange,
        engine: Engine,
        options: UpscaleOptions,
        asker: Asker,
    ) -> None:
        if not isinstance(engine.codec, RestorationCodec):
            raise NotServable(f"{engine.label} does not enlarge pictures.", param="model")
        self._route, self._exchange, self._engine = route, exchange, engine
        self._codec, self._options, self._asker = engine.codec, options, asker
        accepted = exchange.headers.get(b"accept", b"")
        self._accepted = next(
            (each for each in FORMATS.values() if each.media_type.encode() in accepted), None
        )
        self._is_json = _JSON in accepted and self._accepted is None and b"image/*" not in accepted

    async def answer(self, data: bytes) -> Answer:
        """The whole answer to a request with one picture: a file, or a job."""
        enlargement = self._enlargement(data)
        background = self._options.background
        if background or (background is None and self._route.takes_long(enlargement)):
            return await self._route.submit(self._exchange, data, self._engine.label, enlargement)
        made = await self._make(data, enlargement)
        timing = _timing(made)
        if self._is_json:
            return Answer(orjson.dumps(self._result(made)), timing=timing)
        return Answer(
            made.data,
            content_type=enlargement.format.media_type.encode(),
            timing=timing,
            headers=[(b"x-athanor-model", self._engine.label.encode())],
        )

    async def entry(self, data: bytes) -> dict[str, object]:
        """One of several results."""
        try:
            return self._result(await self._make(data, self._enlargement(data)))
        except ClientClosed:
            raise
        except AppError as error:
            return {
                "model": self._engine.label,
                "error": error_object(error, self._exchange.request_id),
            }

    def _enlargement(self, data: bytes) -> Enlargement:
        return self._route.enlargement(data, self._options, self._codec, self._accepted)

    def _result(self, made: _Made) -> dict[str, object]:
        return {
            "model": self._engine.label,
            "width": made.enlargement.width,
            "height": made.enlargement.height,
            "format": made.enlargement.format.name,
            "image": base64.b64encode(made.data).decode(),
        }

    async def _make(self, data: bytes, enlargement: Enlargement) -> _Made:
        if self._route.takes_long(enlargement):
            raise ImageTooLarge(
                f"{enlargement.pixels} pixels would go through the network, more than are computed at once.",
                param="image",
                hint="Send it alone, without background=false: it becomes a job.",
            )
        began_s = time.monotonic()
        picture = await self._aside(partial(self._decode, data), doing="it was decoded")
        enlargement.check_alpha(picture.alpha is not None)
        decoded_s = time.monotonic()
        tiling = self._route.tiling(self._exchange, self._engine, self._asker)
        pixels = picture.pixels
        for _ in range(enlargement.passes):
            pixels = await tiling.enlarge(pixels, self._codec.tiles)
        enlarged_s = time.monotonic()
        file = await self._aside(
            partial(_finish, picture, pixels, enlargement), doing="the result was encoded"
        )
        return _Made(file, enlargement, tiling.members, decoded_s - began_s, time.monotonic() - enlarged_s)

    async def _aside(self, work: Callable[[], _Result], *, doing: str) -> _Result:
        return await aside(
            self._engine.side_pool, work, self._exchange, deadline_s=self._asker.deadline_s, doing=doing
        )

    def _decode(self, data: bytes) -> Picture:
        try:
            return decode_picture(data, limits=self._codec.limits)
        except ImageError as error:
            raise image_error(error) from error
        except MemoryError:
            raise ImageTooLarge(
                "There is not enough memory to decode it.", hint="Send a smaller one."
            ) from None


def _finish(picture: Picture, pixels: NDArray[np.uint8], enlargement: Enlargement) -> bytes:
    result = finished(picture, pixels, enlargement.scale)
    return encode_picture(result, enlargement.format, quality=enlargement.quality)


def _timing(made: _Made) -> str:
    """Of the windows the longest wait, the largest batch, and all time in the network."""
    members = made.members
    largest = max(members, key=lambda member: member.batch_size)
    return (
        f"decode;dur={made.decode_s * 1e3:.2f}, "
        f"queue;dur={max(member.queue_s for member in members) * 1e3:.2f}, "
        f'batch;desc="{largest.batch_size}/{largest.batch_limit}", '
        f"infer;dur={sum(member.infer_s / member.batch_size for member in members) * 1e3:.2f}, "
        f'tiles;desc="{len(members)}", encode;dur={made.encode_s * 1e3:.2f}'
    )


_PARAMETERS = parameters_of(
    "the default upscaler",
    {
        "scale": (
            "Times that the result is larger, along each side; without it the network's own. What is beyond "
            "the network's own is made by applying it again, what is between by resampling.",
            {"type": "integer", "enum": list(SCALES)},
        ),
        "denoise": (
            "How much noise is taken away: the model `NAME-denoise-LEVEL` answers.",
            {"type": "integer", "enum": list(DENOISE_LEVELS)},
        ),
        "format": (
            "Of the result; without it what `Accept` says, else PNG.",
            {"type": "string", "enum": list(FORMATS)},
        ),
        "quality": (
            "Of JPEG and WebP.",
            {"type": "integer", "minimum": 1, "maximum": 100, "default": 90},
        ),
        "depth": (
            "8: take pictures of 16 bits per sample, whose results have 8; without it they are refused.",
            {"type": "integer", "enum": [8]},
        ),
        "background": (
            "true: answer with a job; false: never; without it large pictures become jobs.",
            {"type": "boolean"},
        ),
    },
)
_BODY = body_of(
    {
        "model": "string",
        "scale": "integer",
        "denoise": "integer",
        "format": "string",
        "quality": "integer",
        "depth": "integer",
        "background": "boolean",
    },
    UpscaleInput.model_json_schema(),
)
_BINARY = {"schema": {"type": "string", "format": "binary"}}

router = APIRouter(tags=["inference"])


@router.post(
    PATH,
    response_model=UpscaledPicture | UpscaledPictures,
    responses={
        **error_responses(*CODES, "quota_exceeded", "disk_full", "storage_unavailable"),
        200: {"content": {each.media_type: _BINARY for each in FORMATS.values()}},
        202: {
            "model": JobObject,
            "description": "A large picture: the job that will make it. Its result names a file.",
        },
    },
    openapi_extra={"parameters": _PARAMETERS, "requestBody": _BODY},
)
async def upscale() -> UpscaledPicture:
    """Make one picture, or each of several, larger.

    One picture answers with a file, or, with `Accept: application/json`, with JSON; several always with JSON.
    Grey stays grey and transparency stays, colours are converted to sRGB. A picture that would take long
    becomes a job (202): `GET /v1/jobs/{id}` shows its progress, and then the file that holds the result.
    """
    raise Internal("The gateway answers this route before FastAPI.")
