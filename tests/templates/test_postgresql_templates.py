"""Patroni's configuration, parsed as YAML."""

from typing import Any

import pytest
import yaml
from inputs import INPUTS
from render import lines, render

POSTGRESQL = INPUTS["postgresql"]


@pytest.fixture(scope="module")
def config() -> Any:
    """Return the configuration as Patroni would read it."""
    return yaml.safe_load(render("postgresql", "config.yml.j2", **POSTGRESQL))


def test_commit_is_acknowledged_after_it_is_on_two_members(config: Any) -> None:
    """Only a member with that commit is promoted."""
    dynamic = config["bootstrap"]["dcs"]
    assert dynamic["synchronous_mode"] is True
    assert dynamic["failsafe_mode"] is True
    assert dynamic["ttl"] >= dynamic["loop_wait"] + 2 * dynamic["retry_timeout"]
    assert dynamic["maximum_lag_on_failover"] == 1048576
    assert "data-checksums" in config["bootstrap"]["initdb"]


@pytest.mark.parametrize("plan", ["fast", "normal", "wide"])
def test_each_plan_times_out_before_an_etcd_member_without_leader_answers(plan: str) -> None:
    """etcd answers after 5 s and two election timeouts; Patroni waits a third of retry_timeout for each of three."""
    given = POSTGRESQL | {"postgresql_failover_plan": plan}
    dynamic = yaml.safe_load(render("postgresql", "config.yml.j2", **given))["bootstrap"]["dcs"]
    assert dynamic["retry_timeout"] / 3 <= 5
    assert dynamic["ttl"] >= dynamic["loop_wait"] + 2 * dynamic["retry_timeout"]


def test_kernel_kills_sessions_before_patroni_and_the_postmaster() -> None:
    """Only Patroni and the postmaster that it starts are protected."""
    unit = lines(render("postgresql", "patroni.service.j2", **POSTGRESQL))
    assert "OOMScoreAdjust=-900" in unit
    assert [line for line in unit if line.startswith("ExecStart=")] == [
        "ExecStart=",
        "ExecStart=/usr/local/sbin/patroni-etcd /etc/patroni/config.yml",
    ]
    assert "Environment=PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj PG_OOM_ADJUST_VALUE=0" in unit


def test_all_connections_use_tls(config: Any) -> None:
    """This covers those to etcd, between members, and of clients."""
    assert config["etcd3"]["protocol"] == "https"
    assert config["etcd3"]["hosts"] == ["10.0.0.41:2379", "10.0.0.42:2379", "10.0.0.43:2379"]
    assert config["restapi"]["certfile"]
    assert config["ctl"]["insecure"] is False
    assert config["postgresql"]["parameters"]["ssl"] == "on"
    for user in ("replication", "rewind"):
        assert config["postgresql"]["authentication"][user]["sslmode"] == "verify-full"


def test_passwords_are_passed_unchanged(config: Any) -> None:
    """Quotes and hashes are ordinary characters, and digits stay a string."""
    given = POSTGRESQL["postgresql_superuser_password"], POSTGRESQL["postgresql_rest_password"]
    superuser, rest = config["postgresql"]["authentication"]["superuser"], config["restapi"]["authentication"]
    assert (superuser["password"], rest["password"]) == given


def test_hba_accepts_only_listed_connections(config: Any) -> None:
    """They use TLS with SCRAM, or the host's own user and the socket; no rule trusts or applies to everyone."""
    rules = [rule.split() for rule in config["bootstrap"]["dcs"]["postgresql"]["pg_hba"]]
    assert {rule[0] for rule in rules} == {"local", "hostssl"}
    for rule in rules:
        assert rule[-1] == ("peer" if rule[:3] == ["local", "all", "postgres"] else "scram-sha-256")
    remote = [rule[1:-1] for rule in rules if rule[0] == "hostssl"]
    of_trading = {(rule[1], rule[2]) for rule in remote if rule[0] == "trading"}
    assert of_trading == {
        ("keeper", "10.0.0.21/32"),
        ("keeper", "10.0.9.0/24"),
        ("app", "samehost"),  # pooled
        ("report", "10.0.8.0/24"),
    }
    assert not [rule for rule in remote if "all" in rule or "0.0.0.0/0" in rule or "postgres" in rule[1].split(",")]
    assert {rule[2] for rule in remote if rule[0] == "replication"} == {
        f"{a}/32" for a in ("10.0.0.41", "10.0.0.42", "10.0.0.43")
    }


