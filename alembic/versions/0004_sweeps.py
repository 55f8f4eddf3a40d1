"""sweeps and folds

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OLD_SPLIT = "uq_splits_dataset_val_size_test_size_seed"
NEW_SPLIT = "uq_splits_dataset_val_size_test_size_seed_fold_num_folds"


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("notes", sa.Text(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("submission_sha256", sa.String(length=64), nullable=True),
        sa.Column("base", sa.JSON(), nullable=False),
        sa.Column("search", sa.JSON(), nullable=False),
        sa.Column("parameters", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("points", sa.JSON(), nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("num_folds", sa.Integer(), nullable=True),
        sa.Column("stopping", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("num_trials", sa.Integer(), nullable=False),
        sa.Column("is_cancelled", sa.Boolean(), nullable=False),
        sa.Column("choice", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweeps")),
    )
    op.create_index("ix_sweeps_idempotency_key", "sweeps", ["idempotency_key"], unique=True)
    # No batch mode here: it recreates the table, and dropping the old table deletes every row that refers to it.
    op.add_column("runs", sa.Column("point_number", sa.Integer(), nullable=True))
    op.add_column("runs", sa.Column("fold", sa.Integer(), nullable=True))
    with op.batch_alter_table("splits") as splits:  # batch mode is safe: no table refers to `splits`
        splits.add_column(sa.Column("fold", sa.Integer(), nullable=False, server_default="0"))
        splits.add_column(sa.Column("num_folds", sa.Integer(), nullable=False, server_default="1"))
        splits.drop_constraint(OLD_SPLIT, type_="unique")
        splits.create_unique_constraint(NEW_SPLIT, ["dataset", "val_size", "test_size", "seed", "fold", "num_folds"])


def downgrade() -> None:
    op.execute("DELETE FROM splits WHERE num_folds > 1")
    with op.batch_alter_table("splits") as splits:
        splits.drop_constraint(NEW_SPLIT, type_="unique")
        splits.create_unique_constraint(OLD_SPLIT, ["dataset", "val_size", "test_size", "seed"])
        splits.drop_column("num_folds")
        splits.drop_column("fold")
    # Trials become ordinary runs when their sweeps are gone: a trial can only be deleted with its sweep.
    op.execute("UPDATE runs SET sweep_id = NULL, trial_number = NULL WHERE sweep_id IS NOT NULL")
    op.execute("UPDATE events SET sweep_id = NULL WHERE sweep_id IS NOT NULL")
    op.drop_column("runs", "fold")
    op.drop_column("runs", "point_number")
    op.drop_index("ix_sweeps_idempotency_key", "sweeps")
    op.drop_table("sweeps")
