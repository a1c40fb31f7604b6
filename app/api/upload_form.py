"""A multipart form with one large file, read while it arrives.

The file's bytes go to disk piece by piece; a few of them are in memory at any time, whatever the file's size.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import ParseError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from app.errors import ClientClosed, InvalidPayload, UnsupportedMedia
from app.files.upload import Upload

_WRITE_BYTES = 1 << 20
_MAX_FIELDS = 32
_MAX_FIELD_BYTES = 4096


@dataclass
class UploadForm:
    """What the form said besides the file's bytes."""

    filename: str | None = None
    """As the client calls it; None: the form has no file."""
    fields: dict[str, str] = field(default_factory=dict)


async def read_upload_form(
    content_type: str, body: AsyncIterator[bytes], upload: Upload, *, part: str = "file"
) -> UploadForm:
    """Read the whole body; the part of that name goes into `upload`.

    Raises:
        UnsupportedMedia: the body is not multipart.
        InvalidPayload: it is broken, ends early or has no such part.
        PayloadTooLarge: the file is longer than uploads may be.
        ClientClosed: the client went away.

    """
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary:
        raise UnsupportedMedia(
            "A file comes as multipart/form-data.", hint="curl -F file=@model.onnx -F purpose=user_data …"
        )
    reader = _Reader(boundary, part)
    try:
        async for chunk in body:
            reader.feed(chunk)
            if len(reader.pending) >= _WRITE_BYTES:
                await run_in_threadpool(upload.write, reader.take())
    except ClientDisconnect as error:
        raise ClientClosed("The client went away during the upload.") from error
    if not reader.is_complete:
        raise InvalidPayload("The form ends before its last boundary.", param=part)
    if reader.form.filename is None:
        raise InvalidPayload("The form has no file.", param=part, hint=f"Name the part `{part}`.")
    await run_in_threadpool(upload.write, reader.take())
    return reader.form


class _Reader:
    """Callbacks of the parser: they sort bytes, and never block."""

    def __init__(self, boundary: bytes, part: str) -> None:
        self._part = part
        self.form = UploadForm()
        self.is_complete = False
        self.pending = bytearray()
        """Bytes of the file that are not on disk yet."""
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._field: str | None = None
        self._value = bytearray()
        self._is_file = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_header_name,
                "on_header_value": self._add_header_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_data,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """Sort the next bytes of the body."""
        try:
            self._parser.write(chunk)
        except ParseError as error:
            raise InvalidPayload("The form is broken.", hint=str(error)) from error

    def take(self) -> bytes:
        """What waits for the disk; it waits no longer."""
        data, self.pending = bytes(self.pending), bytearray()
        return data

    def _begin_part(self) -> None:
        self._disposition = b""
        self._field, self._is_file = None, False
        self._value.clear()

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _begin_data(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise InvalidPayload("A part of the form has no name.")
        name = options[b"name"].decode(errors="replace")
        if name != self._part:
            self._field = name
        elif self.form.filename is not None:
            raise InvalidPayload(
                "The form has more than one file.", param=self._part, hint="Upload one at a time."
            )
        else:
            self._is_file = True
            self.form.filename = options.get(b"filename", b"").decode(errors="replace")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.pending += data[start:end]
            return
        if len(self._value) + end - start > _MAX_FIELD_BYTES:
            raise InvalidPayload(f"A field is longer than {_MAX_FIELD_BYTES} bytes.", param=self._field)
        self._value += data[start:end]

    def _end_part(self) -> None:
        if self._field is not None:
            if len(self.form.fields) >= _MAX_FIELDS:
                raise InvalidPayload(f"The form has more than {_MAX_FIELDS} fields.")
            self.form.fields[self._field] = self._value.decode(errors="replace")

    def _end(self) -> None:
        self.is_complete = True
