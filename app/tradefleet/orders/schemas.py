"""The form of orders on the wire."""

import base64
import binascii
import re
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema, model_validator

from tradefleet.orders.models import Order
from tradefleet.orders.services import NewOrder, Position

MAXIMUM = Decimal(10) ** 9
# No sign, no exponent, no NaN. The length of the text is bounded before it becomes a number.
_DECIMAL = r"^[0-9]{1,10}(\.[0-9]{1,8})?$"


def _amount(value: Any) -> Decimal:
    if not isinstance(value, str):
        raise ValueError("write the amount as a string, so that no digit is lost")
    if not re.fullmatch(_DECIMAL, value, re.ASCII):
        raise ValueError("write digits with at most 8 decimals, like 12.5")
    amount = Decimal(value)
    if not 0 < amount <= MAXIMUM:
        raise ValueError("the amount is above 0 and at most 1000000000")
    return amount


def _plain(amount: Decimal) -> str:
    return format(amount.normalize(), "f")


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


Amount = Annotated[
    Decimal,
    BeforeValidator(_amount),
    PlainSerializer(_plain, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _DECIMAL, "examples": ["12.5"]}),
]
StoredAmount = Annotated[Decimal, PlainSerializer(_plain, return_type=str)]
Moment = Annotated[
    datetime, PlainSerializer(_rfc3339, return_type=str), WithJsonSchema({"type": "string", "format": "date-time"})
]


class InstrumentOut(BaseModel):
    """Something that can be traded."""

    model_config = ConfigDict(from_attributes=True)

    symbol: str


class InstrumentList(BaseModel):
    """All that can be traded, by symbol."""

    items: list[InstrumentOut]


class OrderIn(BaseModel):
    """An order to place."""

    model_config = ConfigDict(extra="forbid", strict=True)

    symbol: str = Field(min_length=1, max_length=20, pattern=r"^[A-Z0-9.-]+$", examples=["AAPL"])
    side: Literal["buy", "sell"]
    type: Literal["market", "limit"]
    quantity: Amount
    limit_price: Amount | None = Field(default=None, description="Required for a limit order, refused for a market one")

    @model_validator(mode="after")
    def _price_fits_type(self) -> Self:
        if (self.type == "limit") != (self.limit_price is not None):
            raise ValueError("limit_price is required for a limit order and refused for a market order")
        return self

    def to_new_order(self) -> NewOrder:
        """Return the values for the service."""
        return NewOrder(self.symbol, self.side, self.type, self.quantity, self.limit_price)


class OrderHeaders(BaseModel):
    """The headers that placing an order needs."""

    idempotency_key: str = Field(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,128}$",
        description="Names this order; the same key with the same body gives the first answer again.",
    )


class OrderOut(BaseModel):
    """An accepted order."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    symbol: str
    side: Literal["buy", "sell"]
    type: Literal["market", "limit"]
    quantity: StoredAmount
    limit_price: StoredAmount | None
    status: str
    created_at: Moment

    @classmethod
    def of(cls, order: Order) -> Self:
        """Return the form of a stored order."""
        return cls.model_validate(order)


def encode_cursor(position: Position) -> str:
    """Return a text that callers hand back unchanged."""
    return base64.urlsafe_b64encode(f"{_rfc3339(position.created_at)} {position.id}".encode()).decode().rstrip("=")


def _decode_cursor(value: Any) -> Position:
    try:
        padded = str(value) + "=" * (-len(str(value)) % 4)
        # A page may have come from another release, whose cursor says more.
        moment, order_id, *_ = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii").split(" ")
        position = Position(datetime.fromisoformat(moment).astimezone(UTC), uuid.UUID(order_id))
    except (ValueError, OverflowError, binascii.Error) as error:
        raise ValueError("this cursor was not given out by this API") from error
    return position


class PageQuery(BaseModel):
    """Which page of orders."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=200)
    cursor: Annotated[Position, BeforeValidator(_decode_cursor), WithJsonSchema({"type": "string"})] | None = Field(
        default=None, description="next_cursor of the page before."
    )


class OrderPage(BaseModel):
    """A page of orders, newest first."""

    items: list[OrderOut]
    next_cursor: str | None = Field(description="Where to go on; null on the last page.")
