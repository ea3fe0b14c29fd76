"""Is the virtual IP always on a host that can serve it, and never on two?"""

import subprocess
import time
from functools import partial

import pytest
from inside import on
from scenario import converge
from vip import HOSTS, VIP, answers, client, eventually, other, owner, owners, podman, wait_until_healthy


@pytest.fixture(autouse=True)
def start_healthy() -> None:
    """Start each test with a healthy pair."""
    wait_until_healthy()


def test_one_host_has_the_vip_and_both_serve() -> None:
    """It is on the interface of the host's own address; another run leaves it in place."""
    assert len(owners()) == 1
    assert all(answers(address) for address in (VIP, *HOSTS.values()))
    interface = on(owner(), f"ip -brief address show to {VIP}").split()[0]
    assert on(owner(), f"ip -brief address show to {HOSTS[owner()]}").split()[0] == interface


@pytest.mark.parametrize(
    ("break_it", "repair", "limit"),
    [
        ("systemctl stop keepalived", "systemctl start keepalived", 0.5),
        ("pkill -9 keepalived; systemctl stop keepalived", "systemctl start keepalived", 1.5),
        ("systemctl kill --signal=KILL nginx; systemctl stop nginx", "systemctl start nginx", 2),
        ("systemctl kill --signal=STOP nginx", "systemctl kill --signal=CONT nginx", 2.5),
    ],
    ids=["stopped", "killed", "nginx-dead", "nginx-frozen"],
)
def test_vip_moves_when_its_host_cannot_serve(break_it: str, repair: str, limit: float) -> None:
    """It moves within the limit, and stays there when the former host recovers."""
    former, next_one = owner(), other()
    try:
        with client() as gap:
            on(former, break_it, check=False)
        assert owner() == next_one
    finally:
        on(former, repair)
    wait_until_healthy()
    assert owner() == next_one
    assert gap.seconds <= limit
    print(f"gap {gap.seconds:.2f} s")


def test_vip_moves_when_its_host_fails() -> None:
    """The host restarts, serves again, and leaves the VIP in place."""
    former, next_one = owner(), other()
    try:
        with client() as gap:
            podman("kill", f"tf-{former}")
    finally:
        podman("start", f"tf-{former}")
    wait_until_healthy()
    assert owner() == next_one
    assert gap.seconds <= 1.5
    print(f"gap {gap.seconds:.2f} s")


@pytest.mark.parametrize("former", HOSTS)  # the order of two ARP replies depends on the host
def test_vip_moves_when_its_host_freezes_and_returns_to_one_owner(former: str) -> None:
    """A frozen host's kernel still answers ARP for the VIP, and after waking up it still has the address."""
    if owner() != former:
        on(owner(), "systemctl restart keepalived")
    eventually(lambda: owners() == [former], 5, "the host has it")
    wait_until_healthy()
    try:
        with client() as gap:
            podman("pause", f"tf-{former}")
        assert gap.seconds <= 1.5
        time.sleep(3)  # until the announcements of the new owner are over
        with client() as resolved_again:
            subprocess.run(["ip", "neighbour", "flush", "to", VIP], check=True)
        assert resolved_again.seconds <= 2
    finally:
        podman("unpause", f"tf-{former}")
    eventually(lambda: len(owners()) == 1, 5, "one host has the address")
    print(f"gap {gap.seconds:.2f} s, {resolved_again.seconds:.2f} s without ARP entry, now on {owner()} (was {former})")


def test_each_host_returns_to_service_after_a_reboot() -> None:
    """No intervention is needed."""
    for name in HOSTS:
        on(name, "systemctl reboot", check=False)
        eventually(partial(_is_down, name), 20, f"{name} goes down")
        wait_until_healthy()


def _is_down(name: str) -> bool:
    return not answers(HOSTS[name])


