"""Does every variable take effect on a host with no default values?"""

import subprocess
import time

import testinfra

PROXY = testinfra.get_host("podman://tf-hap2")
PRIMARY, REPLICA = 6000, 6001
# Opens the given number of sessions at once, and prints the host that answers each, or "waits" if none does in time;
# the seventh has less time.
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
# Prints after how many seconds a session is answered, and after how many more it is closed, because it is idle.
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
    """Return the hosts that answer concurrent sessions."""
    return sorted(PROXY.check_output(f"python3 -c %s {port} {sessions}", TOGETHER).split())


def wait_for_host(port: int, expected: str) -> None:
    """Wait until a port leads to only one host."""
    ends_at = time.monotonic() + 15
    while (found := set(together(port, 4))) != {expected}:
        assert time.monotonic() < ends_at, f"port {port} leads to {found}, not to {expected}"


def set_role(name: str, role: str) -> None:
    """Set the role that Patroni reports."""
    subprocess.run(["podman", "exec", f"tf-{name}", "sh", "-c", f"echo '{role}' > /run/role"], check=True)


def test_it_listens_only_on_these_ports() -> None:
    """Both are on loopback."""
    listening = PROXY.check_output("ss -Hlntp | grep haproxy | awk '{print $4}' | sort").split()
    assert listening == [f"127.0.0.1:{PRIMARY}", f"127.0.0.1:{REPLICA}"]


def test_both_ports_lead_to_the_configured_database_port() -> None:
    """The CA is in another place. The only replica in the list lags too far behind for this host."""
    wait_for_host(PRIMARY, "hdb1:7432")
    wait_for_host(REPLICA, "hdb1:7432")


def test_replica_within_the_limit_is_used() -> None:
    """The limit is exact; the other replica would be within it, but is not in the list."""
    set_role("hdb3", "replica 500")
    try:
        wait_for_host(REPLICA, "hdb3:7432")
    finally:
        set_role("hdb3", "replica 999")
    wait_for_host(REPLICA, "hdb1:7432")


def test_sessions_beyond_the_limit_wait() -> None:
    """Six are served; the seventh is served when one of them has ended."""
    assert together(PRIMARY, 7) == ["hdb1:7432"] * 6 + ["waits"]
    wait_for_host(PRIMARY, "hdb1:7432")


def test_new_process_checks_first_and_idle_sessions_end() -> None:
    """A session waits for the first check, here two and a half seconds; idle ones end after five."""
    answered, ended = map(
        float, PROXY.check_output(f"systemctl restart haproxy; python3 -c %s {PRIMARY}", IDLE).split()
    )
    assert answered > 2
    assert 3 < ended < 10
