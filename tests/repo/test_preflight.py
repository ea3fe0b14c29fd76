"""The rules of preflight, called with dictionaries: each mistake is a sentence with variable, file and remedy."""

import io
import json
import re
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from preflight import Fleet, mistakes
from repository import PROJECT

LAB = Path("/fleet/lab")
ALL, HOSTS_FILE = LAB / "group_vars/all", LAB / "hosts.yml"
GROUPS: dict[str, list[str]] = {
    "edge": ["lb1", "lb2"],
    "app": ["blue1", "blue2", "green1", "green2"],
    "app_blue": ["blue1", "blue2"],
    "app_green": ["green1", "green2"],
    "etcd": ["data1", "data2", "data3"],
    "postgres": ["data1", "data2", "data3"],
    "redis": ["data1", "data2", "data3"],
    "ops": ["ops1"],
}
NAMES = sorted({host for hosts in GROUPS.values() for host in hosts})
HOSTS: dict[str, dict[str, Any]] = {
    name: {"fleet_address": f"192.0.2.{number}"} for number, name in enumerate(NAMES, 11)
}
GOOD = Fleet(
    inventory=LAB,
    groups=GROUPS | {"all": NAMES},
    hosts=HOSTS,
    live="blue",
    releases={"blue": "0.1.0", "green": "0.1.0"},
    release_pattern="^[0-9][0-9A-Za-z.-]{0,63}$",
    color="green",
    release="0.1.0",
    secrets=("vault_a", "vault_b"),
    vault=("vault_b", "vault_a", "vault_more"),
    vip="192.0.2.10",
    release_dir=Path("/nonexistent"),
    python="3.13",
)


def found(groups: dict[str, list[str] | None] | None = None, **changes: Any) -> str:
    """Return what the rules find after changes to a good fleet; a group that is None does not exist."""
    changed: dict[str, list[str] | None] = {**GROUPS, "all": NAMES, **(groups or {})}
    present = {name: hosts for name, hosts in changed.items() if hosts is not None}
    return "\n".join(mistakes(replace(GOOD, groups=present, scenario=True, **changes)))


def hosts(names: list[str], **variables: Any) -> dict[str, dict[str, Any]]:
    """Return all hosts, some of them with more variables."""
    return {name: own | (variables if name in names else {}) for name, own in HOSTS.items()}


def test_a_good_fleet_has_no_mistakes() -> None:
    """Nor does one with more hosts in a group than it needs, or with one color only."""
    assert found() == ""
    assert found({"redis": ["data1", "data2", "data3", "ops1"]}) == ""
    # A replica of PostgreSQL need not be a member of etcd.
    assert found({"postgres": ["data1", "data2", "data3", "ops1"]}) == ""
    one = {"app_green": None, "app": ["blue1", "blue2"]}
    assert found(one, releases={"blue": "0.1.0", "green": ""}, color="blue", batch=1, release="0.2.0") == ""


@pytest.mark.parametrize("version", ["1.2.3+fix", "../1", ".1"])
def test_a_version_that_names_no_file_is_refused(version: str) -> None:
    """Whether an operator types it or traffic.yml records it; no archive of this name is read."""
    sentence = f'Release "{version}" has a name that no release can have; it must look like 1.2.3 or 1.2.3-rc1'
    assert sentence in found(release=version, release_dir=PROJECT)
    assert f"correct release_* in {ALL}/traffic.yml." in found(releases={"blue": version, "green": ""})


def test_an_unknown_live_color_is_refused() -> None:
    """With the colors that exist."""
    assert found(live="purple") == (
        f'traffic_live_color is "purple"; it must be one of blue, green. Correct it in {ALL}/traffic.yml.'
    )


@pytest.mark.parametrize("share", [100, -1, "x", "", "1.5"])
def test_a_canary_share_that_is_no_share_is_refused(share: Any) -> None:
    """All clients are no share: that is a cutover."""
    assert found(canary=share) == (
        f'traffic_canary_percent is "{share}"; it must be the share of the clients that color green has, 0 to 99. '
        f"Correct it in {ALL}/traffic.yml."
    )
    assert found(canary="99") == ""


def test_a_canary_share_needs_a_release() -> None:
    """On the idle color."""
    assert found(canary=10, releases={"blue": "0.1.0", "green": ""}) == (
        "traffic_canary_percent is 10, and color green has no release (release_green is empty): correct one of them "
        f"in {ALL}/traffic.yml."
    )


def test_a_color_that_does_not_exist_is_no_target() -> None:
    """The operator typed it: the message says what to type."""
    assert found(color="purple") == '"purple" is no color. Type one of blue, green, as in `make cutover TO=green`.'


