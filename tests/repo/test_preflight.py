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


def findings(groups: dict[str, list[str] | None] | None = None, **changes: Any) -> str:
    """Return the mistakes in a good fleet after changes; a group that is None does not exist."""
    changed: dict[str, list[str] | None] = {**GROUPS, "all": NAMES, **(groups or {})}
    present = {name: hosts for name, hosts in changed.items() if hosts is not None}
    return "\n".join(mistakes(replace(GOOD, groups=present, scenario=True, **changes)))


def hosts(names: list[str], **variables: Any) -> dict[str, dict[str, Any]]:
    """Return all hosts, some of them with additional variables."""
    return {name: own | (variables if name in names else {}) for name, own in HOSTS.items()}


def test_good_fleet_has_no_mistakes() -> None:
    """More hosts than a group needs, and only one color, are no mistakes either."""
    assert findings() == ""
    assert findings({"redis": ["data1", "data2", "data3", "ops1"]}) == ""
    # A replica of PostgreSQL need not be a member of etcd.
    assert findings({"postgres": ["data1", "data2", "data3", "ops1"]}) == ""
    one = {"app_green": None, "app": ["blue1", "blue2"]}
    assert findings(one, releases={"blue": "0.1.0", "green": ""}, color="blue", batch=1, release="0.2.0") == ""


@pytest.mark.parametrize("version", ["1.2.3+fix", "../1", ".1"])
def test_unusable_version_is_refused(version: str) -> None:
    """An operator may type it or traffic.yml may contain it; no archive of this name is read."""
    sentence = f'Release "{version}" has a name that no release can have; it must look like 1.2.3 or 1.2.3-rc1'
    assert sentence in findings(release=version, release_dir=PROJECT)
    assert f"correct release_* in {ALL}/traffic.yml." in findings(releases={"blue": version, "green": ""})


def test_unknown_live_color_is_refused() -> None:
    """The message lists the existing colors."""
    assert findings(live="purple") == (
        f'traffic_live_color is "purple"; it must be one of blue, green. Correct it in {ALL}/traffic.yml.'
    )


@pytest.mark.parametrize("share", [100, -1, "x", "", "1.5"])
def test_invalid_canary_share_in_traffic_yml_is_refused(share: Any) -> None:
    """All clients are not a share, but a cutover."""
    assert findings(canary=share) == (
        f'traffic_canary_percent is "{share}"; it must be the share of the clients that color green has, 0 to 99. '
        f"Correct it in {ALL}/traffic.yml."
    )
    assert findings(canary="99") == ""


def test_canary_share_requires_a_release() -> None:
    """The idle color must have one."""
    assert findings(canary=10, releases={"blue": "0.1.0", "green": ""}) == (
        "traffic_canary_percent is 10, and color green has no release (release_green is empty): correct one of them "
        f"in {ALL}/traffic.yml."
    )


def test_unknown_target_color_is_refused() -> None:
    """The operator typed it: the message states what to type."""
    assert findings(color="purple") == '"purple" is no color. Type one of blue, green, as in `make cutover TO=green`.'


@pytest.mark.parametrize("group", [[], None])
def test_target_color_without_hosts_is_refused(group: list[str] | None) -> None:
    """Otherwise a deploy to no host would succeed."""
    report = findings({"app_green": group})
    assert report == f"Color green has no hosts. Put some into group app_green in {HOSTS_FILE}."


def test_batch_that_leaves_no_serving_host_is_refused() -> None:
    """It must be smaller than the number of hosts, and at least one."""
    for batch, group in ((2, ["blue1", "blue2"]), ("3", ["blue1", "blue2"]), (1, ["blue1"])):
        report = findings({"app_blue": group}, color="blue", batch=batch, release="0.2.0")
        assert f"Color blue has {', '.join(group)}, and rolling_batch is {batch}: no host would serve" in report
        assert f"group app_blue in {HOSTS_FILE}, make rolling_batch in {ALL}/releases.yml smaller, or" in report
        assert "(`make deploy VERSION=0.2.0`, `make cutover`)." in report
    for batch in (0, "x", -1):
        assert findings(batch=batch) == (
            f'rolling_batch is "{batch}"; it must be the number of hosts that are drained at a time, 1 or more. '
            f"Correct it in {ALL}/releases.yml."
        )
    assert findings(batch="1") == ""


