"""What the parts of the repository say about each other."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from preflight.groups import LONGEST_ELECTIONS
from repository import PROJECT, SECRETS, ansible, environment, files, load, read, where
from tradefleet.domains import registered
from tradefleet.platform import settings, variables
from tradefleet.platform.http.hooks import REQUEST_SECONDS
from tradefleet.platform.postgres.database import MIGRATION_LOCK_MILLISECONDS
from tradefleet.platform.postgres.replicas import MARK_SECONDS

# Whoever reads a playbook, a variable file or an inventory reads these; the vault itself is not among them.
SOURCES = tuple(
    path
    for path in files(".yml", ".j2")
    if path.relative_to(PROJECT).parts[0] in ("playbooks", "inventories") and path.name != "vault.yml"
)


def test_secrets_that_are_used_are_the_secrets_that_are_made() -> None:
    """make secrets makes all that the wiring reads; nobody keeps a secret that nothing reads."""
    used = set()
    for path in SOURCES:
        if path.name != "secrets.yml":
            used |= {name.removesuffix("_previous") for name in re.findall(r"\bvault_[a-z0-9_]+\b", read(path))}
    assert used == set(SECRETS)
    assert sorted(SECRETS) == SECRETS


def test_secrets_come_from_the_vault_alone() -> None:
    """Whatever is called password in the wiring is one readable line that names a vault_ variable."""
    plain = r"^ *-? *(?!vault_)\w*(?:password|passphrase): (?!\"\{\{ vault_\w+ \}\}\"$).*"
    wiring = tuple(path for path in SOURCES if "group_vars" in path.parts)
    assert where(plain, wiring, re.MULTILINE) == []


def test_no_vault_is_committed_in_plain() -> None:
    """Nor a private key."""
    names = [path.relative_to(PROJECT) for path in files() if path.name == "vault.yml"]
    assert names == []
    assert where(r"-----BEGIN [A-Z ]*PRIVATE KEY", files()) == []


def test_the_application_knows_every_setting_that_the_role_writes() -> None:
    """It refuses to start with one that it does not know."""
    templates = PROJECT / "roles/app/templates"
    text = read(templates / "settings.env.j2") + read(templates / "owner.env.j2")
    written = set(re.findall(r"^{{ __app_prefix }}_([A-Z_]+)=", text, re.MULTILINE))
    assert written
    assert written <= set(variables.names([*settings.PLATFORM, *registered().settings]))


def test_the_application_looks_for_the_flag_that_the_role_puts_up() -> None:
    """It is no setting, so both say it."""
    role = load("roles/app/vars/main.yml")
    name = load("roles/app/defaults/main.yml")["app_name"]
    assert role["__app_drain_flag"].replace("{{ app_name }}", name) == str(settings.Settings().drain_flag)
    assert "RuntimeDirectory={{ app_name }}\n" in read("roles/app/templates/api.service.j2")
    assert role["__app_run"] == "/run/{{ app_name }}"
    assert role["__app_requests"] == "{{ __app_run }}/requests"


def test_a_migration_gives_a_lock_up_before_the_requests_behind_it_fail() -> None:
    """Whoever comes after a statement that waits for a table waits with it, as long as the database role allows."""
    limits = load("playbooks/group_vars/postgres/wiring.yml")["fleet_app_database_limits"]
    seconds = min(int(limits[name].removesuffix("s")) for name in ("lock_timeout", "statement_timeout"))
    assert seconds * 1000 > MIGRATION_LOCK_MILLISECONDS


def test_the_lab_starts_with_the_version_at_hand() -> None:
    """What is committed, not what a deploy to this checkout's lab has written since."""
    name = "inventories/lab/group_vars/all/traffic.yml"
    committed = subprocess.run(["git", "-C", str(PROJECT), "show", f":{name}"], check=True, capture_output=True).stdout
    (version,) = re.findall(r'^version = "(.+)"$', read("pyproject.toml"), re.MULTILINE)
    traffic = yaml.safe_load(committed)
    assert traffic["release_blue"] == version
    assert traffic["traffic_live_color"] == "blue"


def test_every_role_runs_under_a_tag_of_its_own_name() -> None:
    """So that one role can be run alone."""
    parts = sorted(PROJECT.glob("playbooks/provision*.yml"))
    roles = [role for part in parts for play in load(part) for role in play.get("roles", [])]
    assert roles
    assert [role for role in roles if role.get("tags") != role["role"]] == []
    assert {role["role"] for role in roles} == {path.name for path in PROJECT.glob("roles/*")}


EXCLUSION = {"rule": 942100, "path": "/v1/notes", "reason": "A note is prose, in which «select … from» is English."}


def _refused(exclusions: Any) -> list[str]:
    """Return what is wrong with exclusions: what the role itself refuses, and reasons that give none."""
    option = load("roles/nginx/meta/argument_specs.yml")["argument_specs"]["main"]["options"]["nginx_waf_exclusions"]
    found = ArgumentSpecValidator({"given": option}).validate({"given": exclusions}).error_messages
    thin = [each for each in exclusions if len(str(each.get("reason", "")).split()) < 4]
    return [*found, *(f"{each} needs a reason that a reviewer can judge" for each in thin)]


