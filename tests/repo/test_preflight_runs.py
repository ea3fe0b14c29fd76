"""Playbooks that change something check their inputs first: the real ansible-playbook runs and contacts no host."""

import io
import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from repository import PROJECT, SECRETS, ansible

from inventories import (
    FILLER,
    INVENTORIES,
    change,
    change_groups,
    inventory,
    parsed,
    record_traffic,
    refusal,
    unreachable_lab,
    write,
)


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Return a lab whose hosts are unreachable."""
    return unreachable_lab(tmp_path)


@pytest.mark.parametrize("name", INVENTORIES)
def test_inputs_of_the_repository_pass(tmp_path: Path, name: str) -> None:
    """Every environment of the repository passes once its groups are complete."""
    copy = inventory(tmp_path, name)
    arguments = ["-i", str(copy), f"-efleet_release_dir={tmp_path}"]
    done = ansible("ansible-playbook", *arguments, "playbooks/preflight.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"edge", "app", "app_blue", "app_green", "etcd", "postgres", "redis"} <= parsed(copy).groups.keys()


def test_all_mistakes_of_an_inventory_are_reported_at_once(lab: Path, tmp_path: Path) -> None:
    """Every input is wrong, as the wiring passes it: groups, hosts, traffic.yml, vault, release."""

    def wrong(groups: Any) -> None:
        groups["app"]["children"]["app_green"]["hosts"] = {"blue1": {}, "green2": {"ansible_host": "192.0.2.21"}}
        groups["postgres"]["vars"] = {"postgresql_failover_plan": "faster"}
        groups["etcd"]["hosts"] = {"data1": {"ansible_host": "192.0.2.41"}, "data2": {"ansible_host": "192.0.2.42"}}
        groups["etcd"]["vars"] = {"etcd_election_milliseconds": 2500}
        groups["postgres"]["hosts"] = {"data1": {}}
        groups["postgres_retired"] = {"hosts": {"data1": {}}}
        groups["redis"]["hosts"] = {"data1": {}, "data2": {}}

    change_groups(lab, wrong)
    record_traffic(lab, live="purple", blue="1+1", canary=100)
    kept = [name for name in SECRETS if name not in ("vault_redis_app_password", "vault_demo_api_key")]
    write(lab / "group_vars/all/vault.yml", dict.fromkeys(kept, FILLER))
    change(lab / "group_vars/all/fleet.yml", fleet_vip="192.0.2.41", acme_email="ops@trade.example")
    output = refusal(lab, "preflight", nginx_rate_per_adress="5")
    files = f"{lab}/group_vars/all"
    for sentence in (
        'Release "1+1" has a name that no release can have',
        f'traffic_live_color is "purple"; it must be one of blue, green. Correct it in {files}/traffic.yml.',
        'traffic_canary_percent is "100"; it must be the share',
        '"purple" is no color.',
        f"The vault lacks vault_demo_api_key, vault_redis_app_password. Type `make secrets ENV={lab.name}`",
        f"{files}/vault.yml",
        f"blue1 belongs to app_blue and to app_green. A host has one color: take it out of one group in {lab}",
        "Two hosts share an address",
        f"Correct ansible_host in {lab}/hosts.yml.",
        'fleet_vip is "192.0.2.41"',
        'postgresql_failover_plan is "faster"; it must be fast, normal or wide',
        "odd number of etcd hosts (have 2) and at least three redis hosts (have 2)",
        "group postgres needs two or more (have 1)",
        "data1 cannot be in postgres and in postgres_retired",
        'acme_directory is "" and acme_email is "ops@trade.example"',
        "nginx_rate_per_adress is no variable of any role: write nginx_rate_per_address where it is set, on the "
        "command line (-e)",
    ):
        assert sentence in output
    # Ansible prints a message twice: it contains each mistake once.
    assert output.count("traffic_live_color is") == 2


def test_no_variable_turns_the_check_of_values_off(lab: Path) -> None:
    """Nor does an inventory of that name elsewhere."""
    copy = lab.rename(lab.parent / "molecule")
    change(copy / "group_vars/all/fleet.yml", nginx_upstream_port=1)
    off = json.dumps({"preflight_check_values": False, "scenario": True, "ansible_inventory_sources": ["molecule/"]})
    done = ansible("ansible-playbook", "-i", str(copy), "playbooks/preflight.yml", "-e", off)
    assert done.returncode == 2
    assert "nginx_upstream_port cannot be set" in done.stdout


@pytest.mark.parametrize("scenario", ["postgresql", "redis"])
def test_scenarios_may_set_what_the_wiring_sets(scenario: str, tmp_path: Path) -> None:
    """Their tests run playbooks of the fleet (molecule/shared/scenario.py), with copies of the inventory too."""
    folder = PROJECT / "molecule" / scenario
    shutil.copytree(folder / "inventory", tmp_path / "inventory")
    sources = (PROJECT / "molecule/shared/inventory", tmp_path / "inventory", folder / "fleet")
    inventories = [f"--inventory={source}" for source in sources]
    done = ansible("ansible-playbook", *inventories, "playbooks/preflight.yml")
    assert done.returncode == 0, done.stdout


# Each playbook with its own inputs: typed ones, and those in traffic.yml.
WAYS: dict[str, tuple[str, dict[str, str], dict[str, Any], str]] = {
    "a color that does not exist": ("cutover", {"cutover_to": "purple"}, {}, '"purple" is no color.'),
    "a color without a release": ("cutover", {}, {"green": ""}, "Nothing was deployed to color green yet"),
    "a batch of all hosts": (
        "rolling",
        {"rolling_release": "0.2.0", "rolling_batch": "2", "fleet_release_dir": "/nonexistent"},
        {},
        "Color blue has blue1, blue2, and rolling_batch is 2",
    ),
    "a canary of all clients": ("canary", {"percent": "100"}, {"green": ""}, 'percent is "100"'),
    "a canary that needs a release": ("canary", {"percent": "5"}, {"green": ""}, "Nothing was deployed to color green"),
    "a canary at its end": ("canary", {}, {"canary": 100}, "Color green has 100 % of the clients already"),
    "a shadow without a share": ("shadow", {}, {"green": ""}, 'percent is ""; it must be a share of the reads'),
    "a shadow that needs a release": ("shadow", {"percent": "5"}, {"green": ""}, "Nothing was deployed to color green"),
    "a maintenance that is neither": ("maintenance", {"maintenance": "True"}, {}, 'maintenance is "True"'),
    "a release that may return": ("finalize", {}, {"blue": "0.2.0"}, "Color green still has release 0.1.0"),
}


@pytest.mark.parametrize("way", WAYS)
def test_playbook_passes_its_inputs_to_preflight(lab: Path, way: str) -> None:
    """The inputs are name, color, release, batch and shares; the run ends before any host is contacted."""
    playbook, typed, recorded, sentence = WAYS[way]
    record_traffic(lab, **recorded)
    assert sentence in refusal(lab, playbook, **typed)


def test_deploy_passes_color_and_release_to_preflight(lab: Path, tmp_path: Path) -> None:
    """The idle color has no hosts, and the archive is for another Python."""
    manifest = json.dumps({"release": "0.1.0", "python": "3.11"}).encode()
    name = tmp_path / "tradefleet-0.1.0.tar.gz"
    with tarfile.open(name, "w:gz") as archive:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(manifest)
        archive.addfile(member, io.BytesIO(manifest))
    change_groups(lab, lambda groups: groups["app"]["children"].update(app_green={"hosts": {}}))
    output = refusal(lab, "deploy", deploy_release="0.1.0", fleet_release_dir=str(tmp_path))
    assert f"Color green has no hosts. Put some into group app_green in {lab}/hosts.yml." in output
    assert f"{name} contains release 0.1.0 for Python 3.11; the hosts need 0.1.0 for Python 3.13." in output
    assert "Build it with `make release VERSION=0.1.0`." in output


def test_acme_certificate_is_wired(lab: Path) -> None:
    """Load balancers forward its challenges to ops1 and serve what ops1 delivers; playbooks then trust public CAs."""
    names = ("fleet_acme", "fleet_edge_ca_path", "acme_issuer", "nginx_challenge_server", "nginx_tls_delivered_dir")

    def wired(host: str) -> list[Any]:
        variables = parsed(lab).hosts[host]
        return [variables.get(name, "-") for name in names]

    checkout = lab.parent.parent
    assert wired("lb1") == [False, str(checkout / ".lab/ca.crt"), "192.0.2.51", "", ""]
    fleet = lab / "group_vars/all/fleet.yml"
    fleet.write_text(fleet.read_text() + "acme_directory: https://acme.example/dir\nacme_email: ops@trade.example\n")
    assert wired("lb1") == [True, "", "192.0.2.51", "192.0.2.51:8402", "/etc/ssl/tradefleet-edge/current"]
    assert wired("ops1")[:3] == [True, "", "192.0.2.51"]


def test_every_playbook_parses(lab: Path) -> None:
    """One process parses all of them."""
    playbooks = [str(path) for path in sorted(PROJECT.glob("playbooks/*.yml"))]
    done = ansible("ansible-playbook", "--syntax-check", "-i", str(lab), *playbooks)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^playbook: (.+)$", done.stdout, re.MULTILINE) == playbooks
