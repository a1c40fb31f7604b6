"""Bodies of `/v1/uploads`: OpenAI's upload and part objects, with more keys at the root."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.api.schemas.files import FileObject
from app.files.parts import MAX_PARTS
from app.files.parts_repository import PartFacts, UploadFacts, UploadStatus
from app.files.repository import FileFacts
from app.files.service import DEFAULT_PURPOSE

_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"  # PostgreSQL takes no NUL in text
PartId = Annotated[str, StringConstraints(max_length=64, pattern=_PRINTABLE)]


class UploadRequest(BaseModel):
    """A file that will come in parts."""

    bytes: int = Field(ge=1, le=2**53, description="Size of the whole file, bytes.")
    filename: str = Field(min_length=1, max_length=1024)
    mime_type: str = Field(default="application/octet-stream", max_length=128, pattern=_PRINTABLE)
    purpose: str = Field(default=DEFAULT_PURPOSE, min_length=1, max_length=64, pattern=_PRINTABLE)
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "bytes": 134217728,
                "filename": "flowers.zip",
                "mime_type": "application/zip",
                "purpose": "fine-tune",
            }
        }
    )


class CompleteRequest(BaseModel):
    """The parts, in the order in which they make the file."""

    part_ids: list[PartId] = Field(min_length=1, max_length=MAX_PARTS)
    md5: str | None = Field(
        default=None, pattern=r"^[0-9a-fA-F]{32}$", description="Hash that the whole file must have."
    )


class PartObject(BaseModel):
    """Some bytes of an upload."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int = Field(description="UTC, seconds since the epoch.")
    upload_id: str
    bytes: int = Field(ge=0, description="Size, bytes.")
    sha256: str = Field(description="Hash of the bytes as stored.")

    @classmethod
    def of(cls, facts: PartFacts) -> Self:
        """The part as the API shows it."""
        return cls(
            id=facts.id,
            created_at=int(facts.created_at),
            upload_id=facts.upload_id,
            bytes=facts.size_bytes,
            sha256=facts.sha256,
        )


class UploadObject(BaseModel):
    """A file that comes in parts."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int = Field(ge=0, description="Size of the whole file as announced, bytes.")
    created_at: int = Field(description="UTC, seconds since the epoch.")
    expires_at: int = Field(description="Until then it takes parts; an hour after its creation.")
    filename: str
    mime_type: str
    purpose: str
    status: UploadStatus
    file: FileObject | None = Field(description="The file it became.")

    @classmethod
    def of(cls, facts: UploadFacts, file: FileFacts | None = None) -> Self:
        """The upload as the API shows it."""
        return cls(
            id=facts.id,
            bytes=facts.size_bytes,
            created_at=int(facts.created_at),
            expires_at=int(facts.expires_at),
            filename=facts.filename,
            mime_type=facts.mime_type,
            purpose=facts.purpose,
            status=facts.status,
            file=None if file is None else FileObject.of(file),
        )


class UploadWithParts(UploadObject):
    """An upload, and what has arrived of it."""

    parts: list[PartObject] = []

    @classmethod
    def with_parts(cls, facts: UploadFacts, parts: Sequence[PartFacts], file: FileFacts | None) -> Self:
        """The upload as the API shows it to somebody who wants to go on with it."""
        return cls.of(facts, file).model_copy(update={"parts": [PartObject.of(part) for part in parts]})
