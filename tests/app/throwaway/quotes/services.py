"""Storing and counting quotes."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from tradefleet.platform.events.outbox import Event

from .models import Quote


def note(session: Session, event: Event) -> None:
    """Store a quote of an accepted order. The caller commits."""
    session.add(Quote(id=event.id))


def count(session: Session, limit: int) -> int:
    """Return the number of quotes, at most `limit`."""
    return min(limit, session.scalar(select(func.count()).select_from(Quote)) or 0)
