"""First tables: files, models, versions, aliases, jobs and their events, keys, tunings, the revision."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TEXT64 = sa.String(length=64)


def upgrade() -> None:
    _create_keys_and_files()
    _create_models()
    _create_versions_and_aliases()
    _create_jobs()
    _create_tunings()


def _create_keys_and_files() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", _TEXT64, nullable=False),
        sa.Column("tenant_id", _TEXT64, nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("sha256", _TEXT64, nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("revoked_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("sha256", name="uq_api_keys_sha256"),
    )
    op.create_index("ix_api_keys_tenant_id", "api_keys", ["tenant_id"])
    op.create_table(
        "files",
        sa.Column("id", _TEXT64, nullable=False),
        sa.Column("tenant_id", _TEXT64, nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("purpose", _TEXT64, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", _TEXT64, nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_files"),
    )
    op.create_index("ix_files_tenant_id", "files", ["tenant_id"])


def _create_models() -> None:
    op.create_table(
        "revisions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_revisions"),
    )
    op.execute("INSERT INTO revisions (id, value) VALUES (1, 0)")
    op.create_table(
        "models",
        sa.Column("id", _TEXT64, nullable=False),
        sa.Column("tenant_id", _TEXT64, nullable=False),
        sa.Column("name", _TEXT64, nullable=False),
        sa.Column("task", sa.String(length=32), nullable=False),
        sa.Column("next_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("deleted_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_models"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_models_tenant_id_name"),
    )


def _create_versions_and_aliases() -> None:
    op.create_table(
        "versions",
        sa.Column("id", _TEXT64, nullable=False),
        sa.Column("tenant_id", _TEXT64, nullable=False),
        sa.Column("model_id", _TEXT64, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("certificate", sa.JSON(), nullable=False),
        sa.Column("artifacts", sa.JSON(), nullable=False),
        sa.Column("job_id", _TEXT64, nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_versions_model_id_models"),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
        sa.UniqueConstraint("job_id", name="uq_versions_job_id"),
        sa.UniqueConstraint("model_id", "number", name="uq_versions_model_id_number"),
    )
    op.create_index("ix_versions_tenant_id", "versions", ["tenant_id"])
    op.create_table(
        "aliases",
        sa.Column("id", _TEXT64, nullable=False),
        sa.Column("tenant_id", _TEXT64, nullable=False),
        sa.Column("model_id", _TEXT64, nullable=False),
        sa.Column("name", _TEXT64, nullable=False),
        sa.Column("version_number", sa.Integer(), nullable=False),
        sa.Column("previous_number", sa.Integer(), nullable=True),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name="fk_aliases_model_id_models"),
        sa.PrimaryKeyConstraint("id", name="pk_aliases"),
        sa.UniqueConstraint("model_id", "name", name="uq_aliases_model_id_name"),
    )
    op.create_index("ix_aliases_tenant_id", "aliases", ["tenant_id"])


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", _TEXT64, nullable=False),
        sa.Column("tenant_id", _TEXT64, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("phase", _TEXT64, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("lease_token", sa.Integer(), nullable=False),
        sa.Column("lease_holder", sa.String(length=128), nullable=True),
        sa.Column("lease_expires_at", sa.Float(), nullable=True),
        sa.Column("rung_at", sa.Float(), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("started_at", sa.Float(), nullable=True),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.UniqueConstraint("tenant_id", "idempotency_key", name="uq_jobs_tenant_id_idempotency_key"),
    )
    op.create_index("ix_jobs_status_created", "jobs", ["status", "created_at"])
    op.create_index("ix_jobs_tenant_id", "jobs", ["tenant_id"])
    op.create_table(
        "job_events",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("tenant_id", _TEXT64, nullable=False),
        sa.Column("job_id", _TEXT64, nullable=False),
        sa.Column("level", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_events_job_id_jobs"),
        sa.PrimaryKeyConstraint("id", name="pk_job_events"),
    )
    op.create_index("ix_job_events_job_id", "job_events", ["job_id"])
    op.create_index("ix_job_events_tenant_id", "job_events", ["tenant_id"])


def _create_tunings() -> None:
    op.create_table(
        "tunings",
        sa.Column("model_sha256", _TEXT64, nullable=False),
        sa.Column("machine", _TEXT64, nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("model_sha256", "machine", name="pk_tunings"),
    )


def downgrade() -> None:
    op.drop_table("versions")
    op.drop_table("job_events")
    op.drop_table("aliases")
    op.drop_table("tunings")
    op.drop_table("revisions")
    op.drop_table("models")
    op.drop_table("jobs")
    op.drop_table("files")
    op.drop_table("api_keys")
