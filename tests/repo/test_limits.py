"""Each documented variable is tested at its limits; unusable values are refused before the first change."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from preflight import Fleet
from preflight.kinds import KINDS
from preflight.sources import facts, former, specs, wired
from preflight.values import mistakes, wrong
from repository import PROJECT

from inventories import change, inventory, parsed, write

KNOWN, FIXED = specs(PROJECT), wired(PROJECT)
# The variables that an inventory may set, without secrets.
FREE = {name: spec for name, spec in KNOWN.items() if name not in FIXED and not spec.get("no_log")}
# PostgreSQL itself checks its parameters; Patroni reports those that it rejects.
OPEN = {"postgresql_parameters"}
# Rules about several variables refuse these in combination with others (test_preflight.py).
TOGETHER = {
    "site_peer",
    "site_standby",
    "acme_directory",
    "acme_email",
    "nginx_tls_certificate_file",
    "etcd_election_milliseconds",
}
# Each kind, with usable and unusable values.
SAMPLES: dict[str, tuple[list[Any], list[Any]]] = {
    "account": (["adm", "_x", "ssl-cert"], ["", "Adm", "a b", "9a", "a" * 32]),
    "calendar": (
        ["hourly", "*:0/5", "*-*-* 03:30", "Mon..Fri 22:00:00", "Sat *-*-01 4:00"],
        ["often", "25 o'clock", "03:61", "* * * * *", "hourly; reboot"],
    ),
    "common_name": (["Fleet CA", "x" * 64], ["", "x" * 65, "a/b", "a\nb"]),
    "domain": (["trade.example.com", "a.b"], ["trade", "Trade.example", "-a.b", "a..b", "a_b.c", "a.b."]),
    "duration": (["30day", "12h", "3600"], ["", "30 fortnights", "-1day", "1.5d"]),
    "email": (["ops@example.com", ""], ["ops", "a b@c", "@"]),
    "folder": (["dr", ""], ["../dr", "a/b", ".x"]),
    "header": (["default-src 'self'", ""], ['a "b"', "$x", "a\nb", "a\\"]),
    "local_path": (["/srv/my ca", "/x"], ["srv", ""]),
    "name": (["tradefleet", "x" * 63], ["", "x" * 64, "a b", "a/b"]),
    "network": (["192.0.2.1", "192.0.2.0/24", "2001:db8::/32"], ["192.0.2.1/24", "lan", "192.0.2.256", ""]),
    "package": (["curl", "g++"], ["", "Curl", "curl; rm", "-x"]),
    "path": (["/etc/ssl/x.crt"], ["x.crt", "/a b", "/a;b", "/$x", ""]),
    "port": ([1, 65535, "22"], [0, 65536, -1, "ssh"]),
    "timezone": (["Etc/UTC", "Europe/Berlin"], ["", "Mars/Olympus", "../../etc/passwd"]),
    "url": (["https://acme.example/dir", ""], ["http://acme.example", "acme.example", "https://a b"]),
    "url_path": (["/v1/x", "/"], ["v1", "/a b", "/a;", "/a{", "/$x", ""]),
    "nginx_size": (["64k", "1M", "65536"], ["64kb", "1.5m", "", "-1", "1t"]),
    "postgresql_size": (["64MB", "1GB", "1TB"], ["64mb", "64M", "65536", "", "1.5GB"]),
    "redis_size": (["2gb", "256MB", "64m", 16777216], ["2tb", "1.5gb", "", "-1", "gb"]),
    "systemd_size": (["1G", "512M", 536870912], ["1GB", "1g", "", "-1", "1.5G"]),
}


def edges(spec: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Return the values at both ends of a variable's range, and those just outside it."""
    good: list[Any] = []
    bad: list[Any] = []
    if "kind" in spec:
        good, bad = (list(part) for part in SAMPLES[spec["kind"]])
    if "choices" in spec:
        good, bad = list(spec["choices"]), ["neither"]
    if spec.get("type") == "bool":
        good, bad = [True, "no"], ["perhaps", 2]
    if "min" in spec and "kind" not in spec:
        low, high = spec["min"], spec["max"]
        good, bad = [low, high], [low - 1, high + 1, "many", ""]
    elif "min" in spec:
        good = [value for value in (spec["min"], spec.get("max")) if value]
        bad.append(0)
    if spec.get("type") == "list" and "options" not in spec:
        good, bad = [[value] for value in good], [[good[0], value] for value in bad] + [{"a": 1}]
    if "options" in spec and spec.get("type") == "dict":
        good, bad = [{}], [{"no such option": 1}, "text"]
    elif "options" in spec:
        good, bad = [[]], [[{"no such option": 1}], "text"]
    return good, bad


