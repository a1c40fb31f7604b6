"""`POST /v1/classification`: one picture or many, as raw bytes, multipart or JSON.

The route is hot (see `gateway.py`): `ClassificationRoute` answers; `router` only documents it.
"""

import base64
import binascii
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache, partial
from urllib.parse import parse_qsl

import orjson
from fastapi import APIRouter
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.api.errors import error_object
from app.api.gateway import Answer, Exchange, Pending, Reply
from app.api.inference import Inference, server_timing
from app.api.schemas.classification import Classification, ClassificationInput, Classifications
from app.api.schemas.errors import error_responses
from app.errors import AppError, Internal, InvalidPayload, InvalidRequest, NotServable
from app.runtime.batcher import Member
from app.runtime.engine import Engine
from app.settings import Settings
from models.tasks.classification import ClassificationCodec

PATH = "/v1/classification"
MAX_INPUTS = 64
"""Most pictures in one request."""
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
        deadline_s = self._inference.deadline_s(exchange)
        body = await exchange.body(self.max_body_bytes)
        if exchange.headers.get(b"content-type", b"").startswith(_MULTIPART):
            inputs, several, options = await _multipart(exchange, body, asked, self.max_body_bytes)
        else:
            inputs, several, options = _inputs(exchange, body, asked)
        _check_inputs(inputs)
        engine = await self._inference.engine(exchange.principal, options.model)
        _check_task(engine)
        members = await self._inference.run(
            exchange, engine, inputs, top_k=options.top_k, deadline_s=deadline_s
        )
        return _answer(engine.label, members, several=several, request_id=exchange.request_id)

    def begin(self, exchange: Exchange, body: bytes, reply: Reply) -> Pending | None:
        """Begin to answer a request whose model is loaded and whose body needs no multipart parser."""
        if exchange.headers.get(b"content-type", b"").startswith(_MULTIPART):
            return None
        deadline_s = self._inference.deadline_s(exchange)
        inputs, several, options = _inputs(exchange, body, self._from_query(exchange.query))
        _check_inputs(inputs)
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
            engine, inputs, top_k=options.top_k, deadline_s=deadline_s, landed=landed, ahead=ahead
        )

    def _parse_query(self, query: bytes) -> Options:
        try:
            pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query))
        except ValueError as error:
            raise InvalidRequest("The query string cannot be parsed.", param="query") from error
        return _with(self._defaults, dict(pairs))


_MULTIPART = b"multipart/form-data"
_Inputs = tuple[list[bytes], bool, Options]
"""Encoded pictures, whether the caller sent a list, what the caller chose."""


def _inputs(exchange: Exchange, body: bytes, options: Options) -> _Inputs:
    if exchange.headers.get(b"content-type", b"").startswith(b"application/json"):
        return _json(body, options)
    return [body], False, options


async def _multipart(exchange: Exchange, body: bytes, options: Options, max_bytes: int) -> _Inputs:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    headers = Headers(raw=list(exchange.headers.items()))
    parser = MultiPartParser(headers, stream(), max_files=MAX_INPUTS, max_part_size=max_bytes)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise InvalidPayload(
            f"The multipart body cannot be parsed: {getattr(error, 'message', 'it is malformed')}",
            hint='Send each picture as a part named "image".',
        ) from error
    try:
        return await _read_form(form, options)
    finally:
        await form.close()


def _json(body: bytes, options: Options) -> _Inputs:
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not JSON: {error}") from error
    if not isinstance(payload, dict) or "inputs" not in payload:
        raise InvalidPayload('The body must be {"inputs": …, "parameters": {…}}.', param="inputs")
    if unknown := set(payload) - {"inputs", "parameters"}:
        raise InvalidPayload(f"Unknown key {min(unknown)!r}.", param=min(unknown), hint="inputs, parameters")
    given = payload["inputs"]
    several = isinstance(given, list)
    texts = given if several else [given]
    parameters = payload.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidPayload("parameters must be an object.", param="parameters")
    return [_from_base64(text) for text in texts], several, _with(options, parameters)


