"""Does every variable have its effect: a host with none of the defaults?"""

import subprocess
import time

import testinfra

PROXY = testinfra.get_host("podman://tf-hap2")
PRIMARY, REPLICA = 6000, 6001
# Opens so many sessions at once, and tells who answers each; nobody in time is «waits», and the seventh has little.
TOGETHER = """
import socket, sys
sessions = [socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5) for _ in range(int(sys.argv[2]))]
for number, session in enumerate(sessions):
    session.settimeout(5 if number < 6 else 1)
    try:
        print(session.recv(99).decode().strip() or "closed")
    except TimeoutError:
        print("waits")
"""
# Tells after how many seconds a session is answered, and after how many more it ends, since it says nothing.
IDLE = """
import socket, sys, time
began = time.monotonic()
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20) as session:
    session.recv(99)
    answered = time.monotonic()
    session.recv(99)
    print(answered - began, time.monotonic() - answered)
"""


def together(port: int, sessions: int) -> list[str]:
    """Return who answers each of so many sessions at the same time."""
    return sorted(PROXY.check_output(f"python3 -c %s {port} {sessions}", TOGETHER).split())


def becomes(port: int, expected: str) -> None:
    """Wait until a port leads to one host alone."""
    ends_at = time.monotonic() + 15
    while (found := set(together(port, 4))) != {expected}:
        assert time.monotonic() < ends_at, f"port {port} leads to {found}, not to {expected}"


def say(name: str, role: str) -> None:
    """Have Patroni say another role."""
    subprocess.run(["podman", "exec", f"tf-{name}", "sh", "-c", f"echo '{role}' > /run/role"], check=True)


def test_it_listens_on_these_ports_alone() -> None:
    """On loopback."""
    listening = PROXY.check_output("ss -Hlntp | grep haproxy | awk '{print $4}' | sort").split()
    assert listening == [f"127.0.0.1:{PRIMARY}", f"127.0.0.1:{REPLICA}"]


def test_each_port_leads_to_this_port_of_the_databases() -> None:
    """Whom it believes by a CA in another place. The replica that it knows lags too far behind for this host."""
    becomes(PRIMARY, "hdb1:7432")
    becomes(REPLICA, "hdb1:7432")


def test_a_replica_within_the_limit_is_used() -> None:
    """To the byte; the other replica would be near enough, and is unknown here."""
    say("hdb3", "replica 500")
    try:
        becomes(REPLICA, "hdb3:7432")
    finally:
        say("hdb3", "replica 999")
    becomes(REPLICA, "hdb1:7432")


def test_sessions_beyond_the_limit_wait() -> None:
    """Six are served; the seventh is when one of these has ended."""
    assert together(PRIMARY, 7) == ["hdb1:7432"] * 6 + ["waits"]
    becomes(PRIMARY, "hdb1:7432")


def test_a_new_process_asks_first_and_an_idle_session_ends() -> None:
    """A session waits for as long as it takes to ask, here two seconds and a half; idle ones end after five."""
    answered, ended = map(
        float, PROXY.check_output(f"systemctl restart haproxy; python3 -c %s {PRIMARY}", IDLE).split()
    )
    assert answered > 2
    assert 3 < ended < 10
