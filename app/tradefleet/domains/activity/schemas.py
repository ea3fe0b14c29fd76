"""The form of activity on the wire."""

import uuid

from pydantic import BaseModel, ConfigDict, Field

from tradefleet.platform.http.fields import Moment


class ActivityOut(BaseModel):
    """Something that happened to an order."""

    model_config = ConfigDict(from_attributes=True)

    id: uuid.UUID
    kind: str = Field(examples=["order.accepted"])
    order_id: uuid.UUID
    created_at: Moment


class ActivityPage(BaseModel):
    """A page of entries, the latest first."""

    items: list[ActivityOut]
    next_cursor: str | None = Field(description="Cursor of the next page; null on the last page.")
