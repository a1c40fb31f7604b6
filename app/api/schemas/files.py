"""Bodies of `/v1/files`: OpenAI's file object and lists."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.files.repository import FileFacts


class FileObject(BaseModel):
    """An uploaded file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int = Field(ge=0, description="Size, bytes.")
    created_at: int = Field(description="UTC, seconds since the epoch.")
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    sha256: str = Field(description="Hash of the bytes as stored.")
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "file_06d4rkbb8zyq5xq2m8c7t5nn0e",
                "object": "file",
                "bytes": 18589264,
                "created_at": 1767225600,
                "filename": "classifier.onnx",
                "purpose": "user_data",
                "status": "processed",
                "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            }
        }
    )

    @classmethod
    def of(cls, facts: FileFacts) -> "FileObject":
        """The file as the API shows it."""
        return cls(
            id=facts.id,
            bytes=facts.size_bytes,
            created_at=int(facts.created_at),
            filename=facts.filename,
            purpose=facts.purpose,
            sha256=facts.sha256,
        )


class FileList(BaseModel):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None = Field(description="Pass it as `after` for the next page.")
    has_more: bool


class FileDeleted(BaseModel):
    """What has been deleted."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
