"""The judge's successive samples: the real ansible-playbook reads the logs of two load balancers."""

import json
import re
import time
from pathlib import Path

import pytest
import yaml
from repository import PROJECT, ansible, files, read

TASKS = PROJECT / "playbooks/procedures/traffic/tasks"
TRADER, STRANGER = "000001", "999999"


class Edge:
    """Two load balancers on this machine, and their logs."""

    def __init__(self, folder: Path) -> None:
        """Start with empty logs."""
        self.folder = folder
        local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        hosts = dict.fromkeys(("lb1", "lb2"), local)
        (folder / "hosts.yml").write_text(yaml.safe_dump({"edge": {"hosts": hosts}}))
        for name in ("lb1", "lb2"):
            (folder / f"{name}.log").touch()
        (folder / "shadow.log").touch()

    def log(self, color: str, requests: int, status: int = 200, age: float = 0, key: str = TRADER) -> None:
        """Write requests to the log of the first load balancer."""
        entry = {"epoch": time.time() - age, "request_id": "1", "uri": "/v1/orders", "status": status, "color": color}
        entry |= {"key": key, "guard": "key" if key == TRADER else "", "method": "GET"}
        text = json.dumps(entry | {"seconds": 0.01, "upstream": "10.203.0.21:8443"}) + "\n"
        with (self.folder / "lb1.log").open("a") as log:
            log.write(text * requests)

    def judge(self, seconds: int, wait: int, before: int) -> tuple[int, str, int]:
        """Judge green against blue; return exit status, verdict or reason, and number of samples."""
        variables = {
            "traffic_target": "green",
            "traffic_live_color": "blue",
            "traffic_judge_every_seconds": 1,
            "traffic_judge_minimum_requests": 200,
            "__traffic_judge_seconds": seconds,
            "__traffic_wait_seconds": wait,
            "__traffic_before_seconds": before,
        }
        logs = {"log": f"{self.folder}/{{{{ inventory_hostname }}}}.log", "shadow_log": f"{self.folder}/shadow.log"}
        play = {
            "hosts": "edge",
            "gather_facts": False,
            "vars": variables,
            "module_defaults": {"edge_log": logs},
            "tasks": [
                {"ansible.builtin.include_tasks": str(TASKS / "judge.yml")},
                {"ansible.builtin.debug": {"msg": "VERDICT {{ __traffic_verdict.verdict }}"}, "run_once": True},
            ],
        }
        (self.folder / "play.yml").write_text(yaml.safe_dump([play]))
        done = ansible("ansible-playbook", "-i", self.folder / "hosts.yml", self.folder / "play.yml")
        result = re.search(r"VERDICT \w+|Color green is worse: [^.]*", done.stdout)
        assert result, done.stdout + done.stderr
        return done.returncode, result[0], len(re.findall(r"TASK \[Sample \| Read", done.stdout))


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    """Return load balancers without logged requests."""
    return Edge(tmp_path)


def test_requests_before_the_activation_are_ignored(edge: Edge) -> None:
    """Failures of the color's former release do not count; with too few requests the judge stops after its wait."""
    edge.log("blue", 300, age=20)
    edge.log("green", 300, status=500, age=20)
    status, result, samples = edge.judge(seconds=1, wait=10, before=60)
    assert (status, result) == (0, "VERDICT undecided")
    # A sample takes an unknown time.
    assert 1 < samples <= 10


def test_worse_color_ends_sampling_at_once(edge: Edge) -> None:
    """Seven requests are enough if all fail, even in a rotated log and despite unauthenticated requests."""
    edge.log("blue", 300, age=20)
    edge.log("green", 7, status=503, age=-30)
    (edge.folder / "lb1.log").rename(edge.folder / "lb1.log.1")
    for color, status in (("blue", 401), ("green", 200)):
        edge.log(color, 3000, status=status, age=-30, key=STRANGER)
    status, result, samples = edge.judge(seconds=60, wait=60, before=60)
    assert (status, result, samples) == (2, "Color green is worse: 100", 1)


def test_enough_requests_end_the_wait(edge: Edge) -> None:
    """A color passes when the time is over, even if the requests were too few for most of it."""
    for color in ("blue", "green"):
        edge.log(color, 300, age=-30)
    # Unauthenticated clients that choose the new release have no influence.
    edge.log("green", 3000, status=404, age=-30, key=STRANGER)
    status, result, samples = edge.judge(seconds=2, wait=60, before=0)
    assert (status, result) == (0, "VERDICT fit")
    assert samples <= 2


def test_no_task_file_includes_itself() -> None:
    """Ansible aborts at about 250 nested files, and no rescue catches that."""
    tasks = [path for path in files(".yml") if path.parent.name == "tasks"]
    assert tasks
    assert [path for path in tasks if re.search(rf"_tasks: {re.escape(path.name)}$", read(path), re.MULTILINE)] == []
