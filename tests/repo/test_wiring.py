"""Facts that two parts of the repository must agree on."""

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

# The sources of playbooks, variables and inventories, without the vault itself.
SOURCES = tuple(
    path
    for path in files(".yml", ".j2")
    if path.relative_to(PROJECT).parts[0] in ("playbooks", "inventories") and path.name != "vault.yml"
)


def test_generated_secrets_are_the_used_ones() -> None:
    """`make secrets` generates every secret that the wiring reads, and no other."""
    used = set()
    for path in SOURCES:
        if path.name != "secrets.yml":
            # One with a default is of an operator who uses an optional part.
            used |= set(re.findall(r"\bvault_[a-z0-9_]+\b(?! \| default\(''\))", read(path)))
    assert used == set(SECRETS)
    assert sorted(SECRETS) == SECRETS


def test_secrets_come_only_from_the_vault() -> None:
    """Each password in the wiring is one readable line that names a vault_ variable."""
    plain = r"^ *-? *(?!vault_)\w*(?:password|passphrase): (?!\"\{\{ vault_\w+ \}\}\"$).*"
    wiring = tuple(path for path in SOURCES if "group_vars" in path.parts)
    assert where(plain, wiring, re.MULTILINE) == []


def test_no_vault_or_private_key_is_committed() -> None:
    """No file contains a plain-text vault or a private key."""
    names = [path.relative_to(PROJECT) for path in files() if path.name == "vault.yml"]
    assert names == []
    assert where(r"-----BEGIN [A-Z ]*PRIVATE KEY", files()) == []


def test_application_accepts_every_setting_of_the_role() -> None:
    """It does not start with an unknown setting."""
    templates = PROJECT / "roles/app/templates"
    text = read(templates / "settings.env.j2") + read(templates / "owner.env.j2")
    written = set(re.findall(r"^{{ __app_prefix }}_([A-Z_]+)=", text, re.MULTILINE))
    assert written
    assert written <= set(variables.names([*settings.PLATFORM, *registered().settings]))


def test_application_and_role_use_the_same_drain_flag() -> None:
    """It is not a setting, so both contain its path."""
    role = load("roles/app/vars/main.yml")
    name = load("roles/app/defaults/main.yml")["app_name"]
    assert role["__app_drain_flag"].replace("{{ app_name }}", name) == str(settings.Settings().drain_flag)
    assert "RuntimeDirectory={{ app_name }}\n" in read("roles/app/templates/api.service.j2")
    assert role["__app_run"] == "/run/{{ app_name }}"
    assert role["__app_requests"] == "{{ __app_run }}/requests"


def test_migration_times_out_before_blocked_requests_do() -> None:
    """A statement behind one that waits for a table waits, too, as long as the limits of the database role permit."""
    limits = load("playbooks/group_vars/postgres/wiring.yml")["fleet_app_database_limits"]
    seconds = min(int(limits[name].removesuffix("s")) for name in ("lock_timeout", "statement_timeout"))
    assert seconds * 1000 > MIGRATION_LOCK_MILLISECONDS


def test_lab_starts_with_the_version_of_the_sources() -> None:
    """This checks the committed file, not what a deploy in this checkout has written since."""
    name = "inventories/lab/group_vars/all/traffic.yml"
    committed = subprocess.run(["git", "-C", str(PROJECT), "show", f":{name}"], check=True, capture_output=True).stdout
    (version,) = re.findall(r'^version = "(.+)"$', read("pyproject.toml"), re.MULTILINE)
    traffic = yaml.safe_load(committed)
    assert traffic["release_blue"] == version
    assert traffic["traffic_live_color"] == "blue"


def test_every_role_has_a_tag_of_its_own_name() -> None:
    """One role can then be run alone."""
    parts = sorted(PROJECT.glob("playbooks/provision*.yml"))
    roles = [role for part in parts for play in load(part) for role in play.get("roles", [])]
    assert roles
    assert [role for role in roles if role.get("tags") != role["role"]] == []
    assert {role["role"] for role in roles} == {path.name for path in PROJECT.glob("roles/*")}


EXCLUSION = {"rule": 942100, "path": "/v1/notes", "reason": 'A note is prose, in which "select … from" is English.'}


def _refused(exclusions: Any) -> list[str]:
    """Return the defects of exclusions: those that the role rejects, and insufficient reasons."""
    option = load("roles/nginx/meta/argument_specs.yml")["argument_specs"]["main"]["options"]["nginx_waf_exclusions"]
    found = ArgumentSpecValidator({"given": option}).validate({"given": exclusions}).error_messages
    thin = [each for each in exclusions if len(str(each.get("reason", "")).split()) < 4]
    return [*found, *(f"{each} needs a reason that a reviewer can judge" for each in thin)]


def test_each_waf_exclusion_has_a_reason() -> None:
    """One file contains the exclusions of every environment."""
    assert _refused(load("playbooks/group_vars/edge/waf_exclusions.yml")["nginx_waf_exclusions"]) == []
    elsewhere = tuple(path for path in SOURCES if path.name != "waf_exclusions.yml")
    assert where(r"nginx_waf_exclusions.*", elsewhere) == []


