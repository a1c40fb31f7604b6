"""${message}

Before this lands:
- The gateway of the release before runs against the new tables during an upgrade: add, do not rename or
  drop. A column leaves one release after the code stopped reading it.
- A new column is nullable or has a server default; fill old rows in batches in a later step, not here.
- All pending revisions run in one transaction, under one lock, with a lock time-out of 10 s. What would
  hold a busy table for longer (rewriting it, an index on a large one) needs a plan of its own.
- SQLite changes a table by copying it: use `op.batch_alter_table`, and name every constraint.
- Set `HEAD` in `migrations/__init__.py`, and let `downgrade` undo all of it: the tests go down and up.
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