@pytest.mark.parametrize("group", [[], None])
def test_a_color_without_hosts_is_no_target(group: list[str] | None) -> None:
    """A release would be deployed to no host, and called a success."""
    said = found({"app_green": group})
    assert said == f"Color green has no hosts. Put some into group app_green in {HOSTS_FILE}."


def test_a_batch_leaves_hosts_that_serve() -> None:
    """Fewer than the color has, and at least one."""
    for batch, group in ((2, ["blue1", "blue2"]), ("3", ["blue1", "blue2"]), (1, ["blue1"])):
        said = found({"app_blue": group}, color="blue", batch=batch, release="0.2.0")
        assert f"Color blue has {', '.join(group)}, and rolling_batch is {batch}: no host would serve" in said
        assert f"group app_blue in {HOSTS_FILE}, make rolling_batch in {ALL}/releases.yml smaller, or" in said
        assert "(`make deploy VERSION=0.2.0`, `make cutover`)." in said
    for batch in (0, "x", -1):
        assert found(batch=batch) == (
            f'rolling_batch is "{batch}"; it must be the number of hosts that are drained at a time, 1 or more. '
            f"Correct it in {ALL}/releases.yml."
        )
    assert found(batch="1") == ""


def test_traffic_needs_a_release() -> None:
    """On the color that gets it."""
    nothing: dict[str, Any] = {"releases": {"blue": "0.1.0", "green": ""}, "release": ""}
    assert found(**nothing) == ""
    assert found(**nothing, needs_release=True) == (
        f"Nothing was deployed to color green yet (release_green in {ALL}/traffic.yml is empty). "
        "Type `make deploy` first."
    )


def test_finalizing_needs_one_release() -> None:
    """Or none on the idle color; other playbooks accept two."""
    two = {"blue": "0.2.0", "green": "0.1.0"}
    said = found(releases=two, one_release=True)
    assert f"Color green still has release 0.1.0 (release_green in {ALL}/traffic.yml): a rollback would go" in said
    assert "Put the live release there too (`make deploy VERSION=0.2.0`), then finalize." in said
    assert found(releases=two) == ""
    for green in ("0.2.0", ""):
        assert found(releases=two | {"green": green}, one_release=True) == ""


@pytest.mark.parametrize("percent", ["101", "-1", "x", 100, ""])
def test_a_canary_of_no_share_is_refused(percent: Any) -> None:
    """Every client is a cutover."""
    said = found(playbook="canary", percent=percent)
    assert f'percent is "{percent}"; it must be a share of the clients, 0 to 99, as in `make canary PERCENT=10`' in said
    assert "(`-e percent=10`). Everybody is a cutover: `make cutover`." in said
    assert found(playbook="canary", percent="99") == ""
    assert found(playbook="canary", percent=0) == ""


def test_steps_of_a_canary_are_shares_above_the_present_one() -> None:
    """Steps count only if no share was typed."""
    for steps in ([10, 101], [], [0], ["x"]):
        said = found(playbook="canary", canary_steps=steps)
        assert f'canary_steps is "{", ".join(map(str, steps))}"; it must be shares of the clients, 1 to 100' in said
        assert f"Correct it in {ALL}/releases.yml." in said
        assert found(playbook="canary", canary_steps=steps, percent=5) == ""
    assert 'canary_steps is "10"' in found(playbook="canary", canary_steps="10")
    assert found(playbook="canary", canary_steps=[10, 50], canary=50) == (
        "Color green has 50 % of the clients already, and canary_steps (10, 50) ends there. Type another share "
        "(`make canary PERCENT=…`), or give it everybody (`make cutover`)."
    )
    assert found(playbook="canary", canary_steps=[10, "50", 100], canary=10) == ""


@pytest.mark.parametrize("playbook", ["deploy", "rolling"])
def test_a_deploy_and_a_roll_name_their_release(playbook: str) -> None:
    """An empty name would lead to the folder of all releases."""
    assert found(playbook=playbook, release="") == (
        f'{playbook}_release is ""; it must name a release, as in `make {playbook} VERSION=1.2.3` '
        f"(`-e {playbook}_release=1.2.3`)."
    )


@pytest.mark.parametrize("percent", ["101", "x", ""])
def test_a_shadow_of_no_share_is_refused(percent: str) -> None:
    """All reads are a share."""
    assert found(playbook="shadow", percent=percent) == (
        f'percent is "{percent}"; it must be a share of the reads, 0 to 100, as in `make shadow PERCENT=5` '
        "(`-e percent=5`)."
    )
    assert found(playbook="shadow", percent=100) == ""


