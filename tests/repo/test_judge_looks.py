"""The judge's samples, one after the other: the real ansible-playbook reads the logs of two load balancers."""

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
    """Two load balancers that are this machine, and what each has logged."""

    def __init__(self, folder: Path) -> None:
        """Log nothing yet."""
        self.folder = folder
        local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        hosts = dict.fromkeys(("lb1", "lb2"), local)
        (folder / "hosts.yml").write_text(yaml.safe_dump({"edge": {"hosts": hosts}}))
        for name in ("lb1", "lb2"):
            (folder / f"{name}.log").touch()
        (folder / "shadow.log").touch()

    def log(self, color: str, requests: int, status: int = 200, age: float = 0, key: str = TRADER) -> None:
        """Have the first load balancer log so many requests at once."""
        entry = {"epoch": time.time() - age, "request_id": "1", "uri": "/v1/orders", "status": status, "color": color}
        entry |= {"key": key, "guard": "key" if key == TRADER else "", "method": "GET"}
        text = json.dumps(entry | {"seconds": 0.01, "upstream": "10.203.0.21:8443"}) + "\n"
        with (self.folder / "lb1.log").open("a") as log:
            log.write(text * requests)

    def judge(self, seconds: int, wait: int, before: int) -> tuple[int, str, int]:
        """Judge green against blue; return exit status, the verdict or the reason, and how many samples it took."""
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
        said = re.search(r"VERDICT \w+|Color green is worse: [^.]*", done.stdout)
        assert said, done.stdout + done.stderr
        return done.returncode, said[0], len(re.findall(r"TASK \[Sample \| Read", done.stdout))


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    """Return load balancers that nobody has asked for anything."""
    return Edge(tmp_path)


def test_the_time_before_is_the_others(edge: Edge) -> None:
    """What its former release has answered is not laid to its charge; too few requests end with the wait."""
    edge.log("blue", 300, age=20)
    edge.log("green", 300, status=500, age=20)
    status, said, looks = edge.judge(seconds=1, wait=10, before=60)
    assert (status, said) == (0, "VERDICT undecided")
    # A look takes as long as it does.
    assert 1 < looks <= 10


def test_what_is_worse_ends_the_looks_at_once(edge: Edge) -> None:
    """Seven requests are enough, if all of them fail; in a log that was rotated, too, and whatever strangers send."""
    edge.log("blue", 300, age=20)
    edge.log("green", 7, status=503, age=-30)
    (edge.folder / "lb1.log").rename(edge.folder / "lb1.log.1")
    for color, status in (("blue", 401), ("green", 200)):
        edge.log(color, 3000, status=status, age=-30, key=STRANGER)
    status, said, looks = edge.judge(seconds=60, wait=60, before=60)
    assert (status, said, looks) == (2, "Color green is worse: 100", 1)


def test_enough_requests_end_the_wait(edge: Edge) -> None:
    """What is fit is so when the time is up, however long there might have been too few."""
    for color in ("blue", "green"):
        edge.log(color, 300, age=-30)
    # Strangers who choose the new release have no say.
    edge.log("green", 3000, status=404, age=-30, key=STRANGER)
    status, said, looks = edge.judge(seconds=2, wait=60, before=0)
    assert (status, said) == (0, "VERDICT fit")
    assert looks <= 2


def test_no_tasks_include_themselves() -> None:
    """Ansible breaks off, without any rescue, at about 250 files within one another."""
    tasks = [path for path in files(".yml") if path.parent.name == "tasks"]
    assert tasks
    assert [path for path in tasks if re.search(rf"_tasks: {re.escape(path.name)}$", read(path), re.MULTILINE)] == []
