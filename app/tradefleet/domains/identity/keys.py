"""The operations on keys: add, revoke, list, and synchronize them with the inventory.

A revoked key leaves `api_keys`, so that every release rejects it, and stays in `revoked_api_keys`, so that it is never
added again.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from tradefleet.domains.identity.models import ApiKey, RevokedKey, Trader
from tradefleet.domains.identity.services import digest, is_key

# This much of a digest identifies a key in a log, and does not help to guess the key.
ID_LENGTH = 12
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ID = re.compile(rf"[0-9a-f]{{{ID_LENGTH}}}")


class InvalidKeyError(Exception):
    """The key or the trader's name is malformed or unknown; the message states the reason."""


@dataclass(frozen=True)
class Change:
    """A key that was added or revoked: the trader's name, and the beginning of the key's digest."""

    trader: str
    id: str


@dataclass(frozen=True)
class Changes:
    """The changes of `sync`. `adopted` are keys that the inventory manages from now on."""

    added: Sequence[Change] = ()
    adopted: Sequence[Change] = ()
    revoked: Sequence[Change] = ()


def add(session: Session, trader_name: str, key: str, *, from_inventory: bool = False) -> Change | None:
    """Ensure that the trader exists and has this key; return the change, None if the trader had it.

    Raises:
        InvalidKeyError: the name or the key has the wrong form, or the key was revoked or belongs to another trader.

    """
    _assert_form(trader_name, key)
    key_digest = digest(key)
    # Before the revoked keys are read, so that a key that is being revoked is found in one of the two.
    existing = session.scalars(select(ApiKey).where(ApiKey.digest == key_digest)).one_or_none()
    if existing is not None:
        if existing.trader.name != trader_name:
            raise InvalidKeyError("this key belongs to another trader")
        return None
    revoked = session.get(RevokedKey, key_digest)
    if revoked is not None:
        raise InvalidKeyError(
            f"this key was revoked at {revoked.revoked_at.isoformat(timespec='seconds')} by {revoked.revoked_by}, for"
            " good; make another one with: openssl rand -hex 32"
        )
    trader = session.scalars(select(Trader).where(Trader.name == trader_name)).one_or_none() or Trader(name=trader_name)
    session.add(ApiKey(trader=trader, digest=key_digest, from_inventory=from_inventory))
    return Change(trader_name, key_digest[:ID_LENGTH])


def sync(session: Session, wanted: Sequence[tuple[str, str]], by: str) -> Changes:
    """Add the keys that the inventory lists as (trader, key), and revoke those that it listed and no longer lists.

    Keys that a command added stay unchanged until the inventory lists them.

    Raises:
        InvalidKeyError: as for `add`, or a key is listed twice, or every key of the inventory would be revoked.

    """
    listed: dict[str, int] = {}
    added, adopted = [], []
    for number, (trader_name, key) in enumerate(wanted, start=1):
        try:
            change = add(session, trader_name, key, from_inventory=True)
            if (first := listed.setdefault(digest(key), number)) != number:
                raise InvalidKeyError(f"entry {first} has the same key")
        except InvalidKeyError as error:
            raise InvalidKeyError(f"entry {number} (trader {trader_name}): {error}") from error
        if change:
            added.append(change)
    for found in session.scalars(select(ApiKey).where(ApiKey.digest.in_(listed), ~ApiKey.from_inventory)):
        found.from_inventory = True
        adopted.append(_change(found))
    removed = session.scalars(select(ApiKey).where(ApiKey.from_inventory, ApiKey.digest.not_in(listed))).all()
    if removed and not listed:
        raise InvalidKeyError(
            f"the list is empty, and all {len(removed)} keys of the inventory would be revoked; if that is meant, use:"
            " tradefleet api-key revoke --trader NAME"
        )
    return Changes(added, adopted, _revoke(session, removed, by))


def revoke_key(session: Session, key: str, by: str) -> list[Change]:
    """Revoke this key; return it, or nothing if it was revoked already.

    Raises:
        InvalidKeyError: no trader has had this key.

    """
    return _revoke_where(session, ApiKey.digest == digest(key), RevokedKey.digest == digest(key), by)


def revoke_id(session: Session, key_id: str, by: str) -> list[Change]:
    """Revoke the key whose digest begins with this id, like `revoke_key`."""
    if not _ID.fullmatch(key_id):
        raise InvalidKeyError(f"an id is {ID_LENGTH} hexadecimal digits; see: tradefleet api-key list")
    return _revoke_where(session, ApiKey.digest.startswith(key_id), RevokedKey.digest.startswith(key_id), by)


def revoke_trader(session: Session, trader_name: str, by: str) -> list[Change]:
    """Revoke every key of the trader, like `revoke_key`."""
    mine = ApiKey.trader.has(Trader.name == trader_name)
    return _revoke_where(session, mine, RevokedKey.trader == trader_name, by)


def listing(session: Session) -> list[dict[str, object]]:
    """Return the metadata of every key, accepted keys first."""
    accepted = session.scalars(select(ApiKey).join(ApiKey.trader).order_by(Trader.name, ApiKey.created_at))
    revoked = session.scalars(select(RevokedKey).order_by(RevokedKey.revoked_at))
    return [
        {
            "trader": key.trader.name,
            "id": key.digest[:ID_LENGTH],
            "from_inventory": key.from_inventory,
            "created_at": key.created_at.isoformat(timespec="seconds"),
        }
        for key in accepted
    ] + [
        {
            "trader": key.trader,
            "id": key.digest[:ID_LENGTH],
            "created_at": key.created_at.isoformat(timespec="seconds"),
            "revoked_at": key.revoked_at.isoformat(timespec="seconds"),
            "revoked_by": key.revoked_by,
        }
        for key in revoked
    ]


def _assert_form(trader_name: str, key: str) -> None:
    if not _NAME.fullmatch(trader_name):
        raise InvalidKeyError("a trader's name is 1 to 64 letters, digits, dots, underscores or hyphens")
    if not is_key(key):
        raise InvalidKeyError(
            'a key is 32 to 256 characters out of A-Z, a-z, 0-9 and -._~+/, with "=" only at its end; make one with:'
            " openssl rand -hex 32"
        )


def _revoke_where(
    session: Session, accepted: ColumnElement[bool], revoked: ColumnElement[bool], by: str
) -> list[Change]:
    keys = session.scalars(select(ApiKey).where(accepted)).all()
    if not keys and session.scalars(select(RevokedKey).where(revoked)).first() is None:
        raise InvalidKeyError("no such key; see: tradefleet api-key list")
    return _revoke(session, keys, by)


def _revoke(session: Session, keys: Iterable[ApiKey], by: str) -> list[Change]:
    done = []
    for key in keys:
        done.append(_change(key))
        session.add(
            RevokedKey(digest=key.digest, trader=key.trader.name, created_at=key.created_at, revoked_by=by[:128])
        )
        session.delete(key)
    return done


def _change(key: ApiKey) -> Change:
    return Change(key.trader.name, key.digest[:ID_LENGTH])
