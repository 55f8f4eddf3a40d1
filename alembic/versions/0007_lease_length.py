"""lease length, workers' devices

Leases that are already held have no recorded length. They are taken over as before; if the clock is set back and such
a lease then lies far ahead, the observing worker assumes its own lease length.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("lease_seconds", sa.Double(), nullable=True))
    op.add_column("workers", sa.Column("devices", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    op.drop_column("workers", "devices")
    op.drop_column("runs", "lease_seconds")
