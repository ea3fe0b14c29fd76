"""Preflight refuses bad inputs in words, before anything else happens; the real ansible-playbook is asked."""

import io
import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from repository import PROJECT, SECRETS, ansible

# As long as a key has to be.
FILLER = "not-a-secret-not-a-secret-not-a-secret"
INVENTORIES = sorted(path.parent.name for path in PROJECT.glob("inventories/*/hosts.yml"))


def inventory(folder: Path, name: str, secrets: list[str] = SECRETS) -> Path:
    """Copy an environment, with a vault in plain instead of its own."""
    copy = folder / name
    shutil.copytree(PROJECT / "inventories" / name, copy, ignore=shutil.ignore_patterns("vault.yml"))
    # What docs/install.md has the operator put there.
    (copy / "files").mkdir(exist_ok=True)
    (copy / "files/deploy.pub").write_text("ssh-ed25519 AAAA operator\n")
    write(copy / "group_vars/all/vault.yml", dict.fromkeys(secrets, FILLER))
    return copy


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Return a lab whose hosts have addresses that lead nowhere (RFC 5737), with a release on either colour."""
    copy = inventory(tmp_path, "lab")
    hosts = copy / "hosts.yml"
    hosts.write_text(hosts.read_text().replace("10.203.0.", "192.0.2."))
    traffic(copy)
    return copy


def write(path: Path, content: Any) -> None:
    """Write YAML."""
    path.write_text(yaml.safe_dump(content))


def traffic(copy: Path, live: str = "blue", blue: str = "0.1.0", green: str = "0.1.0", canary: Any = 0) -> None:
    """State where traffic goes."""
    content = {"traffic_live_color": live, "release_blue": blue, "release_green": green}
    content["traffic_canary_percent"] = canary
    write(copy / "group_vars/all/traffic.yml", content)


def children(copy: Path, change: Any) -> None:
    """Change the groups of an inventory."""
    hosts = yaml.safe_load((copy / "hosts.yml").read_text())
    change(hosts["all"]["children"])
    write(copy / "hosts.yml", hosts)


def refusal(copy: Path, playbook: str, **extra: str) -> str:
    """Run a playbook, see that preflight ends it and that no host was asked anything, and return what it says."""
    options = [f"-e{key}={value}" for key, value in extra.items()]
    done = ansible("ansible-playbook", "-i", str(copy), f"playbooks/{playbook}.yml", *options)
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    last = re.findall(r"^(?:TASK|PLAY) \[([^\]]*)\]", done.stdout, re.MULTILINE)[-1]
    assert last.startswith("Preflight | Refuse "), said
    recap = re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", done.stdout, re.MULTILINE)
    assert recap == [("localhost", "0", "0", "1")], said
    return " ".join(said.split())


@pytest.mark.parametrize("name", INVENTORIES)
def test_good_inputs_pass(tmp_path: Path, name: str) -> None:
    """Those of every environment that the repository has; its groups are as they should be."""
    copy = inventory(tmp_path, name)
    arguments = ["-i", str(copy), f"-epreflight_release_dir={tmp_path}"]
    done = ansible("ansible-playbook", *arguments, "playbooks/preflight.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    graph = ansible("ansible-inventory", "-i", str(copy), "--graph")
    assert graph.returncode == 0, graph.stderr
    for group in ("edge", "app", "app_blue", "app_green", "etcd", "postgres", "redis"):
        assert f"@{group}:" in graph.stdout


def test_an_election_of_etcd_is_over_before_the_primary_steps_down(lab: Path) -> None:
    """A slower one takes a slower plan."""

    def change(groups: Any) -> None:
        groups["etcd"]["vars"] = {"etcd_election_milliseconds": 2500}

    children(lab, change)
    said = refusal(lab, "preflight")
    assert "etcd_election_milliseconds is 2500: when a host dies" in said
    assert "Take 2000 at most, or a slower plan" in said

    def slower(groups: Any) -> None:
        groups["postgres"]["vars"] = {"postgresql_failover_plan": "normal"}

    children(lab, slower)
    traffic(lab, live="purple")
    assert "etcd_election_milliseconds" not in refusal(lab, "preflight")


def test_all_mistakes_of_an_inventory_are_told_at_once(lab: Path) -> None:
    """Unknown live colour, missing secrets, a host with two colours, two hosts with one address, too few of a kind."""

    def change(groups: Any) -> None:
        groups["app"]["children"]["app_green"]["hosts"] = {"blue1": {}, "green2": {"ansible_host": "192.0.2.21"}}
        groups["postgres"]["vars"] = {"postgresql_failover_plan": "faster"}
        groups["etcd"]["hosts"] = {"data1": {"ansible_host": "192.0.2.41"}, "data2": {"ansible_host": "192.0.2.42"}}
        groups["postgres"]["hosts"] = {"data1": {}}
        groups["postgres_retired"] = {"hosts": {"data1": {}}}
        groups["redis"]["hosts"] = {"data1": {}, "data2": {}}

    children(lab, change)
    traffic(lab, live="purple")
    kept = [name for name in SECRETS if name not in ("vault_redis_app_password", "vault_demo_api_key")]
    write(lab / "group_vars/all/vault.yml", dict.fromkeys(kept, FILLER))

    said = refusal(lab, "preflight")
    files = f"{lab}/group_vars/all"
    assert f"traffic_live_color is «purple»; it must be one of blue, green. Correct it in {files}/traffic.yml." in said
    assert "The vault lacks vault_demo_api_key, vault_redis_app_password. Type «make secrets ENV=lab»" in said
    assert f"{files}/vault.yml" in said
    assert (
        f"blue1 belongs to app_blue and to app_green. A host has one colour: take it out of one group in {lab}" in said
    )
    assert "Two hosts share an address" in said
    assert f"Correct ansible_host in {lab}/hosts.yml." in said
    assert "postgresql_failover_plan is «faster»; it must be fast, normal or wide" in said
    assert "odd number of etcd hosts (have 2) and at least three redis hosts (have 2)" in said
    assert "group postgres needs two or more (have 1)" in said
    assert "data1 cannot be in postgres and in postgres_retired" in said


def test_api_keys_that_could_not_be_accepted_are_refused(lab: Path) -> None:
    """Form, names, duplicates, one key for two traders, hosts that disagree; without one word of a key."""
    sound = [{"trader": "alice", "key": "a" * 32}, {"trader": "alice", "key": "A-._~+/9" * 32}]
    sound.append({"trader": "bob", "key": f"{'b' * 32}=="})
    fleet = lab / "group_vars/all/fleet.yml"
    stated = yaml.safe_load(fleet.read_text())
    files = f"{lab}/group_vars/all"

    def said(*more: Any) -> str:
        write(fleet, stated | {"app_api_keys": [*sound, *more]})
        # One mistake that is always there: what is right can be seen in a refusal.
        traffic(lab, live="purple")
        return refusal(lab, "preflight")

    assert "app_api_keys" not in said()
    keys = ["k" * 31, "k" * 257, f"{'k' * 20}={'k' * 20}", f"{'k' * 32}!", f"{'k' * 32} ", f"{'k' * 32}\n", 0]
    answer = said(
        *({"trader": f"t{number}", "key": key} for number, key in enumerate(keys)),
        {"trader": "none"},
        {"trader": "a b", "key": "c" * 32},
        {"key": "d" * 32},
        {"trader": "alice", "key": "e" * 32},
        {"trader": "bob", "key": "e" * 32},
    )
    assert "a key of t0, t1, t2, t3, t4, t5, t6, none that the API would reject" in answer
    assert f"made by `openssl rand -hex 32` to {files}/vault.yml." in answer
    assert "contains the trader `a b`, ``; a name is 1 to 64 letters, digits, dots, underscores or hyphens" in answer
    assert f"hyphens. Correct it in {files}/fleet.yml." in answer
    assert "app_api_keys contains one key twice, for alice and bob. Give each entry a key of its own" in answer
    assert not re.search(r"k{9}|e{9}", answer)

    (lab / "group_vars/app_green").mkdir()
    write(lab / "group_vars/app_green/keys.yml", {"app_api_keys": []})
    assert "app_api_keys differs between the hosts of group app: each color would revoke" in said()


def test_half_a_wish_for_an_acme_server_is_refused(lab: Path) -> None:
    """Neither without address nor without directory, nor beside another certificate, nor where nobody would get it."""
    fleet = lab / "group_vars/all/fleet.yml"
    said = refusal(lab, "preflight", acme_directory="https://acme.example/dir")
    assert "acme_directory is «https://acme.example/dir» and acme_email is «»" in said
    assert f"Correct them in {fleet}." in said
    assert "acme_directory is «» and acme_email is «ops@trade.example»" in refusal(
        lab, "preflight", acme_email="ops@trade.example"
    )

    def change(groups: Any) -> None:
        groups["edge"]["vars"] = {"nginx_tls_certificate_file": "/etc/ssl/bought.crt"}
        del groups["ops"]

    children(lab, change)
    good = {"acme_directory": "https://acme.example/dir", "acme_email": "ops@trade.example"}
    said = refusal(lab, "preflight", **good)
    assert "The certificate of lb1, lb2 is said twice" in said
    assert f"put one into group ops in {lab}/hosts.yml." in said


def test_a_certificate_from_an_acme_server_is_wired(lab: Path) -> None:
    """The load balancers pass its questions to ops1 and serve what that delivers; verbs believe public CAs, then."""

    def known(host: str) -> list[Any]:
        words = "{{ [fleet_acme, fleet_edge_ca_path, acme_issuer, nginx_challenge_server | default('-'),"
        words += " nginx_tls_delivered_dir | default('-')] | to_json }}"
        wiring = ["--playbook-dir", str(PROJECT / "playbooks"), "-i", str(lab)]
        done = ansible("ansible", *wiring, host, "-m", "ansible.builtin.debug", "-a", f"msg={words}")
        found: list[Any] = json.loads(re.findall(r"\[.*\]", done.stdout)[-1].replace('\\"', '"'))
        return found

    assert known("lb1") == [False, str(PROJECT / ".lab/ca.crt"), "192.0.2.51", "", ""]
    fleet = lab / "group_vars/all/fleet.yml"
    fleet.write_text(fleet.read_text() + "acme_directory: https://acme.example/dir\nacme_email: ops@trade.example\n")
    assert known("lb1") == [True, "", "192.0.2.51", "192.0.2.51:8402", "/etc/ssl/tradefleet-edge/current"]
    assert known("ops1")[:3] == [True, "", "192.0.2.51"]


def test_a_replica_of_postgresql_need_not_be_a_member_of_etcd(lab: Path) -> None:
    """Four hosts with PostgreSQL, three with etcd."""
    children(lab, lambda groups: groups["postgres"]["hosts"].update(data4={"ansible_host": "192.0.2.44"}))
    done = ansible(
        "ansible-playbook", "-i", str(lab), "-epreflight_release_dir=/nonexistent", "playbooks/preflight.yml"
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_inventory_without_members_of_etcd_is_refused(lab: Path) -> None:
    """As inventories were before there was the group."""
    children(lab, lambda groups: groups["postgres"].update(hosts=groups.pop("etcd")["hosts"]))
    assert f"Each of the groups edge, etcd, postgres and redis needs a host in {lab}/hosts.yml." in refusal(
        lab, "preflight"
    )


def test_a_colour_that_does_not_exist_is_no_target(lab: Path) -> None:
    """It was typed: the answer says what to type."""
    said = refusal(lab, "cutover", cutover_to="purple")
    assert "«purple» is no colour. Say one of blue, green, as in «make cutover TO=green»." in said


def test_a_colour_that_has_no_release_is_no_target(lab: Path) -> None:
    """Nothing was deployed there."""
    traffic(lab, green="")
    said = refusal(lab, "cutover")
    assert "Nothing was deployed to colour green yet" in said
    assert f"release_green in {lab}/group_vars/all/traffic.yml is empty" in said
    assert "Type «make deploy» first." in said


@pytest.mark.parametrize("percent", ["101", "-1", "x", "100"])
def test_a_share_of_clients_that_is_none_is_refused(lab: Path, percent: str) -> None:
    """Everybody, too: that is a cutover."""
    said = refusal(lab, "canary", percent=percent)
    assert f"percent is «{percent}»; it must be a share of the clients, 0 to 99" in said
    assert "«make canary PERCENT=10»" in said
    assert "«make cutover»" in said


@pytest.mark.parametrize("given", [{"percent": "101"}, {"percent": "x"}, {}])
def test_a_share_of_reads_that_is_none_is_refused(lab: Path, given: dict[str, str]) -> None:
    """All of them are one."""
    said = refusal(lab, "shadow", **given)
    assert f"percent is «{given.get('percent', '')}»; it must be a share of the reads, 0 to 100" in said
    assert "«make shadow PERCENT=5»" in said


@pytest.mark.parametrize(
    ("verb", "given"), [("canary", {}), ("canary", {"percent": "10"}), ("shadow", {"percent": "5"})]
)
def test_a_colour_that_could_answer_nobody_gets_no_share(lab: Path, verb: str, given: dict[str, str]) -> None:
    """It has no release, and no hosts."""
    traffic(lab, green="")
    children(lab, lambda groups: groups["app"]["children"].update(app_green=None))
    said = refusal(lab, verb, **given)
    assert "Nothing was deployed to colour green yet" in said
    assert f"Colour green has no hosts. Put some into group app_green in {lab}/hosts.yml." in said


def test_steps_that_are_none_are_refused(lab: Path) -> None:
    """No shares, or none above the one that there is."""
    releases = lab / "group_vars/all/releases.yml"
    stated = yaml.safe_load(releases.read_text())
    for steps in ([10, 101], []):
        write(releases, stated | {"canary_steps": steps})
        said = refusal(lab, "canary")
        assert f"canary_steps is «{', '.join(map(str, steps))}»; it must be shares of the clients, 1 to 100" in said
        assert f"Correct it in {releases}." in said
    write(releases, stated | {"canary_steps": [10, 50]})
    traffic(lab, canary=50)
    said = refusal(lab, "canary")
    assert "Colour green has 50 % of the clients already, and canary_steps (10, 50) ends there." in said


def test_a_share_that_traffic_yml_cannot_mean_is_refused(lab: Path) -> None:
    """By every verb: none is without it."""
    file = f"{lab}/group_vars/all/traffic.yml"
    for canary in (100, "x"):
        traffic(lab, canary=canary)
        said = refusal(lab, "preflight")
        assert f"traffic_canary_percent is «{canary}»; it must be the share" in said
        assert f"Correct it in {file}." in said
    traffic(lab, green="", canary=10)
    assert "traffic_canary_percent is 10, and colour green has no release (release_green is empty)" in refusal(
        lab, "preflight"
    )


@pytest.mark.parametrize("given", [{"maintenance": "True"}, {}])
def test_maintenance_is_on_or_off(lab: Path, given: dict[str, str]) -> None:
    """And nothing else."""
    said = refusal(lab, "maintenance", **given)
    assert f"maintenance is «{given.get('maintenance', '')}»; it must be on or off" in said
    assert "«make maintenance STATE=on» («-e maintenance=on»)" in said


def test_a_release_that_may_come_back_keeps_its_schema(lab: Path) -> None:
    """Contract migrations wait until the idle colour has the live release, or none; other verbs do not mind."""
    traffic(lab, blue="0.2.0", green="0.1.0")
    said = refusal(lab, "finalize")
    assert f"Colour green still has release 0.1.0 (release_green in {lab}/group_vars/all/traffic.yml)" in said
    assert "Put the live release there too («make deploy VERSION=0.2.0»), then finalize." in said
    nowhere = "-epreflight_release_dir=/nonexistent"
    for green, needed in (("0.1.0", False), ("0.2.0", True), ("", True)):
        traffic(lab, blue="0.2.0", green=green)
        needs = json.dumps({"preflight_one_release": needed})
        done = ansible("ansible-playbook", "-i", str(lab), nowhere, "-e", needs, "playbooks/preflight.yml")
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_colour_without_hosts_takes_no_release(lab: Path) -> None:
    """It would be deployed to nobody, and called a success."""
    children(lab, lambda groups: groups["app"]["children"].update(app_green={"hosts": {}}))
    said = refusal(lab, "deploy", deploy_release="0.1.0", preflight_release_dir="/nonexistent")
    assert f"Colour green has no hosts. Put some into group app_green in {lab}/hosts.yml." in said


def test_a_roll_that_would_leave_nobody_is_refused(lab: Path) -> None:
    """A colour with one host, a batch of all, a batch of none."""
    given = {"rolling_release": "0.2.0", "preflight_release_dir": "/nonexistent"}
    said = refusal(lab, "rolling", rolling_batch="2", **given)
    assert "Colour blue has blue1, blue2, and rolling_batch is 2: nobody would serve meanwhile." in said
    assert "«make deploy VERSION=0.2.0», «make cutover»" in said
    none = refusal(lab, "rolling", rolling_batch="0", **given)
    assert (
        f"rolling_batch is «0»; it must be how many hosts are taken out at a time, 1 or more. Correct it in {lab}"
        in none
    )

    def change(groups: Any) -> None:
        groups["app"]["children"] = {"app_blue": {"hosts": {"blue1": {"ansible_host": "192.0.2.21"}}}, "app_green": {}}

    children(lab, change)
    assert "Colour blue has blue1, and rolling_batch is 1: nobody would serve" in refusal(lab, "rolling", **given)


def test_a_fleet_may_have_one_colour(lab: Path) -> None:
    """The other group stands there without hosts."""
    children(lab, lambda groups: groups["app"]["children"].update(app_green=None))
    traffic(lab, green="")
    rolls = json.dumps({"preflight_batch": 1, "preflight_release": "0.2.0", "preflight_release_dir": "/nonexistent"})
    done = ansible("ansible-playbook", "-i", str(lab), "-e", rolls, "playbooks/preflight.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_release_for_another_python_is_refused(lab: Path, tmp_path: Path) -> None:
    """Its wheels would not install; one look into the archive tells."""
    manifest = json.dumps({"release": "0.1.0", "python": "3.11"}).encode()
    name = tmp_path / "tradefleet-0.1.0.tar.gz"
    with tarfile.open(name, "w:gz") as archive:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(manifest)
        archive.addfile(member, io.BytesIO(manifest))
    said = refusal(lab, "deploy", deploy_release="0.1.0", preflight_release_dir=str(tmp_path))
    assert f"{name} says release 0.1.0 for Python 3.11; the hosts need 0.1.0 for Python 3.13." in said
    assert "Build it with «make release VERSION=0.1.0»." in said


def test_every_playbook_parses(lab: Path) -> None:
    """All of them in one process."""
    playbooks = [str(path) for path in sorted(PROJECT.glob("playbooks/*.yml"))]
    done = ansible("ansible-playbook", "--syntax-check", "-i", str(lab), *playbooks)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^playbook: (.+)$", done.stdout, re.MULTILINE) == playbooks
