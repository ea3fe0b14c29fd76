"""The form of instruments on the wire."""

from pydantic import BaseModel, ConfigDict


class InstrumentOut(BaseModel):
    """Something that can be traded."""

    model_config = ConfigDict(from_attributes=True)

    symbol: str


class InstrumentList(BaseModel):
    """All instruments, by symbol."""

    items: list[InstrumentOut]
