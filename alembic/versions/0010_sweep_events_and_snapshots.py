"""events of sweeps, and snapshots of runs

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("events") as events:  # batch mode is safe: no table refers to `events`
        events.alter_column("run_id", existing_type=sa.String(length=36), nullable=True)
    op.create_table(
        "snapshots",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_snapshots_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "epoch", name=op.f("pk_snapshots")),
    )


def downgrade() -> None:
    op.drop_table("snapshots")
    op.execute("DELETE FROM events WHERE run_id IS NULL")
    with op.batch_alter_table("events") as events:
        events.alter_column("run_id", existing_type=sa.String(length=36), nullable=False)