def test_each_exclusion_from_the_rules_has_its_reason() -> None:
    """In the one file that has them for every environment."""
    assert _refused(load("playbooks/group_vars/edge/waf_exclusions.yml")["nginx_waf_exclusions"]) == []
    elsewhere = tuple(path for path in SOURCES if path.name != "waf_exclusions.yml")
    assert where(r"nginx_waf_exclusions.*", elsewhere) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"target": "ARGS:json.text"}, ""),
        ({"reason": None}, "missing required arguments: reason"),
        ({"reason": " "}, "needs a reason"),
        ({"reason": "false positive"}, "needs a reason"),
        ({"rule": "942"}, ""),
        ({"rule": "all"}, "rule"),
        ({"path": None}, "missing required arguments: path"),
        ({"arg": "x"}, "Supported parameters include: path, reason, rule, target"),
    ],
)
def test_an_exclusion_without_a_reason_is_refused(change: dict[str, Any], said: str) -> None:
    """Or with words in its place that say nothing; one that has what it needs is not."""
    exclusion = {key: value for key, value in (EXCLUSION | change).items() if value is not None}
    refused = " ".join(_refused([exclusion]))
    assert bool(refused) == bool(said)
    assert said in refused


def test_a_certificate_has_the_names_of_its_hosts_groups(tmp_path: Path) -> None:
    """All of them, where a host is in several groups, and no others: a name opens what its service is trusted with."""
    names = {
        "edge": ["trade.example.org"],
        "app_blue": ["app.trade.example.org"],
        "postgres": ["postgres.trade.example.org"],
        "etcd": ["etcd.fleet.internal"],
        "redis": [],
        "ops": [],
    }
    both = {"host_edge_app": ("edge", "app_blue"), "host_data": ("etcd", "postgres", "redis")}
    members = {f"host_{group}": (group,) for group in names} | both
    groups: dict[str, Any] = {
        group: {"hosts": {host: None for host, included in members.items() if group in included}} for group in names
    }
    groups["app"] = {"children": {"app_blue": groups.pop("app_blue")}}
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": {"vars": {"fleet_domain": "trade.example.org"}, "children": groups}}))
    command = (
        "ansible",
        "-i",
        inventory,
        "--playbook-dir",
        PROJECT / "playbooks",
        "all",
        "-m",
        "ansible.builtin.debug",
    )
    found = ansible(*command, "-a", "msg={{ pki_extra_names | sort | join(' ') }}", "--tree", tmp_path / "said")
    assert found.returncode == 0, found.stdout + found.stderr
    told = {path.name: json.loads(path.read_text())["msg"].split() for path in (tmp_path / "said").iterdir()}
    assert told == {
        host: sorted(name for group in included for name in names[group]) for host, included in members.items()
    }


def test_no_path_depends_on_the_configuration_file() -> None:
    """A project that uses the collection has its own; paths begin at the inventory or the playbook."""
    assert where(r"CONFIG_FILE", files(".yml", ".j2")) == []


def test_the_labs_folder_is_that_of_the_checkout(tmp_path: Path) -> None:
    """From any current directory, on hosts and on the controller; archives are found by every playbook's hosts."""
    inventory, playbooks = PROJECT / "inventories/lab", PROJECT / "playbooks"
    folders = "[lab_dir, fleet_release_dir, app_release_dir | default(''), nginx_release_dir | default('')]"
    message = f"msg={{{{ {folders} | join(' ') }}}}"
    command = ["-i", str(inventory), "--playbook-dir", str(playbooks), "-m", "ansible.builtin.debug", "-a", message]
    done = subprocess.run(
        ["ansible", "localhost,lb1,blue1", *command, "--tree", str(tmp_path / "said")],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = {path.name: json.loads(path.read_text())["msg"].split() for path in (tmp_path / "said").iterdir()}
    lab, archives = f"{PROJECT}/.lab", f"{PROJECT}/dist"
    assert said == {"localhost": [lab, archives], "lb1": [lab, archives, archives], "blue1": [lab, archives, archives]}


@pytest.mark.parametrize("verb", ["deploy", "rolling"])
def test_static_files_are_there_before_a_release_is_started(verb: str) -> None:
    """Clients may be sent there from then on."""
    plays = [str(play) for play in load(f"playbooks/{verb}.yml")]
    (delivers,) = [number for number, play in enumerate(plays) if "'tasks_from': 'static'" in play]
    starts = [number for number, play in enumerate(plays) if re.search(r"'activate'|'roles': \['rolling'\]", play)]
    assert f"+ [{verb}_release]" in plays[delivers]
    assert "'any_errors_fatal': True" in plays[delivers]
    assert starts
    assert delivers < min(starts)


def test_an_election_of_etcd_fits_each_failover_plan() -> None:
    """Preflight's limits are what the role's plans give: an election takes up to twice its time."""
    plans = load("roles/postgresql/vars/main.yml")["__postgresql_failover_plans"]
    assert {name: plan["retry_timeout"] * 1000 * 4 // 5 // 2 for name, plan in plans.items()} == LONGEST_ELECTIONS


def test_whoever_waits_for_a_request_waits_longer_than_it_may_take() -> None:
    """The edge for its answer; a trader's mark for the write that set it and for a read that began before that."""
    assert load("roles/nginx/defaults/main.yml")["nginx_upstream_read_timeout_seconds"] > REQUEST_SECONDS + 0.5
    assert MARK_SECONDS > 2 * REQUEST_SECONDS


def test_the_port_of_clients_is_said_once() -> None:
    """An inventory that moves it moves what asks there: each playbook, and keepalived, which takes the VIP away."""
    tasks = [task for path in SOURCES if path.suffix == ".yml" for task in re.split(r"(?m)^ *- name: ", read(path))]
    asking = [task for task in tasks if re.search(r"(?m)^ +edge_ask:$", task)]
    assert len(asking) >= 5
    assert [task for task in asking if 'port: "{{ fleet_https_port }}"' not in task] == []
    url = load("playbooks/group_vars/edge/wiring.yml")["keepalived_check_url"]
    assert url == "https://127.0.0.1:{{ fleet_https_port }}/edge-alive"
    assert load("roles/keepalived/defaults/main.yml")["keepalived_check_url"] == "https://127.0.0.1/edge-alive"
