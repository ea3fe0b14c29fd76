"""Does a cluster with non-default settings apply them, grow, and replace a member that lost its data?"""

import json
import re
import subprocess
import time

import testinfra
from scenario import PROJECT, SCENARIO, converge
from testinfra.backend.base import CommandResult
from testinfra.host import Host

ADDRESSES = {"alt1": "10.203.0.134", "alt2": "10.203.0.135", "alt3": "10.203.0.136"}
ALT1, ALT2, ALT3 = (testinfra.get_host(f"podman://tf-{name}") for name in ADDRESSES)


def etcdctl(host: Host, command: str, member: str = "alt1") -> CommandResult:
    """Run etcdctl as root, connected to this member."""
    return host.run(f"ETCDCTL_ENDPOINTS=https://{ADDRESSES[member]}:2379 etcdctl-root {command}")


def client(user: str, password: str, command: str) -> CommandResult:
    """Run etcdctl on alt1 as a user."""
    tls = "/etc/ssl/tradefleet"
    certificate = f"--cacert={tls}/ca.crt --cert={tls}/host.crt --key={tls}/host.key"
    login = f"ETCDCTL_USER={user} ETCDCTL_PASSWORD={password}"
    return ALT1.run(f"{login} etcdctl {certificate} --endpoints=https://{ADDRESSES['alt1']}:2379 {command}")


def output(done: subprocess.CompletedProcess[str]) -> str:
    """Return the output of a playbook as one line, without the colors that molecule requests."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).split())


def voters() -> set[str]:
    """Return the names of the members that have started and vote."""
    members = json.loads(etcdctl(ALT1, "member list --write-out=json").stdout)["members"]
    return {member["name"] for member in members if not member.get("isLearner")}


def run_again(hosts: str, check: bool = True, **changed: object) -> subprocess.CompletedProcess[str]:
    """Run the role on these hosts, by default in a cluster of three."""
    extra = {"etcd_members": ADDRESSES, "scenario_hosts": hosts} | changed
    return converge("-e", json.dumps(extra), check=check)


def replace(member: str) -> subprocess.CompletedProcess[str]:
    """Run the fleet's own playbook on this scenario, without `base` and the parts that need a whole fleet."""
    command = ["ansible-playbook", "-i", f"{PROJECT}/molecule/shared/inventory", "-i", str(SCENARIO / "inventory")]
    command += ["--limit=etcd", "--skip-tags=base", "-e", f"member={member}", "playbooks/replace_etcd_member.yml"]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)


def test_running_member_has_the_settings_of_this_scenario() -> None:
    """etcd logs them when it starts, and systemd reports the timer."""
    log = ALT1.check_output("journalctl --unit=etcd --output=cat --grep='starting an etcd server'")
    settings = json.loads(log.splitlines()[-1])
    assert settings["heartbeat-interval"] == "250ms"
    assert settings["election-timeout"] == "2.5s"
    assert settings["auto-compaction-interval"] == "3h0m0s"
    assert settings["quota-backend-bytes"] == 4194304
    timer = ALT1.check_output("systemctl show etcd-snapshot.timer --property=TimersCalendar")
    assert "OnCalendar=*-*-* 04:30:00" in timer
    older = ALT1.run(
        f"openssl s_client -tls1_2 -connect {ADDRESSES['alt1']}:2379 -CAfile /etc/ssl/tradefleet/ca.crt </dev/null"
    )
    assert "Protocol: TLSv1.2" in older.stdout or "TLSv1.2, Cipher" in older.stdout


def test_each_user_has_access_to_its_prefixes() -> None:
    """One user has two prefixes, and both users share one of them."""
    for user, password, key in (("one", "molecule-one", "/one/a"), ("one", "molecule-one", "/shared/a")):
        assert client(user, password, f"put {key} 1").stdout == "OK\n"
    assert client("two", "molecule-two", "get --print-value-only /shared/a").stdout == "1\n"
    assert "permission denied" in client("two", "molecule-two", "get /one/a").stderr


