"""The application's settings, unit and gunicorn's configuration."""

import ast
import os
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from inputs import INPUTS
from render import lines, render
from tradefleet.platform.events.worker import BATCH_SECONDS, PAUSE_SECONDS
from tradefleet.platform.settings import RedisSettings

APP = INPUTS["app"]


def _environment(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines(text))


def _constants(text: str) -> dict[str, Any]:
    """Return the constants of a Python file that can be determined without running it."""
    found = {}
    for node in ast.parse(text).body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        ):
            found[node.targets[0].id] = node.value.value
    return found


def test_settings_contain_servers_and_no_secret() -> None:
    """They have hosts with ports and the application's identity, but nothing with "password" in its name."""
    settings = _environment(render("app", "settings.env.j2", **APP))
    assert settings["TRADEFLEET_COLOR"] == "green"
    assert settings["TRADEFLEET_DATABASE_HOSTS"] == "10.0.0.41:6432,10.0.0.42:6432,10.0.0.43:6432"
    assert not {"TRADEFLEET_DATABASE_REPLICAS", "TRADEFLEET_DATABASE_TLS_NAME"} & set(settings)
    assert settings["TRADEFLEET_REDIS_SENTINELS"] == "10.0.0.41:26379,10.0.0.42:26379,10.0.0.43:26379"
    assert settings["TRADEFLEET_DATABASE_USER"] == "tradefleet_app"
    assert not [name for name in settings if re.search("PASSWORD|SECRET|KEY|TOKEN", name)]


def test_settings_do_not_name_the_cache() -> None:
    """A release that predates it rejects the setting, and later ones have the name as default."""
    settings = _environment(render("app", "settings.env.j2", **APP))
    assert "TRADEFLEET_REDIS_CACHE_SERVICE" not in settings
    assert RedisSettings().cache_service == "cache"
    assert (settings["TRADEFLEET_REDIS_SERVICE"], settings["TRADEFLEET_REDIS_USERNAME"]) == ("state", "app")


def test_settings_without_sentinels_do_not_mention_redis() -> None:
    """The application runs without Redis if the inventory has none."""
    settings = _environment(render("app", "settings.env.j2", **APP | {"app_redis_sentinels": []}))
    assert not [name for name in settings if "REDIS" in name or "SENTINEL" in name]


def test_owner_is_another_user_without_redis() -> None:
    """Migrations override these settings and no others, and connect directly, without proxies or poolers."""
    fleet = APP | {
        "app_database_hosts": ["127.0.0.1"],
        "app_database_port": 5000,
        "app_database_replicas": ["127.0.0.1"],
        "app_database_tls_name": "postgres.example",
        "app_database_direct_hosts": ["10.0.0.41", "10.0.0.42"],
    }
    settings = _environment(render("app", "settings.env.j2", **fleet))
    assert settings["TRADEFLEET_DATABASE_HOSTS"] == "127.0.0.1:5000"
    assert settings["TRADEFLEET_DATABASE_REPLICAS"] == "127.0.0.1:5001"
    assert settings["TRADEFLEET_DATABASE_TLS_NAME"] == "postgres.example"
    owner = _environment(render("app", "owner.env.j2", **fleet))
    assert owner == {
        "TRADEFLEET_DATABASE_HOSTS": "10.0.0.41:5432,10.0.0.42:5432",
        "TRADEFLEET_DATABASE_TLS_NAME": "",
        "TRADEFLEET_DATABASE_USER": "tradefleet_owner",
        "TRADEFLEET_MANIFEST_FILE": "",
        "TRADEFLEET_REDIS_SENTINELS": "",
    }


def test_gunicorn_keeps_idle_connections_longer_than_the_edge() -> None:
    """The edge, which sends, must close an idle connection, and never gunicorn: this compares both rendered files."""
    gunicorn = _constants(render("app", "gunicorn.conf.py.j2", **APP))
    upstreams = re.findall(r"^    upstream .*?^    }", render("nginx", "nginx.conf.j2", **INPUTS["nginx"]), re.M | re.S)
    idle = [int(seconds) for block in upstreams for seconds in re.findall(r"keepalive_timeout (\d+)s;", block)]
    assert len(idle) == 2
    assert gunicorn["keepalive"] > max(idle)