def test_every_documented_variable_has_limits() -> None:
    """A variable has choices, a kind, a range or options, and no limit is for a variable that does not exist."""
    bounded = {"choices", "kind", "min", "options"}
    bare = {name for name, spec in FREE.items() if spec.get("type") != "bool" and not bounded & spec.keys()}
    assert bare == OPEN
    for path in PROJECT.glob("roles/*/meta/limits.yml"):
        options = yaml.safe_load(path.with_name("argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
        assert set(yaml.safe_load(path.read_text())) <= set(options) - set(FIXED), path
    assert set(SAMPLES) == set(KINDS)


@pytest.mark.parametrize("name", sorted(FREE.keys() - OPEN))
def test_variable_is_tested_at_its_limits(name: str) -> None:
    """Values within the limits are accepted, and those just outside are refused with a message."""
    good, bad = edges(FREE[name])
    assert good
    assert bad
    assert {str(value): wrong(name, value, FREE[name]) for value in good} == {str(value): "" for value in good}
    assert [value for value in bad if not wrong(name, value, FREE[name])] == []


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """Return a copy of the production example."""
    return inventory(tmp_path, "production")


def findings(copy: Path) -> str:
    """Return the mistakes in the values of an inventory as Ansible reads it."""
    return "\n".join(mistakes(parsed(copy)))


@pytest.mark.parametrize("end", [0, -1])
def test_all_variables_at_one_limit_are_accepted(fleet: Path, end: int) -> None:
    """All variables are at a limit at the same time."""
    values = {name: edges(spec)[0][end] for name, spec in FREE.items() if name not in OPEN | TOGETHER}
    write(fleet / "group_vars/all/zz_edges.yml", values | {"base_operators": []})
    assert findings(fleet) == ""


def test_all_variables_beyond_their_limits_are_refused_at_once(fleet: Path) -> None:
    """Each is refused in a sentence with variable and file."""
    wrongs = {name: edges(spec)[1][0] for name, spec in FREE.items() if name not in OPEN}
    path = fleet / "group_vars/all/zz_edges.yml"
    write(path, wrongs)
    for file in ("fleet.yml", "releases.yml", "sites.yml"):
        change(fleet / "group_vars/all" / file, **dict.fromkeys(wrongs))
    report = findings(fleet)
    sentence = r"(?m)^{} is (a value that is hidden|\".*\"); it must be .+\. Correct it in {}\.$"
    assert [name for name in wrongs if not re.search(sentence.format(name, re.escape(str(path))), report)] == []


def test_fixed_and_misspelled_variables_are_refused(fleet: Path) -> None:
    """The message has the file and the probable name; a secret is not repeated."""
    path = fleet / "group_vars/edge/nginx.yml"
    path.parent.mkdir(exist_ok=True)
    write(
        path,
        {"nginx_http_port": 8080, "nginx_upstream_port": 1, "nginx_rate_per_adress": 5, "app_api_keys": "hunter2"},
    )
    report = findings(fleet)
    assert f"nginx_http_port cannot be set: clients and ACME servers expect 80. Take it out of {path}." in report
    assert (
        f"nginx_upstream_port cannot be set: playbooks/group_vars/edge/wiring.yml sets it. Take it out of {path}."
        in report
    )
    assert f"nginx_rate_per_adress is no variable of any role: write nginx_rate_per_address in {path}." in report
    assert "app_api_keys is a value that is hidden; it must be of type list" in report
    assert "hunter2" not in report
    assert "redis_key_prefix cannot be set" not in report


def test_a_former_name_is_refused_with_its_present_one(fleet: Path) -> None:
    """Not with the one that looks most like it."""
    path = fleet / "group_vars/all/old.yml"
    write(path, dict.fromkeys(former(PROJECT), "/x"))
    report = mistakes(Fleet(inventory=fleet, groups={}, hosts={}))
    assert report == [
        f"{name} is no variable of any role: {hint} in {path}." for name, hint in sorted(former(PROJECT).items())
    ]
    named = {hint.split()[1] for hint in former(PROJECT).values() if hint.startswith("write ")}
    assert named <= KNOWN.keys()
    assert former(PROJECT).keys() & KNOWN.keys() == set()


# The files of an inventory from which Ansible reads variables, with their contents.
PLACES = {
    "YAML with the longer extension": ("group_vars/edge.yaml", "NAME: 5\n"),
    "a file without an extension": ("group_vars/edge/limits", "NAME: 5\n"),
    "JSON": ("host_vars/lb-1.json", '{"NAME": 5}'),
    "a group of an INI inventory": ("more.ini", "[edge]\nlb-1\n[edge:vars]\nNAME=5\n"),
    "a host of an INI inventory": ("more", "[edge]\nlb-1 NAME=5\n"),
    "a second YAML inventory": ("more.yaml", "edge: {hosts: {lb-1: {NAME: 5}}}\n"),
}


@pytest.mark.parametrize("place", PLACES)
def test_misspelled_variable_is_refused_in_every_format(fleet: Path, place: str) -> None:
    """The message has the file. A variable that no fleet may set is refused as well."""
    name, content = PLACES[place]
    path = fleet / name
    path.parent.mkdir(exist_ok=True, parents=True)
    files = Fleet(inventory=fleet, groups={}, hosts={})
    path.write_text(content.replace("NAME", "nginx_rate_per_adress"))
    sentence = f"nginx_rate_per_adress is no variable of any role: write nginx_rate_per_address in {path}."
    assert mistakes(files) == [sentence]
    path.write_text(content.replace("NAME", "nginx_http_port"))
    sentence = f"nginx_http_port cannot be set: clients and ACME servers expect 80. Take it out of {path}."
    assert mistakes(files) == [sentence]


def test_missing_required_variable_is_reported(fleet: Path) -> None:
    """It is reported once, although every host lacks it."""
    names = ("fleet_domain", "pki_ca_dir")
    change(fleet / "group_vars/all/fleet.yml", **dict.fromkeys(names))
    report = findings(fleet)
    for name in names:
        assert report.count(f"{name} is not set. Set it in {fleet}/group_vars/all/fleet.yml.") == 1


def test_unreadable_value_is_refused(fleet: Path) -> None:
    """A key file that the operator has not written yet is reported with its name."""
    (fleet / "files/deploy.pub").unlink()
    report = findings(fleet)
    assert "base_operators cannot be read: " in report
    assert f"Unable to access the file '{fleet}/files/deploy.pub'" in report
    assert f"Correct it in {fleet}/group_vars/all/fleet.yml." in report


def test_host_with_an_unusable_address_or_name_is_refused(fleet: Path) -> None:
    """This covers a name, an IPv6 address or no address, and names that no certificate can contain."""
    hosts = yaml.safe_load((fleet / "hosts.yml").read_text())
    edge = hosts["all"]["children"]["edge"]["hosts"]
    edge["lb-1"] = {"ansible_host": "lb-1.lan"}
    edge["lb-2"] = {"ansible_host": "2001:db8::12"}
    edge["lb-4"] = {}
    edge["lb_3"] = {"ansible_host": "192.0.2.13"}
    edge["l" * 50] = {"ansible_host": "jump.example", "fleet_address": "192.0.2.14"}
    write(fleet / "hosts.yml", hosts)
    report = findings(fleet)
    for host, address in (("lb-1", "lb-1.lan"), ("lb-2", "2001:db8::12"), ("lb-4", "")):
        assert f'Host {host} has the address "{address}"; the others need an IPv4 address.' in report
    assert 'Host "lb_3": use lower-case letters' in report
    assert f"{'l' * 50}.trade.example.com has 68 characters, a certificate's name at most 64." in report
    assert f"Host {'l' * 50} has the address" not in report


def test_facts_of_roles_are_not_regarded_as_misspelled(fleet: Path) -> None:
    """An earlier playbook of the same run sets them; each is listed."""
    tasks = [task for path in PROJECT.glob("roles/*/tasks/*.yml") for task in yaml.safe_load(path.read_text()) or []]
    set_by_roles = {name for task in tasks for name in task.get("ansible.builtin.set_fact", {}) if name[0] != "_"}
    assert set_by_roles - {"cacheable"} == facts(PROJECT)
    change(fleet / "group_vars/all/fleet.yml", base_installed=["curl"])
    assert "base_installed" not in "\n".join(mistakes(parsed(fleet)))


def test_undefined_reference_does_not_hide_other_mistakes(fleet: Path) -> None:
    """Both mistakes are reported."""
    change(fleet / "group_vars/all/fleet.yml", fleet_domain="{{ nope }}", base_packages="x y")
    report = "\n".join(mistakes(parsed(fleet)))
    assert "fleet_domain cannot be read" in report
    assert "base_packages is" in report
