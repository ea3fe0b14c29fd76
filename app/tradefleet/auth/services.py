"""Which trader a key belongs to, and how a trader gets one."""

import hashlib
import json
import re
import uuid
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from tradefleet.auth.models import ApiKey, Trader
from tradefleet.store import RedisStore

CACHE_SECONDS = 30
_KEY = re.compile(r"[\x21-\x7e]{32,256}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class InvalidKeyError(Exception):
    """The key or the trader's name cannot be used; the text says why."""


@dataclass(frozen=True)
class Principal:
    """The trader that a request acts for."""

    trader_id: uuid.UUID
    name: str


def digest(key: str) -> str:
    """Return what is stored of a key: 64 hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


def find_principal(session: Session, key_digest: str) -> Principal | None:
    """Return whose key this is, or None."""
    row = session.execute(
        select(Trader.id, Trader.name).join(ApiKey, ApiKey.trader_id == Trader.id).where(ApiKey.digest == key_digest)
    ).one_or_none()
    return Principal(row.id, row.name) if row else None


def recall(cache: RedisStore, key_digest: str) -> Principal | None:
    """Return what the cache knows of a key; anything it cannot make sense of is a miss."""
    found = cache.get(_cache_key(key_digest))
    if found is None:
        return None
    try:
        content = json.loads(found)
        return Principal(uuid.UUID(content["trader_id"]), str(content["name"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def remember(cache: RedisStore, key_digest: str, principal: Principal) -> None:
    """Keep an answer for a while: this long a removed key may still work."""
    content = json.dumps({"trader_id": str(principal.trader_id), "name": principal.name})
    cache.put(_cache_key(key_digest), content.encode(), CACHE_SECONDS)


def _cache_key(key_digest: str) -> str:
    return f"tradefleet:principal:{key_digest}"


def ensure_key(session: Session, trader_name: str, key: str) -> bool:
    """Make sure that the trader exists and has this key; return whether anything had to be stored.

    Raises:
        InvalidKeyError: the name or the key has the wrong form, or the key belongs to another trader.

    """
    if not _NAME.fullmatch(trader_name):
        raise InvalidKeyError("a trader's name is 1 to 64 letters, digits, dots, underscores or hyphens")
    if not _KEY.fullmatch(key):
        raise InvalidKeyError("a key is 32 to 256 visible ASCII characters; make one with: openssl rand -hex 32")
    key_digest = digest(key)
    owner = find_principal(session, key_digest)
    if owner is not None:
        if owner.name != trader_name:
            raise InvalidKeyError("this key belongs to another trader")
        return False
    trader = session.scalars(select(Trader).where(Trader.name == trader_name)).one_or_none() or Trader(name=trader_name)
    session.add(ApiKey(trader=trader, digest=key_digest))
    return True
