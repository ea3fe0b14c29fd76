"""Access to the data: a pooler, replicas for reads, and traders who always read their own writes."""

import json
import time
import uuid

from locks import wait
from testinfra.host import Host
from tradefleet.platform.postgres.replicas import MARK_SECONDS

URL = "https://10.203.0.108:8443"
CURL = "curl -sS --max-time 10 --cacert /etc/ssl/tradefleet/ca.crt"
KEY = "-H 'Authorization: Bearer molecule-molecule-molecule-molecule-1'"
PORTS = {"state": 6379, "cache": 6380}
ORDER = """{"symbol":"AAPL","side":"buy","type":"market","quantity":"1"}"""


def place(host: Host) -> str:
    """Place an order; return the response's status and body."""
    key = f"-H 'Idempotency-Key: {uuid.uuid4()}'"
    return str(host.check_output(f"{CURL} -w '%{{http_code}}' {KEY} {key} --json '{ORDER}' {URL}/v1/orders"))


def read(host: Host) -> tuple[str, str]:
    """Read the newest order; return the source of the response, and its body."""
    output = host.check_output(f"{CURL} -w '\n%header{{tradefleet-read}}' {KEY} '{URL}/v1/orders?limit=1'")
    body, source = output.rsplit("\n", 1)
    return source, body


def at_replica(host: Host, sql: str) -> str:
    """Run a query as superuser on the replica."""
    return str(host.check_output(f'runuser -u postgres -- psql -AtX -p 5433 -c "{sql}"'))


def redis(host: Host, service: str, command: str, first: str = "true") -> list[str]:
    """Run a command as operator on one of the two Redis instances, right after another command; return the lines."""
    tls = f"--tls --cacert /etc/ssl/tradefleet/ca.crt -h 10.203.0.108 -p {PORTS[service]} --no-auth-warning"
    output: str = host.check_output(
        f"{first}; REDISCLI_AUTH=molecule-operator redis-cli {tls} --user operator -e {command}"
    )
    return output.splitlines()


def settle(host: Host) -> None:
    """Remove the last mark as if it had expired, and read once, so that the position of the log is known.

    The owner of the key is read again as well: the cached value could otherwise expire at any moment.
    """
    redis(host, "cache", "FLUSHALL")
    for key in redis(host, "state", "KEYS 'tradefleet:position:*'"):
        redis(host, "state", f"DEL {key}")
    read(host)


def health(host: Host) -> dict[str, str]:
    """Return the application's state and that of each dependency; fail on any status but 200."""
    ready = json.loads(host.check_output(f"{CURL} -f {URL}/readyz"))
    return {"status": ready["status"], **ready["dependencies"]}


def test_two_server_connections_serve_many_threads(host: Host) -> None:
    """The pooler gives each transaction one of the two; the application does not depend on session state."""
    each = (
        f"{CURL} -o /dev/null -w '%{{http_code}}\\n' {KEY} -H 'Idempotency-Key: {uuid.uuid4()}-NUMBER' --json '{ORDER}'"
    )
    answers = host.check_output(f"seq 100 | xargs -P 8 -I NUMBER {each} {URL}/v1/orders").split()
    assert answers == ["201"] * 100
    # The application connects to the primary only through the pooler.
    query = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'tradefleet_app'"
    assert int(host.check_output(f'runuser -u postgres -- psql -AtX -c "{query}"')) == 2


def test_writer_reads_from_the_primary_and_later_from_a_replica(host: Host) -> None:
    """The own order is always included; the position of the primary's log is queried once."""
    placed = place(host).rsplit("}", 1)[0]
    assert read(host)[0] == "primary"
    (key,) = redis(host, "state", "KEYS 'tradefleet:position:*'")
    left = int(redis(host, "state", f"PTTL {key}")[0]) / 1000
    assert MARK_SECONDS - 5 < left <= MARK_SECONDS
    time.sleep(left)
    assert read(host)[0] == "primary"
    source, body = read(host)
    assert source == "replica"
    assert placed in body.replace('{"items":[', "")


