"""stack key

Runs that are already queued get no stack key and train alone.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


# No batch mode here: it recreates the table, and dropping the old table deletes every row that refers to it.


def upgrade() -> None:
    op.add_column("runs", sa.Column("stack_key", sa.String(length=200), nullable=True))
    op.create_index("ix_runs_stack", "runs", ["stack_key", "status", "epoch"])


def downgrade() -> None:
    op.drop_index("ix_runs_stack", "runs")
    op.drop_column("runs", "stack_key")
