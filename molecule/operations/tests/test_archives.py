"""Do archives of hosts come back byte for byte, are they safe from their own hosts, and is each fault reported?"""

import pytest
from archives import BACKUPS, CLIENT, REPOSITORIES, SERVER, back_up, listed, missing, moved, problems, run
from testinfra.host import Host


def test_newest_backup_comes_back_byte_for_byte() -> None:
    """It has the owner of the folder, and is older than what was archived after it; a second run stores nothing."""
    first = back_up("20261130T000000Z")
    run(CLIENT, "store")
    CLIENT.check_output("sleep 0.1")
    second = back_up("20261130T010000Z")
    run(CLIENT, "store")
    run(CLIENT, "store")
    found = listed(CLIENT, "redis")[-2:]
    names = [f"{BACKUPS}/state-20261130T0{hour}0000Z.rdb" for hour in (0, 1)]
    assert [each["path"] for each in found] == names
    CLIENT.check_output(f"rm {BACKUPS}/*")
    for archive, name, checksum in zip((found[0]["id"], "latest"), names, (first, second), strict=True):
        assert CLIENT.check_output(f"tradefleet-archive fetch redis {archive} {BACKUPS}") == name
        assert CLIENT.check_output(f"sha256sum < {name}") == checksum
        assert CLIENT.check_output(f"stat --format='%U %a' {name}") == "nobody 600"
    missing = CLIENT.run(f"tradefleet-archive fetch redis 00000000 {BACKUPS}")
    assert "no archive 00000000 of redis" in missing.stderr
    assert CLIENT.check_output(f"ls {BACKUPS} | wc -l") == "2"


def test_journal_is_archived() -> None:
    """The server is a client of itself."""
    SERVER.check_output(
        "tradefleet-operations begin --who=x --verb=site && tradefleet-operations unlock --who=x --reason=x"
    )
    run(SERVER, "store")
    SERVER.check_output("tradefleet-archive fetch journal latest /run")
    SERVER.check_output("cmp /run/journal.jsonl /var/lib/tradefleet-operations/journal.jsonl")


def test_host_can_neither_delete_nor_overwrite_nor_reach_another_repository() -> None:
    """Not even with its own password and passphrase."""
    snapshot = SERVER.check_output(f"ls {REPOSITORIES}/operations2/snapshots | head -1")
    ask = (
        "curl --silent --output /dev/null --write-out '%{http_code}' --cacert /etc/ssl/tradefleet/ca.crt"
        ' --user "operations2:$(cat /etc/tradefleet-archive/password)" https://10.203.0.177:8433'
    )
    assert CLIENT.check_output(f"{ask}/operations2/config") == "200"
    for request in (
        f"--request DELETE {ask.split()[-1]}/operations2/snapshots/{snapshot}",
        f"--request DELETE {ask.split()[-1]}/operations2/config",
        f"--data x {ask.split()[-1]}/operations2/snapshots/{snapshot}",
        f"{ask.split()[-1]}/operations1/config",
        f"--request DELETE {ask.split()[-1]}/operations1/config",
    ):
        status = CLIENT.check_output(f"{' '.join(ask.split()[:-1])} {request}")
        assert status in ("401", "403"), (request, status)
    before = listed(CLIENT, "redis")
    forgetting = CLIENT.run(
        "RESTIC_REST_USERNAME=operations2 RESTIC_REST_PASSWORD=$(cat /etc/tradefleet-archive/password)"
        " restic --cacert /etc/ssl/tradefleet/ca.crt --password-file /etc/tradefleet-archive/passphrase"
        " --repo rest:https://10.203.0.177:8433/operations2/ forget --keep-last 1 --group-by host --prune"
    )
    assert forgetting.rc != 0
    assert listed(CLIENT, "redis") == before


