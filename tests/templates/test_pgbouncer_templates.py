"""PgBouncer's files, parsed as PgBouncer does."""

from configparser import ConfigParser

from inputs import INPUTS
from render import lines, render

PGBOUNCER = INPUTS["pgbouncer"]


def test_both_sides_use_tls_and_only_local_postgresql_is_behind() -> None:
    """It has the clients' database, and the one for the query of verifiers."""
    config = ConfigParser(interpolation=None)
    config.read_string(render("pgbouncer", "pgbouncer.ini.j2", **PGBOUNCER))
    assert dict(config["databases"]) == {
        "trading": "host=10.0.0.41 port=5432",
        "postgres": "host=10.0.0.41 port=5432 pool_size=2",
    }
    assert dict(config["users"]) == {
        "app": "pool_size=30 max_user_client_connections=1000",
        "report": "pool_size=20 max_user_client_connections=7",
    }
    settings = config["pgbouncer"]
    assert (settings["client_tls_sslmode"], settings["server_tls_sslmode"]) == ("require", "verify-full")
    assert (settings["listen_addr"], settings["pool_mode"]) == ("10.0.0.41", "transaction")
    assert "logfile" not in settings


def test_only_named_roles_connect_from_their_addresses() -> None:
    """TLS and SCRAM are required."""
    assert lines(render("pgbouncer", "hba.conf.j2", **PGBOUNCER)) == [
        "hostssl trading app,report 10.0.0.21/32 scram-sha-256",
        "hostssl trading app,report 10.0.9.0/24 scram-sha-256",
    ]


def test_quotes_in_the_password_are_doubled() -> None:
    """PgBouncer's list of users requires that."""
    given = PGBOUNCER | {"pgbouncer_auth_password": 'secret-"pooler"'}
    assert render("pgbouncer", "userlist.txt.j2", **given) == '"pgbouncer" "secret-""pooler"""\n'


def test_unit_has_file_descriptors_for_all_clients() -> None:
    """Each client needs two at most."""
    text = render("pgbouncer", "pgbouncer.service.j2", **PGBOUNCER)
    assert {"LimitNOFILE=3024", "Restart=always", "NoNewPrivileges=true"} <= set(lines(text))
    # As `-e pgbouncer_max_clients=50` passes it.
    given = PGBOUNCER | {"pgbouncer_max_clients": "50"}
    assert "LimitNOFILE=1124" in render("pgbouncer", "pgbouncer.service.j2", **given)


def test_console_is_accessible_through_the_socket() -> None:
    """The user is PgBouncer's own, and needs no password."""
    (command,) = lines(render("pgbouncer", "pgbouncer-cli.j2", **PGBOUNCER))
    assert command.startswith("exec runuser -u postgres -- psql ")
    assert "-h /run/postgresql -p 6432 -U pgbouncer -d pgbouncer" in command


def test_kernel_kills_sessions_before_the_pooler() -> None:
    """PgBouncer serves all of them."""
    assert "OOMScoreAdjust=-500" in lines(render("pgbouncer", "pgbouncer.service.j2", **PGBOUNCER))
