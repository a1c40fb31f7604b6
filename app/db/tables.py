"""Every table. Rows a caller can reach carry `tenant_id`; times are UTC, seconds since the epoch as float.

Times are floats, and not database timestamps, so that SQLite and PostgreSQL compare them alike.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ID = String(64)

# Every constraint has the same name on every database, so that a later migration can name it.
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Declarative base; `Base.metadata` equals what the migrations build (tested)."""

    metadata = MetaData(naming_convention=_NAMES)


class RevisionRow(Base):
    """One row: a counter that every change of models, aliases or keys bumps. Gateways poll it."""

    __tablename__ = "revisions"
    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    value: Mapped[int] = mapped_column(Integer, nullable=False)


class ApiKeyRow(Base):
    """A key that opens a tenant's door; only its SHA-256 is kept."""

    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ID, index=True)
    name: Mapped[str] = mapped_column(String(128))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[float] = mapped_column(Float)
    revoked_at: Mapped[float | None] = mapped_column(Float)


class FileRow(Base):
    """An uploaded file: bytes in the object store, judged by nobody."""

    __tablename__ = "files"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ID, index=True)
    filename: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[float] = mapped_column(Float)


class ModelRow(Base):
    """A named line of versions."""

    __tablename__ = "models"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ID)
    name: Mapped[str] = mapped_column(String(64))
    task: Mapped[str] = mapped_column(String(32))
    next_version: Mapped[int] = mapped_column(Integer)
    """The number the next version gets; never goes back, so a number is never reused."""
    created_at: Mapped[float] = mapped_column(Float)
    deleted_at: Mapped[float | None] = mapped_column(Float)
    """A deleted model keeps its row: if its name comes back, so does the count of its versions."""
    serving: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """{pinned, instances, threads, max_batch} as somebody has set them."""
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)


class VersionRow(Base):
    """An immutable version: manifest and certificate here for reading, all artefacts in the store."""

    __tablename__ = "versions"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ID, index=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    number: Mapped[int] = mapped_column(Integer)
    manifest: Mapped[dict[str, Any]] = mapped_column(JSON)
    certificate: Mapped[dict[str, Any]] = mapped_column(JSON)
    artifacts: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    """[{name, sha256, size_bytes}]"""
    job_id: Mapped[str | None] = mapped_column(ID)
    """The job that published it."""
    created_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (UniqueConstraint("model_id", "number"), UniqueConstraint("job_id"))


class AliasRow(Base):
    """A movable name for a version. `default` is what a bare model name means."""

    __tablename__ = "aliases"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ID, index=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    name: Mapped[str] = mapped_column(String(64))
    version_number: Mapped[int] = mapped_column(Integer)
    previous_number: Mapped[int | None] = mapped_column(Integer)
    """Where a rollback goes."""
    updated_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (UniqueConstraint("model_id", "name"),)


class UploadRow(Base):
    """A file that comes in parts, in any order and at any pace, until it is completed or expires."""

    __tablename__ = "uploads"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ID, index=True)
    filename: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(64))
    mime_type: Mapped[str] = mapped_column(String(128))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    """Of the whole file, as announced."""
    status: Mapped[str] = mapped_column(String(16))
    """pending | completed | cancelled | expired"""
    file_id: Mapped[str | None] = mapped_column(ID)
    """The file it became."""
    created_at: Mapped[float] = mapped_column(Float)
    expires_at: Mapped[float] = mapped_column(Float)


class UploadPartRow(Base):
    """A part of an upload: bytes in the object store."""

    __tablename__ = "upload_parts"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ID, index=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id"), index=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[float] = mapped_column(Float)


class DatasetRow(Base):
    """A named line of data set versions."""

    __tablename__ = "datasets"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ID)
    name: Mapped[str] = mapped_column(String(64))
    task: Mapped[str] = mapped_column(String(32))
    next_version: Mapped[int] = mapped_column(Integer)
    """Never goes back, so a number is never reused."""
    created_at: Mapped[float] = mapped_column(Float)
    deleted_at: Mapped[float | None] = mapped_column(Float)
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)


