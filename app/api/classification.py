"""`POST /v1/classification`: one picture or many, as raw bytes, multipart or JSON.

The route is hot (see `gateway.py`): `ClassificationRoute` answers; `router` only documents it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import orjson
from fastapi import APIRouter

from app.api.errors import error_object
from app.api.gateway import Answer, Exchange, Pending, Reply
from app.api.inference import Inference, server_timing
from app.api.picture_request import (
    CODES,
    body_of,
    is_multipart,
    parameters_of,
    read_pictures,
    read_plain,
    read_query,
)
from app.api.schemas.classification import Classification, ClassificationInput, Classifications
from app.api.schemas.errors import error_responses
from app.errors import AppError, Internal, InvalidRequest, NotServable, unknown_option
from app.runtime.batcher import Member
from app.runtime.engine import Engine
from app.settings import Settings
from models.tasks.classification import ClassificationCodec

PATH = "/v1/classification"
_MAX_TOP_K = 1000
_DEFAULT_TOP_K = 5


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a caller may choose, in the query or under `parameters`."""

    model: str
    top_k: int = _DEFAULT_TOP_K


class ClassificationRoute:
    """The hot route."""

    def __init__(self, inference: Inference, settings: Settings) -> None:
        self._inference = inference
        self.max_body_bytes = settings.max_body_bytes
        self._defaults = Options(model=settings.default_classifier)
        self._from_query = lru_cache(maxsize=1024)(self._parse_query)

    async def __call__(self, exchange: Exchange) -> Answer:
        """Answer one request, whatever its form."""
        asked = self._from_query(exchange.query)
        asker = self._inference.asker(exchange)
        inputs, several, given = await read_pictures(exchange, self.max_body_bytes)
        options = _with(asked, given) if given else asked
        engine = await self._inference.engine(exchange, options.model, asker=asker)
        _check_task(engine)
        members = await self._inference.run(exchange, engine, inputs, asked=options.top_k, asker=asker)
        return _answer(engine.label, members, several=several, request_id=exchange.request_id)

    def begin(self, exchange: Exchange, body: bytes, reply: Reply) -> Pending | None:
        """Begin to answer a request whose model is loaded and whose body needs no multipart parser."""
        if is_multipart(exchange):
            return None
        asker = self._inference.asker(exchange)
        options = self._from_query(exchange.query)
        inputs, several, given = read_plain(exchange, body)
        if given:
            options = _with(options, given)
        engine = self._inference.loaded(exchange.principal, options.model)
        if engine is None:
            return None
        _check_task(engine)

        def answer(members: list[Member]) -> Answer:
            return _answer(engine.label, members, several=several, request_id=exchange.request_id)

        def ahead(member: Member) -> None:
            reply.ahead(partial(answer, [member]))

        def landed(result: list[Member] | AppError) -> None:
            reply(partial(_raised, result) if isinstance(result, AppError) else partial(answer, result))

        return self._inference.begin(
            engine, inputs, asked=options.top_k, asker=asker, landed=landed, ahead=ahead
        )

    def _parse_query(self, query: bytes) -> Options:
        return _with(self._defaults, read_query(query))


def _check_task(engine: Engine) -> None:
    if not isinstance(engine.codec, ClassificationCodec):
        engine.let_go()
        raise NotServable(f"{engine.label} is not a classifier.", param="model")


def _with(options: Options, given: Mapping[str, object]) -> Options:
    """`options` changed by what was given; names the nearest option when one is unknown."""
    for name, value in given.items():
        if name == "model" and isinstance(value, str) and value:
            options = replace(options, model=value)
        elif name == "top_k":
            options = replace(options, top_k=_top_k(value))
        else:
            raise unknown_option(name, ("model", "top_k"))
    return options


def _top_k(value: object) -> int:
    text = str(value)
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 4 else 0
    if isinstance(value, bool | float) or not 1 <= number <= _MAX_TOP_K:
        raise InvalidRequest(f"top_k must be a whole number from 1 to {_MAX_TOP_K}.", param="top_k")
    return number


def _raised(error: AppError) -> Answer:
    raise error


def _answer(label: str, members: list[Member], *, several: bool, request_id: str) -> Answer:
    if not several:
        member = members[0]
        if member.error is not None:
            raise member.error
        body = {"model": label, "predictions": member.result}
    else:
        body = {"results": [_result(label, member, request_id) for member in members]}
    return Answer(orjson.dumps(body), timing=server_timing(members))


def _result(label: str, member: Member, request_id: str) -> dict[str, object]:
    if member.error is not None:
        return {"model": label, "error": error_object(member.error, request_id)}
    return {"model": label, "predictions": member.result}


_PARAMETERS = parameters_of(
    "the default classifier",
    {
        "top_k": (
            "How many labels to return, best first.",
            {"type": "integer", "minimum": 1, "maximum": _MAX_TOP_K, "default": _DEFAULT_TOP_K},
        )
    },
)
_BODY = body_of({"model": "string", "top_k": "integer"}, ClassificationInput.model_json_schema())

router = APIRouter(tags=["inference"])


@router.post(
    PATH,
    response_model=Classification | Classifications,
    responses=error_responses(*CODES),
    openapi_extra={"parameters": _PARAMETERS, "requestBody": _BODY},
)
async def classify() -> Classification:
    """Name what one picture, or each of several, shows.

    Send the bytes of a JPEG, PNG, WebP, BMP, GIF (its first frame) or TIFF as the body, as multipart
    part `image` (repeatable), or base64 in JSON. Pictures are turned upright (EXIF), laid over white
    where transparent, and brought to sRGB.
    """
    raise Internal("The gateway answers this route before FastAPI.")
