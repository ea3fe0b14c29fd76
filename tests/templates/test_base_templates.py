"""What every host has: sshd, operators, journal."""

from inputs import INPUTS
from render import lines, render

BASE = INPUTS["base"]


def test_sshd_takes_keys_only() -> None:
    """No password, no root, and the scenario's numbers."""
    text = render("base", "sshd.conf.j2", **BASE | {"base_ssh_port": 2222, "base_ssh_max_auth_tries": 2})
    said = lines(text)
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
        assert line in said
    assert not [line for line in said if line.endswith(" yes")]


def test_sudo_is_for_those_operators_who_have_it() -> None:
    """Not for one without it, nor for one who has left."""
    assert lines(render("base", "sudoers.j2", **BASE)) == ["alex ALL=(ALL) NOPASSWD: ALL"]
    assert lines(render("base", "sudoers.j2")) == []


def test_the_journal_is_kept_within_limits() -> None:
    """On disk, with the inventory's limits."""
    said = lines(render("base", "journald.conf.j2", base_journal_max_use="64M", base_journal_retention="7day"))
    assert {"Storage=persistent", "SystemMaxUse=64M", "MaxRetentionSec=7day"} <= set(said)
