"""blocks of events

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("events", sa.Column("num_events", sa.Integer(), server_default="1", nullable=False))
    op.add_column("events", sa.Column("first_epoch", sa.Integer(), nullable=True))
    op.add_column("events", sa.Column("last_epoch", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.execute("DELETE FROM events WHERE first_epoch IS NOT NULL")  # the data of these events stays in `metrics`
    op.drop_column("events", "last_epoch")
    op.drop_column("events", "first_epoch")
    op.drop_column("events", "num_events")