@pytest.mark.parametrize("state", [True, "", "yes"])
def test_maintenance_is_on_or_off(state: Any) -> None:
    """And nothing else."""
    assert found(playbook="maintenance", maintenance=state) == (
        f'maintenance is "{state}"; it must be on or off, as in `make maintenance STATE=on` (`-e maintenance=on`).'
    )
    assert found(playbook="maintenance", maintenance="on") == found(playbook="maintenance", maintenance="off") == ""


def test_a_host_has_one_color_and_one_address() -> None:
    """Groups are disjoint, addresses differ, and the virtual IP is no host's."""
    assert found({"app_green": ["blue1", "green2"]}) == (
        f"blue1 belongs to app_blue and to app_green. A host has one color: take it out of one group in {HOSTS_FILE}."
    )
    address = HOSTS["green1"]["fleet_address"]
    said = found(hosts=hosts(["blue1"], fleet_address=address))
    assert re.fullmatch(
        rf"Two hosts share an address \(.*{address}.*{address}.*\)\. Correct ansible_host in {HOSTS_FILE}\.", said
    )
    for vip in ("", "lb.example", address):
        assert found(vip=vip) == (
            f'fleet_vip is "{vip}"; it must be an IPv4 address of the load balancers\' network that no host has. '
            f"Correct it in {ALL}/fleet.yml."
        )


def test_a_member_cannot_be_retired_and_stay() -> None:
    """Only hosts in both groups are named."""
    said = found({"postgres_retired": ["data1", "ops1"]})
    assert said == (f"data1 cannot be in postgres and in postgres_retired. Take it out of one group in {HOSTS_FILE}.")
    assert found({"postgres_retired": ["ops1"]}) == ""


def test_too_few_hosts_of_a_kind_are_refused() -> None:
    """Load balancers, members of etcd, PostgreSQL and Redis."""
    assert f"group edge needs two hosts or more (have 1) in {HOSTS_FILE}." in found({"edge": ["lb1"]})
    assert "an odd number of etcd hosts (have 2) and at least three redis hosts (have 2)" in found(
        {"etcd": ["data1", "data2"], "redis": ["data1", "data2"]}
    )
    assert "group postgres needs two or more (have 1)" in found({"postgres": ["data1"]})
    for group in ("edge", "etcd", "postgres", "redis"):
        said = found({group: None})
        assert f"Each of the groups edge, etcd, postgres and redis needs a host in {HOSTS_FILE}." in said


def test_all_members_have_one_failover_plan() -> None:
    """One of three."""
    said = found(hosts=hosts(["data1"], postgresql_failover_plan="wide"))
    assert (
        'postgresql_failover_plan is "wide, fast"; it must be fast, normal or wide, the same for all members.' in said
    )
    assert f"Correct it in {LAB}/group_vars/postgres/." in said
    unknown = hosts(GROUPS["postgres"], postgresql_failover_plan="faster", etcd_election_milliseconds=9000)
    assert found(hosts=unknown).startswith('postgresql_failover_plan is "faster"')


def test_an_election_of_etcd_ends_before_the_primary_steps_down() -> None:
    """A slower election needs a slower plan."""
    for slow in (2500.0, "2.5e3"):
        assert "etcd_election_milliseconds is" in found(hosts=hosts(["data2"], etcd_election_milliseconds=slow))
    said = found(hosts=hosts(["data2"], etcd_election_milliseconds="2500"))
    assert "etcd_election_milliseconds is 2500: when a host dies" in said
    assert f"Take 2000 at most, or a slower plan: {LAB}/group_vars/." in said
    plan = {"postgresql_failover_plan": "normal", "etcd_election_milliseconds": 2500}
    assert found(hosts=hosts(GROUPS["postgres"], **plan)) == ""


def test_missing_secrets_are_named() -> None:
    """With the command that adds them."""
    assert found(vault=()) == (
        f"The vault lacks vault_a, vault_b. Type `make secrets ENV=lab`: it adds what is missing to {ALL}/vault.yml."
    )


def test_an_acme_server_needs_directory_address_and_host() -> None:
    """And no other certificate."""
    directory, email = "https://acme.example/dir", "ops@trade.example"
    for given in ((directory, ""), ("", email), ("http://acme.example", email), (directory, "ops")):
        said = found(acme_directory=given[0], acme_email=given[1])
        assert f'acme_directory is "{given[0]}" and acme_email is "{given[1]}": for a certificate' in said
        assert f"Correct them in {ALL}/fleet.yml." in said
    good: dict[str, Any] = {"acme_directory": directory, "acme_email": email}
    assert found(**good) == ""
    bought = hosts(["lb1", "lb2"], nginx_tls_certificate_file="/etc/ssl/bought.crt")
    assert found(hosts=bought) == ""
    said = found(hosts=bought, **good)
    assert "The certificate of lb1, lb2 is set twice, by acme_directory and by nginx_tls_certificate_file." in said
    assert f"nginx_tls_key_file out of {LAB}/group_vars/edge/." in said
    assert found({"ops": None}, **good) == (
        f"acme_directory needs a host that gets the certificate: put one into group ops in {HOSTS_FILE}."
    )