def test_traffic_requires_a_release() -> None:
    """The color that receives traffic must have one."""
    nothing: dict[str, Any] = {"releases": {"blue": "0.1.0", "green": ""}, "release": ""}
    assert findings(**nothing) == ""
    assert findings(**nothing, needs_release=True) == (
        f"Nothing was deployed to color green yet (release_green in {ALL}/traffic.yml is empty). "
        "Type `make deploy` first."
    )


def test_finalize_requires_one_release() -> None:
    """The idle color may have no release; other playbooks accept two releases."""
    two = {"blue": "0.2.0", "green": "0.1.0"}
    report = findings(releases=two, one_release=True)
    assert f"Color green still has release 0.1.0 (release_green in {ALL}/traffic.yml): a rollback would go" in report
    assert "Put the live release there too (`make deploy VERSION=0.2.0`), then finalize." in report
    assert findings(releases=two) == ""
    for green in ("0.2.0", ""):
        assert findings(releases=two | {"green": green}, one_release=True) == ""


@pytest.mark.parametrize("percent", ["101", "-1", "x", 100, ""])
def test_invalid_canary_percent_is_refused(percent: Any) -> None:
    """All clients would be a cutover."""
    report = findings(playbook="canary", percent=percent)
    assert (
        f'percent is "{percent}"; it must be a share of the clients, 0 to 99, as in `make canary PERCENT=10`' in report
    )
    assert "(`-e percent=10`). Everybody is a cutover: `make cutover`." in report
    assert findings(playbook="canary", percent="99") == ""
    assert findings(playbook="canary", percent=0) == ""


def test_canary_steps_must_be_shares_above_the_present_one() -> None:
    """The steps count only if no share was typed."""
    for steps in ([10, 101], [], [0], ["x"]):
        report = findings(playbook="canary", canary_steps=steps)
        assert f'canary_steps is "{", ".join(map(str, steps))}"; it must be shares of the clients, 1 to 100' in report
        assert f"Correct it in {ALL}/releases.yml." in report
        assert findings(playbook="canary", canary_steps=steps, percent=5) == ""
    assert 'canary_steps is "10"' in findings(playbook="canary", canary_steps="10")
    assert findings(playbook="canary", canary_steps=[10, 50], canary=50) == (
        "Color green has 50 % of the clients already, and canary_steps (10, 50) ends there. Type another share "
        "(`make canary PERCENT=…`), or give it everybody (`make cutover`)."
    )
    assert findings(playbook="canary", canary_steps=[10, "50", 100], canary=10) == ""


@pytest.mark.parametrize("playbook", ["deploy", "rolling"])
def test_deploy_and_rolling_require_a_release(playbook: str) -> None:
    """An empty name would mean the folder of all releases."""
    assert findings(playbook=playbook, release="") == (
        f'{playbook}_release is ""; it must name a release, as in `make {playbook} VERSION=1.2.3` '
        f"(`-e {playbook}_release=1.2.3`)."
    )


@pytest.mark.parametrize("percent", ["101", "x", ""])
def test_invalid_shadow_percent_is_refused(percent: str) -> None:
    """All reads are a valid share."""
    assert findings(playbook="shadow", percent=percent) == (
        f'percent is "{percent}"; it must be a share of the reads, 0 to 100, as in `make shadow PERCENT=5` '
        "(`-e percent=5`)."
    )
    assert findings(playbook="shadow", percent=100) == ""


@pytest.mark.parametrize("state", [True, "", "yes"])
def test_maintenance_must_be_on_or_off(state: Any) -> None:
    """All other values are refused."""
    assert findings(playbook="maintenance", maintenance=state) == (
        f'maintenance is "{state}"; it must be on or off, as in `make maintenance STATE=on` (`-e maintenance=on`).'
    )
    assert (
        findings(playbook="maintenance", maintenance="on") == findings(playbook="maintenance", maintenance="off") == ""
    )


