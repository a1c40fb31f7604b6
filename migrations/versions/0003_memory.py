"""Many models in bounded memory: how a model shall be served, and what its engines were measured to hold."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("serving", sa.JSON(), nullable=True))
    op.add_column("tunings", sa.Column("memory", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("tunings", "memory")
    op.drop_column("models", "serving")