SOUND = [
    {"trader": "alice", "key": "a" * 32},
    {"trader": "alice", "key": "A-._~+/9" * 32},
    {"trader": "bob", "key": f"{'b' * 32}=="},
]


def keys(*more: Any) -> str:
    """Return what the rules find about sound API keys and some more."""
    return found(hosts=hosts(GROUPS["app"], app_api_keys=[*SOUND, *more]))


def test_api_keys_that_the_application_would_reject_are_refused() -> None:
    """Form, names and duplicates; no message contains a key."""
    assert keys() == ""
    values = ["k" * 31, "k" * 257, f"{'k' * 20}={'k' * 20}", f"{'k' * 32}!", f"{'k' * 32} ", f"{'k' * 32}\n", 0]
    said = keys(
        *({"trader": f"t{number}", "key": key} for number, key in enumerate(values)),
        {"trader": "none"},
        {"trader": "a b", "key": "c" * 32},
        {"key": "d" * 32},
        {"trader": "alice", "key": "e" * 32},
        {"trader": "bob", "key": "e" * 32},
        "text",
    )
    assert "a key of t0, t1, t2, t3, t4, t5, t6, none, nobody that the API would reject" in said
    assert f"made by `openssl rand -hex 32` to {ALL}/vault.yml." in said
    assert "contains the trader `a b`, ``, ``; a name is 1 to 64 letters, digits, dots, underscores or hyphens" in said
    assert f"hyphens. Correct it in {ALL}/fleet.yml." in said
    assert "app_api_keys contains one key twice, for alice and bob. Give each entry a key of its own" in said
    assert not re.search(r"k{9}|c{9}|d{9}|e{9}", said)


def test_api_keys_are_the_same_on_all_hosts() -> None:
    """Each color would revoke the keys of the other; two lists share keys, of course."""
    both = hosts(GROUPS["app_blue"], app_api_keys=SOUND)
    assert found(hosts=both) == (
        "app_api_keys differs between the hosts of group app: each color would revoke the keys of the other. "
        f"Set it once, in {ALL}/fleet.yml."
    )


def test_api_keys_are_not_read_without_their_secrets() -> None:
    """Their keys are variables of the vault."""

    class Locked(dict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            assert name != "app_api_keys"
            return super().get(name, default)

    said = found(hosts={name: Locked(own) for name, own in HOSTS.items()}, vault=("vault_a",))
    assert said.startswith("The vault lacks vault_b.")


def archive(folder: Path, content: bytes, name: str = "manifest.json") -> Path:
    """Write the archive of release 0.1.0."""
    path = folder / "tradefleet-0.1.0.tar.gz"
    with tarfile.open(path, "w:gz") as opened:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        opened.addfile(member, io.BytesIO(content))
    return path


def test_a_release_is_for_the_python_of_the_hosts(tmp_path: Path) -> None:
    """Its wheels would not install on another one."""
    archive(tmp_path, json.dumps({"release": "0.1.0", "python": "3.13"}).encode())
    assert found(release_dir=tmp_path) == ""
    assert found(release_dir=tmp_path, release="") == ""
    for release, python in (("0.1.0", "3.11"), ("0.2.0", "3.13")):
        path = archive(tmp_path, json.dumps({"release": release, "python": python}).encode())
        assert found(release_dir=tmp_path) == (
            f"{path} contains release {release} for Python {python}; the hosts need 0.1.0 for Python 3.13. "
            "Build it with `make release VERSION=0.1.0`."
        )


def test_an_archive_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """Without a manifest, with half of one, or no archive at all."""
    remedy = "Build it with `make release VERSION=0.1.0`."
    for content, name in ((b"{}", "other.json"), (b'{"release":', "manifest.json"), (b"{}", "manifest.json")):
        path = archive(tmp_path, content, name)
        assert re.fullmatch(rf"{path} cannot be read: .+\. {re.escape(remedy)}", found(release_dir=tmp_path))
    for content in (b"no archive", path.read_bytes()[:30]):
        path.write_bytes(content)
        assert re.fullmatch(rf"{path} cannot be read: .+\. {re.escape(remedy)}", found(release_dir=tmp_path))
