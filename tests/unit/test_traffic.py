"""Which color serves which clients after each playbook that moves them; the hosts are stand-ins."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from repository import LAB_STRATEGY, PROJECT, ansible

PLAYBOOKS = PROJECT / "playbooks"
COPIED = ["canary.yml", "converge_releases.yml", "cutover.yml", "maintenance.yml", "rollback.yml", "shadow.yml"]
# Stands in for the responses of a load balancer: they follow from its set of flags, as with nginx, unless a test has
# declared it out of order or unable to close. The virtual IP is on the first one.
QUERY = """
from pathlib import Path

from ansible.plugins.action import ActionBase

ROOT = Path("FOLDER")


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        given = self._task.args
        edge = given["address"].replace("vip", "lb1")
        with (ROOT / "queried").open("a") as log:
            log.write(given["address"] + "\\n")
        live, *shares = (ROOT / edge / "traffic").readlink().name.split("+")
        headers = given.get("headers", {})
        in_share = headers.get("Cookie") == "tradefleet_client=verify-88" and shares
        color = shares[0].split("-")[0] if in_share else live
        # The controller is exempt from maintenance, like the load balancers' whole network.
        closed = (ROOT / edge / "maintenance").exists() and "TradeFleet-As-Client" in headers
        if (ROOT / edge / f"out-of-order-{color}").exists():
            return {"status": 502, "failed": True, "msg": "no host answered"}
        if closed and not (ROOT / edge / "never-closes").exists():
            return {"status": 503, "retry_after": "30"}
        return {"status": 200, "color": color, "json": {"color": color, "release": "0.1.0"}}
