"""`POST /v1/segmentation`: where in a picture each label is, as masks of the picture's own size.

The route is hot (see `gateway.py`): `SegmentationRoute` answers; `router` only documents it.
"""

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache, partial
from io import BytesIO
from typing import cast

import orjson
from fastapi import APIRouter
from PIL import Image

from app.api.errors import error_object
from app.api.gateway import Answer, Exchange, Pending, Reply
from app.api.inference import Asker, Inference, server_timing
from app.api.patience import aside
from app.api.picture_request import (
    CODES,
    body_of,
    parameters_of,
    read_pictures,
    read_query,
)
from app.api.schemas.errors import error_responses
from app.api.schemas.segmentation import Segmentation, SegmentationInput, Segmentations, SegmentedPicture
from app.api.tiling import Tiling
from app.errors import (
    AppError,
    ImageTooLarge,
    InferenceFailed,
    Internal,
    InvalidRequest,
    NotServable,
    image_error,
    unknown_option,
)
from app.runtime.batcher import Member
from app.runtime.engine import Engine
from app.settings import Settings
from models.tasks.images import ImageError, decode_image, probe_image
from models.tasks.segmentation import (
    PictureMasks,
    Rendering,
    SegmentationCodec,
    Shares,
    TiledSegmentationCodec,
    cutout,
    labelmap,
    overlay,
)

