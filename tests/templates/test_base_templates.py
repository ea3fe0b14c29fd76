"""Configuration of every host: sshd, operators, journal."""

from inputs import INPUTS
from render import lines, render

BASE = INPUTS["base"]


def test_sshd_accepts_only_keys() -> None:
    """It rejects passwords and root, and has this scenario's numbers."""
    text = render("base", "sshd.conf.j2", **BASE | {"base_ssh_port": 2222, "base_ssh_max_auth_tries": 2})
    output = lines(text)
    for line in (
        "Port 2222",
        "AuthenticationMethods publickey",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin no",
        "MaxAuthTries 2",
        "LoginGraceTime 20",
        "X11Forwarding no",
        "AuthorizedKeysFile .ssh/authorized_keys",
        "SetEnv LANG=C.UTF-8 LC_ALL=C.UTF-8",
    ):
        assert line in output
    assert not [line for line in output if line.endswith(" yes")]


def test_sudo_is_only_for_permitted_operators() -> None:
    """An operator without sudo and a former operator are excluded."""
    assert lines(render("base", "sudoers.j2", **BASE)) == ["alex ALL=(ALL) NOPASSWD: ALL"]
    assert lines(render("base", "sudoers.j2")) == []


def test_journal_has_the_configured_limits() -> None:
    """It is on disk, with the inventory's limits."""
    output = lines(render("base", "journald.conf.j2", base_journal_max_use="64M", base_journal_retention="7day"))
    assert {"Storage=persistent", "SystemMaxUse=64M", "MaxRetentionSec=7day"} <= set(output)
