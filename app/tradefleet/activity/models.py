"""What has happened to a trader's orders."""

import uuid
from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from tradefleet.columns import UtcDateTime
from tradefleet.database import Base


class Activity(Base):
    """One thing that has happened, under the id of its event. It never changes."""

    __tablename__ = "activity"
    # No foreign keys: to create one is to lock the table that it points to.
    __table_args__ = (Index(None, "trader_id", "created_at", "id"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    trader_id: Mapped[uuid.UUID]
    order_id: Mapped[uuid.UUID]
    kind: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
