"""The form of amounts and moments on the wire."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

# Above 0 and at most 1000000000, with at most 8 decimals; no sign, no exponent, no NaN. The pattern states all of it,
# so the OpenAPI document does, too, and the length of the text is limited before it becomes a number.
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


def rfc3339(moment: datetime) -> str:
    """Return the moment in UTC with microseconds, as 2026-01-02T03:04:05.678901Z."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


Amount = Annotated[
    Decimal,
    BeforeValidator(_amount),
    PlainSerializer(_plain, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _AMOUNT, "examples": ["12.5"]}),
]
StoredAmount = Annotated[Decimal, PlainSerializer(_plain, return_type=str)]
Moment = Annotated[
    datetime, PlainSerializer(rfc3339, return_type=str), WithJsonSchema({"type": "string", "format": "date-time"})
]
