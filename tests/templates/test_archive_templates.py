"""Archives: what the server permits, and with which rights a host stores them."""

import base64
import hashlib
import json

from inputs import INPUTS
from render import lines, render

SERVER = INPUTS["archive"]
HOST = SERVER | {"archive_user": "redis1", "archive_address": "10.0.0.41", "archive_users": []}
SFTP = {"type": "sftp", "host": "10.0.9.5", "path": "/srv/trade/restic", "user": "backups", "fingerprint": "5b0c"}


def test_server_only_appends_and_separates_the_hosts() -> None:
    """With TLS, and as a user that can write in one folder."""
    found = lines(render("archive", "restic-rest-server.j2", **SERVER))
    assert {"BACKUP_DIR=/var/lib/tradefleet-archives", "LISTEN=10.0.0.51:8433"} <= set(found)
    for option in ("--append-only", "--private-repos", "--tls ", "--htpasswd-file"):
        assert option in found[-1]
    unit = set(lines(render("archive", "restic-rest-server.service.j2", **SERVER)))
    assert {"SupplementaryGroups=ssl-cert", "ProtectSystem=strict", "CapabilityBoundingSet="} <= unit


def test_accounts_have_the_hash_that_the_server_reads() -> None:
    """In the same order in each run."""
    found = render("archive", "users.htpasswd.j2", **SERVER).splitlines()
    password = hashlib.sha256(f"{SERVER['archive_key']} password redis1".encode()).hexdigest()
    digest = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    assert [line.partition(":")[0] for line in found] == ["ops1", "redis1"]
    assert found[1] == "redis1:{SHA}" + base64.b64encode(digest).decode()


def test_only_the_server_reports_on_other_hosts() -> None:
    """Each host has its own repository."""
    server = json.loads(render("archive", "settings.json.j2", **SERVER))
    host = json.loads(render("archive", "settings.json.j2", **HOST))
    assert server["expected"] == {"redis": {"users": ["redis1"], "hours": 3}}
    assert (host["expected"], host["dir"]) == ({}, "")
    assert host["url"] == "rest:https://10.0.0.51:8433/redis1/"


def test_service_may_read_and_nothing_else() -> None:
    """The timer starts it on its schedule, and catches up."""
    unit = set(lines(render("archive", "tradefleet-archive@.service.j2", **HOST)))
    assert {"ProtectSystem=strict", "NoNewPrivileges=true", "ExecStart=/usr/local/sbin/tradefleet-archive %i"} <= unit
    timer = set(lines(render("archive", "archive.timer.j2", **HOST)))
    assert {"OnCalendar=*:15", "Persistent=true"} <= timer


def test_copy_goes_to_an_s3_server_over_tls() -> None:
    """With the bucket and no other; hosts have no copy of their own."""
    found = lines(render("archive", "rclone.conf.j2", **SERVER))
    assert {"endpoint = https://s3.example.com:443", "access_key_id = key-id", "no_check_bucket = true"} <= set(found)
    assert found[-1] == "remote = server:backups/trade/restic"
    settings = json.loads(render("archive", "copy.json.j2", **SERVER))
    assert (settings["ca"], settings["fingerprint"]) == ("", "")
    assert json.loads(render("archive", "settings.json.j2", **SERVER))["copied"]
    assert not json.loads(render("archive", "settings.json.j2", **HOST))["copied"]


def test_copy_by_sftp_accepts_only_the_configured_host_key() -> None:
    """rclone reads it from a file that the program writes; another server is another copy to attach."""
    inputs = SERVER | {"archive_copy_server": SFTP}
    found = lines(render("archive", "rclone.conf.j2", **inputs))
    assert {"known_hosts_file = /var/lib/tradefleet-archive/known_hosts", "port = 22", "shell_type = none"} <= set(
        found
    )
    assert found[-1] == "remote = server:/srv/trade/restic"
    settings = json.loads(render("archive", "copy.json.j2", **inputs))
    assert settings["fingerprint"] == "5b0c"
    assert settings["marker"] != json.loads(render("archive", "copy.json.j2", **SERVER))["marker"]
