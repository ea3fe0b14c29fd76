"""The form of orders on the wire."""

import base64
import binascii
import re
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema, model_validator

from tradefleet.orders.models import Order
from tradefleet.orders.services import NewOrder, Position
from tradefleet.problems import ProblemError

# Above 0 and at most 1000000000, with at most 8 decimals; no sign, no exponent, no NaN. All of it is in the pattern, so
# that it is in the OpenAPI document, and bounds the length of the text before it becomes a number.
_FRACTION = "|".join(f"0{{{zeros}}}[1-9][0-9]{{0,{7 - zeros}}}" for zeros in range(8))
_AMOUNT = rf"^(0{{0,9}}[1-9][0-9]{{0,8}}(\.[0-9]{{1,8}})?|0{{1,10}}\.({_FRACTION})|0{{0,9}}1000000000(\.0{{1,8}})?)$"


def _amount(value: Any) -> Decimal:
    if not isinstance(value, str):
        raise ValueError("write the amount as a string, so that no digit is lost")
    if not re.fullmatch(_AMOUNT, value, re.ASCII):
        raise ValueError("write digits with at most 8 decimals, like 12.5, above 0 and at most 1000000000")
    return Decimal(value)


def _plain(amount: Decimal) -> str:
    return format(amount.normalize(), "f")


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


Amount = Annotated[
    Decimal,
    BeforeValidator(_amount),
    PlainSerializer(_plain, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _AMOUNT, "examples": ["12.5"]}),
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


def _by_type(schema: dict[str, Any]) -> None:
    """Describe an order as one of two objects: what _price_fits_type checks."""
    fields, required = schema.pop("properties"), schema.pop("required")
    closed = {"type": "object", "additionalProperties": schema.pop("additionalProperties")}
    price: dict[str, Any] = fields["limit_price"]
    amount = next(option for option in price["anyOf"] if option["type"] == "string")
    named = {name: value for name, value in price.items() if name == "description"}
    limit = {"type": {"const": "limit"}, "limit_price": amount | named}
    market = {"type": {"const": "market"}, "limit_price": {"type": "null"} | named}
    schema["oneOf"] = [
        closed | {"title": "LimitOrder", "properties": fields | limit, "required": [*required, "limit_price"]},
        closed | {"title": "MarketOrder", "properties": fields | market, "required": required},
    ]


class OrderIn(BaseModel):
    """An order to place."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_by_type)

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


class PageQuery(BaseModel):
    """Which page of orders."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=200)
    cursor: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9_-]{86,200}$", description="next_cursor of the page before."
    )

    def position(self) -> Position | None:
        """Return where the page begins; None for the first page.

        Raises:
            ProblemError: 404, the cursor names no page of this API.

        """
        if self.cursor is None:
            return None
        padded = self.cursor + "=" * (-len(self.cursor) % 4)
        try:
            # A page may have come from another release, whose cursor says more.
            moment, order_id, *_ = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii").split(" ")
            return Position(datetime.fromisoformat(moment).astimezone(UTC), uuid.UUID(order_id))
        except (ValueError, OverflowError, binascii.Error) as error:
            raise ProblemError(HTTPStatus.NOT_FOUND, "This cursor names no page; use next_cursor.") from error


class OrderPage(BaseModel):
    """A page of orders, newest first."""

    items: list[OrderOut]
    next_cursor: str | None = Field(description="Where to go on; null on the last page.")
