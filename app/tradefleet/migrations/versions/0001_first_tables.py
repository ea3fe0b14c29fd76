"""The first tables: traders, their keys, instruments and orders."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None
kind = "expand"
owners = ("identity", "instruments", "orders")

_MONEY = sa.Numeric(20, 8).with_variant(sa.String(32), "sqlite")
_MOMENT = sa.DateTime(timezone=True)
_SYMBOLS = (
    "AAPL", "AMZN", "BTC-USD", "ETH-USD", "EUR-USD", "GOOGL", "JPM", "META", "MSFT", "NVDA", "SPY", "TSLA",
)  # fmt: skip


def upgrade() -> None:
    """Create the tables and name the instruments."""
    op.create_table(
        "traders",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_traders"),
        sa.UniqueConstraint("name", name="uq_traders_name"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("trader_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
        sa.ForeignKeyConstraint(["trader_id"], ["traders.id"], name="fk_api_keys_trader_id_traders"),
    )
    op.create_index("ix_api_keys_trader_id", "api_keys", ["trader_id"])
    instruments = op.create_table(
        "instruments",
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.PrimaryKeyConstraint("symbol", name="pk_instruments"),
    )
    op.bulk_insert(instruments, [{"symbol": symbol} for symbol in _SYMBOLS])
    op.create_table(
        "orders",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("trader_id", sa.Uuid(), nullable=False),
        sa.Column("idempotency_key", sa.String(128), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("side", sa.String(4), nullable=False),
        sa.Column("type", sa.String(6), nullable=False),
        sa.Column("quantity", _MONEY, nullable=False),
        sa.Column("limit_price", _MONEY, nullable=True),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_orders"),
        sa.UniqueConstraint("trader_id", "idempotency_key", name="uq_orders_trader_id_idempotency_key"),
        sa.ForeignKeyConstraint(["trader_id"], ["traders.id"], name="fk_orders_trader_id_traders"),
        sa.ForeignKeyConstraint(["symbol"], ["instruments.symbol"], name="fk_orders_symbol_instruments"),
        sa.CheckConstraint("side IN ('buy', 'sell')", name="ck_orders_side"),
        sa.CheckConstraint("type IN ('market', 'limit')", name="ck_orders_type"),
        sa.CheckConstraint("(type = 'limit') = (limit_price IS NOT NULL)", name="ck_orders_limit_price"),
    )
    op.create_index("ix_orders_trader_id_created_at_id", "orders", ["trader_id", "created_at", "id"])
