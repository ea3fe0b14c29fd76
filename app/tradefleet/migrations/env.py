"""Runs the migrations on the connection that `tradefleet.schema.upgrade` hands over."""

from alembic import context

import tradefleet.activity.models
import tradefleet.auth.models
import tradefleet.failures
import tradefleet.orders.models
import tradefleet.outbox  # noqa: F401  # the models register their tables
from tradefleet import schema
from tradefleet.database import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transaction_per_migration=True,
    on_version_apply=schema.note_applied,
)
with context.begin_transaction():
    context.run_migrations()
