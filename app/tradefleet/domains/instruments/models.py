"""The instruments that can be ordered."""

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from tradefleet.platform.postgres.database import Base


class Instrument(Base):
    """Something that can be traded."""

    __tablename__ = "instruments"

    symbol: Mapped[str] = mapped_column(String(20), primary_key=True)
