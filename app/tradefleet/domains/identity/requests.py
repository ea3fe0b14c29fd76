"""From a request's Authorization header to its trader."""

import time
from http import HTTPStatus

from tradefleet.domains.identity import services
from tradefleet.platform.extensions import cache, replicas
from tradefleet.platform.http.guard import Principal
from tradefleet.platform.http.problems import ProblemError


def identify(authorization: str) -> Principal:
    """Return the trader of the key in the header, from the cache for a moment, otherwise from the database.

    Raises:
        ProblemError: 401, without a key, or if no trader has it.
        DatabaseUnavailableError: neither the primary nor a replica responded.

    """
    key = services.key_in(authorization)
    if key is None:
        raise _refusal("Bearer")
    key_digest = services.digest(key)
    principal = services.recall(cache.current, key_digest)
    if principal is None:
        asked_at = time.monotonic()
        principal = replicas.find(lambda session: services.find_principal(session, key_digest))
        if principal is None:
            raise _refusal('Bearer error="invalid_token"')
        services.remember(cache.current, key_digest, principal, asked_at)
    return principal


def _refusal(challenge: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.UNAUTHORIZED,
        "Send a valid API key as: Authorization: Bearer <key>",
        headers={"WWW-Authenticate": challenge},
    )
