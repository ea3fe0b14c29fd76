"""Do the two ports lead where Patroni says, at once, and to nobody who cannot prove who it is?"""

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
# Tells who answered, and when the session ended. No session outlives its test by much, even if nobody closes it.
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


def who(port: int, sessions: int = 12) -> set[str]:
    """Return who answers on a port of loopback, or how it fails, over some sessions."""
    command = [*into("tf-hap1"), "python3", "-c", SESSIONS, str(port), str(sessions)]
    return set(subprocess.check_output(command, text=True, timeout=120).split())


def becomes(port: int, expected: set[str], seconds: float = 8) -> None:
    """Wait until a port leads there."""
    ends_at = time.monotonic() + seconds
    while (found := who(port)) != expected:
        assert time.monotonic() < ends_at, f"port {port} leads to {found}, not to {expected}"


def say(**roles: str) -> None:
    """Have Patroni say other roles, in this order."""
    for name, role in roles.items():
        on(name, f"echo '{role}' > /run/role")


@dataclass(frozen=True)
class Session:
    """A session that sends a byte ten times a second, and who answered it."""

    host: str
    process: subprocess.Popen[str]

    def is_alive(self) -> bool:
        """Say whether it goes on."""
        return self.process.poll() is None

    def ended_at(self, seconds: float) -> float:
        """Wait for its end; return when that was."""
        return float(self.process.communicate(timeout=seconds)[0])


