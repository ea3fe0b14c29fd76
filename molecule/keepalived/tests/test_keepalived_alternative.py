"""Another pair in the same network, with values that differ from the defaults."""

from inside import on
from vip import VIP, eventually, owners

PAIR = ("ka3", "ka4")
OTHER_VIP = "10.203.0.175"


def has(name: str) -> bool:
    """Return whether only this host of the pair has the pair's VIP."""
    return owners(OTHER_VIP, PAIR) == [name]


def test_first_host_in_the_list_has_the_vip_and_takes_it_back() -> None:
    """keepalived_hosts begins with ka4, and keepalived_preempt is on."""
    eventually(lambda: has("ka4"), 10, "ka4 has the address")
    on("ka4", "systemctl stop keepalived")
    try:
        eventually(lambda: has("ka3"), 5, "ka3 has the address")
    finally:
        on("ka4", "systemctl start keepalived")
    eventually(lambda: has("ka4"), 10, "ka4 takes it back")


def test_configured_url_is_checked() -> None:
    """The check uses another port than 443, over TLS: a host that closes it loses the VIP, even if port 80 answers."""
    eventually(lambda: has("ka4"), 10, "ka4 has the address")
    assert on("ka4", "curl -fsk https://127.0.0.1:8444/edge-alive") == "alive\n"
    other_port = r"sed -i -E 's/(listen .*)8444/\18445/' /etc/nginx/nginx.conf"
    on("ka4", f"cp /etc/nginx/nginx.conf /root/ && {other_port} && systemctl reload nginx")
    try:
        eventually(lambda: has("ka3"), 6, "ka3 has the address")
    finally:
        on("ka4", "cp /root/nginx.conf /etc/nginx/nginx.conf && systemctl reload nginx")
    eventually(lambda: has("ka4"), 10, "ka4 takes it back")


def test_pairs_do_not_affect_each_other() -> None:
    """Two VIPs in one network have different router IDs."""
    assert owners(VIP, PAIR) == []
    assert owners(OTHER_VIP, ("ka1", "ka2")) == []