def test_standby_cluster_streams_and_gets_the_rest_from_the_archive() -> None:
    """Without an archive it only streams."""
    given = POSTGRESQL | {"postgresql_standby": True, "postgresql_remote_members": ["10.9.0.41", "10.9.0.42"]}
    expected = {
        "host": "10.9.0.41,10.9.0.42",
        "port": 5432,
        "primary_slot_name": "remote",
        "create_replica_methods": ["basebackup"],
    }
    for command in ({}, {"restore_command": "get %f %p"}):
        inputs = given | {f"postgresql_remote_{name}": value for name, value in command.items()}
        config = yaml.safe_load(render("postgresql", "config.yml.j2", **inputs))
        assert config["bootstrap"]["dcs"]["standby_cluster"] == expected | command


def test_memory_settings_depend_on_the_memory_of_the_host(config: Any) -> None:
    """They are a quarter, seven tenths and a sixteenth; work_mem comes from the inventory here."""
    parameters = config["postgresql"]["parameters"]
    wanted = {"shared_buffers": "4096MB", "effective_cache_size": "11468MB", "maintenance_work_mem": "1024MB"}
    assert wanted.items() <= parameters.items()


def test_number_from_the_command_line_is_a_number() -> None:
    """`-e postgresql_max_connections=50` passes a string, which would never equal the number in etcd."""
    given = {"postgresql_max_connections": "50", "postgresql_maximum_lag_on_failover_bytes": "7"}
    given |= {"postgresql_memory_megabytes": "2000", "postgresql_synchronous_mode_strict": "false"}
    inputs = {**POSTGRESQL, **given, "postgresql_parameters": {}}
    config = yaml.safe_load(render("postgresql", "config.yml.j2", **inputs))
    dynamic = config["bootstrap"]["dcs"]
    assert dynamic["postgresql"]["parameters"]["max_connections"] == 50
    assert dynamic["maximum_lag_on_failover"] == 7
    assert dynamic["synchronous_mode_strict"] is False
    assert config["postgresql"]["parameters"]["work_mem"] == "10MB"


def test_parameters_of_the_inventory_override_those_of_the_role(config: Any) -> None:
    """Other parameters are added."""
    parameters = config["postgresql"]["parameters"]
    expected = {"work_mem": "9MB", "log_min_duration_statement": "250ms", "password_encryption": "scram-sha-256"}
    assert expected.items() <= parameters.items()


def test_primary_is_fenced_by_the_watchdog_if_it_exists(config: Any) -> None:
    """A host without one does not log a warning at each promotion."""
    assert config["watchdog"] == {"mode": "off"}
    found = {"__postgresql_watchdog": {"stat": {"exists": True}}}
    watched = yaml.safe_load(render("postgresql", "config.yml.j2", **POSTGRESQL | found))
    assert watched["watchdog"] == {"mode": "automatic", "device": "/dev/watchdog", "safety_margin": 5}
    (rule,) = lines(render("postgresql", "watchdog.rules.j2"))
    assert rule == 'KERNEL=="watchdog", SUBSYSTEM=="misc", OWNER="postgres", MODE="0600"'


def test_debian_creates_no_cluster() -> None:
    """Patroni creates it."""
    assert lines(render("postgresql", "createcluster.conf.j2")) == ["create_main_cluster = false"]