def test_server_knows_no_passphrase_and_no_password() -> None:
    """It cannot decrypt what it stores for another host."""
    for name in ("passphrase", "password"):
        secret = CLIENT.check_output(f"cat /etc/tradefleet-archive/{name}")
        searched = SERVER.run(f"grep --recursive --fixed-strings --files-with-matches {secret} /etc /var/lib")
        assert (searched.rc, searched.stdout) == (1, "")


def test_wrong_passphrase_is_refused() -> None:
    """Nothing is stored, and the report has the reason until the next run succeeds."""
    with moved(CLIENT, "/etc/tradefleet-archive/passphrase"):
        CLIENT.check_output("echo wrong > /etc/tradefleet-archive/passphrase")
        assert run(CLIENT, "store", check=False) != "0"
        assert any("store failed: Fatal: wrong password" in each for each in problems(CLIENT))
    run(CLIENT, "store")
    assert problems(CLIENT) == []


def test_damaged_file_is_reported() -> None:
    """A check reads and decrypts; one that finds nothing wrong clears the report."""
    pack = SERVER.check_output(f"find {REPOSITORIES}/operations2/data -type f -size +500k | head -1")
    with moved(SERVER, pack) as kept:
        SERVER.check_output(f"cp -a {kept} {pack} && printf damaged | dd of={pack} bs=1 seek=200 conv=notrunc")
        assert run(CLIENT, "check", check=False) != "0"
        assert any("check failed" in each for each in problems(CLIENT))
    run(CLIENT, "check")
    assert problems(CLIENT) == []


def test_unreachable_server_fails_the_unit_and_is_reported() -> None:
    """So do the metrics. The next run succeeds."""
    SERVER.check_output("systemctl stop restic-rest-server")
    try:
        assert run(CLIENT, "store", check=False) != "0"
        assert any("is unreachable: [Errno 111]" in each for each in problems(CLIENT))
        metric = 'tradefleet_archive_last_run_succeeded{command="store"} 0'
        assert metric in CLIENT.check_output("cat /var/lib/tradefleet-archive/archives.prom")
        assert CLIENT.run("systemctl is-failed tradefleet-archive@store").rc == 0
    finally:
        SERVER.check_output("systemctl start restic-rest-server")
    run(CLIENT, "store")
    assert problems(CLIENT) == []


def test_server_reports_that_nothing_new_arrives() -> None:
    """Even if every host is content; what never arrived is reported as well, unless the server is new."""
    assert problems(SERVER) == []
    files = f"{REPOSITORIES}/operations2/snapshots/* /etc/tradefleet-archive/settings.json"
    SERVER.check_output(f"touch --date='28 hours ago' {files}")
    try:
        assert "the newest archive of redis is 28 hours old, more than 3" in problems(SERVER)
        with missing(SERVER, f"{REPOSITORIES}/controller"):
            assert "no archive of controller exists" in problems(SERVER)
    finally:
        SERVER.check_output(f"touch {files}")


@pytest.mark.thorough
def test_rebuilt_server_gets_the_newest_backup_again() -> None:
    """The host creates its repository in it."""
    with moved(SERVER, f"{REPOSITORIES}/operations2"):
        run(CLIENT, "store")
        assert len(listed(CLIENT, "redis")) == 1


@pytest.mark.parametrize(("unit", "limit"), [("tradefleet-archive@store", 3.0), ("restic-rest-server", 2.0)])
def test_units_are_sandboxed(unit: str, limit: float) -> None:
    """As `systemd-analyze security` rates them, from 0 to 10."""
    rated = SERVER.check_output(f"systemd-analyze security {unit}.service | tail -1")
    assert float(rated.split(":")[1].split()[0]) <= limit


def test_secrets_are_readable_by_root_only(host: Host) -> None:
    """And each host has only its own; the server alone reaches the copy."""
    assert host.check_output("stat --format=%a /etc/tradefleet-archive") == "700"
    names = {"passphrase", "password", "settings.json"}
    names |= {"copy.json", "rclone.conf"} if host.check_output("hostname") == "operations1" else set()
    assert set(host.check_output("ls /etc/tradefleet-archive").split()) == names
