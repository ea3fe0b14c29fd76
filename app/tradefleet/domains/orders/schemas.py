"""The form of orders on the wire."""

import uuid
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tradefleet.domains.orders.models import Order
from tradefleet.domains.orders.services import NewOrder
from tradefleet.platform.http.fields import Amount, Moment, StoredAmount


def _by_type(schema: dict[str, Any]) -> None:
    """Describe an order as one of two objects, as _price_fits_type checks it."""
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
    limit_price: Amount | None = Field(
        default=None, description="Required for a limit order, rejected for a market one"
    )

    @model_validator(mode="after")
    def _price_fits_type(self) -> Self:
        if (self.type == "limit") != (self.limit_price is not None):
            raise ValueError("limit_price is required for a limit order and rejected for a market order")
        return self

    def to_new_order(self) -> NewOrder:
        """Return the values for the service."""
        return NewOrder(self.symbol, self.side, self.type, self.quantity, self.limit_price)


class OrderHeaders(BaseModel):
    """The headers that placing an order needs."""

    idempotency_key: str = Field(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,128}$",
        description="Names this order; the same key with the same body returns the first result again.",
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


class OrderPage(BaseModel):
    """A page of orders, newest first."""

    items: list[OrderOut]
    next_cursor: str | None = Field(description="Cursor of the next page; null on the last page.")
