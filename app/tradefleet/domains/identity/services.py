"""Finding the trader of a key, and the form of keys."""

import hashlib
import json
import re
import time
import uuid

from sqlalchemy import select
from sqlalchemy.orm import Session

from tradefleet.domains.identity.models import ApiKey, Trader
from tradefleet.platform.http.guard import Principal
from tradefleet.platform.redis.store import RedisStore

# A revoked key may be accepted for this long, plus the time in which the cache stores a result (store.py). A revocation
# does not change the cache, so it works without Redis.
CACHE_SECONDS = 0.5
# The b64token of RFC 6750: "=" only at the end.
_KEY = re.compile(r"(?=.{32,256}$)[A-Za-z0-9._~+/-]+=*")
# RFC 9110: the scheme in upper or lower case, then spaces, but no tabs.
_CREDENTIALS = re.compile(r"bearer +([^ ]+)", re.IGNORECASE)


def is_key(text: str) -> bool:
    """Return whether the text has the form of a key."""
    return bool(_KEY.fullmatch(text))


def key_in(authorization: str) -> str | None:
    """Return the key in the value of an Authorization header, or None if it has no well-formed key."""
    found = _CREDENTIALS.fullmatch(authorization.strip(" \t"))
    return found[1] if found and is_key(found[1]) else None


def digest(key: str) -> str:
    """Return what is stored of a key: 64 hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


def find_principal(session: Session, key_digest: str) -> Principal | None:
    """Return the trader of this key, or None."""
    row = session.execute(
        select(Trader.id, Trader.name).join(ApiKey, ApiKey.trader_id == Trader.id).where(ApiKey.digest == key_digest)
    ).one_or_none()
    return Principal(row.id, row.name) if row else None


def recall(cache: RedisStore, key_digest: str) -> Principal | None:
    """Return the cached result for a key; an unreadable one is a miss."""
    found = cache.get(_cache_key(key_digest))
    if found is None:
        return None
    try:
        content = json.loads(found)
        return Principal(uuid.UUID(content["trader_id"]), str(content["name"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def remember(cache: RedisStore, key_digest: str, principal: Principal, asked_at: float) -> None:
    """Cache the result of a query from `asked_at` (monotonic) until it is CACHE_SECONDS old."""
    left = asked_at + CACHE_SECONDS - time.monotonic()
    if left > 0:
        content = json.dumps({"trader_id": str(principal.trader_id), "name": principal.name})
        cache.put(_cache_key(key_digest), content.encode(), left)


def _cache_key(key_digest: str) -> str:
    # The 2 separates these from the entries of older releases, which stay for 30 s.
    return f"tradefleet:principal:2:{key_digest}"