def test_without_nginx_no_host_has_the_vip() -> None:
    """The first host that responds gets it."""
    first = other()
    try:
        for name in HOSTS:
            on(name, "systemctl stop nginx")
        eventually(lambda: owners() == [], 5, "no host has the address")
    finally:
        on(first, "systemctl start nginx")
        eventually(lambda: owners() == [first], 5, f"{first} has the address")
        for name in HOSTS:
            on(name, "systemctl start nginx")


def test_stranger_cannot_take_the_vip() -> None:
    """Advertisements from a host outside the group are ignored, even with a higher priority."""
    address = on("ka3", "hostname -I").split()[0]
    peers = "\n ".join(HOSTS.values())
    interface = on("ka3", f"ip -brief address show to {address}").split("@")[0]
    rogue = (
        "global_defs {\n vrrp_version 3\n}\nvrrp_instance rogue {\n state MASTER\n virtual_router_id 51\n"
        f" interface {interface}\n priority 255\n advert_int 0.3\n unicast_src_ip {address}\n"
        f" unicast_peer {{\n {peers}\n }}\n virtual_ipaddress {{\n 10.203.0.176/32\n }}\n}}\n"
    )
    former = owner()
    on("ka3", f"cat > /root/rogue.conf <<'END'\n{rogue}END\n")
    files = "--pid /run/rogue.pid --vrrp_pid /run/rogue-vrrp.pid --checkers_pid /run/rogue-check.pid"
    on("ka3", f"systemd-run --quiet --collect --unit rogue keepalived --dont-fork --use-file /root/rogue.conf {files}")
    try:
        with client() as gap:
            eventually(lambda: "10.203.0.176" in on("ka3", "ip -brief address"), 10, "the other keepalived has started")
            # keepalived would reject its packets, but each one would delay its own, and the other host would take over.
            time.sleep(4)
        assert owner() == former
        assert gap.seconds < 0.5
    finally:
        on("ka3", "systemctl stop rogue")


def test_changed_setting_is_loaded_without_moving_the_vip() -> None:
    """The run after one that was killed before its reload does the same."""
    former = owner()
    main = on(former, "systemctl show -p MainPID --value keepalived")
    with client() as gap:
        converge("--limit", "pair", "--tags", "keepalived", "-e", "keepalived_advertise_seconds=0.4")
    assert (owner(), on(former, "systemctl show -p MainPID --value keepalived")) == (former, main)
    assert gap.seconds < 0.5
    for name in HOSTS:
        assert "Advert interval = 400 milli-sec" in _known(name)
        on(name, "sed -i 's/advert_int 0.4/advert_int 0.3/' /etc/keepalived/keepalived.conf")
    converge("--limit", "pair", "--tags", "keepalived")
    assert all("Advert interval = 300 milli-sec" in _known(name) for name in HOSTS)
    assert converge("--limit", "pair").stdout.count("changed=0 ") == len(HOSTS)
    assert owner() == former


def _known(name: str) -> str:
    """Return the state that the running keepalived dumps."""
    dump = "/proc/$(systemctl show -p MainPID --value keepalived)/root/tmp/keepalived*.data"
    on(name, f"rm -f {dump}; systemctl kill --signal=USR1 keepalived")
    eventually(lambda: "Advert interval" in on(name, f"cat {dump}", check=False), 5, "keepalived has dumped its state")
    return on(name, f"cat {dump}")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keepalived_vip": '"10.203.0.171"'}, "must contain different addresses"),
        ({"keepalived_hosts": '["10.203.0.172"]'}, "must contain different addresses"),
    ],
)
def test_hosts_that_cannot_agree_are_rejected(settings: dict[str, str], message: str) -> None:
    """The role fails before any change."""
    extra = [part for name, value in settings.items() for part in ("-e", f'{{"{name}": {value}}}')]
    refused = converge("--limit", "ka1", "--tags", "keepalived", *extra, check=False)
    assert refused.returncode != 0
    assert message in refused.stdout
