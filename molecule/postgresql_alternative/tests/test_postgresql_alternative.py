"""Do other values than the defaults arrive, and do the rights that they describe hold?"""

import json

import testinfra
from testinfra.backend.base import CommandResult
from testinfra.host import Host


def sql(host: Host, statement: str, database: str = "books") -> str:
    """Run SQL as the superuser on this member."""
    command = "runuser -u postgres -- psql --no-psqlrc --tuples-only --no-align --dbname %s --command %s"
    return str(host.check_output(command, database, statement))


def as_role(host: Host, role: str, statement: str, port: int = 5432) -> CommandResult:
    """Run SQL as a role, over the network, on whichever member takes writes."""
    addresses = "10.203.0.140,10.203.0.141,10.203.0.142"
    connection = f"host={addresses} port={port} dbname=books user={role} password=molecule-{role} sslmode=verify-full"
    connection += " sslrootcert=/etc/ssl/tradefleet/ca.crt target_session_attrs=primary connect_timeout=2"
    return host.run("psql --no-psqlrc --tuples-only --no-align --command %s %s", statement, connection)


def test_the_running_server_has_these_settings(host: Host) -> None:
    """Asked of PostgreSQL on every member; none waits for a restart. work_mem is 800 MB / 4 / 60, and at least 4 MB."""
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
    found = sql(host, "SELECT name, current_setting(name), pending_restart FROM pg_settings").splitlines()
    assert {f"{name}|{value}|f" for name, value in wanted.items()} <= set(found)


def test_patroni_follows_the_plan(host: Host) -> None:
    """Kept in etcd, so every member decides by the same one."""
    ask = "curl -s --cacert /etc/ssl/tradefleet/ca.crt https://%s:8008/config"
    kept = json.loads(host.check_output(ask, host.check_output("hostname -I").split()[0]))
    wanted = {"ttl": 30, "loop_wait": 10, "retry_timeout": 10, "primary_start_timeout": 60, "synchronous_mode": True}
    wanted |= {"synchronous_mode_strict": True}
    assert {key: kept[key] for key in wanted} == wanted
    assert kept["maximum_lag_on_failover"] == 2097152


def test_the_pooler_has_these_settings(host: Host) -> None:
    """Asked of PgBouncer itself."""
    shown = host.check_output("pgbouncer-cli --tuples-only --no-align --command 'SHOW CONFIG'").splitlines()
    found = {line.split("|")[0]: line.split("|")[1] for line in shown}
    wanted = {"listen_port": "6543", "max_client_conn": "50", "default_pool_size": "7", "query_wait_timeout": "3"}
    assert {key: found[key] for key in wanted} == wanted


def test_owner_reader_and_guest(host: Host) -> None:
    """The owner is pooled, the reader comes from one address, and the guest sees statistics but no table."""
    name = host.check_output("hostname")
    made = as_role(host, "keeper", "CREATE TABLE IF NOT EXISTS entries (); SELECT count(*) FROM entries", 6543)
    read = as_role(host, "auditor", "SELECT count(*) FROM entries")
    watched = as_role(host, "watcher", "SELECT count(*) > 0 FROM pg_stat_statements")
    assert (made.rc, read.rc, watched.rc) == (0 if name == "sql1" else 2, 0 if name == "sql2" else 2, 0)
    assert "permission denied for table" in as_role(host, "watcher", "SELECT count(*) FROM entries").stderr


def test_a_reader_changes_nothing() -> None:
    """Neither rows nor tables, from the one address that it may come from."""
    host = testinfra.get_host("podman://tf-sql2")
    assert "read-only transaction" in as_role(host, "auditor", "CREATE TABLE mine ()").stderr
    rights = "SELECT has_table_privilege('entries', 'SELECT'), has_table_privilege('entries', 'INSERT,UPDATE,DELETE')"
    assert as_role(host, "auditor", rights).stdout == "t|f\n"
