"""accuracy on shifted val, thresholds of verdicts, the champion's order

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

OF_RUNS = ("shifted_accuracy", "shifted_standard_error")
OF_MODELS = (
    "shifted_accuracy",
    "shifted_loss",
    "shifted_standard_error",
    "sure_confidence",
    "max_energy",
    "max_distance",
)


def upgrade() -> None:
    for name in OF_RUNS:
        op.add_column("runs", sa.Column(name, sa.Double(), nullable=True))
    for name in OF_MODELS:
        op.add_column("saved_models", sa.Column(name, sa.Double(), nullable=True))
    op.add_column("saved_models", sa.Column("shifted_right", sa.LargeBinary(), nullable=True))
    ranking = op.create_table(
        "ranking",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column(
            "ranked_by", sa.Enum("shifted", "val", name="rankedby", native_enum=False, length=16), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ranking")),
    )
    op.bulk_insert(ranking, [{"id": 1, "ranked_by": "shifted"}])


def downgrade() -> None:
    op.drop_table("ranking")
    op.drop_column("saved_models", "shifted_right")
    for name in reversed(OF_MODELS):
        op.drop_column("saved_models", name)
    for name in reversed(OF_RUNS):
        op.drop_column("runs", name)
