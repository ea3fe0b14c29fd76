"""An operator's login, laptop or other project has no effect on the playbooks and make targets."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from repository import PROJECT, SECRETS, files, read

LAB = [
    "image",
    "hosts",
    "up",
    "down",
    "second-site",
    "meter",
    "drill",
    "bench",
    "test",
    "test-role",
    "test-roles",
    "test-fleet",
]
LAB += ["fleet-hosts", "fleet-tests", "soak-tests"]

VENV = Path(sys.executable).parent
# Each of these would break a target that used it.
HOSTILE = {
    "ANSIBLE_CONFIG": "/nonexistent/ansible.cfg",
    "ANSIBLE_INVENTORY": "/nonexistent/hosts",
    "ANSIBLE_ROLES_PATH": "/nonexistent",
    "ANSIBLE_STDOUT_CALLBACK": "minimal",
    "ANSIBLE_TAGS": "nothing",
    "ANSIBLE_DEBUG": "true",
    "ANSIBLE_VAULT_PASSWORD_FILE": "/nonexistent/password",
    "ANSIBLE_VAULT_IDENTITY_LIST": "other@/nonexistent/password",
    "BIN": "/nonexistent",
    "CDPATH": "/",
    "CHANGE": "CHG-0",
    "CONFIRM": "green 6.6.6",
    "DRILL": "other",
    "ENV": "/root/.shrc",
    "GIT_DIR": "/nonexistent",
    "GREP_OPTIONS": "--invert-match",
    "INVENTORY": "/nonexistent",
    "LANG": "de_DE.UTF-8",
    "LANGUAGE": "de",
    "LC_ALL": "C",
    "LAST": "many",
    "PERCENT": "99",
    "PLAYBOOK": "false",
    "PURGE": "1",
    "PYTHONPATH": "/nonexistent",
    "REASON": "none",
    "RELEASE": "/nonexistent",
    "ROLE": "other",
    "STATE": "on",
    "STRATEGY": "debug",
    "TO": "purple",
    "VERSION": "6.6.6",
}
TARGETS = list(dict.fromkeys(re.findall(r"^([a-z][a-z-]*):(?!=)", read("Makefile"), re.MULTILINE)))
PLAYBOOKS = sorted(path.name for path in PROJECT.glob("playbooks/*.yml"))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the repository to a path with spaces, with a plain-text vault for each environment and a virtualenv."""
    copy = tmp_path_factory.mktemp("of a team") / "trade fleet, März"
    for path in files():
        (copy / path.relative_to(PROJECT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy / path.relative_to(PROJECT))
    (copy / ".venv").symlink_to(VENV.parent)
    for name in ("lab", "production"):
        vault = copy / f"inventories/{name}/group_vars/all/vault.yml"
        vault.write_text(yaml.safe_dump(dict.fromkeys(SECRETS, "not-a-secret-" * 3)))
    (copy / ".vault").mkdir()
    for name in ("lab", "production"):
        (copy / ".vault" / name).write_text(f"of {name}\n")
    (copy / ".lab").mkdir()
    subprocess.run(["git", "init", "-q"], cwd=copy, check=True)
    return copy


def hostile(tmp_path: Path, **own: str) -> dict[str, str]:
    """Return the environment of a laptop with settings of other projects."""
    folder = tmp_path / "with spaces"
    folder.mkdir(exist_ok=True)
    (folder / ".ansible.cfg").write_text("[defaults]\nroles_path = /nonexistent\ninventory = /nonexistent\n")
    kept = {"PATH": os.environ["PATH"]}
    return kept | HOSTILE | {"HOME": str(folder), "TMPDIR": str(folder)} | own


def run(
    argv: list[str], folder: Path, environment: dict[str, str], umask: int = 0o077
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder with this environment."""
    return subprocess.run(
        argv,
        cwd=folder,
        env=environment,
        umask=umask,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def dry_run(target: str, folder: Path, environment: dict[str, str], *variables: str) -> str:
    """Return what a target would run."""
    done = run(["make", "--dry-run", "--old-file=.venv/.ready", *variables, target], folder, environment)
    return f"{done.returncode}\n{done.stdout}{done.stderr}"


GIVEN = {"shadow": ["PERCENT=5"], "maintenance": ["STATE=on"], "test-role": ["ROLE=redis"]}


@pytest.mark.parametrize("target", TARGETS)
def test_variables_of_the_environment_change_no_target(checkout: Path, tmp_path: Path, target: str) -> None:
    """Only the command line has an effect. Lines are compared in any order: jobs print theirs as they come."""
    clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    given = GIVEN.get(target, [])
    expected = dry_run(target, checkout, clean, *given)
    assert expected.startswith("0\n")
    printed = dry_run(target, checkout, hostile(tmp_path), *given)
    assert sorted(printed.splitlines()) == sorted(expected.splitlines())


def test_variables_on_the_command_line_have_an_effect(checkout: Path, tmp_path: Path) -> None:
    """They override the environment."""
    assert "-e cutover_to=green" in dry_run("cutover", checkout, hostile(tmp_path), "TO=green")
    assert "-i inventories/production" in dry_run("site", checkout, hostile(tmp_path), "ENV=production")


def make(checkout: Path, environment: dict[str, str], *arguments: str) -> str:
    """Run a target and return its output."""
    done = run(["make", "--old-file=.venv/.ready", *arguments], checkout, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_make_runs_in_a_hostile_environment(checkout: Path, tmp_path: Path) -> None:
    """The folder has spaces; the locale is German; settings and vault password are those of another project."""
    environment = hostile(tmp_path)
    assert "make up" in make(checkout, environment, "help")
    for name in ("lab", "production"):
        (checkout / f"inventories/{name}/group_vars/all/vault.yml").unlink()
    assert "changed=1 " in make(checkout, environment, "secrets")
    assert re.fullmatch(r"[0-9A-Za-z]{40}\n", make(checkout, environment, "--silent", "api-key"))
    own = {name: value for name, value in environment.items() if not name.startswith("ANSIBLE_VAULT_")}
    assert "changed=1 " in make(checkout, own, "secrets", "ENV=production")
    assert "changed=0 " in make(checkout, own, "secrets", "ENV=production")


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_commands_of_the_readme_run_after_its_exports(checkout: Path, tmp_path: Path, umask: int) -> None:
    """They run after its two `export` lines in a world-writable folder, where Ansible ignores ansible.cfg."""
    checkout.chmod(0o777 & ~umask)
    exports = re.findall(r"^(?:make venv && )?(export .*?)(?: +#.*)?$", read("README.md"), re.MULTILINE)
    assert len(exports) == 2
    foreign = hostile(tmp_path)
    environment = {
        name: value for name, value in foreign.items() if not name.startswith("ANSIBLE_") or name == "ANSIBLE_CONFIG"
    }
    names = " ".join(f"playbooks/{name}" for name in PLAYBOOKS)
    syntax = f"ansible-playbook -i inventories/lab --syntax-check {names}"
    preflight = (
        f'ansible-playbook -i inventories/lab playbooks/preflight.yml -e \'{{"fleet_release_dir": "{checkout}"}}\''
    )
    done = run(["sh", "-c", " && ".join([*exports, syntax, preflight])], checkout, environment, umask)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "world writable" not in done.stderr


@pytest.mark.parametrize("target", LAB)
def test_targets_of_the_lab_refuse_another_environment(checkout: Path, tmp_path: Path, target: str) -> None:
    """They stop before anything is done."""
    printed = dry_run(target, checkout, hostile(tmp_path), "ENV=production", *GIVEN.get(target, []))
    assert printed.startswith("2\n")
    assert f"make {target} is for the lab: leave ENV=production out" in printed


def test_down_removes_only_files_of_the_lab(checkout: Path, tmp_path: Path) -> None:
    """Passwords, vaults and archives of other environments stay, and so do a user's own lines in traffic.yml."""
    printed = dry_run("down", checkout, hostile(tmp_path), "PURGE=1")
    assert "rm -rf .venv .lab .vault/lab build inventories/lab/group_vars/all/vault.yml\n" in printed
    assert "dist" not in printed
    for name, blue, green in (("lab", "0.3.0", "0.2.0"), ("production", "0.2.0", "0.1.0")):
        file = checkout / f"inventories/{name}/group_vars/all/traffic.yml"
        text = re.sub(r"release_blue: .*", f'release_blue: "{blue}"', file.read_text())
        file.write_text(re.sub(r"release_green: .*", f'release_green: "{green}"', text) + "# a user's own\nmine: 1\n")
    vault = checkout / "inventories/production/group_vars/all/vault.yml"
    vault.touch()
    before = (checkout / "inventories/production/group_vars/all/traffic.yml").read_text()
    archives = checkout / "dist"
    archives.mkdir()
    for version in ("0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0"):
        (archives / f"tradefleet-{version}.tar.gz").touch()
    assert run(["scripts/no-fleet", "0.4.0"], checkout, hostile(tmp_path)).returncode == 0
    assert sorted(path.name for path in archives.iterdir()) == [f"tradefleet-0.{n}.0.tar.gz" for n in (1, 2, 5)]
    assert (checkout / "inventories/production/group_vars/all/traffic.yml").read_text() == before
    lab = (checkout / "inventories/lab/group_vars/all/traffic.yml").read_text()
    assert yaml.safe_load(lab) == {
        "traffic_live_color": "blue",
        "traffic_canary_percent": 0,
        "release_blue": "0.4.0",
        "release_green": "",
        "mine": 1,
    }
    assert "# a user's own" in lab
    vault.unlink()
    assert run(["scripts/no-fleet", "0.1.0"], checkout, hostile(tmp_path)).returncode == 0
    assert not (archives / "tradefleet-0.1.0.tar.gz").exists()


def test_no_password_is_generated_for_an_existing_vault(checkout: Path, tmp_path: Path) -> None:
    """The message states that the password is elsewhere. None is generated if the environment names another source."""
    copy = checkout / "inventories/staging"
    shutil.copytree(checkout / "inventories/production", copy, dirs_exist_ok=True)
    (copy / "group_vars/all/vault.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n")
    environment = {name: value for name, value in hostile(tmp_path).items() if not name.startswith("ANSIBLE_VAULT_")}
    for environ, message in ((environment, "its password, does not"), (hostile(tmp_path), "/nonexistent/password")):
        refused = run(["make", "--old-file=.venv/.ready", "secrets", "ENV=staging"], checkout, environ)
        assert refused.returncode == 2
        assert message in refused.stdout + refused.stderr
        assert not (checkout / ".vault/staging").exists()


def test_commands_run_in_a_read_only_checkout(checkout: Path, tmp_path: Path) -> None:
    """The checkout belongs to another user: inputs are checked, and nothing is written."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount the checkout read-only")
    preflight = 'ansible-playbook -i inventories/lab playbooks/preflight.yml -e \'{"fleet_release_dir": "."}\''
    read_only = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && cd "$1" && ! touch new 2> /dev/null && '
    environment = hostile(tmp_path, LC_ALL="C.UTF-8", ANSIBLE_CONFIG=str(checkout / "ansible.cfg"))
    environment = {
        name: value
        for name, value in environment.items()
        if not name.startswith("ANSIBLE_") or name == "ANSIBLE_CONFIG"
    }
    own = f"export ANSIBLE_VAULT_PASSWORD_FILE=.vault/lab && {preflight}"
    done = run(["unshare", "--mount", "sh", "-c", read_only + own, "read-only", str(checkout)], tmp_path, environment)
    assert done.returncode == 0, done.stdout + done.stderr
