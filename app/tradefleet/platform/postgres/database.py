"""The database: its engines, and units of work with a known outcome or an error that states that it is unknown."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from flask import Flask, current_app
from sqlalchemy import Engine, MetaData, create_engine, event, text
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, Session

from tradefleet.platform import deadline
from tradefleet.platform.postgres.connection import Connector
from tradefleet.platform.postgres.pool import MeasuredPool, measure
from tradefleet.platform.settings import DatabaseSettings

POOL_SIZE = 8
# The pool has one fixed wait. A short one, repeated, ends with the request's budget.
POOL_SECONDS = 0.2
# A pooled connection is replaced after this time. The proxy keeps sessions for longer, so pooled connections are open;
# and after a minute no connection leads to a server that was replaced.
RECYCLE_SECONDS = 60
# Requests queue behind a migration that waits for a lock, so it must give up before they do (2 s, the lock_timeout of
# their database role), but after PostgreSQL has canceled an autovacuum that blocks it (1 s, deadlock_timeout).
MIGRATION_LOCK_MILLISECONDS = 1500
# The server checks for its client during a statement, so a killed run keeps no lock.
_MIGRATION_OPTIONS = f"-c lock_timeout={MIGRATION_LOCK_MILLISECONDS}ms -c client_connection_check_interval=5s"
# The server has lost the role that this connection needs: read-only transaction, shutdown, crash, cannot connect now,
# and in recovery (for the position of a primary).
_NOT_USABLE = {"25006", "57P01", "57P02", "57P03", "55000"}

T = TypeVar("T")
log = logging.getLogger(__name__)


class Base(DeclarativeBase):
    """The base of all models. It fixes the names of constraints, which are part of the schema."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class DatabaseUnavailableError(Exception):
    """The database failed, and nothing was stored."""


class OutcomeUnknownError(Exception):
    """The connection broke during the commit: the work may be stored or not."""


def _mark_lost_server(context: ExceptionContext) -> None:
    state = getattr(context.original_exception, "sqlstate", None) or ""
    if state in _NOT_USABLE or state.startswith("08"):
        context.is_disconnect = True  # SQLAlchemy then drops every pooled connection, not only this one


def make_engine(settings: DatabaseSettings, folder: Path, *, for_migrations: bool = False) -> Engine:
    """Return an engine that connects on first use: to the primary, or, without hosts, to SQLite in `folder`.

    Requests set no limits on the server: those are settings of the database role, which also work behind a pooler.
    Migrations set limits, and need a direct connection.
    """
    if not settings.hosts:
        engine = create_engine(
            f"sqlite:///{folder}/tradefleet.sqlite3", connect_args={"timeout": 2}, hide_parameters=True
        )
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=ON"))
        return engine
    options = _MIGRATION_OPTIONS if for_migrations else ""
    connector = Connector(settings, settings.hosts, writes=True, options=options)
    return _engine(connector, "primary", 1 if for_migrations else POOL_SIZE)


def make_replica_engine(settings: DatabaseSettings) -> Engine | None:
    """Return an engine for reads that need no primary, or None if all reads use the primary."""
    if not settings.hosts or not settings.replicas:
        return None
    return _engine(Connector(settings, settings.replicas, writes=False), "replica", POOL_SIZE)


def _engine(connector: Connector, server: str, size: int) -> Engine:
    engine = create_engine(
        "postgresql+psycopg://",
        creator=connector,
        poolclass=MeasuredPool,
        pool_logging_name=server,
        pool_size=size,
        max_overflow=0,
        pool_timeout=POOL_SECONDS,
        pool_recycle=RECYCLE_SECONDS,
        use_native_hstore=False,  # saves a query on each new connection
        hide_parameters=True,  # the text of an error is logged, without values
    )
    event.listen(engine, "handle_error", _mark_lost_server)
    measure(engine, server, size)
    return engine


class Database:
    """The Flask extension that gives each application its engines."""

    def init_app(self, app: Flask, settings: DatabaseSettings) -> None:
        """Create the engines of `app`; nothing connects yet."""
        app.extensions["database"] = make_engine(settings, Path(app.instance_path))
        app.extensions["replica"] = make_replica_engine(settings)

    @property
    def engine(self) -> Engine:
        """The engine of the current application."""
        engine: Engine = current_app.extensions["database"]
        return engine

    @property
    def replica(self) -> Engine | None:
        """The engine for reads that need no primary; None if no replicas are configured."""
        engine: Engine | None = current_app.extensions["replica"]
        return engine

    def read(self, work: Callable[[Session], T]) -> T:
        """Run `work` and roll back, for work that only reads.

        Raises:
            DatabaseUnavailableError: the database failed to respond.

        """
        return run(self.engine, work, commit=False)

    def transact(self, work: Callable[[Session], T], *, idempotent: bool = False) -> T:
        """Run `work` in one transaction and commit it.

        `work` may run twice, but is committed once. If it is `idempotent`, a second run finds what the first one
        stored. Then it is also repeated after a commit without a response, to learn the outcome.

        Raises:
            DatabaseUnavailableError: nothing was stored.
            OutcomeUnknownError: the commit was sent, and no response arrived.

        """
        return run(self.engine, work, commit=True, idempotent=idempotent)


def run(engine: Engine, work: Callable[[Session], T], *, commit: bool, idempotent: bool = False) -> T:
    """Run `work` as `Database.read` and `Database.transact` describe, on any engine.

    A connection that broke in the pool fails at its first statement, and all pooled connections are dropped. Then the
    work runs once more, on a new connection, if the budget allows that.
    """
    may_repeat = True
    doubt: SQLAlchemyError | None = None
    while True:
        with _session(engine) as session:
            try:
                result = work(session)
                if not commit:
                    return result
                session.flush()
                _let_commit_wait(session)
            except PoolTimeout as error:
                if deadline.remaining(0) <= POOL_SECONDS:
                    raise _failure("every connection is in use", doubt) from error
                continue
            except (OperationalError, InterfaceError, InternalError) as error:
                if not may_repeat or not error.connection_invalidated:
                    raise _failure("the work failed before its commit", doubt) from error
                log.warning("a pooled connection was dead; trying once more", exc_info=error)
                may_repeat = False
                continue
            try:
                session.commit()
            except SQLAlchemyError as error:
                if not (idempotent and may_repeat):
                    raise _failure("the commit failed", error) from error
                log.warning("the commit failed; the work is repeated to learn its outcome", exc_info=error)
                may_repeat = False
                doubt = error
                continue
            return result


@contextmanager
def _session(engine: Engine) -> Iterator[Session]:
    """Yield a session. If the connection breaks in the rollback at its end, the result is still valid."""
    session = Session(engine, expire_on_commit=False)
    try:
        yield session
    finally:
        try:
            session.close()
        except SQLAlchemyError as error:
            log.warning("a connection broke when its session ended", exc_info=error)
            session.invalidate()


def _failure(reason: str, doubt: SQLAlchemyError | None) -> DatabaseUnavailableError | OutcomeUnknownError:
    """Return the error to raise: once a commit was sent, a failure does not prove that nothing was stored."""
    return OutcomeUnknownError(reason) if doubt else DatabaseUnavailableError(reason)


def _let_commit_wait(session: Session) -> None:
    """Disable the statement timeout for the commit that follows.

    It would end the commit's wait for the synchronous replica, and PostgreSQL would report success for a transaction
    that only the primary has. The client's budget ends the wait instead, with an error.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SET LOCAL statement_timeout = 0"))
