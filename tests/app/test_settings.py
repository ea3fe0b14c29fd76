# ruff: noqa: D103  # the name of a test states what it asserts
"""Settings in the environment are parsed strictly, and rejected with a remedy."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from tradefleet.platform import settings
from tradefleet.platform.settings import Address, Release, Settings, SettingsError
from tradefleet.platform.variables import setting, token

SECRETS = ("database_password", "redis_password", "redis_cache_password", "sentinel_password")


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the environment of a fleet's host; yield the folder of its secrets."""
    for name in SECRETS:
        (tmp_path / name).write_text(f"{name}-123\n")
    (tmp_path / "ca.pem").touch()
    (tmp_path / "manifest.json").write_text(json.dumps({"release": "0.1.0", "commit": "abc", "files": {}}))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("TRADEFLEET_DATABASE_HOSTS", "10.0.0.1:5432, [::1]:5433")
    monkeypatch.setenv("TRADEFLEET_DATABASE_REPLICAS", "127.0.0.1:5001")
    monkeypatch.setenv("TRADEFLEET_DATABASE_TLS_NAME", "postgres.fleet.example")
    monkeypatch.setenv("TRADEFLEET_DATABASE_CA_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("TRADEFLEET_REDIS_SENTINELS", "10.0.0.1:26379")
    monkeypatch.setenv("TRADEFLEET_REDIS_CACHE_SERVICE", "volatile")
    monkeypatch.setenv("TRADEFLEET_REDIS_CA_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("TRADEFLEET_MANIFEST_FILE", str(tmp_path / "manifest.json"))
    return tmp_path


def test_empty_environment_means_development() -> None:
    assert settings.load() == Settings()


def test_settings_of_a_fleet_are_read(fleet: Path) -> None:
    read = settings.load()
    assert read.database.hosts == (Address("10.0.0.1", 5432), Address("::1", 5433))
    assert read.database.replicas == (Address("127.0.0.1", 5001),)
    assert read.database.tls_name == "postgres.fleet.example"
    redis = read.redis
    secrets = (read.database.password, redis.password, redis.cache_password, redis.sentinel_password)
    assert secrets == tuple(f"{name}-123" for name in SECRETS)
    assert (redis.service, redis.cache_service) == ("state", "volatile")
    assert read.release == Release("0.1.0", "abc")
    assert "-123" not in repr(read)


def test_text_is_not_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRADEFLEET_DATABASE_USER", "0123")
    monkeypatch.setenv("TRADEFLEET_COLOR", "")
    read = settings.load()
    assert (read.database.user, read.color) == ("0123", "none")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_HOST", "10.0.0.1:5432"),
        ("DATABASE_HOSTS", "db1.example:5432"),
        ("DATABASE_HOSTS", "10.0.0.1"),
        ("DATABASE_HOSTS", "10.0.0.1:0"),
        ("DATABASE_REPLICAS", "localhost:5001"),
        ("DATABASE_TLS_NAME", "postgres.example:5432"),
        ("DATABASE_TLS_NAME", ".example"),
        ("DATABASE_NAME", "a b"),
        ("DATABASE_CA_FILE", "/nonexistent"),
        ("REDIS_SENTINELS", "10.0.0.1:x"),
        ("MANIFEST_FILE", "/nonexistent"),
        ("MANIFEST_FILE", __file__),
        ("COLOR", "blue\r\nX-Evil: 1"),
        ("TRUSTED_PROXIES", "-1"),
        ("TRUSTED_PROXIES", "two"),
        ("LOG_LEVEL", "LOUD"),
    ],
)
def test_invalid_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TRADEFLEET_{name}", value)
    with pytest.raises(SettingsError, match=f"^TRADEFLEET_{name} "):
        settings.load()


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("is_empty", [False, True])
def test_missing_secret_stops_the_process(fleet: Path, name: str, is_empty: bool) -> None:
    if is_empty:
        (fleet / name).write_text("\n")
    else:
        (fleet / name).unlink()
    with pytest.raises(SettingsError, match=name):
        settings.load()


def test_secrets_require_a_folder(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(SettingsError, match="CREDENTIALS_DIRECTORY"):
        settings.load()


@pytest.mark.parametrize("name", ["DATABASE_CA_FILE", "REDIS_CA_FILE"])
def test_hosts_require_a_ca_file(fleet: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv(f"TRADEFLEET_{name}")
    with pytest.raises(SettingsError, match=name):
        settings.load()


def test_variable_is_declared_once() -> None:
    @dataclass(frozen=True)
    class Other:
        color: str = setting("COLOR", token, "write a color", default="")

    with pytest.raises(ValueError, match="TRADEFLEET_COLOR is declared twice"):
        settings.load([Other])