def test_snapshots_beyond_the_number_kept_are_removed() -> None:
    """The newest stay."""
    for day in range(1, 5):
        ALT1.check_output(f"touch /srv/snapshots/snapshot-2020010{day}T000000Z.db")
    ALT1.check_output("systemctl start etcd-snapshot.service")
    names = ALT1.check_output("ls /srv/snapshots").splitlines()
    assert len(names) == 2
    assert names[0] == "snapshot-20200104T000000Z.db"


def test_two_hosts_with_one_name_are_rejected() -> None:
    """The role fails before its first change on the second."""
    done = converge("-e", json.dumps({"scenario_hosts": "alt2", "etcd_name": "alt1"}), check=False)
    assert done.returncode == 2
    assert "Two hosts with the same etcd_name" in output(done)
    assert "ssl-cert" not in ALT2.user("etcd").groups


def test_new_hosts_join_one_at_a_time() -> None:
    """Both join in one run, which also changes a password and revokes a permission; the old member is not restarted."""
    since = ALT1.check_output("systemctl show etcd --property=ActiveEnterTimestampMonotonic")
    # The state that a run leaves that was killed in between.
    assert etcdctl(ALT1, f"member add alt2 --learner --peer-urls=https://{ADDRESSES['alt2']}:2380").rc == 0
    users = [
        {"name": "one", "password": "other", "prefixes": ["/one/"]},
        {"name": "two", "password": "molecule-two", "prefixes": ["/shared/"]},
    ]
    run_again("alt2:alt3", etcd_users=users)
    assert voters() == set(ADDRESSES)
    assert etcdctl(ALT3, "get --print-value-only /one/a", "alt3").stdout == "1\n"
    assert "authentication failed" in client("one", "molecule-one", "get /one/a").stderr
    done = client("one", "other", "get --print-value-only /one/a")
    assert done.stdout == "1\n", done.stderr
    assert "permission denied" in client("one", "other", "get /shared/a").stderr

    again = run_again("etcd", etcd_users=users)
    assert ALT1.check_output("systemctl show etcd --property=ActiveEnterTimestampMonotonic") == since
    assert not ALT2.file("/etc/default/etcd-initial").exists
    # The one change is the list of members in alt1's etcdctl-root.
    changed = dict(re.findall(r"(alt\d) : ok=\d+ changed=(\d+)", output(again)))
    assert changed == {"alt1": "1", "alt2": "0", "alt3": "0"}


def test_certificates_without_the_name_stop_the_run_before_a_change() -> None:
    """A member with the setting would reject its own or another member's certificate. The role pki repairs that."""
    own = output(run_again("alt2", check=False, pki_extra_names=[]))
    assert (
        "/etc/ssl/tradefleet/host.crt is not a valid certificate for members.scenario.test (etcd_peer_tls_name)" in own
    )
    others = output(run_again("alt1", check=False, etcd_heartbeat_milliseconds=200))
    assert f"The members at {ADDRESSES['alt2']} have certificates without members.scenario.test" in others
    assert "ETCD_HEARTBEAT_INTERVAL=250" in ALT1.file("/etc/default/etcd").content_string
    run_again("alt2")
    assert etcdctl(ALT1, "endpoint health --cluster").rc == 0


def leader() -> str:
    """Return the name of the leader. During a move two members may claim it, one may not respond, or know none."""
    deadline = time.monotonic() + 10
    while True:
        status = json.loads(ALT1.run("etcdctl-root endpoint status --write-out=json").stdout)
        leaders = [
            each["Endpoint"] for each in status if each["Status"].get("leader") == each["Status"]["header"]["member_id"]
        ]
        if len(leaders) == 1:
            return next(name for name, address in ADDRESSES.items() if f"//{address}:" in leaders[0])
        assert time.monotonic() < deadline, leaders
        time.sleep(0.2)


