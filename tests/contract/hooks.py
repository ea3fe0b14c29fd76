"""What schemathesis must know besides the document: an instrument, a key that is new, and where the name leads."""

import os
import socket
import uuid
from typing import Any

import schemathesis

# "name=address": the address of a name that no server of names has, as curl's --resolve.
NAME, _, ADDRESS = os.environ.get("CONTRACT_RESOLVE", "").partition("=")
_getaddrinfo = socket.getaddrinfo


def _resolve(host: Any, *arguments: Any, **options: Any) -> Any:
    return _getaddrinfo(ADDRESS if ADDRESS and host == NAME else host, *arguments, **options)


socket.getaddrinfo = _resolve


@schemathesis.hook
def before_call(_: Any, case: Any, __: Any) -> None:
    """Make a good order one that can be placed: a 422 is the right answer to an unknown symbol and to a used key."""
    if case.operation.label == "POST /v1/orders" and case.meta and case.meta.generation.mode.is_positive:
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
        if isinstance(case.body, dict):
            case.body["symbol"] = "AAPL"
