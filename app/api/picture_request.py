"""What comes to a route that takes pictures: raw bytes, multipart or JSON, and options beside them."""

import base64
import binascii
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import orjson
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from app.api.gateway import Exchange
from app.errors import InvalidPayload, InvalidRequest

MAX_INPUTS = 64
"""Most pictures in one request."""
_MULTIPART = b"multipart/form-data"
_JSON = b"application/json"


class Pictures(NamedTuple):
    """A request's pictures, and what its body says besides."""

    inputs: list[bytes]
    """Encoded."""
    are_several: bool
    """The caller sent a list, and gets one."""
    options: dict[str, object] | None = None
    """`parameters` of a JSON body, fields of a form; None where there was no place for any."""


async def read_pictures(exchange: Exchange, max_bytes: int) -> Pictures:
    """The whole body, in whatever form. Raises as `Exchange.body`, and InvalidRequest, InvalidPayload."""
    body = await exchange.body(max_bytes)
    if is_multipart(exchange):
        return await _read_multipart(exchange, body, max_bytes)
    return read_plain(exchange, body)


def is_multipart(exchange: Exchange) -> bool:
    """A body that only `read_pictures` can read."""
    return exchange.headers.get(b"content-type", b"").startswith(_MULTIPART)


def read_plain(exchange: Exchange, body: bytes) -> Pictures:
    """Raw bytes, or JSON. Raises InvalidRequest, InvalidPayload."""
    if exchange.headers.get(b"content-type", b"").startswith(_JSON):
        pictures = _json(body)
    else:
        pictures = Pictures([body], False)
    _check(pictures.inputs)
    return pictures


async def _read_multipart(exchange: Exchange, body: bytes, max_bytes: int) -> Pictures:
    """A form whose pictures are parts named `image`. Raises InvalidRequest, InvalidPayload."""

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
        pictures = await _form(form)
    finally:
        await form.close()
    _check(pictures.inputs)
    return pictures


def read_query(query: bytes) -> dict[str, object]:
    """Options of a query string. Raises InvalidRequest."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise InvalidRequest("The query string cannot be parsed.", param="query") from error
    return dict(pairs)


def _json(body: bytes) -> Pictures:
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not JSON: {error}") from error
    if not isinstance(payload, dict) or "inputs" not in payload:
        raise InvalidPayload('The body must be {"inputs": …, "parameters": {…}}.', param="inputs")
    if unknown := set(payload) - {"inputs", "parameters"}:
        raise InvalidPayload(f"Unknown key {min(unknown)!r}.", param=min(unknown), hint="inputs, parameters")
    given = payload["inputs"]
    are_several = isinstance(given, list)
    texts = given if are_several else [given]
    parameters = payload.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidPayload("parameters must be an object.", param="parameters")
    return Pictures([_from_base64(text) for text in texts], are_several, parameters)


async def _form(form: FormData) -> Pictures:
    fields: dict[str, object] = {}
    inputs: list[bytes] = []
    for name, value in form.multi_items():
        if not isinstance(value, UploadFile):
            fields[name] = value
        elif name == "image":
            inputs.append(await value.read())
        else:
            raise InvalidPayload(f"There is a file part named {name!r}.", hint='Name it "image".')
    return Pictures(inputs, len(inputs) > 1, fields)


def _from_base64(text: object) -> bytes:
    if not isinstance(text, str):
        raise InvalidPayload("Each input must be a base64 string.", param="inputs")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidPayload("An input is not valid base64.", param="inputs") from error


def _check(inputs: Sequence[bytes]) -> None:
    if not inputs or not all(inputs):
        raise InvalidRequest(
            "There is no picture in the request.",
            param="image",
            hint='Send its bytes as the body, as multipart part "image", or base64 under "inputs".',
        )
    if len(inputs) > MAX_INPUTS:
        raise InvalidRequest(f"A request may hold at most {MAX_INPUTS} pictures.", param="inputs")


# -- as the OpenAPI document tells it ------------------------------------------------------------------

CODES = (
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
    "out_of_memory",
)
"""Of errors that any such route may answer."""
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def parameters_of(model: str, options: Mapping[str, tuple[str, Any]]) -> list[dict[str, Any]]:
    """Query parameters and headers; `options`: name to description and schema."""
    text = f"`name`, `name@alias` or `name:3`; without it {model} answers."
    options = {"model": (text, {"type": "string", "minLength": 1}), **options}
    deadline = {
        "name": "X-Request-Deadline",
        "in": "header",
        "description": "Seconds from receipt after which the answer is of no use.",
        "schema": {"type": "number", "minimum": 0.001, "maximum": 3600},
    }
    return [
        *(
            {"name": name, "in": "query", "description": description, "schema": schema}
            for name, (description, schema) in options.items()
        ),
        deadline,
    ]


def body_of(fields: Mapping[str, str], json_schema: Mapping[str, Any]) -> dict[str, Any]:
    """The request body; `fields`: name of a form's field to its JSON type."""
    pictures = {"type": "array", "maxItems": MAX_INPUTS, "items": {"type": "string", "format": "binary"}}
    form = {
        "type": "object",
        "required": ["image"],
        "properties": {"image": pictures, **{name: {"type": kind} for name, kind in fields.items()}},
    }
    return {
        "required": True,
        "content": {
            "image/*": _BINARY,
            "application/octet-stream": _BINARY,
            "multipart/form-data": {"schema": form},
            "application/json": {"schema": json_schema},
        },
    }
