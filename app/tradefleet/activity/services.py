"""Recording and finding what has happened."""

import uuid

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from tradefleet.activity.models import Activity
from tradefleet.orders.services import Position
from tradefleet.outbox import Event


def record(session: Session, event: Event) -> None:
    """Enter what has happened to an order. The caller commits."""
    trader_id, order_id = (uuid.UUID(event.payload[name]) for name in ("trader_id", "order_id"))
    session.add(
        Activity(id=event.id, trader_id=trader_id, order_id=order_id, kind=event.kind, created_at=event.created_at)
    )


def page(
    session: Session, trader_id: uuid.UUID, limit: int, after: Position | None
) -> tuple[list[Activity], Position | None]:
    """Return up to `limit` of what has happened, the latest first, and where to go on, or None at the end."""
    query = select(Activity).where(Activity.trader_id == trader_id)
    if after is not None:
        query = query.where(tuple_(Activity.created_at, Activity.id) < tuple_(after.created_at, after.id))
    query = query.order_by(Activity.created_at.desc(), Activity.id.desc()).limit(limit + 1)
    found = list(session.scalars(query))
    if len(found) <= limit:
        return found, None
    last = found[limit - 1]
    return found[:limit], Position(last.created_at, last.id)
