"""The form of quotes on the wire."""

from pydantic import BaseModel


class QuoteList(BaseModel):
    """How many quotes there are."""

    count: int


class QuoteOut(BaseModel):
    """One quote, as the path names it."""

    symbol: str
    number: int
