"""Which hosts a roll drains, and what it leaves if it stops: the real playbook with stand-ins for hosts and role."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from repository import LAB_STRATEGY, PROJECT, ansible, load

PLAYBOOKS = PROJECT / "playbooks"
# Stands in for the role's effect on a host, as far as a roll can detect it, and for responses on the network. An
# action plugin runs on the controller. A line of the journal has a step, its host, and the hosts that serve then.
ACT = """
import json
from pathlib import Path
from urllib.parse import urlsplit

from ansible.plugins.action import ActionBase

ROOT = Path("FOLDER")


def state(host):
    return json.loads((ROOT / f"{host}.json").read_text())


def serving():
    hosts = sorted(path.stem for path in ROOT.glob("blue*.json"))
    return [host for host in hosts if state(host)["fit"] and not state(host)["drained"]]


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        given = self._task.args
        return self.act(given["step"], given["host"], given["release"]) if "step" in given else self.query(given)

    def act(self, step, host, release):
        if step == "static":
            return self.note(f"{step} {host} {release}")
        now = state(host)
        if step in ("drain", "undrain"):
            now["drained"] = step == "drain"
        if step == "activate":
            if not now["drained"]:
                return {"failed": True, "msg": "a host that serves was touched"}
            if [host, release] in json.loads((ROOT / "bad.json").read_text()):
                return {"failed": True, "msg": f"Release {release} did not become ready on {host}"}
            now.update(release=release, fit=True)
        # In one piece: the other hosts' steps look at it.
        (ROOT / f"{host}.new").write_text(json.dumps(now))
        (ROOT / f"{host}.new").replace(ROOT / f"{host}.json")
        (ROOT / f"{host}.current").unlink(missing_ok=True)
        (ROOT / f"{host}.current").symlink_to(f"releases/{now['release']}")
        return self.note(f"{step} {host}")

    def note(self, step):
        with (ROOT / "journal").open("a") as journal:
            journal.write(f"{step} | {' '.join(serving())}\\n")
        return {"changed": True}

    def query(self, given):
        name = given["address"] if "address" in given else urlsplit(given["url"]).hostname
        if name.startswith("lb"):
            turn = ROOT / f"{name}.turn"
            turn.write_text(str(int(turn.read_text() if turn.exists() else 0) + 1))
            hosts = serving() or [None]
            chosen = hosts[int(turn.read_text()) % len(hosts)]
            found = {"color": "blue", "release": state(chosen)["release"]} if chosen else {}
            status = 200 if chosen else 502
        else:
            now = state(name)
            status = 200 if name in serving() else 503
            readiness = "draining" if now["drained"] else "ready" if now["fit"] else "unavailable"
            found = {"status": readiness, "dependencies": {"schema": "ok" if now["fit"] else "unknown"}}
        failed = status not in given.get("status_code", [200])
        return {"status": status, "json": found, "failed": failed, "msg": f"Status code was {status}"}
