"""Recording and finding activity."""

import uuid

from sqlalchemy.orm import Session

from tradefleet.domains.activity.models import Activity
from tradefleet.platform import paging
from tradefleet.platform.events.outbox import Event
from tradefleet.platform.paging import Position


def record(session: Session, event: Event) -> None:
    """Record what happened to an order. The caller commits."""
    trader_id, order_id = (uuid.UUID(event.payload[name]) for name in ("trader_id", "order_id"))
    session.add(
        Activity(id=event.id, trader_id=trader_id, order_id=order_id, kind=event.kind, created_at=event.created_at)
    )


def page(
    session: Session, trader_id: uuid.UUID, limit: int, after: Position | None
) -> tuple[list[Activity], Position | None]:
    """Return up to `limit` entries, the latest first, and the cursor of the next page, or None at the end."""
    return paging.page(session, Activity, Activity.trader_id == trader_id, limit, after)
