"""Is the address always where it can be served, and never in two places?"""

import subprocess
import time
from functools import partial

import pytest
from inside import on
from scenario import converge
from vip import HOSTS, VIP, answers, becomes, client, other, owner, owners, podman, whole


@pytest.fixture(autouse=True)
def from_whole_to_whole() -> None:
    """No test begins with what another one has left."""
    whole()


def test_one_host_has_the_address_and_both_serve() -> None:
    """On the interface of the host's own address; a further run leaves it where it is."""
    assert len(owners()) == 1
    assert all(answers(address) for address in (VIP, *HOSTS.values()))
    interface = on(owner(), f"ip -brief address show to {VIP}").split()[0]
    assert on(owner(), f"ip -brief address show to {HOSTS[owner()]}").split()[0] == interface


@pytest.mark.parametrize(
    ("break_it", "mend_it", "limit"),
    [
        ("systemctl stop keepalived", "systemctl start keepalived", 0.5),
        ("pkill -9 keepalived; systemctl stop keepalived", "systemctl start keepalived", 1.5),
        ("systemctl kill --signal=KILL nginx; systemctl stop nginx", "systemctl start nginx", 2),
        ("systemctl kill --signal=STOP nginx", "systemctl kill --signal=CONT nginx", 2.5),
    ],
    ids=["stopped", "killed", "nginx-dead", "nginx-frozen"],
)
def test_it_moves_when_its_host_cannot_serve(break_it: str, mend_it: str, limit: float) -> None:
    """Within the limit, and it stays there when the former host is well again."""
    former, next_one = owner(), other()
    try:
        with client() as gap:
            on(former, break_it, check=False)
        assert owner() == next_one
    finally:
        on(former, mend_it)
    whole()
    assert owner() == next_one
    assert gap.seconds <= limit
    print(f"gap {gap.seconds:.2f} s")


def test_it_moves_when_its_host_dies() -> None:
    """The host comes back, serves again, and leaves the address where it is."""
    former, next_one = owner(), other()
    try:
        with client() as gap:
            podman("kill", f"tf-{former}")
    finally:
        podman("start", f"tf-{former}")
    whole()
    assert owner() == next_one
    assert gap.seconds <= 1.5
    print(f"gap {gap.seconds:.2f} s")


@pytest.mark.parametrize("former", HOSTS)  # of two answers for the address, that of the same host comes first each time
def test_it_moves_when_its_host_freezes_and_is_in_one_place_again_afterwards(former: str) -> None:
    """A frozen host's kernel answers for the address still, and when it wakes up it believes that it has it."""
    if owner() != former:
        on(owner(), "systemctl restart keepalived")
    becomes(lambda: owners() == [former], 5, "the host has it")
    whole()
    try:
        with client() as gap:
            podman("pause", f"tf-{former}")
        assert gap.seconds <= 1.5
        time.sleep(3)  # until what it announces when it gets the address is over
        with client() as asked_anew:
            subprocess.run(["ip", "neighbour", "flush", "to", VIP], check=True)
        assert asked_anew.seconds <= 2
    finally:
        podman("unpause", f"tf-{former}")
    becomes(lambda: len(owners()) == 1, 5, "one host has the address")
    print(f"gap {gap.seconds:.2f} s, {asked_anew.seconds:.2f} s for who asks anew, then on {owner()} (was {former})")


def test_each_host_is_back_in_service_after_a_reboot() -> None:
    """Without anybody's help."""
    for name in HOSTS:
        on(name, "systemctl reboot", check=False)
        becomes(partial(_is_down, name), 20, f"{name} goes down")
        whole()


def _is_down(name: str) -> bool:
    return not answers(HOSTS[name])


def test_without_nginx_nobody_has_it() -> None:
    """Who answers first gets it."""
    first = other()
    try:
        for name in HOSTS:
            on(name, "systemctl stop nginx")
        becomes(lambda: owners() == [], 5, "nobody has the address")
    finally:
        on(first, "systemctl start nginx")
        becomes(lambda: owners() == [first], 5, f"{first} has the address")
        for name in HOSTS:
            on(name, "systemctl start nginx")


def test_a_stranger_cannot_take_it() -> None:
    """A host of the same network that speaks as one of the group, with a higher priority, is not listened to."""
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
            becomes(lambda: "10.203.0.176" in on("ka3", "ip -brief address"), 10, "the stranger has begun")
            # keepalived refuses what it says, but each packet would delay its own, and the other host take over.
            time.sleep(4)
        assert owner() == former
        assert gap.seconds < 0.5
    finally:
        on("ka3", "systemctl stop rogue")


def test_a_changed_setting_is_loaded_and_the_address_stays() -> None:
    """Also by the run after one that was killed before its reload."""
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
    """Return what the running keepalived says of itself."""
    told = "/proc/$(systemctl show -p MainPID --value keepalived)/root/tmp/keepalived*.data"
    on(name, f"rm -f {told}; systemctl kill --signal=USR1 keepalived")
    becomes(lambda: "Advert interval" in on(name, f"cat {told}", check=False), 5, "keepalived tells")
    return on(name, f"cat {told}")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"keepalived_vip": '"10.203.0.171"'}, "must hold two addresses or more"),
        ({"keepalived_hosts": '["10.203.0.171"]'}, "must hold two addresses or more"),
    ],
)
def test_hosts_that_could_not_agree_are_refused(settings: dict[str, str], said: str) -> None:
    """Before anything is changed."""
    extra = [part for name, value in settings.items() for part in ("-e", f'{{"{name}": {value}}}')]
    refused = converge("--limit", "ka1", "--tags", "keepalived", *extra, check=False)
    assert refused.returncode != 0
    assert said in refused.stdout
