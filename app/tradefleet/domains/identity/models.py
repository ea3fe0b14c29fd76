"""The tables of traders and their keys."""

import uuid
from datetime import UTC, datetime

from sqlalchemy import ForeignKey, String, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from tradefleet.platform.postgres.columns import UtcDateTime
from tradefleet.platform.postgres.database import Base


def _now() -> datetime:
    return datetime.now(UTC)


class Trader(Base):
    """Someone who places orders."""

    __tablename__ = "traders"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=_now)


class ApiKey(Base):
    """A key of a trader. Only its SHA-256 is kept: the key has too much entropy to be guessed from it.

    `from_inventory` is true for keys that are revoked as soon as the inventory no longer lists them.
    """

    __tablename__ = "api_keys"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)
    trader_id: Mapped[uuid.UUID] = mapped_column(ForeignKey(Trader.id), index=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=_now)
    from_inventory: Mapped[bool] = mapped_column(default=False, server_default=false())
    trader: Mapped[Trader] = relationship()


class RevokedKey(Base):
    """A key that is never accepted again, and who revoked it."""

    __tablename__ = "revoked_api_keys"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    trader: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime] = mapped_column(UtcDateTime, default=_now)
    revoked_by: Mapped[str] = mapped_column(String(128))
