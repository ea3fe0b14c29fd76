"""Does each port lead to the host with the role that Patroni reports, at once, and never to an unverified host?"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from inside import into, on, oom_score_adjust
from scenario import converge
from testinfra.host import Host

PRIMARY, REPLICA = 5000, 5001
ROLES = {"hdb1": "primary", "hdb2": "replica 0", "hdb3": "replica 999"}
SESSIONS = """
import socket, sys
for _ in range(int(sys.argv[2])):
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5) as session:
            print(session.recv(99).decode().strip() or "closed")
    except OSError as error:
        print(type(error).__name__)
"""
# Prints the host that answered, and when the session ended. A session ends soon after its test in any case.
SESSION = """
import socket, sys, time
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5) as session:
    print(session.recv(99).decode().strip(), flush=True)
    try:
        for _ in range(900):
            session.sendall(b"x")
            if not session.recv(1):
                break
            time.sleep(0.1)
    except OSError:
        pass
    print(time.time(), flush=True)
"""


def hosts_behind(port: int, sessions: int = 12) -> set[str]:
    """Return the hosts that answer on a loopback port, or how the connection fails, over several sessions."""
    command = [*into("tf-hap1"), "python3", "-c", SESSIONS, str(port), str(sessions)]
    return set(subprocess.check_output(command, text=True, timeout=120).split())


def wait_for_hosts(port: int, expected: set[str], seconds: float = 8) -> None:
    """Wait until a port leads to these hosts."""
    ends_at = time.monotonic() + seconds
    while (found := hosts_behind(port)) != expected:
        assert time.monotonic() < ends_at, f"port {port} leads to {found}, not to {expected}"


def set_roles(**roles: str) -> None:
    """Set the roles that Patroni reports, in this order."""
    for name, role in roles.items():
        on(name, f"echo '{role}' > /run/role")


@dataclass(frozen=True)
class Session:
    """A session that sends a byte ten times a second, and the host that answered."""

    host: str
    process: subprocess.Popen[str]

    def is_alive(self) -> bool:
        """Return whether the session continues."""
        return self.process.poll() is None

    def ended_at(self, seconds: float) -> float:
        """Wait for its end; return when that was."""
        return float(self.process.communicate(timeout=seconds)[0])


@contextmanager
def session(port: int) -> Iterator[Session]:
    """Open a session; it is closed at the end of the block, if it still exists."""
    command = ["podman", "exec", "tf-hap1", "python3", "-c", SESSION, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield Session(process.stdout.readline().strip(), process)
        finally:
            process.kill()


@contextmanager
def restored() -> Iterator[None]:
    """Restore the roles after the block, even if it fails."""
    try:
        yield
    finally:
        set_roles(**ROLES)
        wait_for_hosts(PRIMARY, {"hdb1"}, 15)
        wait_for_hosts(REPLICA, {"hdb2", "hdb3"}, 15)


def test_each_port_leads_to_the_reported_role() -> None:
    """Writes go to the primary only, and reads to both replicas, one of which is just within the limit."""
    assert hosts_behind(PRIMARY) == {"hdb1"}
    assert hosts_behind(REPLICA) == {"hdb2", "hdb3"}


def test_new_primary_is_used_and_sessions_of_the_former_one_end() -> None:
    """This happens at once, although the former primary still serves them."""
    with restored(), session(PRIMARY) as former:
        assert former.host == "hdb1"
        changed_at = time.time()
        set_roles(hdb1="replica 0", hdb2="primary")
        assert former.ended_at(10) - changed_at < 4
        wait_for_hosts(PRIMARY, {"hdb2"})
        wait_for_hosts(REPLICA, {"hdb1", "hdb3"})


def test_without_a_primary_sessions_are_closed() -> None:
    """No replica takes its place."""
    with restored():
        set_roles(hdb1="replica 0")
        wait_for_hosts(PRIMARY, {"closed"})
        began = time.monotonic()
        assert hosts_behind(PRIMARY, 10) == {"closed"}
        assert time.monotonic() - began < 3


def test_lagging_replica_is_not_used_and_the_primary_is_the_last_resort() -> None:
    """The primary serves reads only while no replica is within the limit."""
    with restored(), session(REPLICA) as former:
        set_roles(hdb3="replica 1001")
        wait_for_hosts(REPLICA, {"hdb2"})
        set_roles(hdb2="replica 1001")
        wait_for_hosts(REPLICA, {"hdb1"})
        former.ended_at(10)
        set_roles(hdb3="replica 1000")
        wait_for_hosts(REPLICA, {"hdb3"})


@pytest.mark.parametrize("kind", ["authority", "name"])
def test_host_with_an_invalid_certificate_is_down(kind: str) -> None:
    """Patroni's certificate is from another CA or for another host, so its report is not trusted."""
    if kind == "name":
        on("hdb1", "mkdir -p /etc/ssl/other")
        for name in ("host.crt", "host.key"):
            content = on("hdb2", f"cat /etc/ssl/tradefleet/{name}")
            write = ["podman", "exec", "-i", "tf-hdb1", "sh", "-c", f"umask 77; cat > /etc/ssl/other/{name}"]
            subprocess.run(write, input=content, text=True, check=True)
    else:
        make = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=hdb1 -addext subjectAltName=DNS:hdb1"
        on("hdb1", f"mkdir -p /etc/ssl/other && cd /etc/ssl/other && {make} -keyout host.key -out host.crt 2>&1")
    with restored():
        on("hdb1", "echo /etc/ssl/other > /run/certificate")
        try:
            wait_for_hosts(PRIMARY, {"closed"})
            on("hap1", "journalctl --sync")
            reason = on("hap1", "journalctl -o cat -u haproxy -t haproxy | grep 'primary/hdb1 is DOWN' | tail -1")
            assert "SSL" in reason
        finally:
            on("hdb1", "echo /etc/ssl/tradefleet > /run/certificate")


