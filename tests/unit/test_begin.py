"""Verbs that change something take the lock, and give it back however they end; the real ansible-playbook is asked."""

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

# They look, or work on the controller alone, or are the lock itself.
FREE = {"begin", "failed_events", "journal", "lock", "preflight", "reach", "secrets", "status", "unlock"}
PROGRAM = PROJECT / "roles/operations/files/tradefleet-operations"
PLAYBOOKS = PROJECT / "playbooks"


def imports(name: str) -> list[str]:
    """Return the playbooks that a playbook imports, and those that they import, in their order."""
    found = []
    for play in load(f"playbooks/{name}.yml"):
        if "ansible.builtin.import_playbook" in play:
            imported = Path(play["ansible.builtin.import_playbook"]).stem
            found += [imported, *imports(imported)]
    return found


@pytest.mark.parametrize("name", sorted(path.stem for path in PLAYBOOKS.glob("*.yml")))
def test_every_verb_that_changes_something_begins(name: str) -> None:
    """After its inputs were checked; one that changes nothing does not."""
    order = imports(name)
    assert ("begin" in order) == (name not in FREE)
    for check in ("preflight", "reach"):
        if "begin" in order and check in order:
            assert order.index(check) < order.index("begin")


def test_the_role_comes_before_the_lock_and_the_lock_before_all_else() -> None:
    """On a new fleet there is no lock before site.yml has put one there."""
    first, second, *_ = load("playbooks/provision.yml")
    assert [role["role"] for role in first["roles"]] == ["operations"]
    assert second["ansible.builtin.import_playbook"] == "begin.yml"


class Controller:
    """Runs verbs of a fleet whose ops1 is this machine; its other host does not exist and is never asked."""

    def __init__(self, folder: Path) -> None:
        """Make the fleet."""
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
        """Return the command line of a verb that does these tasks; it begins twice, as one that imports another."""
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
        verb = self.folder / "verb.yml"
        verb.write_text(yaml.safe_dump([begin, begin, work]))
        given = ["-e", f"@{self.folder}/extra.yml", "-e", json.dumps(extra or {})]
        return ["ansible-playbook", "-i", str(self.folder / "fleet"), *given, str(verb)]

    def environment(self) -> dict[str, str]:
        """Return stock settings, and nothing that a caller's shell brings along."""
        return environment(TRADEFLEET_OPERATIONS=self.folder)

    def run(self, *tasks: dict[str, Any], limit: str = "", **said: Any) -> subprocess.CompletedProcess[str]:
        """Run a verb; nobody is there to type anything."""
        argv = [*self.command(*tasks, **said), *(["--limit", limit] if limit else [])]
        return ansible(*argv, TRADEFLEET_OPERATIONS=self.folder)

    def kill(self, how: signal.Signals) -> None:
        """Start a verb that takes its time, and send it a signal once it is at work."""
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
            # Ctrl-C reaches all of a terminal's processes, and so does what ends a machine.
            os.killpg(process.pid, how)
            process.wait(60)

    def entries(self) -> list[dict[str, Any]]:
        """Return the journal."""
        return [json.loads(line) for line in self.journal.read_text().splitlines()] if self.journal.exists() else []

    def results(self) -> list[str]:
        """Return how each operation went."""
        return [entry["result"] for entry in self.entries() if entry["event"] == "end"]

    def reasons(self) -> list[str]:
        """Return why operations failed."""
        return [entry["reason"] for entry in self.entries() if "reason" in entry]


@pytest.fixture
def controller(tmp_path: Path) -> Controller:
    """Return a controller of a fleet that nobody has touched."""
    return Controller(tmp_path)


