"""The outbox: events that are written in the transaction of a change, and deleted once their effect is applied.

A worker applies the effect of an event in the transaction that deletes it. So after any crash an event is either still
here, or its effect was applied once.
"""

import time
import uuid
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, Index, Select, String, delete, func, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from tradefleet.platform.postgres.columns import UtcDateTime
from tradefleet.platform.postgres.database import Base

# An event is committed within this time of its `created_at`: the budget of the transaction plus the clock difference.
LATE = timedelta(seconds=30)
# A count ends here; more would need the same action.
COUNTED = 1000
# How often a search begins at the start, for an event that was committed later, or that a dead worker was processing.
WHOLE_SECONDS = 60.0


class Event(Base):
    """Something that happened and whose effects are pending. The payload contains ids only."""

    __tablename__ = "outbox"
    __table_args__ = (Index(None, "created_at"),)

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    payload: Mapped[dict[str, str]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


def add(session: Session, kind: str, created_at: datetime, **ids: uuid.UUID) -> None:
    """Add an event in the caller's transaction, so that a worker sees it only after the commit."""
    payload = {name: str(value) for name, value in ids.items()}
    session.add(Event(id=uuid.uuid4(), kind=kind, payload=payload, created_at=created_at))


class Backlog:
    """The events of some kinds, or of all, as one process sees them: the oldest, and the oldest ones.

    During a long transaction, such as a dump, PostgreSQL keeps all rows that were deleted since it began, and a search
    from the start reads them all. So a search begins shortly before the time at which the last one found nothing.
    """

    def __init__(self, kinds: Collection[str] | None = None) -> None:
        """Set the kinds; None means all, even unknown ones."""
        self._kinds = kinds
        self._since: datetime | None = None
        self._whole_at = 0.0
        # Whether the last search from the start was complete. Otherwise an old event may be missing.
        self.is_whole = False

    def oldest(self, session: Session) -> datetime | None:
        """Return since when the oldest event has been waiting; None without events."""
        late = datetime.now(UTC) - LATE
        since = self._since or late
        is_due = time.monotonic() >= self._whole_at
        if is_due:
            # Set before the search, so that the next ones are short even if this one takes too long.
            self._whole_at = time.monotonic() + WHOLE_SECONDS
            self.is_whole = False
        found: datetime | None = session.scalar(self._select(Event.created_at, None if is_due else since).limit(1))
        self.is_whole = self.is_whole or is_due
        self._since = late if found is None else min(found, late)
        return found

    def count(self, session: Session) -> int:
        """Return how many events wait, up to COUNTED, from the oldest that the last search found."""
        some = self._select(Event.id, self._since).limit(COUNTED).subquery()
        return session.scalar(select(func.count()).select_from(some)) or 0

    def ids(self, session: Session, limit: int) -> Sequence[uuid.UUID]:
        """Return the ids of the oldest events, up to `limit`, from the oldest that the last search found."""
        return session.scalars(self._select(Event.id, self._since).limit(limit)).all()

    def take(self, session: Session, limit: int) -> Sequence[Event]:
        """Take the oldest events, up to `limit`, except those that another worker is processing.

        The caller's commit deletes them. A kind that only a newer release knows waits for a worker of that release.
        """
        query = self._select(Event, self._since).limit(limit).with_for_update(skip_locked=True)
        events = session.scalars(query).all()
        if events:
            _delete(session, [event.id for event in events])
        return events

    def _select(self, what: Any, since: datetime | None) -> Select[Any]:
        query = select(what).order_by(Event.created_at)
        if self._kinds is not None:
            query = query.where(Event.kind.in_(self._kinds))
        return query if since is None else query.where(Event.created_at >= since)


def take_one(session: Session, event_id: uuid.UUID) -> Event | None:
    """Take one event; return None if it is gone or being processed."""
    query = select(Event).where(Event.id == event_id).with_for_update(skip_locked=True)
    event = session.scalars(query).one_or_none()
    if event is not None:
        _delete(session, [event_id])
    return event


def _delete(session: Session, ids: Sequence[uuid.UUID]) -> None:
    session.execute(delete(Event).where(Event.id.in_(ids)), execution_options={"synchronize_session": False})


def waiting(backlog: Backlog, session: Session) -> tuple[float | None, int | None]:
    """Return for how long the oldest event has been waiting, and how many wait: 0 without events, None if unknown."""
    oldest = backlog.oldest(session)
    if not backlog.is_whole:
        return None, None
    if oldest is None:
        return 0.0, 0
    return max(0.0, round((datetime.now(UTC) - oldest).total_seconds(), 1)), backlog.count(session)