"""


class Fleet:
    """Three hosts of one color, and two load balancers."""

    def __init__(self, folder: Path) -> None:
        """Create their state."""
        self.root = folder
        self.hosts = ["blue1", "blue2", "blue3"]
        for host in self.hosts:
            self.set_state(host, release="0.1.0", drained=False, fit=True)
            (folder / f"{host}.current").symlink_to("releases/0.1.0")
        self.set_bad_releases()
        (folder / "traffic").symlink_to("traffic-sets/blue+green-10")
        (folder / "action_plugins").mkdir()
        (folder / "action_plugins/stand_in.py").write_text(ACT.replace("FOLDER", str(folder)))
        for step in ("main", "migrate", "drain", "activate", "worker", "undrain"):
            given = {"step": step, "host": "{{ inventory_hostname }}", "release": "{{ app_release }}"}
            self._write(f"roles/app/tasks/{step}.yml", [{"name": step, "stand_in": given}])
        outputs = {
            "app_url": "https://{{ inventory_hostname }}",
            "app_running_link": f"{folder}/{{{{ __rolling_host }}}}.current",
            "app_tls_ca_file": "",
        }
        self._write("roles/app/tasks/vars.yml", load("roles/app/tasks/vars.yml"))
        self._write("roles/app/vars/main.yml", outputs)
        given = {
            "step": "static",
            "host": "{{ inventory_hostname }}",
            "release": "{{ nginx_static_releases | join(',') }}",
        }
        self._write("roles/nginx/tasks/static.yml", [{"name": "static", "stand_in": given}])
        self._write("roles/nginx/tasks/serving.yml", load("roles/nginx/tasks/serving.yml"))
        self._write("roles/nginx/vars/main.yml", {"__nginx_traffic_link": str(folder / "traffic")})
        self._copy()

    def _write(self, name: str, content: Any) -> None:
        """Write a YAML file in the fleet's folder."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def _copy(self) -> None:
        """Copy the playbook and its procedures. Only the modules that query the network are replaced."""
        (self.root / "group_vars/all").mkdir(parents=True)
        for name in ("rolling", "traffic"):
            shutil.copytree(PLAYBOOKS / "procedures" / name, self.root / "procedures" / name)
        for path in self.root.glob("procedures/*/tasks/*.yml"):
            text = path.read_text().replace("ansible.builtin.uri:", "stand_in:").replace("edge_ask:", "stand_in:")
            path.write_text(text.replace("retries: 30", "retries: 1"))
        plays = load("playbooks/rolling.yml")
        kept = [play for play in plays if "ansible.builtin.import_playbook" not in play]
        self._write("rolling.yml", kept)
        local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        groups = {
            "edge": {"hosts": {"lb1": {}, "lb2": {}}},
            "app": {"children": {"app_blue": {"hosts": {host: {} for host in self.hosts}}, "app_green": {"hosts": {}}}},
        }
        own = {
            "ansible_become": False,
            "app_address": "{{ inventory_hostname }}",
            "app_color": "blue",
            "app_port": 8443,
            "fleet_https_port": 443,
            "fleet_domain": "trade.example",
            "fleet_edge_ca": "",
            "fleet_edge_addresses": ["lb1", "lb2"],
            "fleet_vip": "lb-that-has-it",
            "fleet_inventory_dir": str(self.root),
            "fleet_releases": {"blue": "0.1.0", "green": ""},
            "fleet_upstream_fail_seconds": 0,
            "traffic_live_color": "blue",
            "traffic_canary_percent": 10,
            "rolling_batch": 1,
        }
        self._write("hosts.yml", {"all": {"children": groups, "vars": local | own}})

    def set_state(self, host: str, **state: Any) -> None:
        """Change the state of a host."""
        file = self.root / f"{host}.json"
        before = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(before | state))

    def set_bad_releases(self, *pairs: tuple[str, str]) -> None:
        """Set which releases do not become ready on which hosts."""
        (self.root / "bad.json").write_text(json.dumps(pairs))

    def roll(self, release: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the playbook."""
        (self.root / "journal").write_text("")
        paths = f"{self.root}/roles:{self.root}/procedures"
        own = LAB_STRATEGY | {"ANSIBLE_ROLES_PATH": paths, "ANSIBLE_ACTION_PLUGINS": f"{self.root}/action_plugins"}
        given = ["-e", f"rolling_release={release}", *arguments]
        return ansible("ansible-playbook", "-i", self.root / "hosts.yml", *given, self.root / "rolling.yml", **own)

    def journal(self) -> list[str]:
        """Return the steps of draining, activating and undraining, with the hosts that served then."""
        steps = (self.root / "journal").read_text().splitlines()
        return [step for step in steps if step.startswith(("drain", "activate", "worker", "undrain"))]

    def releases(self) -> dict[str, str]:
        """Return the release of each host; all of them must serve."""
        states = {host: json.loads((self.root / f"{host}.json").read_text()) for host in self.hosts}
        assert not [host for host, state in states.items() if state["drained"] or not state["fit"]]
        return {host: state["release"] for host, state in states.items()}

    def recorded(self) -> Any:
        """Return the contents of traffic.yml, or None."""
        file = self.root / "group_vars/all/traffic.yml"
        return yaml.safe_load(file.read_text()) if file.exists() else None


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """Return a fleet before any roll."""
    return Fleet(tmp_path)


def output(done: subprocess.CompletedProcess[str]) -> str:
    """Return the output of a run as one line."""
    return " ".join((done.stdout + done.stderr).replace("\\n", " ").split())


@pytest.mark.thorough
def test_hosts_are_drained_and_replaced_one_at_a_time(fleet: Fleet) -> None:
    """The others keep serving; traffic.yml gets the release at the end, and a canary's share stays."""
    done = fleet.roll("0.2.0")
    assert done.returncode == 0, output(done)
    assert fleet.journal() == [
        "drain blue1 | blue2 blue3",
        "activate blue1 | blue2 blue3",
        "worker blue1 | blue2 blue3",
        "undrain blue1 | blue1 blue2 blue3",
        "drain blue2 | blue1 blue3",
        "activate blue2 | blue1 blue3",
        "worker blue2 | blue1 blue3",
        "undrain blue2 | blue1 blue2 blue3",
        "drain blue3 | blue1 blue2",
        "activate blue3 | blue1 blue2",
        "worker blue3 | blue1 blue2",
        "undrain blue3 | blue1 blue2 blue3",
    ]
    # Both load balancers have the new files before any host serves a page that names them.
    steps = [step.split(" |")[0] for step in (fleet.root / "journal").read_text().splitlines()]
    brought = {"static lb1 0.1.0,0.2.0", "static lb2 0.1.0,0.2.0"}
    assert brought < set(steps[: steps.index("drain blue1")])
    assert set(fleet.releases().values()) == {"0.2.0"}
    expected = {"traffic_live_color": "blue", "release_blue": "0.2.0", "release_green": ""}
    assert fleet.recorded() == expected | {"traffic_canary_percent": 10}


def test_batch_is_the_configured_number_of_hosts(fleet: Fleet) -> None:
    """The first host is replaced alone."""
    done = fleet.roll("0.2.0", "-e", "rolling_batch=2")
    assert done.returncode == 0, output(done)
    assert [len(step.split("|")[1].split()) for step in fleet.journal() if step.startswith("activate")] == [1, 1, 2]
    assert set(fleet.releases().values()) == {"0.2.0"}


@pytest.mark.parametrize(("batch", "left"), [(1, ["0.2.0", "0.1.0", "0.1.0"]), (2, ["0.2.0", "0.1.0", "0.1.0"])])
def test_host_that_does_not_become_ready_stops_the_roll(fleet: Fleet, batch: int, left: list[str]) -> None:
    """It returns to its former release, later hosts are not touched; the message has all releases and a remedy."""
    fleet.set_bad_releases(("blue2", "0.2.0"))
    stopped = fleet.roll("0.2.0", "-e", f"rolling_batch={batch}")
    assert stopped.returncode == 2
    assert list(fleet.releases().values()) == left
    assert not [step for step in fleet.journal() if "blue3 |" in step]
    assert fleet.recorded() is None
    for words in (
        "Release 0.2.0 did not become ready on blue2",
        "blue1 runs 0.2.0, blue2 runs 0.1.0, blue3 runs 0.1.0; traffic.yml states 0.1.0.",
        "(`make rolling VERSION=0.2.0`), or return to the former release (`make rolling VERSION=0.1.0`)",
    ):
        assert words in output(stopped)
    assert fleet.roll("0.1.0").returncode == 0
    assert set(fleet.releases().values()) == {"0.1.0"}


@pytest.mark.parametrize("fit", [True, False])
def test_host_of_a_killed_run_is_replaced_first(fleet: Fleet, fit: bool) -> None:
    """It is drained, with the new release or none; the other hosts are not touched until it serves."""
    fleet.set_state("blue2", release="0.2.0", drained=True, fit=fit)
    done = fleet.roll("0.2.0")
    assert done.returncode == 0, output(done)
    assert [step for step in fleet.journal() if step.startswith("drain")] == [
        "drain blue2 | blue1 blue3",
        "drain blue1 | blue2 blue3",
        "drain blue3 | blue1 blue2",
    ]
    assert set(fleet.releases().values()) == {"0.2.0"}


def test_no_host_is_drained_while_another_is_down(fleet: Fleet) -> None:
    """The failed host is repaired first; if that fails it stays drained, and the others serve."""
    fleet.set_state("blue3", fit=False)
    fleet.set_bad_releases(("blue3", "0.2.0"))
    stopped = fleet.roll("0.2.0")
    assert stopped.returncode == 2
    assert [step.split(" |")[0] for step in fleet.journal()] == ["drain blue3"]
    assert "blue3 does not become ready and stays out of service: schema unknown" in output(stopped)
    assert "blue1 runs 0.1.0, blue2 runs 0.1.0" in output(stopped)


def test_idle_color_and_partial_roll_are_refused(fleet: Fleet) -> None:
    """Nothing is staged."""
    (fleet.root / "traffic").unlink()
    (fleet.root / "traffic").symlink_to("traffic-sets/green")
    moved = fleet.roll("0.2.0")
    assert "the load balancers send traffic to green: a cutover was interrupted" in output(moved)
    part = fleet.roll("0.2.0", "--limit", "blue1:blue2")
    assert "run again without `--limit`. Nothing was changed." in output(part)
    assert (moved.returncode, part.returncode) == (2, 2)
    assert (fleet.root / "journal").read_text() == ""
