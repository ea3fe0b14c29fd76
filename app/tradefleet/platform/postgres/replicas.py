"""Reads from replicas, which always include the same trader's writes (ADR 5)."""

import logging
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar, get_args

from flask import Flask, current_app
from prometheus_client import Counter
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tradefleet.platform import deadline
from tradefleet.platform.breaker import Breaker
from tradefleet.platform.postgres.database import Database, DatabaseUnavailableError, run
from tradefleet.platform.redis.store import Store

HEADER = "TradeFleet-Read"
# The share of a request's budget for a replica; the rest is for the primary.
REPLICA_SECONDS = 0.8
# The wait for the primary if a replica is sufficient: a connection may take that long.
PRIMARY_SECONDS = 2.0
PAUSE_SECONDS = 1.0
# The pause after a failure of the primary, if a replica is sufficient.
PRIMARY_PAUSE_SECONDS = 2.0
# Longer than two budgets of a request: that of the marked write, and that of a read that began before it.
MARK_SECONDS = 20
# How long replicas are used for this trader before the primary is queried again.
POSITION_SECONDS = 60
_MARK = b"written"
_POSITION = re.compile(rb"[0-9A-F]{1,8}/[0-9A-F]{1,8}")

Source = Literal["primary", "replica"]
T = TypeVar("T")
log = logging.getLogger(__name__)

_READS = Counter("tradefleet_database_reads", "Reads that a replica may serve, by the server that did.", ["server"])
_BY_SERVER = {server: _READS.labels(server) for server in get_args(Source)}


class _BehindError(Exception):
    """The replica has not replayed all writes of this trader."""


@dataclass(frozen=True)
class Answer(Generic[T]):
    """The result of a read, and the kind of server that it is from."""

    value: T
    source: Source


class Replicas:
    """The Flask extension that decides for each read whether a replica may answer it.

    A trader's position is a place in PostgreSQL's log after all of the trader's writes; Redis stores it. Without it,
    and if the replica fails or has not reached it, the primary is used. This Redis must not evict keys: if a mark
    disappeared before its write is committed, a read would store a position without that write.
    """

    def __init__(self, database: Database, store: Store) -> None:
        """Set the extensions that have the engines and the positions."""
        self._database = database
        self._store = store

    def init_app(self, app: Flask) -> None:
        """Create a breaker for the replicas of `app`, and one for its primary if a replica is sufficient."""
        app.extensions["replica_breaker"] = Breaker(PAUSE_SECONDS)
        app.extensions["primary_breaker"] = Breaker(PRIMARY_PAUSE_SECONDS)

    def will_write(self, trader_id: uuid.UUID) -> None:
        """Direct the trader's reads to the primary for a while. Call this before the write is committed."""
        if self._database.replica is not None:
            self._store.current.put(_key(trader_id), _MARK, MARK_SECONDS)

    def read(self, trader_id: uuid.UUID, work: Callable[[Session], T]) -> Answer[T]:
        """Run `work`, which only reads, on a replica that has this trader's writes, or on the primary.

        Raises:
            DatabaseUnavailableError: the primary was needed and failed to respond.

        """
        found = self._read(trader_id, work)
        _BY_SERVER[found.source].inc()
        return found

    def _read(self, trader_id: uuid.UUID, work: Callable[[Session], T]) -> Answer[T]:
        replica = self._database.replica
        if replica is None:
            return Answer(self._database.read(work), "primary")
        position = self._store.current.get(_key(trader_id))
        if position is None:
            return self._read_and_note(trader_id, work)
        if not _POSITION.fullmatch(position):
            return Answer(self._database.read(work), "primary")
        found = self._try(replica, lambda session: _at(session, position.decode(), work))
        return found or Answer(self._database.read(work), "primary")

    def find(self, work: Callable[[Session], T | None]) -> T | None:
        """Run `work` on the primary or, if that is unreachable, on a replica with any lag.

        For a moment after a failure the replica is tried first, so that not every request waits for the primary. If no
        server responds, the request waits for the primary as long as its budget allows.

        Raises:
            DatabaseUnavailableError: the primary failed to respond, and a replica without the row proves nothing.

        """
        replica = self._database.replica
        if replica is None:
            return self._database.read(work)
        breaker: Breaker = current_app.extensions["primary_breaker"]
        if not breaker.allows() and (found := self._try(replica, work)) is not None:
            return found
        try:
            with deadline.budget(PRIMARY_SECONDS):
                answer = self._database.read(work)
        except DatabaseUnavailableError:
            breaker.failed()
            looked = self._try(replica, lambda session: Answer(work(session), "replica"))
            if looked is None:
                # No server responds, for example while all of them restart: the primary gets the rest of the budget.
                return self._database.read(work)
            if looked.value is None:
                raise
            return looked.value
        breaker.succeeded()
        return answer

    def _try(self, replica: Engine, work: Callable[[Session], T]) -> T | None:
        breaker: Breaker = current_app.extensions["replica_breaker"]
        if not breaker.allows():
            return None
        try:
            with deadline.budget(REPLICA_SECONDS):
                answer = run(replica, work, commit=False)
        except _BehindError:
            breaker.succeeded()
            return None
        except (DatabaseUnavailableError, SQLAlchemyError) as error:
            breaker.failed()
            log.warning("no replica answered", exc_info=error)
            return None
        except Exception:
            breaker.succeeded()  # an error of the work itself: the replica did respond
            raise
        breaker.succeeded()
        return answer

    def _read_and_note(self, trader_id: uuid.UUID, work: Callable[[Session], T]) -> Answer[T]:
        def look(session: Session) -> tuple[str, T]:
            # Before the work, because its result may lack what is committed later.
            position: str = session.execute(text("SELECT CAST(pg_current_wal_lsn() AS text)")).scalar_one()
            return position, work(session)

        position, value = self._database.read(look)
        # Not instead of a mark: a write that was marked after this read began may be beyond the position.
        self._store.current.put(_key(trader_id), position.encode(), POSITION_SECONDS, only_if_new=True)
        return Answer(value, "primary")


def _at(session: Session, position: str, work: Callable[[Session], T]) -> Answer[T]:
    """Run `work` on a server that has replayed `position`. The replica port leads to the primary as a last resort."""
    replays, has_it = session.execute(
        text("SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn() >= CAST(:position AS pg_lsn)"),
        {"position": position},
    ).one()
    if replays and not has_it:
        raise _BehindError
    return Answer(work(session), "replica" if replays else "primary")


def _key(trader_id: uuid.UUID) -> str:
    return f"tradefleet:position:{trader_id}"
