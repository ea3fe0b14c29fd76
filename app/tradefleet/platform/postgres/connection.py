"""Connections to PostgreSQL that never wait longer than they may, whatever the server does."""

import logging
import select
import threading
import time
from typing import TypeVar

import psycopg
from psycopg import pq
from psycopg.abc import PQGen
from psycopg.conninfo import make_conninfo
from psycopg.pq.abc import PGconn

from tradefleet.platform import deadline
from tradefleet.platform.settings import Address, DatabaseSettings

# One deadline over all hosts together, in one round.
CONNECT_SECONDS = 2.0
# A primary is looked for this long, where the budget allows it: a planned switchover takes less.
PRIMARY_SECONDS = 6.0
# Between two attempts, while nobody lets us in.
PAUSE_SECONDS = 0.1
# What one answer may take where no budget runs.
ANSWER_SECONDS = 2.5
# Enough to roll back on a healthy connection when the budget has just run out.
GRACE_SECONDS = 0.1

T = TypeVar("T")
log = logging.getLogger(__name__)


class BoundedConnection(psycopg.Connection[tuple[object, ...]]):
    """A connection whose every wait ends with the running budget.

    Server-side timeouts cannot help when the server is frozen: only the client's own clock can. A connection
    that overran is closed, because an answer may still be on its way.
    """

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for the server as psycopg does, but not past the budget.

        Raises:
            psycopg.OperationalError: no answer in time; the connection is closed.

        """
        allowed = max(deadline.remaining(ANSWER_SECONDS), GRACE_SECONDS)
        try:
            return super().wait(gen, interval, allowed if timeout is None else min(timeout, allowed))
        except psycopg.Error as error:
            if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                self.pgconn.finish()
                raise psycopg.OperationalError("the server did not answer in time") from error
            raise


def _open(conninfo: str, seconds: float) -> PGconn:
    """Connect to one host.

    libpq's own connect_timeout counts whole seconds for each host and does not apply to non-blocking connects,
    so the deadline is kept here.
    """
    ends_at = time.monotonic() + seconds
    pgconn = pq.PGconn.connect_start(conninfo.encode())
    status = pq.PollingStatus.WRITING
    while status != pq.PollingStatus.OK:
        if pgconn.status == pq.ConnStatus.BAD or status == pq.PollingStatus.FAILED:
            message = pgconn.get_error_message()
            pgconn.finish()
            raise psycopg.OperationalError(message)
        waiter = select.poll()
        waiter.register(pgconn.socket, select.POLLIN if status == pq.PollingStatus.READING else select.POLLOUT)
        left = ends_at - time.monotonic()
        if left <= 0 or not waiter.poll(left * 1000):
            pgconn.finish()
            raise psycopg.OperationalError("no answer in time")
        status = pq.PollingStatus(pgconn.connect_poll())
    pgconn.nonblocking = 1
    return pgconn


class Connector:
    """Finds a usable server among the hosts, and remembers it for the next connection."""

    def __init__(
        self, settings: DatabaseSettings, hosts: tuple[Address, ...], *, writes: bool, options: str = ""
    ) -> None:
        """Take the hosts, whether only one that takes writes will do, and `options` as libpq takes them.

        A pooler refuses options: what bounds a session behind one is set for the database role.
        """
        self._hosts = list(hosts)
        self._tls_name = settings.tls_name
        self._writes = writes
        self._lock = threading.Lock()
        self._common = {
            "dbname": settings.name,
            "user": settings.user,
            "password": settings.password,
            "sslmode": "verify-full",
            "sslrootcert": settings.ca_file,
            "gssencmode": "disable",
            "application_name": "tradefleet",
            # One address is a proxy's, which has chosen. A pooler goes on telling what its server was when the first
            # client came, a replica perhaps, and libpq would believe it; a server that takes no writes says 25006.
            "target_session_attrs": "read-write" if writes and len(hosts) > 1 else "any",
            # The kernel gives up on a peer that vanished without a reset.
            "tcp_user_timeout": "2500",
            "keepalives_idle": "5",
            "keepalives_interval": "2",
            "keepalives_count": "2",
        } | ({"options": options} if options else {})

    def __call__(self) -> BoundedConnection:
        """Return a connection.

        Every host gets an equal share of the time of a round, so one that is silent cannot use up the others'. A host
        that takes writes is worth further rounds.

        Raises:
            psycopg.OperationalError: no host would do in time; the text gives each host's reason.

        """
        given_up_at = time.monotonic() + min(PRIMARY_SECONDS, deadline.remaining(CONNECT_SECONDS))
        while True:
            try:
                return self._connect(min(time.monotonic() + CONNECT_SECONDS, given_up_at))
            except psycopg.OperationalError:
                # During a switchover no primary exists, and a proxy rejects connections at once. A replica is
                # optional.
                if not self._writes or given_up_at - time.monotonic() <= PAUSE_SECONDS:
                    raise
            time.sleep(PAUSE_SECONDS)

    def _connect(self, ends_at: float) -> BoundedConnection:
        with self._lock:
            hosts = list(self._hosts)
        reasons = []
        for position, host in enumerate(hosts):
            share = (ends_at - time.monotonic()) / (len(hosts) - position)
            # libpq connects to hostaddr and verifies host.
            conninfo = make_conninfo(
                "", host=self._tls_name or host.host, hostaddr=host.host, port=host.port, **self._common
            )
            try:
                pgconn = _open(conninfo, share)
            except psycopg.OperationalError as error:
                reasons.append(f"{host.host}:{host.port}: {error}")
                continue
            self._prefer(host)
            connection = BoundedConnection(pgconn)
            # Behind a pooler the next transaction may have another server; after a migration, a plan another shape.
            connection.prepare_threshold = None
            return connection
        raise psycopg.OperationalError("no usable server found; " + "; ".join(reasons))

    def _prefer(self, found: Address) -> None:
        with self._lock:
            if self._hosts[0] != found:
                log.info("the database is at %s:%s", found.host, found.port)
                self._hosts.sort(key=lambda host: host != found)