@contextmanager
def session(port: int) -> Iterator[Session]:
    """Open a session; at the end it is closed, if it still goes on."""
    command = ["podman", "exec", "tf-hap1", "python3", "-c", SESSION, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield Session(process.stdout.readline().strip(), process)
        finally:
            process.kill()


@contextmanager
def restored() -> Iterator[None]:
    """Put the roles back afterwards, whatever happens."""
    try:
        yield
    finally:
        say(**ROLES)
        becomes(PRIMARY, {"hdb1"}, 15)
        becomes(REPLICA, {"hdb2", "hdb3"}, 15)


def test_each_port_leads_where_patroni_says() -> None:
    """Writes to the primary alone; reads to both replicas, one of which is just within the limit."""
    assert who(PRIMARY) == {"hdb1"}
    assert who(REPLICA) == {"hdb2", "hdb3"}


def test_another_primary_is_followed_and_the_former_ones_sessions_end() -> None:
    """At once, though the former primary still serves them: nobody stays pinned to it."""
    with restored(), session(PRIMARY) as former:
        assert former.host == "hdb1"
        changed_at = time.time()
        say(hdb1="replica 0", hdb2="primary")
        assert former.ended_at(10) - changed_at < 4
        becomes(PRIMARY, {"hdb2"})
        becomes(REPLICA, {"hdb1", "hdb3"})


def test_without_a_primary_nothing_is_written() -> None:
    """The session is closed at once; no replica stands in."""
    with restored():
        say(hdb1="replica 0")
        becomes(PRIMARY, {"closed"})
        began = time.monotonic()
        assert who(PRIMARY, 10) == {"closed"}
        assert time.monotonic() - began < 3


def test_a_replica_that_lags_is_left_and_the_primary_is_the_last_resort() -> None:
    """It reads only when no replica is within the limit, and no longer than that."""
    with restored(), session(REPLICA) as former:
        say(hdb3="replica 1001")
        becomes(REPLICA, {"hdb2"})
        say(hdb2="replica 1001")
        becomes(REPLICA, {"hdb1"})
        former.ended_at(10)
        say(hdb3="replica 1000")
        becomes(REPLICA, {"hdb3"})


@pytest.mark.parametrize("kind", ["authority", "name"])
def test_who_cannot_prove_its_name_is_down(kind: str) -> None:
    """Patroni's certificate is of another CA, or another host's: whatever it says, it is not believed."""
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
            becomes(PRIMARY, {"closed"})
            on("hap1", "journalctl --sync")
            reason = on("hap1", "journalctl -o cat -u haproxy -t haproxy | grep 'primary/hdb1 is DOWN' | tail -1")
            assert "SSL" in reason
        finally:
            on("hdb1", "echo /etc/ssl/tradefleet > /run/certificate")


def test_a_frozen_host_is_left() -> None:
    """Its kernel still accepts connections; the checks do not wait for ever, and sessions end."""
    with session(PRIMARY) as former:
        subprocess.run(["podman", "pause", "tf-hdb1"], check=True)
        frozen_at = time.time()
        try:
            assert former.ended_at(15) - frozen_at < 8
            assert who(PRIMARY) == {"closed"}
        finally:
            subprocess.run(["podman", "unpause", "tf-hdb1"], check=True)
    becomes(PRIMARY, {"hdb1"})


def test_a_replica_without_pooler_is_not_noticed() -> None:
    """Patroni knows nothing of the pooler; what one replica refuses, the other gets."""
    reject = (
        "RJ=$(mktemp); sed 's/, 6432)/, 6433)/' /usr/local/bin/database.py > $RJ && cp $RJ /usr/local/bin/database.py"
    )
    on("hdb2", f"cp /usr/local/bin/database.py /root/ && {reject} && systemctl restart database")
    try:
        time.sleep(3)
        assert who(REPLICA) == {"hdb3"}
    finally:
        on("hdb2", "cp /root/database.py /usr/local/bin/ && systemctl restart database")
    becomes(REPLICA, {"hdb2", "hdb3"})


def test_nobody_else_reaches_it(host: Host) -> None:
    """It listens on loopback alone; its status is for root."""
    listening = host.check_output("ss -Hlntp | grep haproxy | awk '{print $4}' | sort").split()
    assert listening == ["127.0.0.1:5000", "127.0.0.1:5001"]
    ask = "curl -sS --max-time 5 --unix-socket /run/haproxy/status.sock 'http://localhost/stats;csv'"
    assert "primary,hdb1," in host.check_output(ask)
    assert host.run(f"setpriv --reuid nobody --clear-groups {ask}").rc == 7


def test_it_has_no_privileges(host: Host) -> None:
    """No process of it is root's; no capability, system calls filtered, the file system read-only."""
    assert set(host.check_output("ps -C haproxy -o user=").split()) == {"haproxy"}
    pid = host.check_output("systemctl show -p MainPID --value haproxy")
    status = host.check_output(f"cat /proc/{pid}/status")
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in status
    inside = f"nsenter --target {pid} --mount -- sh -c"
    assert host.run(f"{inside} true").rc == 0
    assert host.run(f"{inside} 'touch /etc/haproxy/x'").rc != 0
    assert host.run(f"{inside} 'ls /home/debian'").rc != 0


def test_right_after_a_start_no_replica_is_written_to(host: Host) -> None:
    """A new process knows nobody's role: sessions wait until it has asked, and none is refused."""
    assert set(host.check_output(f"systemctl restart haproxy; python3 -c %s {PRIMARY} 20", SESSIONS).split()) == {
        "hdb1"
    }


def test_sessions_outlive_a_reload_but_not_for_ever(host: Host) -> None:
    """What is new in the configuration holds at once; a former session goes on, until its time is over."""
    main = host.check_output("systemctl show -p MainPID --value haproxy")
    try:
        with session(PRIMARY) as former:
            converge("--limit", "proxies", "-e", "haproxy_replica_lag_bytes=500")
            assert host.check_output("systemctl show -p MainPID --value haproxy") == main
            assert former.is_alive()
            becomes(REPLICA, {"hdb2"})
            assert former.is_alive()
            former.ended_at(40)
    finally:
        converge("--limit", "proxies")
    becomes(REPLICA, {"hdb2", "hdb3"})


def test_a_configuration_that_fails_its_test_is_not_installed(host: Host) -> None:
    """haproxy itself refuses it; the file and the process stay as they are."""
    before = host.file("/etc/haproxy/haproxy.cfg").sha256sum
    refused = converge("-e", "haproxy_primary_port=99999", "--limit", "proxies", check=False)
    assert refused.returncode != 0
    assert "failed to validate" in refused.stdout
    assert host.file("/etc/haproxy/haproxy.cfg").sha256sum == before
    assert who(PRIMARY) == {"hdb1"}


def test_a_lost_reload_and_a_lost_restart_are_made_up_for(host: Host) -> None:
    """Runs that were killed after writing: the next one finds that haproxy runs something else."""
    ask = "curl -sS --max-time 5 --unix-socket /run/haproxy/status.sock http://localhost/configuration"
    right = host.check_output(ask)
    host.check_output(f"sed -i 's/{right}/stale/' /etc/haproxy/haproxy.cfg && systemctl reload haproxy")
    host.check_output(f"for n in $(seq 50); do [ $({ask}) != stale ] || exit 0; sleep 0.2; done; exit 1")
    host.check_output(f"sed -i 's/stale/{right}/' /etc/haproxy/haproxy.cfg")
    converge("--limit", "proxies")
    assert host.check_output(ask) == right
    main = host.check_output("systemctl show -p MainPID --value haproxy")
    host.check_output("touch /etc/systemd/system/haproxy.service.d/sandbox.conf")
    converge("--limit", "proxies")
    assert host.check_output("systemctl show -p MainPID --value haproxy") != main
    assert "changed=0 " in converge("--limit", "proxies").stdout


def test_a_killed_process_is_back(host: Host) -> None:
    """systemd starts it again."""
    host.check_output("pkill -9 -o haproxy")
    becomes(PRIMARY, {"hdb1"}, 10)


def test_the_kernel_ends_other_processes_first() -> None:
    """Should memory run out: haproxy is small, and the application reaches nothing without it."""
    assert oom_score_adjust("hap1", "haproxy") == -500
