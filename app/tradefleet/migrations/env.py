"""Runs the migrations on the connection that `migrator.upgrade` passes."""

from alembic import context

from tradefleet import domains
from tradefleet.platform.postgres import migrator
from tradefleet.platform.postgres.database import Base

domains.registered()  # the models of every domain register their tables
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transaction_per_migration=True,
    on_version_apply=migrator.note_applied,
)
with context.begin_transaction():
    context.run_migrations()