def test_member_moves_the_leadership_while_the_condition_holds() -> None:
    """It does so within ten seconds each time; otherwise it keeps the leadership. The journal contains nothing else."""
    name = leader()
    host = testinfra.get_host(f"podman://tf-{name}")
    host.check_output("systemctl start etcd-yield.service")
    assert leader() == name
    host.check_output("touch /run/leads-elsewhere")
    deadline = time.monotonic() + 25
    while (other := leader()) == name:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    members = json.loads(etcdctl(ALT1, "member list --write-out=json").stdout)["members"]
    identity = next(f"{member['ID']:x}" for member in members if member["name"] == name)
    assert etcdctl(ALT1, f"move-leader {identity}", other).rc == 0
    host.check_output("systemctl start etcd-yield.service")
    assert leader() != name
    lines = host.check_output("journalctl --unit=etcd-yield.service --output=cat").splitlines()
    assert 1 <= len(lines) <= 2
    assert all("leads etcd now, because this host should not." in line for line in lines)
    host.check_output("rm /run/leads-elsewhere")


def test_member_without_data_is_replaced() -> None:
    """The role fails and names the playbook; the playbook rejects a healthy member, and replaces a broken one."""
    ALT2.check_output("systemctl stop etcd && rm -rf /var/lib/etcd/cluster")
    refused = run_again("alt2", check=False)
    assert "playbooks/replace_etcd_member.yml -e member=alt2" in output(refused)

    well = replace("alt1")
    assert "alt1 is a healthy member of etcd and need not be replaced" in output(well)
    ALT3.check_output("systemctl stop etcd")
    few = replace("alt2")
    assert few.returncode == 2
    assert "Without alt2 the others must be a majority" in output(few)
    ALT3.check_output("systemctl start etcd")

    done = replace("alt2")
    assert done.returncode == 0, done.stdout[-4000:]
    assert voters() == set(ADDRESSES)
    assert etcdctl(ALT2, "get --print-value-only /one/a", "alt2").stdout == "1\n"


def test_role_reports_unknown_members_and_refuses_a_lockout() -> None:
    """A member that is not in the inventory stays; clients without passwords are not locked out."""
    # etcd accepts the next member five seconds after the last one joined.
    deadline = time.monotonic() + 15
    while etcdctl(ALT1, "member add ghost --learner --peer-urls=https://10.203.0.139:2380").rc != 0:
        assert time.monotonic() < deadline
        time.sleep(1)
    assert etcdctl(ALT1, "auth disable").rc == 0
    done = run_again("alt1", check=False)
    text = output(done)
    assert done.returncode == 2
    assert "(https://10.203.0.139:2380), which is not in etcd_members" in text
    assert "playbooks/enable_etcd_auth.yml" in text
    assert "Authentication Status: false" in etcdctl(ALT1, "auth status").stdout
    (ghost,) = [line for line in etcdctl(ALT1, "member list").stdout.splitlines() if "10.203.0.139" in line]
    assert f"etcdctl-root member remove {ghost.split(',')[0]}" in text

    assert etcdctl(ALT1, f"member remove {ghost.split(',')[0]}").rc == 0
    assert etcdctl(ALT1, "del --prefix ''").rc == 0
    run_again("alt1")
    assert "Authentication Status: true" in etcdctl(ALT1, "auth status").stdout


def test_full_database_rejects_writes_until_an_operator_frees_space() -> None:
    """etcd raises an alarm; the commands are in the README. Last, because a joining member would raise it again."""
    value = "head -c 1000000 /dev/zero | tr '\\0' x"
    put = f"{value} | ETCDCTL_ENDPOINTS=https://{ADDRESSES['alt1']}:2379 etcdctl-root put /test/big"
    results = [ALT1.run(put) for _ in range(6)]
    assert results[0].rc == 0
    assert "database space exceeded" in results[-1].stderr
    assert "alarm:NOSPACE" in etcdctl(ALT1, "alarm list").stdout
    assert "database space exceeded" in client("one", "molecule-one", "put /one/b 1").stderr

    assert etcdctl(ALT1, "del /test/big").rc == 0
    status = json.loads(etcdctl(ALT1, "endpoint status --write-out=json").stdout)
    assert etcdctl(ALT1, f"compact {status[0]['Status']['header']['revision']}").rc == 0
    for member in ADDRESSES:
        done = etcdctl(ALT1, "defrag", member)
        assert done.rc == 0, done.stderr
    assert etcdctl(ALT1, "alarm disarm").rc == 0
    assert client("one", "molecule-one", "put /one/b 1").stdout == "OK\n"
    assert etcdctl(ALT1, "alarm list").stdout == ""
