"""Placing and finding orders."""

import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from tradefleet.domains.instruments import services as instruments
from tradefleet.domains.orders.models import Order
from tradefleet.platform import paging
from tradefleet.platform.events import outbox
from tradefleet.platform.paging import Position

# The event of an order that was stored.
ACCEPTED = "order.accepted"

# ON CONFLICT belongs to each dialect; both have the same syntax.
_INSERT: dict[str, Callable[[type[Order]], postgresql.Insert | sqlite.Insert]] = {
    "postgresql": postgresql.insert,
    "sqlite": sqlite.insert,
}


class UnknownSymbolError(Exception):
    """No instrument has this symbol."""


class KeyReusedError(Exception):
    """The idempotency key belongs to another order."""


class OrderNotFoundError(Exception):
    """The trader has no such order."""


@dataclass(frozen=True)
class NewOrder:
    """A validated order of a trader. `limit_price` is None for a market order only.

    A field that a later release adds must have a default, the value of orders without it.
    """

    symbol: str
    side: Literal["buy", "sell"]
    type: Literal["market", "limit"]
    quantity: Decimal
    limit_price: Decimal | None

    def fingerprint(self) -> str:
        """Return 64 hexadecimal digits that are the same for equal orders, however they were written.

        Two releases may compute it for one order, if the client repeats it across a cutover. So a field with a default
        counts only if the order has another value, which a release without the field never receives.
        """
        optional = {each.name: each.default for each in fields(self) if each.default is not MISSING}
        values = {
            name: format(value.normalize(), "f") if isinstance(value, Decimal) else value
            for name, value in asdict(self).items()
            if name not in optional or value != optional[name]
        }
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Placed:
    """The stored order, and whether an earlier request had stored it."""

    order: Order
    is_replay: bool


def place(session: Session, trader_id: uuid.UUID, idempotency_key: str, new: NewOrder) -> Placed:
    """Store the order and its event, or find the order that this key stored before. The caller commits.

    Raises:
        UnknownSymbolError: no instrument has this symbol.
        KeyReusedError: the key stored an order that differs from this one.

    """
    if not instruments.exists(session, new.symbol):
        raise UnknownSymbolError(new.symbol)
    values = {
        **asdict(new),
        "id": uuid.uuid4(),
        "trader_id": trader_id,
        "idempotency_key": idempotency_key,
        "fingerprint": new.fingerprint(),
        "status": "accepted",
        "created_at": datetime.now(UTC),
    }
    insert = _INSERT[session.get_bind().dialect.name]
    stored = session.scalars(
        insert(Order)
        .values(values)
        .on_conflict_do_nothing(index_elements=[Order.trader_id, Order.idempotency_key])
        .returning(Order)
    ).one_or_none()
    if stored is not None:
        outbox.add(session, ACCEPTED, stored.created_at, order_id=stored.id, trader_id=trader_id)
        return Placed(stored, is_replay=False)
    # The lock makes this transaction write, so that its commit waits for the synchronous replica as the first
    # one did: a row whose commit was cut short, visible but not replicated, is never acknowledged on a retry.
    first = session.scalars(
        select(Order)
        .where(Order.trader_id == trader_id, Order.idempotency_key == idempotency_key)
        .with_for_update(read=True, key_share=True)
    ).one()
    if first.fingerprint != new.fingerprint():
        raise KeyReusedError(idempotency_key)
    return Placed(first, is_replay=True)


def find(session: Session, trader_id: uuid.UUID, order_id: uuid.UUID) -> Order:
    """Return the trader's order.

    Raises:
        OrderNotFoundError: no order has this id, or it belongs to another trader.

    """
    order = session.scalars(select(Order).where(Order.id == order_id, Order.trader_id == trader_id)).one_or_none()
    if order is None:
        raise OrderNotFoundError(order_id)
    return order


def page(
    session: Session, trader_id: uuid.UUID, limit: int, after: Position | None
) -> tuple[list[Order], Position | None]:
    """Return up to `limit` orders of the trader, newest first, and the cursor of the next page, or None at the end."""
    return paging.page(session, Order, Order.trader_id == trader_id, limit, after)
