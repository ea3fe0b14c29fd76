"""Revoked API keys, and which keys the inventory manages."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
kind = "expand"
owners = ("identity",)

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Mark keys of the inventory, none so far, and create the table of those that were revoked.

    A revoked key leaves `api_keys`, so that releases older than this migration reject it, too.
    """
    op.add_column("api_keys", sa.Column("from_inventory", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "revoked_api_keys",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("trader", sa.String(64), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("revoked_at", _MOMENT, nullable=False),
        sa.Column("revoked_by", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_revoked_api_keys"),
    )