def test_shared_color_group_or_address_is_refused() -> None:
    """Groups are disjoint, addresses differ, and the virtual IP is not a host's address."""
    assert findings({"app_green": ["blue1", "green2"]}) == (
        f"blue1 belongs to app_blue and to app_green. A host has one color: take it out of one group in {HOSTS_FILE}."
    )
    address = HOSTS["green1"]["fleet_address"]
    report = findings(hosts=hosts(["blue1"], fleet_address=address))
    assert re.fullmatch(
        rf"Two hosts share an address \(.*{address}.*{address}.*\)\. Correct ansible_host in {HOSTS_FILE}\.", report
    )
    for vip in ("", "lb.example", address):
        assert findings(vip=vip) == (
            f'fleet_vip is "{vip}"; it must be an IPv4 address of the load balancers\' network that no host has. '
            f"Correct it in {ALL}/fleet.yml."
        )


def test_retired_member_must_not_be_a_member() -> None:
    """The message names only hosts in both groups."""
    report = findings({"postgres_retired": ["data1", "ops1"]})
    assert report == (f"data1 cannot be in postgres and in postgres_retired. Take it out of one group in {HOSTS_FILE}.")
    assert findings({"postgres_retired": ["ops1"]}) == ""


def test_too_few_hosts_are_refused() -> None:
    """This applies to load balancers and to members of etcd, PostgreSQL and Redis."""
    assert f"group edge needs two hosts or more (have 1) in {HOSTS_FILE}." in findings({"edge": ["lb1"]})
    assert "an odd number of etcd hosts (have 2) and at least three redis hosts (have 2)" in findings(
        {"etcd": ["data1", "data2"], "redis": ["data1", "data2"]}
    )
    assert "group postgres needs two or more (have 1)" in findings({"postgres": ["data1"]})
    for group in ("edge", "etcd", "postgres", "redis"):
        report = findings({group: None})
        assert f"Each of the groups edge, etcd, postgres and redis needs a host in {HOSTS_FILE}." in report


def test_all_members_must_have_the_same_failover_plan() -> None:
    """It must be one of three."""
    report = findings(hosts=hosts(["data1"], postgresql_failover_plan="wide"))
    assert (
        'postgresql_failover_plan is "wide, fast"; it must be fast, normal or wide, the same for all members.' in report
    )
    assert f"Correct it in {LAB}/group_vars/postgres/." in report
    unknown = hosts(GROUPS["postgres"], postgresql_failover_plan="faster", etcd_election_milliseconds=9000)
    assert findings(hosts=unknown).startswith('postgresql_failover_plan is "faster"')


def test_election_of_etcd_must_end_before_the_primary_is_demoted() -> None:
    """A slower election requires a slower plan."""
    for slow in (2500.0, "2.5e3"):
        assert "etcd_election_milliseconds is" in findings(hosts=hosts(["data2"], etcd_election_milliseconds=slow))
    report = findings(hosts=hosts(["data2"], etcd_election_milliseconds="2500"))
    assert "etcd_election_milliseconds is 2500: when a host dies" in report
    assert f"Take 2000 at most, or a slower plan: {LAB}/group_vars/." in report
    plan = {"postgresql_failover_plan": "normal", "etcd_election_milliseconds": 2500}
    assert findings(hosts=hosts(GROUPS["postgres"], **plan)) == ""


def test_missing_secrets_are_reported() -> None:
    """The message has the command that adds them."""
    assert findings(vault=()) == (
        f"The vault lacks vault_a, vault_b. Type `make secrets ENV=lab`: it adds what is missing to {ALL}/vault.yml."
    )


def test_acme_requires_directory_address_and_host() -> None:
    """No other certificate may be set."""
    directory, email = "https://acme.example/dir", "ops@trade.example"
    for given in ((directory, ""), ("", email), ("http://acme.example", email), (directory, "ops")):
        report = findings(acme_directory=given[0], acme_email=given[1])
        assert f'acme_directory is "{given[0]}" and acme_email is "{given[1]}": for a certificate' in report
        assert f"Correct them in {ALL}/fleet.yml." in report
    good: dict[str, Any] = {"acme_directory": directory, "acme_email": email}
    assert findings(**good) == ""
    bought = hosts(["lb1", "lb2"], nginx_tls_certificate_file="/etc/ssl/bought.crt")
    assert findings(hosts=bought) == ""
    report = findings(hosts=bought, **good)
    assert "The certificate of lb1, lb2 is set twice, by acme_directory and by nginx_tls_certificate_file." in report
    assert f"nginx_tls_key_file out of {LAB}/group_vars/edge/." in report
    assert findings({"ops": None}, **good) == (
        f"acme_directory needs a host that gets the certificate: put one into group ops in {HOSTS_FILE}."
    )


