"""name, val accuracy and size of promoted models

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

COLUMNS = {"name": sa.String(200), "val_accuracy": sa.Double(), "num_parameters": sa.Integer()}


def upgrade() -> None:
    for name, kind in COLUMNS.items():
        op.add_column("promotions", sa.Column(name, kind, nullable=True))
    op.execute("UPDATE promotions SET name = (SELECT name FROM runs WHERE runs.id = promotions.run_id)")
    for name in ("val_accuracy", "num_parameters"):
        of_model = f"SELECT {name} FROM saved_models WHERE saved_models.run_id = promotions.run_id"
        op.execute(f"UPDATE promotions SET {name} = ({of_model})")


def downgrade() -> None:
    for name in reversed(COLUMNS):
        op.drop_column("promotions", name)
