"""Is the copy of all archives complete at any moment, and is a lost server rebuilt from it?"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from archives import (
    CLIENT,
    COPY,
    REPOSITORIES,
    SERVER,
    Checkout,
    back_up,
    changes,
    listed,
    moved,
    problems,
    run,
)
from scenario import SCENARIO, converge
from testinfra.host import Host

FILES = "cd {} && find * -type f -not -path '*/locks/*' | sort | xargs sha256sum"
MINE = f"restic --repo {COPY}/operations2 --password-file /etc/tradefleet-archive/passphrase --no-lock"
JOURNAL = "/var/lib/tradefleet-operations"


def tree(host: Host, folder: str) -> str:
    """Return the checksums of all files."""
    return str(host.check_output(FILES.format(folder)))


def archive(name: str) -> None:
    """Archive a new file of the client."""
    back_up(name)
    run(CLIENT, "store")


def failure(command: str) -> str:
    """Run a command of the copy that must fail, and return the problem that it leaves."""
    assert run(SERVER, command, check=False) != "0"
    [found] = problems(SERVER)
    return found


@pytest.fixture(autouse=True)
def settled() -> Iterator[None]:
    """After each test the copy is complete, and nothing is reported."""
    yield
    SERVER.check_output("tradefleet-archive copy && tradefleet-archive verify")
    assert problems(SERVER) == []
    assert tree(CLIENT, COPY) == tree(SERVER, REPOSITORIES)


def test_copy_is_a_repository_that_its_passphrase_opens() -> None:
    """With every file of every host; the report and the metrics have its age."""
    archive("20261201T000000Z")
    before = int(SERVER.check_output("date +%s"))
    run(SERVER, "copy")
    assert tree(CLIENT, COPY) == tree(SERVER, REPOSITORIES)
    CLIENT.check_output(f"{MINE} check --read-data")
    state = json.loads(SERVER.check_output("tradefleet-archive report"))
    assert state["copied"] >= before
    metric = 'tradefleet_archive_last_run_succeeded{command="copy"} 1'
    assert metric in SERVER.check_output("cat /var/lib/tradefleet-archive/archives.prom")
    SERVER.check_output("touch --date='5 hours ago' /root/then")
    with moved(SERVER, "/var/lib/tradefleet-archive/copy.json") as kept:
        old = "sed 's/\"time\": [0-9]*/\"time\": '$(stat --format=%Y /root/then)'/'"
        SERVER.check_output(f"{old} {kept} > /var/lib/tradefleet-archive/copy.json")
        assert problems(SERVER) == ["the last copy is 5 hours old"]


def test_interrupted_copy_has_everything_that_its_snapshots_need() -> None:
    """The snapshots are the last to arrive; the next run continues."""
    archive("20261201T010000Z")
    snapshots = CLIENT.check_output(f"ls {COPY}/operations2/snapshots")
    # Where new data belongs, nothing can be written.
    CLIENT.check_output(f"mv {COPY}/operations2/data /srv/data.kept && touch {COPY}/operations2/data")
    try:
        assert "copy failed: operations2: " in failure("copy")
        assert CLIENT.check_output(f"ls {COPY}/operations2/snapshots") == snapshots
    finally:
        CLIENT.check_output(f"rm {COPY}/operations2/data && mv /srv/data.kept {COPY}/operations2/data")
    CLIENT.check_output(f"{MINE} check --read-data")


def test_file_that_is_damaged_in_the_copy_is_reported() -> None:
    """After the commands of the message it is sound again."""
    damaged = CLIENT.check_output(f"find {COPY}/operations2/data -type f -size +500k | head -1")
    CLIENT.check_output(f"printf damaged | dd of={damaged} bs=1 seek=200 conv=notrunc")
    found = failure("verify")
    path = damaged.removeprefix(f"{COPY}/")
    assert f"damaged in the copy: {path} (1 files)" in found
    SERVER.check_output(f"tradefleet-archive-copy rclone deletefile copy:{path}")


def test_file_that_is_damaged_on_the_server_is_not_copied() -> None:
    """Files that were copied before stay as they were, whatever happens to the server's."""
    archive("20261201T020000Z")
    old = CLIENT.check_output(f"cd {COPY} && find operations2/data -type f | head -1")
    new = SERVER.check_output(
        f"cd {REPOSITORIES} && find operations2/data -type f -size +500k -newer /var/lib/tradefleet-archive/copy.json"
    )
    with moved(SERVER, f"{REPOSITORIES}/{new}") as kept, moved(SERVER, f"{REPOSITORIES}/{old}"):
        SERVER.check_output(
            f"cp {kept} {REPOSITORIES}/{new} && printf damaged | dd of={REPOSITORIES}/{new} bs=1 conv=notrunc"
        )
        assert f"{REPOSITORIES}/{new} is damaged, and was not copied" in failure("copy")
        assert CLIENT.file(f"{COPY}/{old}").exists


