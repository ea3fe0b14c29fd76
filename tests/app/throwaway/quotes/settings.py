"""Settings of quotes."""

from dataclasses import dataclass

from tradefleet.platform.variables import digit, setting


@dataclass(frozen=True)
class QuoteSettings:
    """The limit of quotes in a response."""

    limit: int = setting("QUOTES_LIMIT", digit, "write how many quotes an answer has, 0 to 9", default=3)