"""
NOTE = "{{ begin_verb }} {{ begin_target | default('') }} ({{ begin_words | default('') }})"


class Fleet:
    """Two load balancers with the role's own switch, in folders of this machine; blue is live."""

    def __init__(self, folder: Path) -> None:
        """Create them."""
        self.root = folder
        self.file = folder / "group_vars/all/traffic.yml"
        (folder / "group_vars/all").mkdir(parents=True)
        (folder / "action_plugins").mkdir()
        (folder / "action_plugins/edge_ask.py").write_text(QUERY.replace("FOLDER", str(folder)))
        for name in COPIED:
            shutil.copy(PLAYBOOKS / name, folder)
        for name in ("deploy", "traffic"):
            shutil.copytree(PLAYBOOKS / "procedures" / name, folder / "roles" / name)
        # Reduced copies of roles: the switch is real, and a release reports whether its host is live.
        shutil.copytree(PROJECT / "roles/nginx", folder / "roles/nginx")
        self._tasks("roles/nginx/tasks/check.yml")
        for path in [*folder.glob("*.yml"), *folder.glob("roles/*/tasks/*.yml"), folder / "roles/nginx/vars/main.yml"]:
            path.write_text(self._here(path.read_text()))
        for name in ("migrate", "worker", "standby", "log"):
            self._tasks(f"roles/app/tasks/{name}.yml")
        followed = {"content": "{{ app_worker_hosts | join(' ') }}", "dest": f"{folder}/workers", "mode": "0644"}
        self._tasks("roles/app/tasks/workers.yml", {"name": "Note", "ansible.builtin.copy": followed})
        noted = {"msg": "{{ inventory_hostname }} is {{ 'live' if app_live else 'idle' }}"}
        self._tasks("roles/app/tasks/activate.yml", {"name": "Note", "ansible.builtin.debug": noted})
        self.set_probes(True)
        self.set_verdict("fit")
        for name, hosts in (("preflight", "localhost"), ("reach", "localhost")):
            self._play(f"{name}.yml", hosts)
        note = {
            "name": "Begin",
            "ansible.builtin.lineinfile": {
                "path": f"{folder}/begun",
                "line": NOTE,
                "create": True,
                "insertafter": "EOF",
            },
            "when": "inventory_hostname == 'lb1'",
        }
        self._play("begin.yml", "edge", note)
        for edge in ("lb1", "lb2"):
            (folder / edge).mkdir()
        self.set_state()
        self._inventory()

    def _here(self, text: str) -> str:
        """Make a file work in the fleet's folder without root; a task may query another host than its own."""
        folder = f"{self.root}/{{{{ __nginx_host | default(inventory_hostname) }}}}"
        text = re.sub(r": /etc/nginx/(.+)", rf': "{folder}/\1"', text)
        return re.sub(r"^ *(owner|group|become): (root|true)\n", "", text, flags=re.MULTILINE)

    def _tasks(self, name: str, *tasks: dict[str, Any]) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(list(tasks)))

    def _play(self, name: str, hosts: str, *tasks: dict[str, Any]) -> None:
        self._tasks(name, {"name": name, "hosts": hosts, "gather_facts": False, "tasks": list(tasks)})

    def _inventory(self) -> None:
        """Write the inventory, with the wiring that determines the live color."""
        local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        colors = {f"app_{color}": {"hosts": {f"{color}1": {"app_color": color}}} for color in ("blue", "green")}
        groups = {"edge": {"hosts": {"lb1": {}, "lb2": {}}}, "app": {"children": colors}}
        wired = yaml.safe_load((PLAYBOOKS / "group_vars/all/wiring.yml").read_text())
        kept = ("fleet_colors", "fleet_releases", "fleet_idle_color", "fleet_cutover_color", "fleet_canary_shares")
        own = {name: wired[name] for name in (*kept, "fleet_https_port", "fleet_live_colors")}
        edge = yaml.safe_load((PLAYBOOKS / "group_vars/edge/wiring.yml").read_text())
        own |= {name: value for name, value in edge.items() if name.startswith("traffic_")}
        own |= {
            "app_live": yaml.safe_load((PLAYBOOKS / "group_vars/app/wiring.yml").read_text())["app_live"],
            "app_release": "0.1.0",
            "app_standby": False,
            "canary_seconds": 1,
            "canary_steps": [10, 50, 100],
            "canary_wait_seconds": 1,
            "cutover_soak_seconds": 0,
            "judge_every_seconds": 1,
            "judge_minimum_requests": 200,
            "shadow_seconds": 1,
            "fleet_address": "{{ inventory_hostname }}",
            "fleet_domain": "trade.example",
            "fleet_edge_ca": "",
            "fleet_inventory_dir": str(self.root),
            "fleet_vip": "vip",
            "nginx_server_name": "trade.example",
            "nginx_live_color": "{{ traffic_live_color }}",
            "nginx_upstreams": {"blue": [], "green": []},
        }
        (self.root / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups, "vars": local | own}}))

    def set_state(self, canary: int = 0, running: str = "blue") -> None:
        """Write traffic.yml, and set what the load balancers do, which may differ from it."""
        content = {"traffic_live_color": "blue", "traffic_canary_percent": canary}
        self.file.write_text(yaml.safe_dump(content | {"release_blue": "0.1.0", "release_green": "0.1.0"}))
        for edge in ("lb1", "lb2"):
            (self.root / edge / "traffic").unlink(missing_ok=True)
            (self.root / edge / "traffic-sets" / running).mkdir(parents=True, exist_ok=True)
            (self.root / edge / "traffic").symlink_to(f"traffic-sets/{running}")

    def set_probes(self, *probes: bool) -> None:
        """Set the result of each successive probe of the other color; the last one applies to all later probes."""
        (self.root / "probes").write_text(json.dumps(probes))
        script = (
            "import json, pathlib, sys; file = pathlib.Path(sys.argv[1]); probes = json.loads(file.read_text());"
            "file.write_text(json.dumps(probes[1:] or probes)); sys.exit(not probes[0])"
        )
        argv = ["{{ ansible_playbook_python }}", "-c", script, f"{self.root}/probes"]
        probe = {"name": "Query", "ansible.builtin.command": {"argv": argv}, "register": "probe", "run_once": True}
        refuse = {"that": "probe.rc == 0", "fail_msg": "green1 is not ready"}
        judged = {"name": "Probe", "ansible.builtin.assert": refuse}
        self._tasks("roles/app/tasks/probe.yml", probe | {"failed_when": False}, judged)

    def set_verdict(self, verdict: str) -> None:
        """Set the judge's verdict."""
        fact = {"__traffic_verdict": {"verdict": verdict, "reasons": ["so it is"], "figures": {}}}
        self._tasks("roles/traffic/tasks/judge.yml", {"name": "Judge", "ansible.builtin.set_fact": fact})

    def play(self, playbook: str, ok: bool = True, **extra: Any) -> str:
        """Run a playbook, and return its output as one line."""
        for name in ("queried", "begun"):
            (self.root / name).unlink(missing_ok=True)
        plugins = {"ANSIBLE_ROLES_PATH": self.root / "roles", "ANSIBLE_ACTION_PLUGINS": self.root / "action_plugins"}
        own = LAB_STRATEGY | plugins
        given = ["-e", json.dumps(extra)]
        done = ansible("ansible-playbook", "-i", self.root / "hosts.yml", *given, self.root / f"{playbook}.yml", **own)
        output = " ".join((done.stdout + done.stderr).replace("\\n", " ").split())
        assert (done.returncode == 0) == ok, output
        return output

    def flag_sets(self) -> set[str]:
        """Return the sets of flags that the load balancers use."""
        return {(self.root / edge / "traffic").readlink().name for edge in ("lb1", "lb2")}

    def recorded(self) -> tuple[str, int]:
        """Return live color and canary share of traffic.yml."""
        content = yaml.safe_load(self.file.read_text())
        return content["traffic_live_color"], content["traffic_canary_percent"]

    def begun(self) -> list[str]:
        """Return the arguments of begin.yml, for each playbook that was not skipped."""
        file = self.root / "begun"
        return file.read_text().splitlines() if file.exists() else []

    def queried(self) -> set[str]:
        """Return the addresses that were queried from outside."""
        return set((self.root / "queried").read_text().split())

    def workers(self) -> str:
        """Return the hosts whose workers were started last."""
        return (self.root / "workers").read_text()

    def closed(self) -> list[str]:
        """Return the load balancers that are closed for maintenance."""
        return [edge for edge in ("lb1", "lb2") if (self.root / edge / "maintenance").exists()]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """Return a fleet in its first state."""
    return Fleet(tmp_path)


