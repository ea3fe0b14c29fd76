"""PgBouncer: access, sharing of connections, and encryption on the whole path."""

import subprocess

import pytest
from postgresql_cluster import ADDRESSES, PASSWORDS, leader, local, member, psql, wait_until
from testinfra.backend.base import CommandResult
from testinfra.host import Host

SOME = ADDRESSES["pg1"]


def pooled(sql: str, /, role: str = "desk", **settings: str) -> CommandResult:
    """Run SQL through the pooler of the leader, unless the settings name another host."""
    connection = {"host": ADDRESSES[leader(SOME)], "port": "6432", "target_session_attrs": "any", **settings}
    return psql(member(next(name for name in ADDRESSES if name != leader(SOME))), role, sql, **connection)


def test_role_writes_through_the_pooler_with_its_own_settings() -> None:
    """It writes on the leader, over TLS on both sides; its statement timeout is the same as without a pooler."""
    answer = pooled("SELECT current_user, pg_is_in_recovery(), current_setting('statement_timeout')")
    assert answer.stdout == "desk|f|3s\n"
    both = (
        "SELECT ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename IN ('desk', 'pgbouncer')"
    )
    assert set(local(member(leader(SOME)), both).splitlines()) == {"t|TLSv1.3"}


def test_pooler_of_a_replica_reads() -> None:
    """Each pooler connects to the PostgreSQL of its own host."""
    replica = next(name for name in ADDRESSES if name != leader(SOME))
    assert pooled("SELECT pg_is_in_recovery()", host=ADDRESSES[replica]).stdout == "t\n"


@pytest.mark.parametrize(
    ("role", "settings", "message"),
    [
        ("desk", {"sslmode": "disable"}, "SSL required"),
        ("desk", {"password": "wrong"}, "authentication failed"),
        ("desk", {"dbname": "other"}, "no authentication method is found"),
        ("desk", {"sslrootcert": "/etc/ssl/certs/ca-certificates.crt"}, "certificate verify failed"),
        ("desk", {"host": "pg.wrong.example", "hostaddr": SOME}, "does not match host name"),
        ("desk", {"port": "5432", "dbname": "trading"}, "no pg_hba.conf entry"),
        ("app", {}, "no such user"),
        ("postgres", {"dbname": "postgres"}, "no such user"),
        ("postgres", {"dbname": "pgbouncer"}, "no such user"),
        ("pgbouncer", {"dbname": "pgbouncer"}, "not allowed"),
        ("pgbouncer", {"dbname": "postgres"}, "no authentication method is found"),
    ],
)
def test_other_connections_are_rejected(role: str, settings: dict[str, str], message: str) -> None:
    """Without TLS, with a wrong CA, name, password or role, without the pooler, or to its console."""
    refused = pooled("SELECT 1", role=role, **settings)
    assert refused.rc == 2
    assert message in refused.stderr


def test_pooler_rejects_a_server_with_another_name() -> None:
    """A copy of it connects to 127.0.0.1, where the same PostgreSQL listens, but which is not in the certificate."""
    host = member(leader(SOME))
    changes = "s/^trading = host=[^ ]*/trading = host=127.0.0.1/; s/^listen_port = .*/listen_port = 6433/"
    changes += "; s/^unix_socket_dir = .*/unix_socket_dir =/; s/^query_wait_timeout = .*/query_wait_timeout = 1/"
    host.check_output(f"sed '{changes}' /etc/pgbouncer/pgbouncer.ini > /tmp/trial.ini && chmod 644 /tmp/trial.ini")
    host.check_output("systemd-run --quiet --unit=trial --property=User=postgres pgbouncer /tmp/trial.ini")
    try:
        wait_until(lambda: host.socket(f"tcp://{ADDRESSES[leader(SOME)]}:6433").is_listening, 5)
        assert pooled("SELECT 1", port="6433").rc == 2
        assert "127.0.0.1" in host.check_output(
            "journalctl --unit=trial --output=cat --grep='not present in server cert'"
        )
    finally:
        host.check_output("systemctl stop trial; rm /tmp/trial.ini")


def test_pooler_reads_verifiers_of_pooled_roles_only() -> None:
    """Its role gets no verifiers of other roles, and may not read the table of roles."""
    query = "SELECT count(*) FROM unnest(ARRAY{}) name, pooler.credentials(name)"
    primary = member(leader(SOME))
    as_pooler = "SET ROLE pgbouncer; "
    assert local(primary, as_pooler + query.format("['desk']")).splitlines()[-1] == "1"
    others = [name for name in PASSWORDS if name not in ("desk", "pgbouncer")]
    assert local(primary, as_pooler + query.format(others)).splitlines()[-1] == "0"
    console = ["runuser", "-u", "postgres", "--", "psql", "-c", as_pooler + "SELECT * FROM pg_authid"]
    assert "permission denied" in primary.run(" ".join(map("'{}'".format, console))).stderr


def test_forty_clients_share_five_connections_and_their_prepared_statements() -> None:
    """The role has as many clients as it may; the next client is rejected, and no transaction failed."""
    address = ADDRESSES[leader(SOME)]
    environment = {
        "PGPASSWORD": PASSWORDS["desk"],
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/etc/ssl/tradefleet/ca.crt",
    }
    script = "SELECT :client_id + 1;\\nBEGIN;\\nSELECT pg_sleep(0.02);\\nEND;"
    bench = f"printf '{script}' > /tmp/script; exec /usr/lib/postgresql/17/bin/pgbench --no-vacuum --protocol=prepared"
    bench += f" --client=40 --jobs=40 --time=6 --file=/tmp/script 'host={address} port=6432 user=desk dbname=trading'"
    options = [f"--env={key}={value}" for key, value in environment.items()]
    with subprocess.Popen(
        ["podman", "exec", *options, "tf-pg1", "bash", "-c", bench], stdout=subprocess.PIPE, text=True
    ) as running:
        connections = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'desk'"
        wait_until(lambda: local(member(leader(SOME)), connections) == "5", 15)
        refused = pooled("SELECT 1")
        output, _ = running.communicate(timeout=30)
    assert "number of failed transactions: 0 (0.000%)" in output, output
    assert refused.rc == 2
    assert "max_user_client_connections" in refused.stderr


def test_pooler_is_sandboxed_and_its_password_protected(host: Host) -> None:
    """It is restarted automatically, has no capabilities, and other users cannot read its files."""
    unit = host.check_output("systemctl show pgbouncer --property=User,Restart,NoNewPrivileges,CapabilityBoundingSet")
    assert set(unit.splitlines()) == {
        "User=postgres",
        "Restart=always",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
    }
    assert host.file("/etc/pgbouncer/userlist.txt").mode == 0o640
    assert host.run("journalctl --no-pager | grep --fixed-strings molecule-pooler").stdout == ""
