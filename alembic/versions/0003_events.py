"""events and idempotency keys

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

EVENT_TYPES = (
    "queued", "started", "metric", "checkpoint", "paused", "resumed", "promoted", "succeeded", "failed", "cancelled",
    "worker_lost", "deleted",
)  # fmt: skip


def upgrade() -> None:
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("sweep_id", sa.String(length=36), nullable=True),
        sa.Column("type", sa.Enum(*EVENT_TYPES, name="eventtype", native_enum=False, length=16), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
    )
    op.create_index("ix_events_run", "events", ["run_id", "id"])
    op.create_index("ix_events_sweep", "events", ["sweep_id", "id"])
    counter = op.create_table(
        "event_counter",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("last_event_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event_counter")),
    )
    op.bulk_insert(counter, [{"id": 1, "last_event_id": 0}])
    op.add_column("runs", sa.Column("idempotency_key", sa.String(length=255), nullable=True))
    op.add_column("runs", sa.Column("submission_sha256", sa.String(length=64), nullable=True))
    op.create_index("ix_runs_idempotency_key", "runs", ["idempotency_key"], unique=True)


def downgrade() -> None:
    op.drop_index("ix_runs_idempotency_key", "runs")
    op.drop_column("runs", "submission_sha256")
    op.drop_column("runs", "idempotency_key")
    op.drop_table("event_counter")
    op.drop_table("events")