@pytest.mark.thorough
def test_canary_gets_a_share_and_loses_it(fleet: Fleet) -> None:
    """Both load balancers apply it; giving clients to the canary needs a confirmation, withdrawing it does not."""
    fleet.play("canary", percent="10")
    assert (fleet.flag_sets(), fleet.recorded()) == ({"blue+green-10"}, ("blue", 10))
    assert fleet.begun() == ["canary green 0.1.0 10 % (green 0.1.0)"]
    assert fleet.queried() == {"lb1", "lb2"}
    fleet.set_probes(False)  # withdrawing requires no healthy target
    fleet.play("canary", percent="0")
    assert (fleet.flag_sets(), fleet.recorded()) == ({"blue"}, ("blue", 0))
    assert fleet.begun() == ["canary green 0.1.0 0 % ()"]


def test_rollback_during_a_canary_withdraws_it(fleet: Fleet) -> None:
    """This includes a canary that was killed before it was recorded, and any state of the other color."""
    fleet.set_probes(False)
    for canary, running in ((10, "blue+green-10"), (0, "blue+green-50"), (10, "blue")):
        fleet.set_state(canary, running)
        fleet.play("rollback")
        assert (fleet.flag_sets(), fleet.recorded()) == ({"blue"}, ("blue", 0))
        assert fleet.begun() == ["rollback green 0.1.0 0 % ()"]


@pytest.mark.thorough
def test_rollback_without_a_canary_is_a_cutover(fleet: Fleet) -> None:
    """It goes to the other color; after an interrupted cutover, even of a canary, to the one in traffic.yml."""
    fleet.set_state(10, "green")
    fleet.play("rollback")
    assert (fleet.flag_sets(), fleet.recorded()) == ({"blue"}, ("blue", 0))
    assert fleet.begun() == ["rollback blue 0.1.0 (blue 0.1.0)"]
    fleet.set_state(0, "blue+shadow-green-5")
    fleet.play("rollback")
    assert (fleet.flag_sets(), fleet.recorded()) == ({"green"}, ("green", 0))
    assert fleet.begun() == ["rollback green 0.1.0 (green 0.1.0)"]
    assert fleet.queried() == {"lb1", "lb2", "vip"}
    assert fleet.workers() == "green1"