SOUND = [
    {"trader": "alice", "key": "a" * 32},
    {"trader": "alice", "key": "A-._~+/9" * 32},
    {"trader": "bob", "key": f"{'b' * 32}=="},
]


def keys(*more: Any) -> str:
    """Return the mistakes for valid API keys and some additional ones."""
    return findings(hosts=hosts(GROUPS["app"], app_api_keys=[*SOUND, *more]))


def test_api_keys_that_the_application_would_reject_are_refused() -> None:
    """This covers form, names and duplicates; no message contains a key."""
    assert keys() == ""
    values = ["k" * 31, "k" * 257, f"{'k' * 20}={'k' * 20}", f"{'k' * 32}!", f"{'k' * 32} ", f"{'k' * 32}\n", 0]
    report = keys(
        *({"trader": f"t{number}", "key": key} for number, key in enumerate(values)),
        {"trader": "none"},
        {"trader": "a b", "key": "c" * 32},
        {"key": "d" * 32},
        {"trader": "alice", "key": "e" * 32},
        {"trader": "bob", "key": "e" * 32},
        "text",
    )
    assert "a key of t0, t1, t2, t3, t4, t5, t6, none, nobody that the API would reject" in report
    assert f"made by `openssl rand -hex 32` to {ALL}/vault.yml." in report
    assert (
        "contains the trader `a b`, ``, ``; a name is 1 to 64 letters, digits, dots, underscores or hyphens" in report
    )
    assert f"hyphens. Correct it in {ALL}/fleet.yml." in report
    assert "app_api_keys contains one key twice, for alice and bob. Give each entry a key of its own" in report
    assert not re.search(r"k{9}|c{9}|d{9}|e{9}", report)


def test_api_keys_must_be_the_same_on_all_hosts() -> None:
    """Otherwise each color would revoke the keys of the other. Equal lists are valid."""
    both = hosts(GROUPS["app_blue"], app_api_keys=SOUND)
    assert findings(hosts=both) == (
        "app_api_keys differs between the hosts of group app: each color would revoke the keys of the other. "
        f"Set it once, in {ALL}/fleet.yml."
    )


def test_api_keys_are_not_read_without_their_secrets() -> None:
    """The keys are variables of the vault."""

    class Locked(dict[str, Any]):
        def get(self, name: str, default: Any = None) -> Any:
            assert name != "app_api_keys"
            return super().get(name, default)

    report = findings(hosts={name: Locked(own) for name, own in HOSTS.items()}, vault=("vault_a",))
    assert report.startswith("The vault lacks vault_b.")


def archive(folder: Path, content: bytes, name: str = "manifest.json") -> Path:
    """Write the archive of release 0.1.0."""
    path = folder / "tradefleet-0.1.0.tar.gz"
    with tarfile.open(path, "w:gz") as opened:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        opened.addfile(member, io.BytesIO(content))
    return path


def test_release_for_another_python_is_refused(tmp_path: Path) -> None:
    """Its wheels would not install on the hosts."""
    archive(tmp_path, json.dumps({"release": "0.1.0", "python": "3.13"}).encode())
    assert findings(release_dir=tmp_path) == ""
    assert findings(release_dir=tmp_path, release="") == ""
    for release, python in (("0.1.0", "3.11"), ("0.2.0", "3.13")):
        path = archive(tmp_path, json.dumps({"release": release, "python": python}).encode())
        assert findings(release_dir=tmp_path) == (
            f"{path} contains release {release} for Python {python}; the hosts need 0.1.0 for Python 3.13. "
            "Build it with `make release VERSION=0.1.0`."
        )


def test_unreadable_archive_is_refused(tmp_path: Path) -> None:
    """This covers a missing manifest, a truncated one, and a file that is no archive."""
    remedy = "Build it with `make release VERSION=0.1.0`."
    for content, name in ((b"{}", "other.json"), (b'{"release":', "manifest.json"), (b"{}", "manifest.json")):
        path = archive(tmp_path, content, name)
        assert re.fullmatch(rf"{path} cannot be read: .+\. {re.escape(remedy)}", findings(release_dir=tmp_path))
    for content in (b"no archive", path.read_bytes()[:30]):
        path.write_bytes(content)
        assert re.fullmatch(rf"{path} cannot be read: .+\. {re.escape(remedy)}", findings(release_dir=tmp_path))
