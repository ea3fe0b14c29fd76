"""The form of quotes on the wire."""

from pydantic import BaseModel


class QuoteList(BaseModel):
    """The number of quotes."""

    count: int


class QuoteOut(BaseModel):
    """One quote, with the ID in the path."""

    symbol: str
    number: int