@pytest.mark.parametrize(
    ("change", "message"),
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
def test_waf_exclusion_without_a_reason_is_refused(change: dict[str, Any], message: str) -> None:
    """Two words are not a reason; a complete exclusion is accepted."""
    exclusion = {key: value for key, value in (EXCLUSION | change).items() if value is not None}
    refused = " ".join(_refused([exclusion]))
    assert bool(refused) == bool(message)
    assert message in refused


def test_certificate_has_the_names_of_its_hosts_groups(tmp_path: Path) -> None:
    """A host has the names of all its groups and no others: a name grants the access of its service."""
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
    found = ansible(*command, "-a", "msg={{ pki_extra_names | sort | join(' ') }}", "--tree", tmp_path / "output")
    assert found.returncode == 0, found.stdout + found.stderr
    printed = {path.name: json.loads(path.read_text())["msg"].split() for path in (tmp_path / "output").iterdir()}
    assert printed == {
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
        ["ansible", "localhost,lb1,blue1", *command, "--tree", str(tmp_path / "output")],
        cwd=tmp_path,
        # `make venv` has created it; a lab that ran here has a vault.
        env=environment(ANSIBLE_VAULT_PASSWORD_FILE=PROJECT / ".vault/lab"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    output = {path.name: json.loads(path.read_text())["msg"].split() for path in (tmp_path / "output").iterdir()}
    lab, archives = f"{PROJECT}/.lab", f"{PROJECT}/dist"
    assert output == {
        "localhost": [lab, archives],
        "lb1": [lab, archives, archives],
        "blue1": [lab, archives, archives],
    }


def test_copy_of_the_archives_is_next_to_the_second_repository(tmp_path: Path) -> None:
    """The operator states it once. Two sites have two folders; a fleet without one has no copy."""

    def derived(repository: dict[str, Any]) -> Any:
        inputs = {"pgbackrest_second_repository": repository}
        command = [
            "-i",
            f"{PROJECT}/inventories/lab",
            "--playbook-dir",
            f"{PROJECT}/playbooks",
            f"-e{json.dumps(inputs)}",
        ]
        command += ["-m", "ansible.builtin.debug", "-a", "var=archive_copy_server", "--tree", str(tmp_path)]
        given = environment(ANSIBLE_VAULT_PASSWORD_FILE=PROJECT / ".vault/lab")
        subprocess.run(["ansible", "ops1", *command], cwd=PROJECT, env=given, capture_output=True, check=True)
        return json.loads((tmp_path / "ops1").read_text())["archive_copy_server"]

    stated = {"type": "sftp", "host": "10.0.9.5", "path": "/srv/trade", "user": "backups", "fingerprint": "5b0c"}
    assert derived(stated | {"retention_days": 90}) == stated | {"path": "/srv/trade/restic/lab"}
    assert derived({}) == {}


@pytest.mark.parametrize("playbook", ["deploy", "rolling"])
def test_static_files_are_delivered_before_a_release_starts(playbook: str) -> None:
    """Clients may be sent to the release from then on."""
    plays = [str(play) for play in load(f"playbooks/{playbook}.yml")]
    (delivers,) = [number for number, play in enumerate(plays) if "'tasks_from': 'static'" in play]
    starts = [number for number, play in enumerate(plays) if re.search(r"'activate'|'roles': \['rolling'\]", play)]
    assert f"+ [{playbook}_release]" in plays[delivers]
    assert "'any_errors_fatal': True" in plays[delivers]
    assert starts
    assert delivers < min(starts)


def test_election_of_etcd_fits_each_failover_plan() -> None:
    """The limits of preflight follow from the role's plans: an election takes up to twice its timeout."""
    plans = load("roles/postgresql/vars/main.yml")["__postgresql_failover_plans"]
    assert {name: plan["retry_timeout"] * 1000 * 4 // 5 // 2 for name, plan in plans.items()} == LONGEST_ELECTIONS


def test_edge_and_mark_outlast_the_longest_request() -> None:
    """The edge waits for the response; a mark outlasts the write that set it and a read that began before it."""
    assert load("roles/nginx/defaults/main.yml")["nginx_upstream_read_timeout_seconds"] > REQUEST_SECONDS + 0.5
    assert MARK_SECONDS > 2 * REQUEST_SECONDS


def test_https_port_is_configured_in_one_place() -> None:
    """An inventory that changes it changes all probes: those of each playbook and that of keepalived."""
    tasks = [task for path in SOURCES if path.suffix == ".yml" for task in re.split(r"(?m)^ *- name: ", read(path))]
    asking = [task for task in tasks if re.search(r"(?m)^ +edge_ask:$", task)]
    assert len(asking) >= 5
    assert [task for task in asking if 'port: "{{ fleet_https_port }}"' not in task] == []
    url = load("playbooks/group_vars/edge/wiring.yml")["keepalived_check_url"]
    assert url.startswith("https://127.0.0.1:{{ fleet_https_port }}/")
    assert load("roles/keepalived/defaults/main.yml")["keepalived_check_url"] == "https://127.0.0.1/edge-alive"
