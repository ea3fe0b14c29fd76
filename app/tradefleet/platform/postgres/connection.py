"""Connections to PostgreSQL that never exceed their time limit, whatever the server does."""

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

# For all hosts together, in one round.
CONNECT_SECONDS = 2.0
# A primary is awaited for this long, if the budget allows it: a switchover takes less.
PRIMARY_SECONDS = 6.0
# Between two attempts, while no host accepts the connection.
PAUSE_SECONDS = 0.1
# For one response without a budget.
ANSWER_SECONDS = 2.5
# Enough for a rollback on a healthy connection after the budget is spent.
GRACE_SECONDS = 0.1

T = TypeVar("T")
log = logging.getLogger(__name__)


class BoundedConnection(psycopg.Connection[tuple[object, ...]]):
    """A connection on which every wait ends with the running budget.

    Server-side timeouts do not work if the server is frozen, so the client measures the time. A connection that
    exceeded it is closed, because a response may still arrive.
    """

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for the server as psycopg does, but not past the budget.

        Raises:
            psycopg.OperationalError: no response in time; the connection is closed.

        """
        allowed = max(deadline.remaining(ANSWER_SECONDS), GRACE_SECONDS)
        try:
            return super().wait(gen, interval, allowed if timeout is None else min(timeout, allowed))
        except psycopg.Error as error:
            if self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                self.pgconn.finish()
                raise psycopg.OperationalError("the server did not respond in time") from error
            raise


def _open(conninfo: str, seconds: float) -> PGconn:
    """Connect to one host.

    libpq's own connect_timeout counts whole seconds for each host and does not apply to non-blocking connects,
    so the deadline is enforced here.
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
    """Finds a usable server among the hosts, and tries it first for the next connection."""

    def __init__(
        self, settings: DatabaseSettings, hosts: tuple[Address, ...], *, writes: bool, options: str = ""
    ) -> None:
        """Set the hosts, whether the server must accept writes, and `options` as libpq accepts them.

        A pooler rejects options: the limits of a session behind one are settings of the database role.
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
            # A single address is a proxy's, which has chosen the server. A pooler keeps reporting the state of its
            # server at the first client, perhaps a replica, and libpq would rely on that. A read-only server reports
            # 25006.
            "target_session_attrs": "read-write" if writes and len(hosts) > 1 else "any",
            # The kernel gives up on a peer that disappeared without a reset.
            "tcp_user_timeout": "2500",
            "keepalives_idle": "5",
            "keepalives_interval": "2",
            "keepalives_count": "2",
        } | ({"options": options} if options else {})

    def __call__(self) -> BoundedConnection:
        """Return a connection.

        Every host gets an equal share of the time of a round, so that a silent one does not use up that of the others.
        If a server must accept writes, further rounds follow.

        Raises:
            psycopg.OperationalError: no host was usable in time; the message has each host's reason.

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
            # None are prepared: behind a pooler the next transaction may use another server; migrations change plans.
            connection.prepare_threshold = None
            return connection
        raise psycopg.OperationalError("no usable server found; " + "; ".join(reasons))

    def _prefer(self, found: Address) -> None:
        with self._lock:
            if self._hosts[0] != found:
                log.info("the database is at %s:%s", found.host, found.port)
                self._hosts.sort(key=lambda host: host != found)
