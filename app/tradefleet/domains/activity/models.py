"""The table of what happened to a trader's orders."""

import uuid

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from tradefleet.platform.paging import Listed
from tradefleet.platform.postgres.database import Base


class Activity(Listed, Base):
    """One entry, with the id of its event. It never changes."""

    __tablename__ = "activity"
    # No foreign keys: creating one locks the table that it points to.
    __table_args__ = (Index(None, "trader_id", "created_at", "id"),)

    trader_id: Mapped[uuid.UUID]
    order_id: Mapped[uuid.UUID]
    kind: Mapped[str] = mapped_column(String(32))