AnyCodec = SegmentationCodec | TiledSegmentationCodec
PATH = "/v1/segmentation"
_SEGMENTS = "segments"
_RENDERINGS: Mapping[str, Rendering] = {"labelmap": labelmap, "overlay": overlay, "cutout": cutout}
_OUTPUTS = (_SEGMENTS, *_RENDERINGS)
_PNG_EFFORT = 3
_JSON, _PNG = b"application/json", b"image/png"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a caller may choose, in the query or under `parameters`."""

    model: str
    output: str = _SEGMENTS
    """One of `_OUTPUTS`."""
    threshold: float = 0.5
    classes: tuple[str, ...] = ()
    """Labels that are asked for; none: all."""


class SegmentationRoute:
    """The hot route."""

    def __init__(self, inference: Inference, settings: Settings) -> None:
        self._inference = inference
        self.max_body_bytes = settings.max_body_bytes
        self._max_values = settings.max_result_pixels
        self._defaults = Options(model=settings.default_segmenter)
        self._from_query = lru_cache(maxsize=1024)(self._parse_query)

    async def __call__(self, exchange: Exchange) -> Answer:
        """Answer one request, whatever its form."""
        options = self._from_query(exchange.query)
        asker = self._inference.asker(exchange)
        pictures = await read_pictures(exchange, self.max_body_bytes)
        if pictures.options:
            options = _with(options, pictures.options)
        engine = await self._inference.engine(exchange, options.model, asker=asker)
        codec, chosen = _prepare(engine, options)
        if isinstance(codec, TiledSegmentationCodec):
            windows = _Windows(self._inference, exchange, engine, codec, asker=asker)
            members, shares = await windows.shares(pictures.inputs, max_values=self._max_values)
        else:
            members = await self._inference.run(exchange, engine, pictures.inputs, asked=None, asker=asker)
            shares = [member.error or cast(Shares, member.result) for member in members]
        finish = _Finish(engine.label, codec, chosen, options, exchange)
        began_s = time.monotonic()
        render = partial(
            aside, engine.side_pool, exchange=exchange, deadline_s=asker.deadline_s, doing="masks were made"
        )
        if pictures.are_several:
            results = [
                await render(partial(finish.entry, data, one))
                for data, one in zip(pictures.inputs, shares, strict=True)
            ]
            answer = Answer(orjson.dumps({"results": results}))
        else:
            answer = await render(partial(finish.answer, pictures.inputs[0], shares[0]))
        rendered_ms = (time.monotonic() - began_s) * 1e3
        answer.timing = f"{server_timing(members)}, render;dur={rendered_ms:.2f}"
        return answer

    def begin(self, exchange: Exchange, body: bytes, reply: Reply) -> Pending | None:
        """Masks are made aside, which only the long way waits for."""
        return None

    def _parse_query(self, query: bytes) -> Options:
        return _with(self._defaults, read_query(query))


class _Finish:
    """From shares to what the caller gets; called in the side pool, for its work goes by the pixels."""

    def __init__(
        self,
        model: str,
        codec: AnyCodec,
        chosen: Sequence[int],
        options: Options,
        exchange: Exchange,
    ) -> None:
        self._model, self._codec, self._chosen, self._options = model, codec, chosen, options
        accepted = exchange.headers.get(b"accept", b"")
        takes_picture, takes_json = _PNG in accepted or b"image/*" in accepted, _JSON in accepted
        self._output = options.output
        if self._output == _SEGMENTS and takes_picture and not takes_json:
            self._output = "labelmap"
        self._is_json = self._output == _SEGMENTS or (takes_json and not takes_picture)
        self._request_id = exchange.request_id

    def answer(self, data: bytes, shares: Shares | AppError) -> Answer:
        """The whole answer to a request with one picture."""
        if isinstance(shares, AppError):
            raise shares
        if self._is_json:
            return Answer(orjson.dumps(self._result(data, shares)))
        headers = [(b"x-athanor-model", self._model.encode())]
        return Answer(self._picture(data, self._masks(data, shares)), content_type=_PNG, headers=headers)

    def entry(self, data: bytes, shares: Shares | AppError) -> dict[str, object]:
        """One of several results."""
        if isinstance(shares, AppError):
            return {"model": self._model, "error": error_object(shares, self._request_id)}
        return self._result(data, shares)

    def _result(self, data: bytes, shares: Shares) -> dict[str, object]:
        masks = self._masks(data, shares)
        height, width = masks.size
        result: dict[str, object] = {"model": self._model, "width": width, "height": height}
        if self._output != _SEGMENTS:
            return {**result, "image": base64.b64encode(self._picture(data, masks)).decode()}
        segments = [
            {"label": one.label, "score": one.score, "mask": _base64_png(Image.fromarray(one.mask))}
            for one in masks.segments(self._chosen, self._options.threshold)
        ]
        return {**result, "segments": segments}

    def _masks(self, data: bytes, shares: Shares) -> PictureMasks:
        facts = probe_image(data, self._codec.limits)
        return self._codec.masks_of(shares, (facts.height, facts.width))

    def _picture(self, data: bytes, masks: PictureMasks) -> bytes:
        pixels = decode_image(data, limits=self._codec.limits)
        render = _RENDERINGS[self._output]
        return _png(render(pixels, masks, self._chosen, self._options.threshold))


def _png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG", compress_level=_PNG_EFFORT)
    return file.getvalue()


def _base64_png(mask: Image.Image) -> str:
    return base64.b64encode(_png(mask.convert("L"))).decode()


class _Windows:
    """Pictures of one request through an engine that takes windows; lets go of it in the end."""

    def __init__(
        self,
        inference: Inference,
        exchange: Exchange,
        engine: Engine,
        codec: TiledSegmentationCodec,
        *,
        asker: Asker,
    ) -> None:
        self._engine, self._codec = engine, codec
        self._exchange, self._asker = exchange, asker
        self._tiling = Tiling(inference, exchange, engine, asker=asker)

    async def shares(
        self, inputs: Sequence[bytes], *, max_values: int
    ) -> tuple[list[Member], list[Shares | AppError]]:
        """All windows that were run, and the shares of each picture, (labels, height, width), or why it has
        none: all together are at most `max_values`."""
        found: list[Shares | AppError] = []
        try:
            for data in inputs:
                held = sum(one.size for one in found if not isinstance(one, AppError))
                found.append(await self._one(data, max_values - held))
        finally:
            self._engine.let_go()
        return self._tiling.members or [_NOTHING_RAN], found

    async def _one(self, data: bytes, max_values: int) -> Shares | AppError:
        codec = self._codec
        try:
            facts = probe_image(data, codec.limits)
            if facts.height * facts.width * len(codec.labels) > max_values:
                return ImageTooLarge(
                    f"{facts.width} x {facts.height} pixels with {len(codec.labels)} labels are more values "
                    "than one request may hold.",
                    param="image",
                    hint="Send a smaller picture, or fewer, or raise ATHANOR_MAX_RESULT_PIXELS.",
                )
            decode = partial(decode_image, data, limits=codec.limits)
            pixels = await aside(
                self._engine.side_pool,
                decode,
                self._exchange,
                deadline_s=self._asker.deadline_s,
                doing="it was decoded",
            )
        except ImageError as error:
            return image_error(error)
        try:
            return await self._tiling.shares(pixels, codec.tiles, labels=len(codec.labels))
        except InferenceFailed as error:
            return error


_NOTHING_RAN = Member(None, deadline_s=0.0, asked=None, resolved=lambda _: None)


def _prepare(engine: Engine, options: Options) -> tuple[AnyCodec, tuple[int, ...]]:
    """Codec and indices of the labels that are asked for. Lets go of the engine if it raises."""
    codec = engine.codec
    try:
        if not isinstance(codec, SegmentationCodec | TiledSegmentationCodec):
            raise NotServable(f"{engine.label} does not segment.", param="model")
        return codec, tuple(map(partial(_index, codec.labels), options.classes)) or tuple(
            range(len(codec.labels))
        )
    except BaseException:
        engine.let_go()
        raise


def _index(labels: Sequence[str], label: str) -> int:
    try:
        return labels.index(label)
    except ValueError:
        near = get_close_matches(label, labels, n=3, cutoff=0.4) or labels[:5]
        hint = f"Did you mean {' or '.join(near)}?"
        raise InvalidRequest(f"The model has no label {label!r}.", param="classes", hint=hint) from None


def _with(options: Options, given: Mapping[str, object]) -> Options:
    """`options` changed by what was given; names the nearest option when one is unknown."""
    for name, value in given.items():
        if name == "model" and isinstance(value, str) and value:
            options = replace(options, model=value)
        elif name == "output":
            options = replace(options, output=_output(value))
        elif name == "threshold":
            options = replace(options, threshold=_threshold(value))
        elif name == "classes":
            options = replace(options, classes=_classes(value))
        else:
            raise unknown_option(name, ("model", "output", "threshold", "classes"))
    return options


def _output(value: object) -> str:
    if value not in _OUTPUTS:
        near = get_close_matches(str(value), _OUTPUTS, n=1)
        hint = f"Did you mean {near[0]}?" if near else None
        raise InvalidRequest(f"output must be one of {', '.join(_OUTPUTS)}.", param="output", hint=hint)
    return str(value)


def _threshold(value: object) -> float:
    try:
        threshold = float(value) if isinstance(value, str | int | float) else -1.0
    except ValueError:
        threshold = -1.0
    if isinstance(value, bool) or not 0 < threshold < 1:
        raise InvalidRequest("threshold must be a number between 0 and 1.", param="threshold")
    return threshold


def _classes(value: object) -> tuple[str, ...]:
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, list) or not given or not all(isinstance(one, str) and one for one in given):
        raise InvalidRequest("classes must be labels, in a list or with commas.", param="classes")
    return tuple(dict.fromkeys(given))


_PARAMETERS = parameters_of(
    "the default segmenter",
    {
        "output": (
            "`segments`: a mask for each label, as JSON; the others are PNGs as large as the picture. "
            "`labelmap`: for each pixel 1 + the index of its label, 0 where there is none; `overlay`: the "
            "picture, tinted; `cutout`: the picture, clear where no label is.",
            {"type": "string", "enum": list(_OUTPUTS)},
        ),
        "threshold": (
            "Share from which a label counts as being somewhere.",
            {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "default": 0.5},
        ),
        "classes": ("Labels that are asked for, with commas; without it all.", {"type": "string"}),
    },
)
_BODY = body_of(
    {"model": "string", "output": "string", "threshold": "number", "classes": "string"},
    SegmentationInput.model_json_schema(),
)

router = APIRouter(tags=["inference"])


@router.post(
    PATH,
    response_model=Segmentation | SegmentedPicture | Segmentations,
    responses={
        **error_responses(*CODES),
        200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
    },
    openapi_extra={"parameters": _PARAMETERS, "requestBody": _BODY},
)
async def segment() -> Segmentation:
    """Find where in one picture, or in each of several, each label is.

    Pictures come as for classification, of any size; masks are as large as the picture, upright. One picture
    and an `output` other than `segments` answers with a PNG, and so does `Accept: image/png`; several
    pictures always answer with JSON.
    """
    raise Internal("The gateway answers this route before FastAPI.")
