"""Requirements for every template of every role."""

import re
from pathlib import Path

import pytest
from inputs import INPUTS
from render import PROJECT, render

TEMPLATES = [(path.parts[-3], path.name) for path in sorted(PROJECT.glob("roles/*/templates/*.j2"))]
# Redis permits no comments in its ACL files, and neither do PgBouncer in its list of users and JSON.
WITHOUT_HEADER = {
    "tradefleet-fence.json.j2",
    "userlist.txt.j2",
    "users.acl.j2",
    "users-sentinel.acl.j2",
    "backups.json.j2",
    "copy.json.j2",
    "settings.json.j2",
    "users.htpasswd.j2",
}
# Programs and servers read their secrets from these files; the tasks set modes that exclude other users.
WITH_SECRETS = {
    "config.yml.j2",
    "etcdctl-root.j2",
    "userlist.txt.j2",
    "redis.conf.j2",
    "redis-cli.j2",
    "sentinel.conf.j2",
    "sentinel-cli.j2",
    "pgbackrest.conf.j2",
    "scratch.conf.j2",
    "second.conf.j2",
}


@pytest.mark.parametrize(("role", "name"), TEMPLATES)
def test_template_renders_with_the_header_first(role: str, name: str) -> None:
    """Undefined variables fail the test; the first line states that Ansible manages the file."""
    text = render(role, name, **INPUTS[role])
    assert "{{" not in text
    assert "{%" not in text
    if name not in WITHOUT_HEADER:
        first = [line for line in text.splitlines() if not line.startswith("#!")][:3]
        assert [line.lstrip("#; ") for line in first] == ["", "Ansible managed", ""]


@pytest.mark.parametrize(("role", "name"), TEMPLATES)
def test_template_contains_no_secret_unless_it_must(role: str, name: str) -> None:
    """This covers the values of all variables whose names end in password or passphrase."""
    text = render(role, name, **INPUTS[role])
    found = {key for key, value in INPUTS[role].items() if key.endswith(("_password", "_passphrase")) and value in text}
    assert bool(found) == (name in WITH_SECRETS), found


def test_every_template_has_its_own_test() -> None:
    """Rendering alone shows little: some test names the template and checks lines."""
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*_templates.py"))
    tested = set(re.findall(r'render\(\s*"(\w+)",\s*"([^"]+)"', tests))
    assert tested >= set(TEMPLATES)


def test_undefined_variables_are_fatal() -> None:
    """Otherwise a test would pass for an empty value."""
    incomplete = {key: value for key, value in INPUTS["nginx"].items() if key != "nginx_upstreams"}
    with pytest.raises(Exception, match="'nginx_upstreams' is undefined"):
        render("nginx", "nginx.conf.j2", **incomplete)