class DatasetVersionRow(Base):
    """An immutable, validated data set: one pack in the object store."""

    __tablename__ = "dataset_versions"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ID, index=True)
    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"))
    number: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[str] = mapped_column(String(64))
    """Of the pack."""
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    source: Mapped[dict[str, Any]] = mapped_column(JSON)
    """What it was made from: {file_ids, base_version, options}."""
    report: Mapped[dict[str, Any]] = mapped_column(JSON)
    """What validation found: counts, sizes, duplicates, what was left out and why."""
    job_id: Mapped[str | None] = mapped_column(ID)
    """The job that made it."""
    created_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (UniqueConstraint("dataset_id", "number"), UniqueConstraint("job_id"))


class JobRow(Base):
    """A unit of work. The row is the truth; the Celery message is only a doorbell."""

    __tablename__ = "jobs"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ID, index=True)
    kind: Mapped[str] = mapped_column(String(32))
    status: Mapped[str] = mapped_column(String(32))
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """{code, message, hint}"""
    progress: Mapped[float] = mapped_column(Float)
    """0..1"""
    phase: Mapped[str | None] = mapped_column(String(64))
    attempts: Mapped[int] = mapped_column(Integer)
    cancel_requested: Mapped[bool] = mapped_column(Boolean)
    lease_token: Mapped[int] = mapped_column(Integer)
    """Fencing token: grows with each claim; a run that holds an older one can write nothing."""
    lease_holder: Mapped[str | None] = mapped_column(String(128))
    lease_expires_at: Mapped[float | None] = mapped_column(Float)
    rung_at: Mapped[float | None] = mapped_column(Float)
    """When its doorbell last rang."""
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    created_at: Mapped[float] = mapped_column(Float)
    started_at: Mapped[float | None] = mapped_column(Float)
    finished_at: Mapped[float | None] = mapped_column(Float)
    priority: Mapped[int] = mapped_column(Integer, server_default="0")
    """Higher is taken up first."""
    pause_requested: Mapped[bool] = mapped_column(Boolean, server_default=false())
    time_limit_s: Mapped[float | None] = mapped_column(Float)
    """Seconds of running, over all attempts, after which it fails."""
    ran_s: Mapped[float] = mapped_column(Float, server_default="0")
    """Seconds of running, over all attempts, as of the last heartbeat."""
    rerun_of: Mapped[str | None] = mapped_column(ID)
    """The job whose spec, with some fields changed, this one runs."""
    facts: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What the run found out on its way: parameters, estimate, resumed_from_step, resolved spec."""
    __table_args__ = (
        UniqueConstraint("tenant_id", "idempotency_key"),
        Index("ix_jobs_status_created", "status", "created_at"),
    )


class JobEventRow(Base):
    """What happened to a job, in order."""

    __tablename__ = "job_events"
    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    tenant_id: Mapped[str] = mapped_column(ID, index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    level: Mapped[str] = mapped_column(String(16))
    kind: Mapped[str] = mapped_column(String(32))
    """`state`, `progress`, `message`, `checkpoint`."""
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[float] = mapped_column(Float)


class JobCheckpointRow(Base):
    """A state from which a run can go on, kept in the object store."""

    __tablename__ = "job_checkpoints"
    id: Mapped[str] = mapped_column(ID, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(ID, index=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    step: Mapped[int] = mapped_column(Integer)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (UniqueConstraint("job_id", "step"),)


class JobMetricsRow(Base):
    """What was measured at a step. A step that is run again after a crash writes the same row."""

    __tablename__ = "job_metrics"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    step: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    tenant_id: Mapped[str] = mapped_column(ID, index=True)
    values: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[float] = mapped_column(Float)


class TuningRow(Base):
    """Threads x batch chosen by measurement for one model file on one machine."""

    __tablename__ = "tunings"
    model_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    machine: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Hash of CPU model, cores, runtime version and provider."""
    plan: Mapped[dict[str, Any]] = mapped_column(JSON)
    memory: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """{shape of the engine: {held_bytes, peak_bytes}}, as measured when it was last loaded."""
    created_at: Mapped[float] = mapped_column(Float)
