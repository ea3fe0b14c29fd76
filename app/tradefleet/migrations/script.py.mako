"""${message}."""

from alembic import op
import sqlalchemy as sa

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None
# "expand": the code that serves runs on with it. "contract": it does not; finalize.yml applies it. A test judges the claim.
kind = "expand"
# The domains whose tables it creates or changes, one where that is possible; "platform" for what all of them use.
owners = ("",)


def upgrade() -> None:
    """${message}."""
    ${upgrades if upgrades else "pass"}
