"""Orders."""

import uuid
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from tradefleet.platform.paging import Listed
from tradefleet.platform.postgres.columns import Money
from tradefleet.platform.postgres.database import Base


class Order(Listed, Base):
    """An order as it was accepted. It never changes, so its row is also the response to a repeated request."""

    __tablename__ = "orders"
    __table_args__ = (
        # This makes orders idempotent: the first insert succeeds, every later request reads its row.
        UniqueConstraint("trader_id", "idempotency_key"),
        Index(None, "trader_id", "created_at", "id"),
        CheckConstraint("side IN ('buy', 'sell')", name="side"),
        CheckConstraint("type IN ('market', 'limit')", name="type"),
        CheckConstraint("(type = 'limit') = (limit_price IS NOT NULL)", name="limit_price"),
    )

    trader_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("traders.id"))
    idempotency_key: Mapped[str] = mapped_column(String(128))
    fingerprint: Mapped[str] = mapped_column(String(64))
    symbol: Mapped[str] = mapped_column(ForeignKey("instruments.symbol"))
    side: Mapped[str] = mapped_column(String(4))
    type: Mapped[str] = mapped_column(String(6))
    quantity: Mapped[Decimal] = mapped_column(Money)
    limit_price: Mapped[Decimal | None] = mapped_column(Money)
    status: Mapped[str] = mapped_column(String(16))
