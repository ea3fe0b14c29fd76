"""Facts for schemathesis that are not in the document: an instrument, unused keys, and the address of the name."""

import os
import socket
import uuid
from typing import Any

import schemathesis

# "name=address": the address of a name that no name server has, as for curl's --resolve.
NAME, _, ADDRESS = os.environ.get("CONTRACT_RESOLVE", "").partition("=")
_getaddrinfo = socket.getaddrinfo


def _resolve(host: Any, *arguments: Any, **options: Any) -> Any:
    return _getaddrinfo(ADDRESS if ADDRESS and host == NAME else host, *arguments, **options)


socket.getaddrinfo = _resolve


@schemathesis.hook
def before_call(_: Any, case: Any, __: Any) -> None:
    """Turn a valid order into one that can be placed: 422 is correct for an unknown symbol and for a used key."""
    if case.operation.label == "POST /v1/orders" and case.meta and case.meta.generation.mode.is_positive:
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
        if isinstance(case.body, dict):
            case.body["symbol"] = "AAPL"
