"""etcd's settings and what its unit adds."""

from inputs import INPUTS
from render import lines, render

ETCD = INPUTS["etcd"]


def test_etcd_speaks_mutual_tls_only() -> None:
    """To clients and to peers, at its own address."""
    settings = dict(line.split("=", 1) for line in lines(render("etcd", "etcd.j2", **ETCD)))
    # Clients are asked for a certificate by this, and by passwords for who they are.
    assert settings["ETCD_TRUSTED_CA_FILE"] == "/etc/ssl/tradefleet/ca.crt"
    assert settings["ETCD_CLIENT_CERT_AUTH"] == "false"
    assert settings["ETCD_PEER_CLIENT_CERT_AUTH"] == "true"
    # Any certificate of the CA would do without this, and a peer needs no password.
    assert settings["ETCD_PEER_CERT_ALLOWED_HOSTNAME"] == "etcd.fleet.internal"
    assert settings["ETCD_LISTEN_CLIENT_URLS"] == "https://10.0.0.41:2379"
    assert settings["ETCD_LISTEN_PEER_URLS"] == "https://10.0.0.41:2380"
    # Who forms the cluster is read once, and must restart nobody when it changes.
    assert not {"ETCD_INITIAL_CLUSTER", "ETCD_INITIAL_CLUSTER_STATE"} & set(settings)
    assert settings["ETCD_TLS_MIN_VERSION"] == "TLS1.3"
    assert "http://" not in str(settings)
    assert "AUTO_TLS" not in str(settings)


def test_systemd_brings_etcd_back_for_ever() -> None:
    """However often it ended."""
    unit = lines(render("etcd", "restart.conf.j2"))
    assert {"StartLimitIntervalSec=0", "Restart=always"} <= set(unit)


def test_etcd_is_among_the_last_that_the_kernel_ends() -> None:
    """If the host runs out of memory."""
    assert "OOMScoreAdjust=-900" in lines(render("etcd", "restart.conf.j2"))


def test_a_member_starts_with_its_data_or_as_a_new_one() -> None:
    """Neither data nor the file of a new member: systemd refuses."""
    unit = lines(render("etcd", "restart.conf.j2"))
    assert [line for line in unit if line.startswith("AssertPathExists=")] == [
        "AssertPathExists=|/var/lib/etcd/cluster/member",
        "AssertPathExists=|/etc/default/etcd-initial",
    ]
    assert "EnvironmentFile=-/etc/default/etcd-initial" in unit


def test_a_new_member_names_those_whom_it_joins() -> None:
    """As the cluster lists them, whatever the inventory says."""
    settings = lines(render("etcd", "initial.j2", **ETCD))
    assert settings == [
        "ETCD_INITIAL_CLUSTER=data1=https://10.0.0.41:2380,old=https://10.0.0.49:2380",
        "ETCD_INITIAL_CLUSTER_TOKEN=tradefleet",
        "ETCD_INITIAL_CLUSTER_STATE=existing",
    ]


def test_operators_client_quotes_the_password() -> None:
    """Towards all members unless it is told otherwise."""
    script = render("etcd", "etcdctl-root.j2", **ETCD)
    assert script.startswith("#!/bin/sh\n")
    assert "ETCDCTL_PASSWORD='secret-root\"$1'" in script
    assert "https://10.0.0.41:2379,https://10.0.0.42:2379,https://10.0.0.43:2379" in script


def test_a_snapshot_is_proved_before_it_gets_its_name() -> None:
    """Restored on trial first, then renamed, and only then are older ones removed."""
    script = lines(render("etcd", "etcd-snapshot.j2", **ETCD))
    steps = ["snapshot save", "snapshot restore", "mv new.db", "xargs -r rm"]
    places = [next(place for place, line in enumerate(script) if step in line) for step in steps]
    assert places == sorted(places)
    assert "head -n -24" in script[-1]
    assert "set -eu" in script


def test_the_lead_goes_to_another_member_when_it_must_not_be_here() -> None:
    """What asks is the inventory's; who takes it is one of the others."""
    given = ETCD | {"etcd_yield_when": "/usr/bin/test -e /run/x"}
    unit = lines(render("etcd", "etcd-yield.service.j2", **given))
    assert {"ExecCondition=/usr/bin/test -e /run/x", "ExecStart=/usr/local/sbin/etcd-yield"} <= set(unit)
    script = render("etcd", "etcd-yield.j2", **given)
    assert "export ETCDCTL_ENDPOINTS=https://10.0.0.41:2379" in lines(script)
    assert '/usr/local/sbin/etcdctl-root move-leader "$member"' in script
    assert {"OnCalendar=*:*:0/10", "AccuracySec=1s"} <= set(lines(render("etcd", "etcd-yield.timer.j2", **given)))


def test_snapshots_are_made_on_schedule_and_without_roots_powers() -> None:
    """One that was missed is made up for."""
    assert {"OnCalendar=hourly", "Persistent=true"} <= set(lines(render("etcd", "etcd-snapshot.timer.j2", **ETCD)))
    unit = lines(render("etcd", "etcd-snapshot.service.j2", **ETCD))
    assert {"CapabilityBoundingSet=", "ProtectSystem=strict", "ReadWritePaths=/var/backups/etcd"} <= set(unit)
