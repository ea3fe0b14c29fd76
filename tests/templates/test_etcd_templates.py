"""The settings of etcd and its unit."""

from inputs import INPUTS
from render import lines, render

ETCD = INPUTS["etcd"]


def test_etcd_requires_mutual_tls() -> None:
    """This applies to clients and peers, at the member's own address."""
    settings = dict(line.split("=", 1) for line in lines(render("etcd", "etcd.j2", **ETCD)))
    # This setting requires a certificate; a password identifies the client.
    assert settings["ETCD_TRUSTED_CA_FILE"] == "/etc/ssl/tradefleet/ca.crt"
    assert settings["ETCD_CLIENT_CERT_AUTH"] == "false"
    assert settings["ETCD_PEER_CLIENT_CERT_AUTH"] == "true"
    # Without it any certificate of the CA would be accepted, and a peer needs no password.
    assert settings["ETCD_PEER_CERT_ALLOWED_HOSTNAME"] == "etcd.fleet.internal"
    assert settings["ETCD_LISTEN_CLIENT_URLS"] == "https://10.0.0.41:2379"
    assert settings["ETCD_LISTEN_PEER_URLS"] == "https://10.0.0.41:2380"
    # The members are read only at the first start, so a change must not restart etcd.
    assert not {"ETCD_INITIAL_CLUSTER", "ETCD_INITIAL_CLUSTER_STATE"} & set(settings)
    assert settings["ETCD_TLS_MIN_VERSION"] == "TLS1.3"
    assert "http://" not in str(settings)
    assert "AUTO_TLS" not in str(settings)


def test_systemd_always_restarts_etcd() -> None:
    """The number of restarts is unlimited."""
    unit = lines(render("etcd", "restart.conf.j2"))
    assert {"StartLimitIntervalSec=0", "Restart=always"} <= set(unit)


def test_kernel_kills_etcd_among_the_last() -> None:
    """This applies if the host runs out of memory."""
    assert "OOMScoreAdjust=-900" in lines(render("etcd", "restart.conf.j2"))


def test_member_starts_only_with_data_or_as_a_new_member() -> None:
    """With neither data nor the file of a new member systemd does not start it."""
    unit = lines(render("etcd", "restart.conf.j2"))
    assert [line for line in unit if line.startswith("AssertPathExists=")] == [
        "AssertPathExists=|/var/lib/etcd/cluster/member",
        "AssertPathExists=|/etc/default/etcd-initial",
    ]
    assert "EnvironmentFile=-/etc/default/etcd-initial" in unit


def test_new_member_lists_the_members_of_its_cluster() -> None:
    """The list is that of the cluster, regardless of the inventory."""
    settings = lines(render("etcd", "initial.j2", **ETCD))
    assert settings == [
        "ETCD_INITIAL_CLUSTER=data1=https://10.0.0.41:2380,old=https://10.0.0.49:2380",
        "ETCD_INITIAL_CLUSTER_TOKEN=tradefleet",
        "ETCD_INITIAL_CLUSTER_STATE=existing",
    ]


def test_operators_client_quotes_the_password() -> None:
    """It connects to all members by default."""
    script = render("etcd", "etcdctl-root.j2", **ETCD)
    assert script.startswith("#!/bin/sh\n")
    assert "ETCDCTL_PASSWORD='secret-root\"$1'" in script
    assert "https://10.0.0.41:2379,https://10.0.0.42:2379,https://10.0.0.43:2379" in script


def test_snapshot_is_verified_before_it_gets_its_name() -> None:
    """It is first restored on trial, then renamed, and only then are older ones removed."""
    script = lines(render("etcd", "etcd-snapshot.j2", **ETCD))
    steps = ["snapshot save", "snapshot restore", "mv new.db", "xargs -r rm"]
    places = [next(place for place, line in enumerate(script) if step in line) for step in steps]
    assert places == sorted(places)
    assert "head -n -24" in script[-1]
    assert "set -eu" in script


def test_leadership_moves_to_another_member_while_the_condition_holds() -> None:
    """The inventory sets the condition; another member becomes the leader."""
    given = ETCD | {"etcd_yield_when": "/usr/bin/test -e /run/x"}
    unit = lines(render("etcd", "etcd-yield.service.j2", **given))
    assert {"ExecCondition=/usr/bin/test -e /run/x", "ExecStart=/usr/local/sbin/etcd-yield"} <= set(unit)
    script = render("etcd", "etcd-yield.j2", **given)
    assert "export ETCDCTL_ENDPOINTS=https://10.0.0.41:2379" in lines(script)
    assert '/usr/local/sbin/etcdctl-root move-leader "$member"' in script
    assert {"OnCalendar=*:*:0/10", "AccuracySec=1s"} <= set(lines(render("etcd", "etcd-yield.timer.j2", **given)))


def test_snapshots_are_taken_on_schedule_in_a_sandbox() -> None:
    """A missed run is made up for."""
    assert {"OnCalendar=hourly", "Persistent=true"} <= set(lines(render("etcd", "etcd-snapshot.timer.j2", **ETCD)))
    unit = lines(render("etcd", "etcd-snapshot.service.j2", **ETCD))
    assert {"CapabilityBoundingSet=", "ProtectSystem=strict", "ReadWritePaths=/var/backups/etcd"} <= set(unit)