def test_replica_that_does_not_replay_is_not_used(host: Host) -> None:
    """It runs and responds, but lacks what this trader has written, however long ago that was."""
    at_replica(host, "SELECT pg_wal_replay_pause()")
    try:
        placed = place(host).rsplit("}", 1)[0]
        settle(host)
        for _ in range(3):
            source, body = read(host)
            assert source == "primary"
            assert placed in body.replace('{"items":[', "")
    finally:
        at_replica(host, "SELECT pg_wal_replay_resume()")
    wait(lambda: read(host)[0] == "replica")


def test_failed_replica_is_replaced_by_the_primary(host: Host) -> None:
    """The primary answers instead, and the replica is used again when it recovers."""
    settle(host)
    assert read(host)[0] == "replica"
    host.check_output("systemctl kill -s KILL postgresql@17-replica")
    try:
        for _ in range(5):
            assert read(host)[0] == "primary"
    finally:
        host.check_output("systemctl restart postgresql@17-replica")
    wait(lambda: read(host)[0] == "replica")


def test_reads_continue_without_a_primary(host: Host) -> None:
    """Orders are rejected; a trader without recent writes still gets their own data."""
    settle(host)
    host.check_output("systemctl stop pgbouncer")
    try:
        assert read(host)[0] == "replica"
        assert place(host).endswith("503")
    finally:
        host.check_output("systemctl start pgbouncer")
    assert place(host).endswith("201")


def test_without_redis_the_primary_answers(host: Host) -> None:
    """Without Redis the position of a trader is unknown."""
    settle(host)
    host.check_output("systemctl stop redis-server@state redis-server@cache redis-sentinel")
    try:
        assert [read(host)[0] for _ in range(3)] == ["primary"] * 3
        assert place(host).endswith("201")
        assert health(host) == {
            "status": "degraded",
            "database": "ok",
            "schema": "ok",
            "redis": "down",
            "cache": "down",
        }
    finally:
        host.check_output("systemctl start redis-server@state redis-server@cache redis-sentinel")
    wait(lambda: health(host)["status"] == "ready")


def test_only_principals_are_in_the_cache(host: Host) -> None:
    """The state service holds the positions of writers, the cache the owners of keys, and neither anything else."""
    assert place(host).endswith("201")
    for service, kept in (("state", "position"), ("cache", "principal")):
        # Each readiness request writes a key that expires after a second.
        keys = set(redis(host, service, "KEYS '*'", first=f"{CURL} {KEY} -o /dev/null {URL}/v1/orders"))
        assert [key.split(":")[:2] for key in keys - {"tradefleet:health"}] == [["tradefleet", kept]]


def test_replicas_answer_without_the_cache(host: Host) -> None:
    """Keys are looked up in the database without a visible difference; the cache is used again when it recovers."""
    settle(host)
    host.check_output("systemctl stop redis-server@cache")
    try:
        assert [read(host)[0] for _ in range(3)] == ["replica"] * 3
        assert health(host) == {"status": "degraded", "database": "ok", "schema": "ok", "redis": "ok", "cache": "down"}
        assert place(host).endswith("201")
    finally:
        host.check_output("systemctl start redis-server@cache")
    wait(lambda: health(host)["status"] == "ready")
    request = f"{CURL} {KEY} -o /dev/null {URL}/v1/orders"
    assert redis(host, "cache", "KEYS 'tradefleet:principal:*'", first=request)


def test_server_without_the_name_is_not_trusted(host: Host) -> None:
    """The certificate must contain the name from the inventory; the address is not enough."""
    settings = "/etc/tradefleet/settings.env"
    host.check_output(f"cp {settings} /root/ && sed -i 's/postgres.scenario.test/other.test/' {settings}")
    host.check_output("systemctl restart tradefleet-api")
    try:
        answer = f"for n in $(seq 60); do {CURL} {URL}/readyz && exit 0; sleep 0.5; done; exit 1"
        assert '"database":"down"' in host.check_output(answer)
        assert "other.test" in host.check_output("journalctl --sync; journalctl -o cat -u tradefleet-api | tail -20")
    finally:
        host.check_output(f"cp /root/settings.env {settings} && systemctl restart tradefleet-api")
    host.check_output(f"for n in $(seq 60); do sleep 0.5; {CURL} -f {URL}/readyz && exit 0; done; exit 1")
