"""Training: uploads in parts, data sets, and what jobs keep between attempts: checkpoints, metrics, facts."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TEXT64 = sa.String(length=64)


def upgrade() -> None:
    _create_uploads()
    _create_datasets()
    _widen_jobs()
    _create_checkpoints_and_metrics()


def _create_uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", _TEXT64, nullable=False),
        sa.Column("tenant_id", _TEXT64, nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("purpose", _TEXT64, nullable=False),
        sa.Column("mime_type", sa.String(length=128), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("file_id", _TEXT64, nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("expires_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
    )
    op.create_index("ix_uploads_tenant_id", "uploads", ["tenant_id"])
    op.create_table(
        "upload_parts",
        sa.Column("id", _TEXT64, nullable=False),
        sa.Column("tenant_id", _TEXT64, nullable=False),
        sa.Column("upload_id", _TEXT64, nullable=False),
        sa.Column("sha256", _TEXT64, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_upload_parts"),
        sa.ForeignKeyConstraint(["upload_id"], ["uploads.id"], name="fk_upload_parts_upload_id_uploads"),
    )
    op.create_index("ix_upload_parts_tenant_id", "upload_parts", ["tenant_id"])
    op.create_index("ix_upload_parts_upload_id", "upload_parts", ["upload_id"])


def _create_datasets() -> None:
    op.create_table(
        "datasets",
        sa.Column("id", _TEXT64, nullable=False),
        sa.Column("tenant_id", _TEXT64, nullable=False),
        sa.Column("name", _TEXT64, nullable=False),
        sa.Column("task", sa.String(length=32), nullable=False),
        sa.Column("next_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("deleted_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_datasets"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_datasets_tenant_id_name"),
    )
    op.create_table(
        "dataset_versions",
        sa.Column("id", _TEXT64, nullable=False),
        sa.Column("tenant_id", _TEXT64, nullable=False),
        sa.Column("dataset_id", _TEXT64, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sha256", _TEXT64, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.JSON(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("job_id", _TEXT64, nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_dataset_versions"),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name="fk_dataset_versions_dataset_id_datasets"
        ),
        sa.UniqueConstraint("dataset_id", "number", name="uq_dataset_versions_dataset_id_number"),
        sa.UniqueConstraint("job_id", name="uq_dataset_versions_job_id"),
    )
    op.create_index("ix_dataset_versions_tenant_id", "dataset_versions", ["tenant_id"])


def _widen_jobs() -> None:
    for column in (
        sa.Column("priority", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("pause_requested", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("time_limit_s", sa.Float(), nullable=True),
        sa.Column("ran_s", sa.Float(), nullable=False, server_default="0"),
        sa.Column("rerun_of", _TEXT64, nullable=True),
        sa.Column("facts", sa.JSON(), nullable=True),
    ):
        op.add_column("jobs", column)


def _create_checkpoints_and_metrics() -> None:
    op.create_table(
        "job_checkpoints",
        sa.Column("id", _TEXT64, nullable=False),
        sa.Column("tenant_id", _TEXT64, nullable=False),
        sa.Column("job_id", _TEXT64, nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("sha256", _TEXT64, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_job_checkpoints"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_checkpoints_job_id_jobs"),
        sa.UniqueConstraint("job_id", "step", name="uq_job_checkpoints_job_id_step"),
    )
    op.create_index("ix_job_checkpoints_tenant_id", "job_checkpoints", ["tenant_id"])
    op.create_table(
        "job_metrics",
        sa.Column("job_id", _TEXT64, nullable=False),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tenant_id", _TEXT64, nullable=False),
        sa.Column("values", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "step", name="pk_job_metrics"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_job_metrics_job_id_jobs"),
    )
    op.create_index("ix_job_metrics_tenant_id", "job_metrics", ["tenant_id"])


def downgrade() -> None:
    op.drop_table("job_metrics")
    op.drop_table("job_checkpoints")
    for name in ("facts", "rerun_of", "ran_s", "time_limit_s", "pause_requested", "priority"):
        op.drop_column("jobs", name)
    op.drop_table("dataset_versions")
    op.drop_table("datasets")
    op.drop_table("upload_parts")
    op.drop_table("uploads")
