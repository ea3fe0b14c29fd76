"""What an operator can set of quotes."""

from dataclasses import dataclass

from tradefleet.platform.variables import digit, setting


@dataclass(frozen=True)
class QuoteSettings:
    """How many quotes an answer has."""

    limit: int = setting("QUOTES_LIMIT", digit, "write how many quotes an answer has, 0 to 9", default=3)
