"""`POST /v1/segmentation`: where in a picture each label is, as masks of the picture's own size.

The route is hot (see `gateway.py`): `SegmentationRoute` answers; `router` only documents it.
"""

import asyncio
import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache, partial
from io import BytesIO

import orjson
from fastapi import APIRouter
from PIL import Image

from app.api.errors import error_object
from app.api.gateway import Answer, Exchange, Pending, Reply
from app.api.inference import Inference, server_timing
from app.api.picture_request import (
    CODES,
    body_of,
    parameters_of,
    read_pictures,
    read_query,
    unknown_option,
)
from app.api.schemas.errors import error_responses
from app.api.schemas.segmentation import Segmentation, SegmentationInput, Segmentations, SegmentedPicture
from app.errors import Internal, InvalidRequest, NotServable
from app.runtime.batcher import Member
from app.runtime.engine import Engine
from app.settings import Settings
from models.tasks.images import decode_image, probe_image
from models.tasks.segmentation import PictureMasks, Rendering, SegmentationCodec, cutout, labelmap, overlay

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
        self._defaults = Options(model=settings.default_segmenter)
        self._from_query = lru_cache(maxsize=1024)(self._parse_query)

    async def __call__(self, exchange: Exchange) -> Answer:
        """Answer one request, whatever its form."""
        options = self._from_query(exchange.query)
        deadline_s = self._inference.deadline_s(exchange)
        pictures = await read_pictures(exchange, self.max_body_bytes)
        if pictures.options:
            options = _with(options, pictures.options)
        engine = await self._inference.engine(exchange.principal, options.model)
        codec, chosen = _prepare(engine, options)
        members = await self._inference.run(
            exchange, engine, pictures.inputs, asked=None, deadline_s=deadline_s
        )
        finish = _Finish(engine.label, codec, chosen, options, exchange)
        loop, began_s = asyncio.get_running_loop(), time.monotonic()
        if pictures.are_several:
            results = [
                await loop.run_in_executor(engine.side_pool, finish.entry, data, member)
                for data, member in zip(pictures.inputs, members, strict=True)
            ]
            answer = Answer(orjson.dumps({"results": results}))
        else:
            answer = await loop.run_in_executor(
                engine.side_pool, finish.answer, pictures.inputs[0], members[0]
            )
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
        codec: SegmentationCodec,
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

    def answer(self, data: bytes, member: Member) -> Answer:
        """The whole answer to a request with one picture."""
        if member.error is not None:
            raise member.error
        if self._is_json:
            return Answer(orjson.dumps(self._result(data, member)))
        headers = [(b"x-athanor-model", self._model.encode())]
        return Answer(self._picture(data, self._masks(data, member)), content_type=_PNG, headers=headers)

    def entry(self, data: bytes, member: Member) -> dict[str, object]:
        """One of several results."""
        if member.error is not None:
            return {"model": self._model, "error": error_object(member.error, self._request_id)}
        return self._result(data, member)

    def _result(self, data: bytes, member: Member) -> dict[str, object]:
        masks = self._masks(data, member)
        height, width = masks.size
        result: dict[str, object] = {"model": self._model, "width": width, "height": height}
        if self._output != _SEGMENTS:
            return {**result, "image": base64.b64encode(self._picture(data, masks)).decode()}
        segments = [
            {"label": one.label, "score": one.score, "mask": _base64_png(Image.fromarray(one.mask))}
            for one in masks.segments(self._chosen, self._options.threshold)
        ]
        return {**result, "segments": segments}

    def _masks(self, data: bytes, member: Member) -> PictureMasks:
        facts = probe_image(data, self._codec.limits)
        return self._codec.masks_of(member.result, (facts.height, facts.width))  # type: ignore[arg-type]

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


def _prepare(engine: Engine, options: Options) -> tuple[SegmentationCodec, tuple[int, ...]]:
    """Codec and indices of the labels that are asked for. Lets go of the engine if it raises."""
    codec = engine.codec
    try:
        if not isinstance(codec, SegmentationCodec):
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