def test_repository_that_is_being_pruned_is_copied_by_the_next_run() -> None:
    """A file that the listing contains is gone when it is read."""
    SERVER.check_output(f"ln -s /gone {REPOSITORIES}/operations2/index/{'0' * 64}")
    try:
        assert "was pruned while it was copied: the next run continues" in failure("copy")
    finally:
        SERVER.check_output(f"rm {REPOSITORIES}/operations2/index/{'0' * 64}")


def test_outage_of_the_copy_is_reported_and_stops_no_archive() -> None:
    """An answer from a server without the configured CA is an outage too. A new server does not begin without it."""
    CLIENT.check_output("systemctl stop s3")
    try:
        archive("20261201T030000Z")
        assert "connection refused" in failure("copy")
        refused = SERVER.run("tradefleet-archive-copy attach")
        assert (refused.rc, "begin new archives" in refused.stderr) == (1, True)
    finally:
        CLIENT.check_output("systemctl start s3")
    with moved(SERVER, "/etc/tradefleet-archive/copy.json") as kept:
        SERVER.check_output(f"""sed 's/"ca": .*/"ca": "",/' {kept} > /etc/tradefleet-archive/copy.json""")
        assert "certificate signed by unknown authority" in failure("copy")


def test_another_repository_is_refused_until_the_former_one_is_back() -> None:
    """Neither a new one of the same host nor a missing one changes the copy."""
    before = tree(CLIENT, f"{COPY}/operations2")
    with moved(SERVER, f"{REPOSITORIES}/operations2"):
        assert "operations2: the copy has archives that this server lacks" in failure("copy")
        archive("20261201T040000Z")
        refused = failure("copy")
        assert "operations2: the copy is one of another repository, and stays as it is" in refused
        assert SERVER.run("tradefleet-archive prune operations2").rc == 1
        assert tree(CLIENT, f"{COPY}/operations2") == before
        # What the message says.
        SERVER.check_output(f"mv {REPOSITORIES}/operations2 {REPOSITORIES}/operations2.away")
        assert SERVER.check_output("tradefleet-archive-copy attach") == "operations2"
        SERVER.check_output(f"rm -r {REPOSITORIES}/operations2.away")
        assert tree(SERVER, f"{REPOSITORIES}/operations2") == before
        run(CLIENT, "check")
    SERVER.check_output("tradefleet-archive prune operations2")


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The controller, whose archives are in the copy as well."""
    found = Checkout(tmp_path_factory.mktemp("controller") / "checkout")
    found.fill()
    return found


def test_lost_server_is_rebuilt_with_all_archives(controller: Checkout) -> None:
    """Hosts and controller continue their repositories, and the former journal can be continued."""
    begin = "tradefleet-operations begin --who=x --verb=site && tradefleet-operations unlock --who=x --reason=former"
    SERVER.check_output(begin)
    run(SERVER, "store")
    archive("20261201T050000Z")
    controller.archive()
    run(SERVER, "copy")
    former = {source: listed(host, source) for host, source in ((SERVER, "journal"), (CLIENT, "redis"))}
    journal = SERVER.check_output(f"sha256sum < {JOURNAL}/journal.jsonl")
    SERVER.check_output(
        "systemctl stop restic-rest-server 'tradefleet-archive@*.timer' && rm -r /var/cache/tradefleet-archive"
        f" {REPOSITORIES} /var/lib/tradefleet-archive /etc/tradefleet-archive {JOURNAL}"
    )
    assert "Take back the repositories that this server lacks" in converge("--limit=operations1").stdout
    run(CLIENT, "check")
    assert listed(CLIENT, "redis") == former["redis"]
    archive("20261201T053000Z")
    assert changes(controller.archive()) == 0
    (controller.folder / "inventories/site/hosts.yml").write_text("all: {}\n")
    assert changes(controller.archive()) == 1
    assert listed(SERVER, "journal")[:-1] == former["journal"]
    # docs/runbooks/archives.md
    SERVER.check_output(f"cd {JOURNAL} && mkdir rebuilt && mv journal.jsonl rebuilt/")
    SERVER.check_output(f"tradefleet-archive fetch journal {former['journal'][-1]['id']} {JOURNAL}")
    assert SERVER.check_output(f"sha256sum < {JOURNAL}/journal.jsonl") == journal
    SERVER.check_output(f"chmod 0644 {JOURNAL}/journal.jsonl && tradefleet-operations verify")


@pytest.mark.thorough
def test_pruned_archives_leave_the_copy_with_the_pruning_only(controller: Checkout) -> None:
    """Server and copy remain sound repositories, to which the host continues to archive."""
    restic = (
        "RESTIC_REST_USERNAME=operations2 RESTIC_REST_PASSWORD=$(cat /etc/tradefleet-archive/password)"
        " restic --cacert /etc/ssl/tradefleet/ca.crt --password-file /etc/tradefleet-archive/passphrase"
        " --repo rest:https://10.203.0.177:8433/operations2/ backup --host operations2 --tag redis"
    )
    CLIENT.check_output(f"{restic} --time '2020-01-01 00:00:00' /etc/hostname")
    archive("20261201T060000Z")
    run(SERVER, "copy")
    assert pruned(controller) == ["localhost", "operations1"]
    assert pruned(controller) == []
    assert "/etc/hostname" not in [each["path"] for each in listed(CLIENT, "redis")]
    assert "/etc/hostname" not in CLIENT.check_output(f"{MINE} snapshots")
    CLIENT.check_output(f"{MINE} check --read-data")
    archive("20261201T070000Z")
    run(CLIENT, "check")


def pruned(controller: Checkout) -> list[str]:
    """Run the playbook that prunes, and return the hosts that it changed."""
    done = controller.archive(playbook="prune.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"^(\S+) .*changed=[1-9]", done.stdout, re.MULTILINE)


SFTP = """
set -eu
rm -rf /home/backups/restic
id backups > /dev/null 2>&1 || useradd --create-home --shell /bin/sh backups
install -d -o backups -m 0700 /home/backups/.ssh
ssh-keygen -q -t ed25519 -N '' -f /root/backups <<< y > /dev/null
(printf 'restrict,command="internal-sftp" '; cat /root/backups.pub) > /home/backups/.ssh/authorized_keys
chown backups /home/backups/.ssh/authorized_keys
"""


@pytest.mark.thorough
def test_copy_by_sftp_accepts_only_the_configured_host_key() -> None:
    """The account needs no shell. Without a copy, no credentials and no timers are left."""
    CLIENT.check_output("bash -c %s", SFTP)
    algorithm = "cut -d ' ' -f 2 /etc/ssh/ssh_host_ecdsa_key.pub | base64 -d | sha256sum | cut -d ' ' -f 1"
    server = {"type": "sftp", "host": "10.203.0.178", "path": "/home/backups/restic", "user": "backups"}
    server["fingerprint"] = CLIENT.check_output(algorithm)
    key = CLIENT.file("/root/backups").content_string
    try:
        configure(archive_copy_server=server, archive_copy_secret=key)
        archive("20261201T080000Z")
        run(SERVER, "copy")
        run(SERVER, "verify")
        assert problems(SERVER) == []
        assert tree(CLIENT, "/home/backups/restic") == tree(SERVER, REPOSITORIES)
        with moved(SERVER, f"{REPOSITORIES}/operations2"):
            assert SERVER.check_output("tradefleet-archive-copy attach") == "operations2"
            assert tree(CLIENT, "/home/backups/restic") == tree(SERVER, REPOSITORIES)
        with moved(SERVER, "/etc/tradefleet-archive/copy.json") as kept:
            wrong = f"sed s/{server['fingerprint']}/{'0' * 64}/ {kept} > /etc/tradefleet-archive/copy.json"
            SERVER.check_output(wrong)
            assert f"10.203.0.178 has the host key {server['fingerprint']}, not 0000" in failure("copy")
        configure(archive_copy_server={}, archive_copy_secret="")
        assert SERVER.check_output("ls /etc/tradefleet-archive").split() == ["passphrase", "password", "settings.json"]
        assert "copy" not in SERVER.check_output("systemctl list-timers --all 'tradefleet-archive@*'")
        assert problems(SERVER) == []
    finally:
        converge("--limit=operations1")


def configure(**values: Any) -> None:
    """Run the role on the server with other values, which are secret."""
    path = SCENARIO / "copy.json"
    path.write_text(json.dumps(values))
    try:
        converge("--extra-vars", f"@{path}", "--limit=operations1")
    finally:
        path.unlink()
