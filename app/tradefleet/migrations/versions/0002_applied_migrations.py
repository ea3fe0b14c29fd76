"""Record the applied migrations and their kinds, so that a release can judge those of a newer one."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
kind = "expand"
owners = ("platform",)


def upgrade() -> None:
    """Create the table and record earlier migrations; later ones are recorded when they are applied."""
    applied = op.create_table(
        "applied_migrations",
        sa.Column("revision", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.PrimaryKeyConstraint("revision", name="pk_applied_migrations"),
    )
    op.bulk_insert(applied, [{"revision": "0001", "kind": "expand"}])
