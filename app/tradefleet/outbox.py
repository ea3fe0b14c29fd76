"""The outbox: what must happen after a commit, written in its transaction, and gone once it has happened.

Whoever takes events applies their effects in the same transaction that deletes them: whatever dies, an event is either
still here or has had its effect, once.
"""

import uuid
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from sqlalchemy import JSON, Index, String, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from tradefleet.columns import UtcDateTime
from tradefleet.database import Base


class Event(Base):
    """Something that has happened, and whose effects are still to come. The payload has ids only."""

    __tablename__ = "outbox"
    __table_args__ = (Index(None, "created_at"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    payload: Mapped[dict[str, str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


def add(session: Session, kind: str, created_at: datetime, **ids: uuid.UUID) -> None:
    """Have a worker hear of this, if and only if the caller's transaction is committed."""
    payload = {name: str(value) for name, value in ids.items()}
    session.add(Event(id=uuid.uuid4(), kind=kind, payload=payload, created_at=created_at))


def take(session: Session, kinds: Collection[str], limit: int) -> Sequence[Event]:
    """Take the oldest events of these kinds, up to `limit`, past those that another worker has in hand.

    They are gone when the caller commits. A kind that only a newer release knows waits for its worker.
    """
    events = session.scalars(
        select(Event)
        .where(Event.kind.in_(kinds))
        .order_by(Event.created_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if events:
        session.execute(
            delete(Event).where(Event.id.in_([event.id for event in events])),
            execution_options={"synchronize_session": False},
        )
    return events


def waiting_seconds(session: Session) -> float:
    """Return for how long the oldest event has been waiting; 0 where there is none."""
    oldest = session.scalar(select(func.min(Event.created_at)))
    return 0.0 if oldest is None else max(0.0, round((datetime.now(UTC) - oldest).total_seconds(), 1))