FINE = {"name": "Fine", "ansible.builtin.debug": {"msg": "fine"}}
WRONG = {"name": "Wrong", "ansible.builtin.fail": {"msg": "wrong"}}


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return all that a run says, in one line."""
    return " ".join((done.stdout + done.stderr).split())


def test_a_verb_takes_the_lock_once_and_gives_it_back(controller: Controller) -> None:
    """Done or failed, with whatever limit; it counts as no change. What is recorded says who, what and why."""
    done = controller.run(FINE, extra={"change": "CHG-123"})
    assert done.returncode == 0, said(done)
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


def test_the_journal_says_why_a_verb_failed(controller: Controller) -> None:
    """In one line: what was said last, after a rescue; what a program has said; and no word of what is secret."""
    said = "Traffic is back,\nby itself. {{ ansible_failed_result.msg }} {{ '{{' }} 6 * 7 }}"
    back = {"name": "Back", "block": [WRONG], "rescue": [{"name": "Tell", "ansible.builtin.fail": {"msg": said}}]}
    program = "print('first', file=sys.stderr); sys.exit('sum differs' + '!' * 400)"
    argv = {"argv": ["{{ ansible_playbook_python }}", "-c", f"import sys; {program}"]}
    command = {"name": "Ask", "ansible.builtin.command": argv, "loop": [1]}
    secret = {"name": "Hide", "ansible.builtin.fail": {"msg": "hunter2"}, "no_log": True}
    rescued = {"name": "Fine", "block": [WRONG], "rescue": [FINE]}
    for task in (back, command, secret, secret | {"loop": [1]}, rescued):
        controller.run(task)
    assert controller.results() == ["failed"] * 4 + ["ok"]
    first, second, *hidden = controller.reasons()
    assert first == "Traffic is back, by itself. wrong {{ 6 * 7 }}"
    assert re.match(r"ops1: Ask: .*non-zero return code\.?: sum differs!!!", second)
    assert (len(second), second[-1]) == (300, "…")
    assert hidden == ["ops1: Hide: the message is hidden"] * 2


def test_the_second_operator_is_refused_before_the_first_change(controller: Controller) -> None:
    """With the name of the first, who keeps the lock."""
    environment = controller.environment()
    subprocess.run(
        [PROGRAM, "begin", "--who=kim@laptop", "--verb=cutover", "--target=blue 1.0.0"], env=environment, check=True
    )
    refused = controller.run(FINE)
    assert refused.returncode == 2
    assert "kim@laptop has held the lock for 0 min" in said(refused)
    assert "cutover blue 1.0.0" in said(refused)
    assert "Nothing was changed." in said(refused)
    assert "TASK [Fine]" not in refused.stdout
    assert [entry["event"] for entry in controller.entries()] == ["begin"]


def test_an_interrupted_verb_gives_the_lock_back(controller: Controller) -> None:
    """Ctrl-C is an end like another."""
    controller.kill(signal.SIGINT)
    assert controller.results() == ["interrupted"]


def test_a_killed_verb_keeps_the_lock_until_somebody_says_so(controller: Controller) -> None:
    """Its own operator's next verb says what that was, and what to type."""
    controller.kill(signal.SIGKILL)
    assert "Your own run from this checkout has held the lock" in said(controller.run(FINE))
    assert controller.results() == []
    subprocess.run([PROGRAM, "unlock", "--who=alex@desk", "--reason=killed"], env=controller.environment(), check=True)
    assert controller.run(FINE).returncode == 0
    assert controller.results() == ["ok"]


def test_colour_and_release_are_confirmed_in_words(controller: Controller) -> None:
    """Nobody there to type them, or other words: refused with the words, and without a line in the journal."""
    asks = {"operations_confirm": True}
    for extra in (asks, asks | {"confirm": "blue 1.2.3"}, {"confirm": "yes"}):
        refused = controller.run(FINE, words="green 1.2.3", extra=extra)
        assert refused.returncode == 2
        assert "`-e \"confirm='green 1.2.3'\"` (make: `CONFIRM='green 1.2.3'`). Nothing was changed." in said(refused)
    assert controller.entries() == []
    assert controller.run(FINE, words="green 1.2.3", extra=asks | {"confirm": "green 1.2.3"}).returncode == 0
    assert controller.run(FINE, words="green 1.2.3").returncode == 0
    assert controller.run(FINE, extra=asks).returncode == 0
    assert controller.results() == ["ok", "ok", "ok"]


def test_a_fleet_without_lock_is_told_what_to_do(controller: Controller) -> None:
    """Its host does not answer, or has no program; going without is possible, and has to be said."""
    absent = said(controller.run(FINE, extra={"operations_program": "/nonexistent"}))
    assert "ops1 has no /nonexistent yet. `make site` installs it" in absent
    away = said(controller.run(FINE, extra={"fleet_lock_host": "edge1", "ansible_ssh_timeout": 1}))
    assert "edge1 keeps the lock and the journal and is unreachable" in away
    assert controller.run(FINE, extra={"fleet_lock_host": ""}).returncode == 0
    assert controller.entries() == []


def test_settings_that_would_not_release_the_lock_take_none(controller: Controller) -> None:
    """An operator's own callbacks come with the repository's, not instead of them."""
    own: dict[str, str | Path] = {
        "TRADEFLEET_OPERATIONS": controller.folder,
        "ANSIBLE_CALLBACK_PLUGINS": "/nonexistent",
    }
    refused = ansible(*controller.command(FINE), **own)
    assert refused.returncode == 2
    assert "ANSIBLE_CALLBACK_PLUGINS leaves out plugins/callback of this repository" in said(refused)
    assert "TASK [Fine]" not in refused.stdout
    assert controller.entries() == []
    both = own | {"ANSIBLE_CALLBACK_PLUGINS": f"/nonexistent:{PROJECT}/plugins/callback"}
    assert ansible(*controller.command(FINE), **both).returncode == 0
    assert controller.results() == ["ok"]
