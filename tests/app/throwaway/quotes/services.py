"""Noting and counting quotes."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from tradefleet.platform.events.outbox import Event

from .models import Quote


def note(session: Session, event: Event) -> None:
    """Note an order that was accepted. The caller commits."""
    session.add(Quote(id=event.id))


def count(session: Session, limit: int) -> int:
    """Return how many quotes there are, `limit` at the most."""
    return min(limit, session.scalar(select(func.count()).select_from(Quote)) or 0)