def test_gunicorn_serves_tls_with_a_key_from_a_credential() -> None:
    """systemd provides the key; the address is the host's; requests in flight get their time."""
    text = render("app", "gunicorn.conf.py.j2", **APP | {"app_graceful_timeout_seconds": 17})
    gunicorn = _constants(text)
    assert gunicorn["bind"] == "10.0.0.31:8443"
    assert gunicorn["worker_class"] == "gthread"
    assert gunicorn["graceful_timeout"] == 17
    assert 'keyfile = os.path.join(os.environ["CREDENTIALS_DIRECTORY"], "tls_key")' in lines(text)
    assert "/etc/ssl/tradefleet/host.key" not in text


def test_unit_loads_each_secret_but_the_owners() -> None:
    """They are credentials; the owner of the tables is only for migrations."""
    unit = lines(render("app", "api.service.j2", **APP))
    credentials = [line.removeprefix("LoadCredential=") for line in unit if line.startswith("LoadCredential=")]
    assert credentials == [
        "database_password:/etc/tradefleet/credentials/database_password",
        "redis_cache_password:/etc/tradefleet/credentials/redis_cache_password",
        "redis_password:/etc/tradefleet/credentials/redis_password",
        "sentinel_password:/etc/tradefleet/credentials/sentinel_password",
        "tls_key:/etc/ssl/tradefleet/host.key",
    ]
    assert [line for line in unit if line.startswith("Environment=")] == [
        "Environment=PROMETHEUS_MULTIPROC_DIR=/run/tradefleet/metrics"
    ]


@pytest.mark.parametrize("seconds", [17, "17"], ids=["inventory", "command line"])
def test_unit_is_never_reloaded_and_stops_after_gunicorns_deadline(seconds: int | str) -> None:
    """A reload of gunicorn loses requests; systemd must not kill it while it serves requests."""
    unit = lines(render("app", "api.service.j2", **APP | {"app_graceful_timeout_seconds": seconds}))
    assert not [line for line in unit if line.startswith("ExecReload")]
    assert "TimeoutStopSec=22" in unit
    assert "KillMode=mixed" in unit
    assert "Restart=always" in unit
    assert "User=tradefleet" in unit


def test_worker_runs_in_the_sandbox_of_the_api() -> None:
    """It has the same secrets, but not the host's key, because it serves no clients. An old release has no worker.

    It is another user: processes of the same user can read each other's credentials through /proc/PID/root.
    """
    api = lines(render("app", "api.service.j2", **APP))
    unit = lines(render("app", "worker.service.j2", **APP))
    assert "ConditionFileIsExecutable=/opt/tradefleet/current/venv/bin/tradefleet-worker" in unit
    different = ("Description", "Environment=", "ExecStart", "KillMode", "RuntimeD", "TimeoutStop", "User=")
    assert set(api) - set(unit) == {line for line in api if line.startswith(different)} | {
        "LoadCredential=tls_key:/etc/ssl/tradefleet/host.key"
    }
    assert "User=tradefleet-worker" in unit


@pytest.mark.parametrize(("unit", "folder"), [("api", "/run/tradefleet"), ("worker", "/run/tradefleet-worker")])
def test_metrics_are_written_below_the_only_folder_of_the_unit(unit: str, folder: str) -> None:
    """systemd empties it. With two of them RUNTIME_DIRECTORY would have two paths, and older releases read one."""
    found = lines(render("app", f"{unit}.service.j2", **APP))
    assert f"RuntimeDirectory={folder.removeprefix('/run/')}" in found
    assert f"Environment=PROMETHEUS_MULTIPROC_DIR={folder}/metrics" in found
    assert f"ExecStartPre=/usr/bin/mkdir -p {folder}/metrics" in found
    assert set(lines(render("app", "parts/sandbox.j2", **APP))) <= set(found)
    # The last one counts: the group may read the files.
    assert [line for line in found if line.startswith("UMask=")] == ["UMask=0077", "UMask=0027"]


def test_metrics_listener_runs_in_the_sandbox_with_no_secret_but_the_hosts_key() -> None:
    """It is another user, reads the files of the others by group, and follows the API."""
    unit = lines(render("app", "metrics.service.j2", **APP | {"app_metrics_port": 9555, "app_port": 8555}))
    assert set(lines(render("app", "parts/sandbox.j2", **APP))) <= set(unit)
    assert [line for line in unit if line.startswith("LoadCredential=")] == [
        "LoadCredential=tls_key:/etc/ssl/tradefleet/host.key"
    ]
    assert {
        "User=tradefleet-metrics",
        "SupplementaryGroups=tradefleet tradefleet-worker",
        "PartOf=tradefleet-api.service",
        "WantedBy=tradefleet-api.service",
        "ConditionFileIsExecutable=/opt/tradefleet/current/venv/bin/tradefleet-metrics",
        "Environment=METRICS_ADDRESS=10.0.0.31:9555",
        "Environment=METRICS_API=10.0.0.31:8555",
        "Environment=METRICS_API_DIR=/run/tradefleet/metrics",
        "Environment=METRICS_WORKER_DIR=/run/tradefleet-worker/metrics",
        'Environment="METRICS_CLIENTS=metrics.ops1.trade.example metrics.ops2.trade.example"',
    } <= set(unit)
    assert not [line for line in unit if line.startswith("EnvironmentFile=")]


