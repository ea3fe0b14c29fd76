"""Do non-default values take effect, and do the described rights hold?"""

import json

import testinfra
from testinfra.backend.base import CommandResult
from testinfra.host import Host


def run_sql(host: Host, statement: str, database: str = "books") -> str:
    """Run SQL as the superuser on this member."""
    command = "runuser -u postgres -- psql --no-psqlrc --tuples-only --no-align --dbname %s --command %s"
    return str(host.check_output(command, database, statement))


def as_role(host: Host, role: str, statement: str, port: int = 5432) -> CommandResult:
    """Run SQL as a role over the network, on the member that accepts writes."""
    addresses = "10.203.0.140,10.203.0.141,10.203.0.142"
    connection = f"host={addresses} port={port} dbname=books user={role} password=molecule-{role} sslmode=verify-full"
    connection += " sslrootcert=/etc/ssl/tradefleet/ca.crt target_session_attrs=primary connect_timeout=2"
    return host.run("psql --no-psqlrc --tuples-only --no-align --command %s %s", statement, connection)


def test_running_server_has_these_settings(host: Host) -> None:
    """PostgreSQL reports them on every member; no restart is pending. work_mem is 800 MB / 4 / 60, at least 4 MB."""
    wanted = {
        "cluster_name": "ledger",
        "data_checksums": "on",
        "effective_cache_size": "300MB",
        "log_min_duration_statement": "250ms",
        "maintenance_work_mem": "48MB",
        "max_connections": "60",
        "max_slot_wal_keep_size": "512MB",
        "shared_buffers": "96MB",
        "wal_sender_timeout": "4s",
        "work_mem": "4MB",
    }
    found = run_sql(host, "SELECT name, current_setting(name), pending_restart FROM pg_settings").splitlines()
    assert {f"{name}|{value}|f" for name, value in wanted.items()} <= set(found)


def test_patroni_follows_the_plan(host: Host) -> None:
    """The settings are stored in etcd, so every member uses the same ones."""
    query = "curl -s --cacert /etc/ssl/tradefleet/ca.crt https://%s:8008/config"
    kept = json.loads(host.check_output(query, host.check_output("hostname -I").split()[0]))
    wanted = {"ttl": 30, "loop_wait": 10, "retry_timeout": 10, "primary_start_timeout": 60, "synchronous_mode": True}
    wanted |= {"synchronous_mode_strict": True}
    assert {key: kept[key] for key in wanted} == wanted
    assert kept["maximum_lag_on_failover"] == 2097152


def test_pooler_has_these_settings(host: Host) -> None:
    """PgBouncer itself reports them."""
    shown = host.check_output("pgbouncer-cli --tuples-only --no-align --command 'SHOW CONFIG'").splitlines()
    found = {line.split("|")[0]: line.split("|")[1] for line in shown}
    wanted = {"listen_port": "6543", "max_client_conn": "50", "default_pool_size": "7", "query_wait_timeout": "3"}
    assert {key: found[key] for key in wanted} == wanted


def test_owner_reader_and_guest(host: Host) -> None:
    """The owner is pooled, the reader connects from one address, and the guest reads statistics but no table."""
    name = host.check_output("hostname")
    made = as_role(host, "keeper", "CREATE TABLE IF NOT EXISTS entries (); SELECT count(*) FROM entries", 6543)
    read = as_role(host, "auditor", "SELECT count(*) FROM entries")
    watched = as_role(host, "watcher", "SELECT count(*) > 0 FROM pg_stat_statements")
    assert (made.rc, read.rc, watched.rc) == (0 if name == "sql1" else 2, 0 if name == "sql2" else 2, 0)
    assert "permission denied for table" in as_role(host, "watcher", "SELECT count(*) FROM entries").stderr


def test_reader_cannot_change_anything() -> None:
    """This covers rows and tables, from the only address that the reader may use."""
    host = testinfra.get_host("podman://tf-sql2")
    assert "read-only transaction" in as_role(host, "auditor", "CREATE TABLE mine ()").stderr
    rights = "SELECT has_table_privilege('entries', 'SELECT'), has_table_privilege('entries', 'INSERT,UPDATE,DELETE')"
    assert as_role(host, "auditor", rights).stdout == "t|f\n"
