"""Another pair in the same network, with other values than the defaults."""

from inside import on
from vip import VIP, becomes, owners

PAIR = ("ka3", "ka4")
OTHER_VIP = "10.203.0.175"


def has(name: str) -> bool:
    """Tell whether a host of this pair, and it alone, has this pair's address."""
    return owners(OTHER_VIP, PAIR) == [name]


def test_the_first_of_the_list_has_it_and_takes_it_back() -> None:
    """keepalived_hosts begins with ka4, and keepalived_preempt is on."""
    becomes(lambda: has("ka4"), 10, "ka4 has the address")
    on("ka4", "systemctl stop keepalived")
    try:
        becomes(lambda: has("ka3"), 5, "ka3 has the address")
    finally:
        on("ka4", "systemctl start keepalived")
    becomes(lambda: has("ka4"), 10, "ka4 takes it back")


def test_what_is_asked_is_the_inventorys() -> None:
    """Another port than 443, over TLS: a host that closes it gives the address away, though nginx answers at 80."""
    becomes(lambda: has("ka4"), 10, "ka4 has the address")
    assert on("ka4", "curl -fsk https://127.0.0.1:8444/edge-alive") == "alive\n"
    other_port = r"sed -i -E 's/(listen .*)8444/\18445/' /etc/nginx/nginx.conf"
    on("ka4", f"cp /etc/nginx/nginx.conf /root/ && {other_port} && systemctl reload nginx")
    try:
        becomes(lambda: has("ka3"), 6, "ka3 has the address")
    finally:
        on("ka4", "cp /root/nginx.conf /etc/nginx/nginx.conf && systemctl reload nginx")
    becomes(lambda: has("ka4"), 10, "ka4 takes it back")


def test_the_pairs_leave_each_other_alone() -> None:
    """Two addresses that move in one network, each with a number of its own."""
    assert owners(VIP, PAIR) == []
    assert owners(OTHER_VIP, ("ka1", "ka2")) == []
