"""Who may trade, and the keys they show."""

import uuid
from datetime import UTC, datetime

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from tradefleet.columns import UtcDateTime
from tradefleet.database import Base


def _now() -> datetime:
    return datetime.now(UTC)


class Trader(Base):
    """Someone who places orders."""

    __tablename__ = "traders"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=_now)


class ApiKey(Base):
    """A key of a trader. Only its SHA-256 is kept: the key has too much entropy to be guessed from it."""

    __tablename__ = "api_keys"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    trader_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(Trader.id), index=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=_now)
    trader: Mapped[Trader] = relationship()
