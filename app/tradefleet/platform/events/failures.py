"""Failed events: set aside so that other events are processed, and kept until an operator retries them."""

import uuid
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, String, Text, delete, func, insert, literal, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Mapped, Session, mapped_column

from tradefleet.platform.events.outbox import Event
from tradefleet.platform.postgres.columns import UtcDateTime
from tradefleet.platform.postgres.database import Base, DatabaseUnavailableError, OutcomeUnknownError

# The count ends here; more would need the same action.
COUNTED = 1000
REASON_CHARACTERS = 500
_PROGRAM_LIMIT_EXCEEDED = "54"


class FailedEvent(Base):
    """An event as it was in the outbox, with the time and the reason of its failure."""

    __tablename__ = "failed_events"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    payload: Mapped[Any] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    failed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    reason: Mapped[str] = mapped_column(Text)


def is_its_own(error: Exception) -> bool:
    """Return whether the event itself is the cause of the failure, not the database or the host."""
    cause = error.__cause__ if isinstance(error, DatabaseUnavailableError | OutcomeUnknownError) else error
    if isinstance(cause, DBAPIError):
        state = getattr(cause.orig, "sqlstate", None) or ""
        return isinstance(cause, DataError | IntegrityError) or state.startswith(_PROGRAM_LIMIT_EXCEEDED)
    return not isinstance(cause, PoolTimeout | OSError | MemoryError | None)


def set_aside(session: Session, event_id: uuid.UUID, error: Exception) -> bool:
    """Move an event out of the outbox; return False if it is gone or being processed. The caller commits.

    The database copies the row, so an event that cannot be read here is kept, too.
    """
    query = select(Event.id).where(Event.id == event_id).with_for_update(skip_locked=True)
    if session.scalars(query).one_or_none() is None:
        return False
    text = f"{type(error).__name__}: {error.__cause__ or error}".replace("\0", "")[:REASON_CHARACTERS]
    _move(
        session, Event, FailedEvent, [event_id], failed_at=literal(datetime.now(UTC), UtcDateTime), reason=literal(text)
    )
    return True


def count(session: Session) -> int:
    """Return how many events are set aside, up to COUNTED."""
    some = select(FailedEvent.id).limit(COUNTED).subquery()
    return session.scalar(select(func.count()).select_from(some)) or 0


def listed(session: Session) -> Sequence[Any]:
    """Return id, kind, created_at, failed_at and reason of each, the oldest first, up to COUNTED."""
    columns = (FailedEvent.id, FailedEvent.kind, FailedEvent.created_at, FailedEvent.failed_at, FailedEvent.reason)
    return session.execute(select(*columns).order_by(FailedEvent.failed_at).limit(COUNTED)).all()


def retry(session: Session, ids: Collection[uuid.UUID]) -> int:
    """Move these events, or up to COUNTED without any, back to the outbox; return their number. The caller commits."""
    query = select(FailedEvent.id).order_by(FailedEvent.failed_at).with_for_update(skip_locked=True)
    found = session.scalars(query.where(FailedEvent.id.in_(ids)) if ids else query.limit(COUNTED)).all()
    _move(session, FailedEvent, Event, found)
    return len(found)


def _move(session: Session, source: type[Base], target: type[Base], ids: Sequence[uuid.UUID], **more: Any) -> None:
    kept, of = ("id", "kind", "payload", "created_at"), source.__table__.c
    rows = select(*(of[name] for name in kept), *more.values()).where(of.id.in_(ids))
    session.execute(insert(target).from_select([*kept, *more], rows))
    session.execute(delete(source).where(of.id.in_(ids)), execution_options={"synchronize_session": False})