def test_frozen_host_is_not_used() -> None:
    """Its kernel still accepts connections; the checks time out, and sessions end."""
    with session(PRIMARY) as former:
        subprocess.run(["podman", "pause", "tf-hdb1"], check=True)
        frozen_at = time.time()
        try:
            assert former.ended_at(15) - frozen_at < 8
            assert hosts_behind(PRIMARY) == {"closed"}
        finally:
            subprocess.run(["podman", "unpause", "tf-hdb1"], check=True)
    wait_for_hosts(PRIMARY, {"hdb1"})


def test_replica_without_pooler_is_skipped() -> None:
    """Patroni does not monitor the pooler; a session that one replica refuses goes to the other."""
    reject = (
        "RJ=$(mktemp); sed 's/, 6432)/, 6433)/' /usr/local/bin/database.py > $RJ && cp $RJ /usr/local/bin/database.py"
    )
    on("hdb2", f"cp /usr/local/bin/database.py /root/ && {reject} && systemctl restart database")
    try:
        time.sleep(3)
        assert hosts_behind(REPLICA) == {"hdb3"}
    finally:
        on("hdb2", "cp /root/database.py /usr/local/bin/ && systemctl restart database")
    wait_for_hosts(REPLICA, {"hdb2", "hdb3"})


def test_only_the_host_itself_connects(host: Host) -> None:
    """It listens on loopback only; its status is for root."""
    listening = host.check_output("ss -Hlntp | grep haproxy | awk '{print $4}' | sort").split()
    assert listening == ["127.0.0.1:5000", "127.0.0.1:5001"]
    query = "curl -sS --max-time 5 --unix-socket /run/haproxy/status.sock 'http://localhost/stats;csv'"
    assert "primary,hdb1," in host.check_output(query)
    assert host.run(f"setpriv --reuid nobody --clear-groups {query}").rc == 7


def test_it_has_no_privileges(host: Host) -> None:
    """No process belongs to root; it has no capabilities, filtered system calls, and a read-only file system."""
    assert set(host.check_output("ps -C haproxy -o user=").split()) == {"haproxy"}
    pid = host.check_output("systemctl show -p MainPID --value haproxy")
    status = host.check_output(f"cat /proc/{pid}/status")
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in status
    inside = f"nsenter --target {pid} --mount -- sh -c"
    assert host.run(f"{inside} true").rc == 0
    assert host.run(f"{inside} 'touch /etc/haproxy/x'").rc != 0
    assert host.run(f"{inside} 'ls /home/debian'").rc != 0


def test_no_session_reaches_a_replica_right_after_a_start(host: Host) -> None:
    """A new process does not know the roles yet: sessions wait for its first checks, and none is refused."""
    assert set(host.check_output(f"systemctl restart haproxy; python3 -c %s {PRIMARY} 20", SESSIONS).split()) == {
        "hdb1"
    }


def test_sessions_survive_a_reload_for_a_limited_time(host: Host) -> None:
    """The new configuration applies at once; a former session continues until its time is over."""
    main = host.check_output("systemctl show -p MainPID --value haproxy")
    try:
        with session(PRIMARY) as former:
            converge("--limit", "proxies", "-e", "haproxy_replica_lag_bytes=500")
            assert host.check_output("systemctl show -p MainPID --value haproxy") == main
            assert former.is_alive()
            wait_for_hosts(REPLICA, {"hdb2"})
            assert former.is_alive()
            former.ended_at(40)
    finally:
        converge("--limit", "proxies")
    wait_for_hosts(REPLICA, {"hdb2", "hdb3"})


def test_invalid_configuration_is_not_installed(host: Host) -> None:
    """haproxy itself rejects it; the file and the process stay unchanged."""
    before = host.file("/etc/haproxy/haproxy.cfg").sha256sum
    refused = converge("-e", "haproxy_primary_port=99999", "--limit", "proxies", check=False)
    assert refused.returncode != 0
    assert "failed to validate" in refused.stdout
    assert host.file("/etc/haproxy/haproxy.cfg").sha256sum == before
    assert hosts_behind(PRIMARY) == {"hdb1"}


def test_lost_reload_and_lost_restart_are_repeated(host: Host) -> None:
    """Runs were killed after writing: the next one detects that haproxy runs something else."""
    query = "curl -sS --max-time 5 --unix-socket /run/haproxy/status.sock http://localhost/configuration"
    right = host.check_output(query)
    host.check_output(f"sed -i 's/{right}/stale/' /etc/haproxy/haproxy.cfg && systemctl reload haproxy")
    host.check_output(f"for n in $(seq 50); do [ $({query}) != stale ] || exit 0; sleep 0.2; done; exit 1")
    host.check_output(f"sed -i 's/stale/{right}/' /etc/haproxy/haproxy.cfg")
    converge("--limit", "proxies")
    assert host.check_output(query) == right
    main = host.check_output("systemctl show -p MainPID --value haproxy")
    host.check_output("touch /etc/systemd/system/haproxy.service.d/sandbox.conf")
    converge("--limit", "proxies")
    assert host.check_output("systemctl show -p MainPID --value haproxy") != main
    assert "changed=0 " in converge("--limit", "proxies").stdout


def test_killed_process_is_restarted(host: Host) -> None:
    """systemd restarts it."""
    host.check_output("pkill -9 -o haproxy")
    wait_for_hosts(PRIMARY, {"hdb1"}, 10)


def test_kernel_kills_other_processes_first() -> None:
    """If memory runs out: haproxy is small, and the application reaches no database without it."""
    assert oom_score_adjust("hap1", "haproxy") == -500
