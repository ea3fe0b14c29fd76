"""etcd's settings and what its unit adds."""

from inputs import INPUTS
from render import lines, render

ETCD = INPUTS["etcd"]


def test_etcd_speaks_mutual_tls_only() -> None:
    """To clients and to peers, at its own address."""
    settings = dict(line.split("=", 1) for line in lines(render("etcd", "etcd.j2", **ETCD)))
    assert settings["ETCD_CLIENT_CERT_AUTH"] == "true"
    assert settings["ETCD_PEER_CLIENT_CERT_AUTH"] == "true"
    assert settings["ETCD_LISTEN_CLIENT_URLS"] == "https://10.0.0.41:2379"
    assert settings["ETCD_LISTEN_PEER_URLS"] == "https://10.0.0.41:2380"
    assert settings["ETCD_INITIAL_CLUSTER"] == ",".join(
        f"{name}=https://{address}:2380" for name, address in ETCD["etcd_members"].items()
    )
    assert settings["ETCD_TLS_MIN_VERSION"] == "TLS1.3"
    assert "http://" not in str(settings)
    assert "AUTO_TLS" not in str(settings)


def test_systemd_brings_etcd_back_for_ever() -> None:
    """However often it ended."""
    unit = lines(render("etcd", "restart.conf.j2"))
    assert {"StartLimitIntervalSec=0", "Restart=always"} <= set(unit)
