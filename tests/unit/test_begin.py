"""Playbooks that change something acquire the lock and always release it; the real ansible-playbook runs."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from repository import PROJECT, ansible, environment, load

# They change nothing, run only on the controller, are imported after the beginning, or manage the lock itself.
FREE = {
    "archive",
    "begin",
    "dr_fence",
    "dr_status",
    "failed_events",
    "journal",
    "lock",
    "preflight",
    "reach",
    "restore_controller",
}
FREE |= {"schedule", "secrets", "status", "unlock"}
PROGRAM = PROJECT / "roles/operations/files/tradefleet-operations"
PLAYBOOKS = PROJECT / "playbooks"


def imports(name: str) -> list[str]:
    """Return the playbooks that a playbook imports, directly or indirectly, in order."""
    found = []
    for play in load(f"playbooks/{name}.yml"):
        if "ansible.builtin.import_playbook" in play:
            imported = Path(play["ansible.builtin.import_playbook"]).stem
            found += [imported, *imports(imported)]
    return found


@pytest.mark.parametrize("name", sorted(path.stem for path in PLAYBOOKS.glob("*.yml")))
def test_every_playbook_that_changes_something_begins(name: str) -> None:
    """It begins after its inputs were checked; a playbook that changes nothing does not begin."""
    order = imports(name)
    assert ("begin" in order) == (name not in FREE)
    for check in ("preflight", "reach"):
        if "begin" in order and check in order:
            assert order.index(check) < order.index("begin")


def test_role_runs_before_the_lock_and_the_lock_before_everything_else() -> None:
    """A new fleet has no lock until site.yml has installed it."""
    first, second, *_ = load("playbooks/provision.yml")
    assert [role["role"] for role in first["roles"]] == ["operations"]
    assert second["ansible.builtin.import_playbook"] == "begin.yml"


class Controller:
    """Runs playbooks of a fleet whose ops1 is this machine; its other host does not exist and is never contacted."""

    def __init__(self, folder: Path) -> None:
        """Create the fleet's inventory."""
        self.folder = folder
        self.journal = folder / "journal.jsonl"
        local = {"ansible_connection": "local", "ansible_become": False}
        hosts = {"edge1": {"ansible_host": "192.0.2.11"}}
        groups = {"ops": {"hosts": {"ops1": local, "ops2": local}}, "edge": {"hosts": hosts}}
        python = "{{ ansible_playbook_python }}"
        variables = {
            "ansible_python_interpreter": python,
            "operations_confirm": False,
            "operations_program": str(PROGRAM),
        }
        (folder / "fleet").mkdir()
        (folder / "fleet/hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
        (folder / "extra.yml").write_text(yaml.safe_dump({**variables, "fleet_operator": "alex@desk"}))

    def command(self, *tasks: dict[str, Any], words: str = "", extra: dict[str, Any] | None = None) -> list[str]:
        """Return the command that runs these tasks as a playbook; it begins twice, as if it imported another one."""
        begin = {
            "import_playbook": str(PLAYBOOKS / "begin.yml"),
            "vars": {
                "begin_verb": "drive",
                "begin_from": "blue 1.2.2",
                "begin_target": "green 1.2.3",
                "begin_words": words,
            },
        }
        work = {"name": "Work", "hosts": "ops1", "gather_facts": False, "tasks": list(tasks)}
        playbook = self.folder / "playbook.yml"
        playbook.write_text(yaml.safe_dump([begin, begin, work]))
        given = ["-e", f"@{self.folder}/extra.yml", "-e", json.dumps(extra or {})]
        return ["ansible-playbook", "-i", str(self.folder / "fleet"), *given, str(playbook)]

    def environment(self) -> dict[str, str]:
        """Return the default settings, without those of the caller."""
        return environment(TRADEFLEET_OPERATIONS=self.folder)

    def run(self, *tasks: dict[str, Any], limit: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a playbook without input."""
        argv = [*self.command(*tasks, **options), *(["--limit", limit] if limit else [])]
        return ansible(*argv, TRADEFLEET_OPERATIONS=self.folder)

    def kill(self, how: signal.Signals) -> None:
        """Start a long playbook, and send it a signal while its task runs."""
        at_work = self.folder / "at-work"
        at_work.unlink(missing_ok=True)
        pause = {
            "name": "Take time",
            "ansible.builtin.command": {"argv": ["sh", "-c", f"touch {at_work}; exec sleep 60"]},
        }
        argv, before = self.command(pause), len(self.entries())
        with subprocess.Popen(
            argv,
            cwd=PROJECT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            deadline = time.monotonic() + 60
            while not at_work.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            assert len(self.entries()) > before
            # Ctrl-C reaches all processes of a terminal, and so does the end of a machine.
            os.killpg(process.pid, how)
            process.wait(60)

    def entries(self) -> list[dict[str, Any]]:
        """Return the entries of the journal."""
        return [json.loads(line) for line in self.journal.read_text().splitlines()] if self.journal.exists() else []

    def results(self) -> list[str]:
        """Return the result of each operation."""
        return [entry["result"] for entry in self.entries() if entry["event"] == "end"]

    def reasons(self) -> list[str]:
        """Return the reasons of failed operations."""
        return [entry["reason"] for entry in self.entries() if "reason" in entry]


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    """Return a controller of a fleet without operations."""
    return Controller(tmp_path)


FINE = {"name": "Fine", "ansible.builtin.debug": {"msg": "fine"}}
WRONG = {"name": "Wrong", "ansible.builtin.fail": {"msg": "wrong"}}


def output(done: subprocess.CompletedProcess[str]) -> str:
    """Return the output of a run as one line."""
    return " ".join((done.stdout + done.stderr).split())


def test_playbook_acquires_the_lock_once_and_releases_it(controller: Controller) -> None:
    """It releases it after a failure and with any limit, too, and counts as no change. The journal has the details."""
    done = controller.run(FINE, extra={"change": "CHG-123"})
    assert done.returncode == 0, output(done)
    assert "drive green 1.2.3: ok after" in done.stdout
    assert re.findall(r"changed=([1-9]\d*)", done.stdout) == []
    begun, ended = controller.entries()
    wanted = {
        "who": "alex@desk",
        "checkout": str(PROJECT),
        "verb": "drive",
        "from": "blue 1.2.2",
        "target": "green 1.2.3",
        "change": "CHG-123",
    }
    assert wanted.items() <= begun.items()
    assert (ended["event"], ended["of"], ended["result"]) == ("end", 1, "ok")
    assert controller.run(WRONG).returncode == 2
    assert controller.run(FINE, limit="edge1").returncode == 0
    assert controller.results() == ["ok", "failed", "ok"]
    assert controller.reasons() == ["wrong"]


def test_journal_records_why_a_playbook_failed(controller: Controller) -> None:
    """The reason is one line: the last message, also after a rescue, or a program's output; secrets are hidden."""
    message = "Traffic is back,\nby itself. {{ ansible_failed_result.msg }} {{ '{{' }} 6 * 7 }}"
    back = {"name": "Back", "block": [WRONG], "rescue": [{"name": "Report", "ansible.builtin.fail": {"msg": message}}]}
    program = "print('first', file=sys.stderr); sys.exit('checksum differs' + '!' * 400)"
    argv = {"argv": ["{{ ansible_playbook_python }}", "-c", f"import sys; {program}"]}
    command = {"name": "Query", "ansible.builtin.command": argv, "loop": [1]}
    secret = {"name": "Hide", "ansible.builtin.fail": {"msg": "hunter2"}, "no_log": True}
    rescued = {"name": "Fine", "block": [WRONG], "rescue": [FINE]}
    for task in (back, command, secret, secret | {"loop": [1]}, rescued):
        controller.run(task)
    assert controller.results() == ["failed"] * 4 + ["ok"]
    first, second, *hidden = controller.reasons()
    assert first == "Traffic is back, by itself. wrong {{ 6 * 7 }}"
    assert re.match(r"ops1: Query: .*non-zero return code\.?: checksum differs!!!", second)
    assert (len(second), second[-1]) == (300, "…")
    assert hidden == ["ops1: Hide: the message is hidden"] * 2


def test_second_operator_is_refused_before_the_first_change(controller: Controller) -> None:
    """The message names the first operator, who keeps the lock."""
    environment = controller.environment()
    subprocess.run(
        [PROGRAM, "begin", "--who=kim@laptop", "--verb=cutover", "--target=blue 1.0.0"], env=environment, check=True
    )
    refused = controller.run(FINE)
    assert refused.returncode == 2
    assert "kim@laptop has held the lock for 0 min" in output(refused)
    assert "cutover blue 1.0.0" in output(refused)
    assert "Nothing was changed." in output(refused)
    assert "TASK [Fine]" not in refused.stdout
    assert [entry["event"] for entry in controller.entries()] == ["begin"]


def test_interrupted_playbook_releases_the_lock(controller: Controller) -> None:
    """Ctrl-C counts as an end."""
    controller.kill(signal.SIGINT)
    assert controller.results() == ["interrupted"]


def test_killed_playbook_keeps_the_lock_until_it_is_broken(controller: Controller) -> None:
    """The same operator's next playbook reports it, with what to type."""
    controller.kill(signal.SIGKILL)
    assert "Your own run from this checkout has held the lock" in output(controller.run(FINE))
    assert controller.results() == []
    subprocess.run([PROGRAM, "unlock", "--who=alex@desk", "--reason=killed"], env=controller.environment(), check=True)
    assert controller.run(FINE).returncode == 0
    assert controller.results() == ["ok"]


def test_color_and_release_must_be_confirmed_by_typing_them(controller: Controller) -> None:
    """Without input or with other words the run is refused, and the journal has no line of it."""
    asks = {"operations_confirm": True}
    for extra in (asks, asks | {"confirm": "blue 1.2.3"}, {"confirm": "yes"}):
        refused = controller.run(FINE, words="green 1.2.3", extra=extra)
        assert refused.returncode == 2
        assert "`-e \"confirm='green 1.2.3'\"` (make: `CONFIRM='green 1.2.3'`). Nothing was changed." in output(refused)
    assert controller.entries() == []
    assert controller.run(FINE, words="green 1.2.3", extra=asks | {"confirm": "green 1.2.3"}).returncode == 0
    assert controller.run(FINE, words="green 1.2.3").returncode == 0
    assert controller.run(FINE, extra=asks).returncode == 0
    assert controller.results() == ["ok", "ok", "ok"]


def test_fleet_without_a_lock_is_reported_with_a_remedy(controller: Controller) -> None:
    """Its host is unreachable or has no program; running without a lock must be requested explicitly."""
    absent = output(controller.run(FINE, extra={"operations_program": "/nonexistent"}))
    assert "ops1 has no /nonexistent yet. `make site` installs it" in absent
    away = output(controller.run(FINE, extra={"fleet_lock_host": "edge1", "ansible_ssh_timeout": 1}))
    assert "edge1 keeps the lock and the journal and is unreachable" in away
    assert controller.run(FINE, extra={"fleet_lock_host": ""}).returncode == 0
    assert controller.entries() == []


def test_settings_that_would_not_release_the_lock_are_refused(controller: Controller) -> None:
    """An operator's own callbacks must be added to the repository's, not replace them."""
    own: dict[str, str | Path] = {
        "TRADEFLEET_OPERATIONS": controller.folder,
        "ANSIBLE_CALLBACK_PLUGINS": "/nonexistent",
    }
    refused = ansible(*controller.command(FINE), **own)
    assert refused.returncode == 2
    assert "ANSIBLE_CALLBACK_PLUGINS leaves out plugins/callback of this repository" in output(refused)
    assert "TASK [Fine]" not in refused.stdout
    assert controller.entries() == []
    both = own | {"ANSIBLE_CALLBACK_PLUGINS": f"/nonexistent:{PROJECT}/plugins/callback"}
    assert ansible(*controller.command(FINE), **both).returncode == 0
    assert controller.results() == ["ok"]
