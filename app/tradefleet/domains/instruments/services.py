"""Finding instruments."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from tradefleet.domains.instruments.models import Instrument


def exists(session: Session, symbol: str) -> bool:
    """Return whether an instrument has this symbol."""
    return session.get(Instrument, symbol) is not None


def listed(session: Session) -> list[Instrument]:
    """Return all instruments, by symbol."""
    return list(session.scalars(select(Instrument).order_by(Instrument.symbol)))
