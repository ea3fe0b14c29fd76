"""Quotes."""

import uuid

from sqlalchemy import Uuid
from sqlalchemy.orm import Mapped, mapped_column
from tradefleet.platform.postgres.database import Base


class Quote(Base):
    """A quoted order; its ID is that of its event."""

    __tablename__ = "quotes"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
