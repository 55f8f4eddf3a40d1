"""deletions

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

OF_A_RUN = ("metrics", "checkpoints", "evaluations", "saved_models")


def upgrade() -> None:
    # Batch mode would delete every row that refers to a run (see 0004).
    op.add_column("runs", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("sweeps", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_runs_deleted_at", "runs", ["deleted_at"], unique=False)


def downgrade() -> None:
    # Marked runs and sweeps would become visible again, so the downgrade finishes their deletion.
    marked = "SELECT id FROM runs WHERE deleted_at IS NOT NULL"
    for table in OF_A_RUN:
        op.execute(f"DELETE FROM {table} WHERE run_id IN ({marked})")
    op.execute(f"DELETE FROM events WHERE type <> 'deleted' AND run_id IN ({marked})")
    op.execute("DELETE FROM runs WHERE deleted_at IS NOT NULL")
    op.execute("DELETE FROM sweeps WHERE deleted_at IS NOT NULL")
    op.drop_index("ix_runs_deleted_at", "runs")
    op.drop_column("sweeps", "deleted_at")
    op.drop_column("runs", "deleted_at")