async def _read_form(form: FormData, options: Options) -> _Inputs:
    fields: dict[str, object] = {}
    inputs: list[bytes] = []
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            fields[name] = value
        elif name == "image":
            inputs.append(await value.read())
        else:
            raise InvalidPayload(f"There is a file part named {name!r}.", hint='Name it "image".')
    return inputs, len(inputs) > 1, _with(options, fields)


def _check_task(engine: Engine) -> None:
    if not isinstance(engine.codec, ClassificationCodec):
        engine.let_go()
        raise NotServable(f"{engine.label} is not a classifier.", param="model")


def _check_inputs(inputs: Sequence[bytes]) -> None:
    if not inputs or not all(inputs):
        raise InvalidRequest(
            "There is no picture in the request.",
            param="image",
            hint='Send its bytes as the body, as multipart part "image", or base64 under "inputs".',
        )
    if len(inputs) > MAX_INPUTS:
        raise InvalidRequest(f"A request may hold at most {MAX_INPUTS} pictures.", param="inputs")


def _from_base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise InvalidPayload("Each input must be a base64 string.", param="inputs")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidPayload("An input is not valid base64.", param="inputs") from error


def _with(options: Options, given: dict[str, object]) -> Options:
    """`options` changed by what was given; names the nearest option when one is unknown."""
    known = ("model", "top_k")
    for name, value in given.items():
        if name == "model" and isinstance(value, str) and value:
            options = replace(options, model=value)
        elif name == "top_k":
            options = replace(options, top_k=_top_k(value))
        else:
            near = get_close_matches(name, known, n=1)
            raise InvalidRequest(
                f"{name}: {'needs a value' if name in known else 'there is no such parameter'}.",
                param=name,
                hint=f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}.",
            )
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


_PARAMETERS = [
    {
        "name": "model",
        "in": "query",
        "description": "`name`, `name@alias` or `name:3`; without it the default classifier answers.",
        "schema": {"type": "string", "minLength": 1},
    },
    {
        "name": "top_k",
        "in": "query",
        "description": "How many labels to return, best first.",
        "schema": {"type": "integer", "minimum": 1, "maximum": _MAX_TOP_K, "default": _DEFAULT_TOP_K},
    },
    {
        "name": "X-Request-Deadline",
        "in": "header",
        "description": "Seconds from receipt after which the answer is of no use.",
        "schema": {"type": "number", "minimum": 0.001, "maximum": 3600},
    },
]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "required": True,
    "content": {
        "image/*": _BINARY,
        "application/octet-stream": _BINARY,
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {
                    "image": {
                        "type": "array",
                        "maxItems": MAX_INPUTS,
                        "items": {"type": "string", "format": "binary"},
                    },
                    "model": {"type": "string"},
                    "top_k": {"type": "integer"},
                },
            }
        },
        "application/json": {"schema": ClassificationInput.model_json_schema()},
    },
}
_CODES = (
    "image_undecodable",
    "image_too_large",
    "unsupported_media",
    "payload_too_large",
    "invalid_payload",
    "unknown_model",
    "unknown_version",
    "not_servable",
    "model_not_ready",
    "overloaded",
    "deadline_exceeded",
    "inference_failed",
)

router = APIRouter(tags=["inference"])


@router.post(
    PATH,
    response_model=Classification | Classifications,
    responses=error_responses(*_CODES),
    openapi_extra={"parameters": _PARAMETERS, "requestBody": _BODY},
)
async def classify() -> Classification:
    """Name what one picture, or each of several, shows.

    Send the bytes of a JPEG, PNG, WebP, BMP, GIF (its first frame) or TIFF as the body, as multipart
    part `image` (repeatable), or base64 in JSON. Pictures are turned upright (EXIF), laid over white
    where transparent, and brought to sRGB.
    """
    raise Internal("The gateway answers this route before FastAPI.")