def test_whole_canary_continues_from_its_present_share(fleet: Fleet) -> None:
    """No client moves back in between."""
    fleet.set_state(10, "blue+green-10")
    output = fleet.play("canary")
    assert "50 % on green" in output
    assert "10 % on green" not in output
    assert (fleet.flag_sets(), fleet.recorded()) == ({"green"}, ("green", 0))
    assert fleet.begun() == ["canary green 0.1.0 50,100 % (green 0.1.0)"]


@pytest.mark.parametrize("probes", [[False], [True, False]])
def test_canary_on_an_unhealthy_color_is_withdrawn(fleet: Fleet, probes: list[bool]) -> None:
    """This is checked before the first step and before the last."""
    fleet.set_state(10, "blue+green-10")
    fleet.set_probes(*probes)
    output = fleet.play("canary", ok=False)
    assert "All clients are back on blue. Nothing has moved: color green is not fit to serve release 0.1.0." in output
    assert "lb1: Probe: green1 is not ready" in output
    assert (fleet.flag_sets(), fleet.recorded()) == ({"blue"}, ("blue", 0))


def test_canary_that_one_load_balancer_fails_to_serve_is_withdrawn(fleet: Fleet) -> None:
    """That load balancer rejects the clients of the share, and is named."""
    (fleet.root / "lb2/out-of-order-green").touch()
    output = fleet.play("canary", ok=False, percent="10")
    assert "All clients are back on blue. lb2: Share | Query as a client in the share" in output
    assert (fleet.flag_sets(), fleet.recorded()) == ({"blue"}, ("blue", 0))


@pytest.mark.thorough
def test_worse_color_loses_its_clients(fleet: Fleet) -> None:
    """It also loses those that it had before this step."""
    fleet.set_state(10, "blue+green-10")
    fleet.set_verdict("undecided")
    assert "cannot be judged after 1 s" in fleet.play("canary", ok=False, percent="50")
    assert (fleet.flag_sets(), fleet.recorded()) == ({"blue"}, ("blue", 0))


def test_cutover_that_is_undone_ends_the_canary(fleet: Fleet) -> None:
    """Otherwise the next site.yml would send clients to the color that has just failed."""
    fleet.set_state(50, "blue+green-50")
    (fleet.root / "lb2/out-of-order-green").touch()
    output = fleet.play("cutover", ok=False)
    assert "all traffic is back on blue, and traffic.yml records it. lb2: Verify" in output
    assert (fleet.flag_sets(), fleet.recorded()) == ({"blue"}, ("blue", 0))
    assert fleet.workers() == "blue1"


def test_color_with_clients_is_live(fleet: Fleet) -> None:
    """The share is in traffic.yml or on a load balancer; a shadow serves no clients."""
    for canary, running, green in (
        (0, "blue", "idle"),
        (10, "blue", "live"),
        (0, "blue+green-10", "live"),
        (0, "green", "live"),
        (0, "blue+shadow-green-5", "idle"),
    ):
        fleet.set_state(canary, running)
        output = fleet.play("converge_releases")
        assert f"green1 is {green}" in output
        assert "blue1 is live" in output


def test_maintenance_closes_for_clients_after_a_confirmation(fleet: Fleet) -> None:
    """The probe comes from an exempt host."""
    fleet.play("maintenance", maintenance="on")
    assert fleet.closed() == ["lb1", "lb2"]
    assert fleet.begun() == ["maintenance on (close trade.example)"]
    fleet.play("maintenance", maintenance="off")
    assert fleet.closed() == []
    assert fleet.begun() == ["maintenance off ()"]


def test_maintenance_that_fails_is_undone(fleet: Fleet) -> None:
    """It is undone on the load balancer that closed; one that was closed before stays closed."""
    (fleet.root / "lb2/never-closes").touch()
    assert "lb2: Gate | Query" in fleet.play("maintenance", ok=False, maintenance="on")
    assert fleet.closed() == []
    (fleet.root / "lb1/maintenance").touch()
    fleet.play("maintenance", ok=False, maintenance="on")
    assert fleet.closed() == ["lb1"]