def test_operators_command_is_sandboxed_and_has_only_the_owners_password() -> None:
    """Its sandbox is that of the API, and its user is its own. No secret is on a command line."""
    text = render("app", "command.j2", **APP)
    command = shlex.split(text, comments=True)
    assert command[:5] == ["set", "-eu", "export", "SUDO_USER=${SUDO_USER:-$(id -un)}", "exec"]
    assert "--setenv=SUDO_USER" in command
    assert command[-2:] == ["/opt/tradefleet/current/venv/bin/tradefleet", "$@"]
    properties = [word.removeprefix("--property=") for word in command if word.startswith("--property=")]
    assert "User=tradefleet-owner" in properties
    assert [each for each in properties if each.startswith("LoadCredential=")] == [
        "LoadCredential=database_password:/etc/tradefleet/credentials/owner_password"
    ]
    sandbox = lines(render("app", "parts/sandbox.j2", **APP))
    assert "ProtectProc=invisible" in sandbox
    assert set(sandbox) <= set(properties)
    assert not [value for name, value in APP.items() if name.endswith("_password") and value in text]


def test_worker_has_time_to_finish_its_batch() -> None:
    """systemd kills it only after the worker's own deadline and the pause that follows."""
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", render("app", "worker.service.j2", **APP), re.M)
    assert int(stop) > BATCH_SECONDS + PAUSE_SECONDS


def test_without_redis_the_unit_loads_no_redis_secret() -> None:
    """systemd does not start a unit whose credential does not exist."""
    unit = render("app", "api.service.j2", **APP | {"app_redis_sentinels": []})
    assert "LoadCredential=redis" not in unit
    assert "LoadCredential=database_password" in unit


def hook(name: str, path: str, instead: Path) -> Callable[..., None]:
    """Return a function of gunicorn's configuration, with another path in it."""
    text = render("app", "gunicorn.conf.py.j2", **APP)
    (found,) = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == name]
    source = ast.unparse(found)
    assert path in source
    names: dict[str, Any] = {"os": os}
    exec(source.replace(path, str(instead)), names)  # noqa: S102 (the template's own function)
    function: Callable[..., None] = names[name]
    return function


def test_draining_host_closes_its_connections(tmp_path: Path) -> None:
    """It closes them both for refused and for answered requests."""
    flag = tmp_path / "draining"
    pre_request = hook("pre_request", "/run/tradefleet-draining", flag)
    closed: list[bool] = []
    request = SimpleNamespace(force_close=lambda: closed.append(True))
    pre_request(None, request)
    assert closed == []
    flag.touch()
    pre_request(None, request)
    assert closed == [True]


def test_worker_that_exits_leaves_its_counters_and_no_gauges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that predates metrics has no such files, and nothing that could remove them."""
    child_exit = hook("child_exit", "/run/tradefleet/metrics", tmp_path)
    names = {
        f"{kind}_{pid}.db" for kind in ("counter", "histogram", "gauge_livesum", "gauge_livemax") for pid in (7, 8)
    }
    for name in names:
        (tmp_path / name).touch()
    child_exit(None, SimpleNamespace(pid=7))
    assert {path.name for path in tmp_path.iterdir()} == names - {"gauge_livesum_7.db", "gauge_livemax_7.db"}
    (tmp_path / "gauge_livesum_9.db").mkdir()
    logged: list[object] = []
    child_exit(SimpleNamespace(log=SimpleNamespace(warning=lambda *text: logged.append(text))), SimpleNamespace(pid=9))
    assert len(logged) == 1
    for module in ("prometheus_client", "prometheus_client.multiprocess"):
        monkeypatch.setitem(sys.modules, module, None)
    child_exit(None, SimpleNamespace(pid=8))
    assert (tmp_path / "gauge_livesum_8.db").exists()
