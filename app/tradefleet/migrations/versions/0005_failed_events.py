"""The table for events whose effects fail, so that other events are processed."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
kind = "expand"
owners = ("platform",)

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the table. The worker of a former release does not use it."""
    op.create_table(
        "failed_events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("failed_at", _MOMENT, nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_failed_events"),
    )
