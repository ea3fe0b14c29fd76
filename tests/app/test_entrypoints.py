# ruff: noqa: D103  # the name of a test states what it asserts
"""The ways to start the application: names in a host's files and in the package, and refused configurations."""

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import tradefleet
from flask import Blueprint, Flask
from gunicorn.util import import_app  # type: ignore[import-untyped]  # gunicorn says nothing of its types
from tradefleet.domains import registered
from tradefleet.platform.application import Application
from tradefleet.platform.http import factory
from tradefleet.platform.settings import Settings

PROJECT = Path(__file__).parents[2]
TEMPLATES = PROJECT / "roles/app/templates"


def test_unit_and_gunicorn_use_names_that_the_package_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both files also start older releases, which have the same names."""
    (entry,) = re.findall(r'"(.+:.+)"$', (TEMPLATES / "api.service.j2").read_text(), re.MULTILINE)
    app = Flask("made")
    monkeypatch.setattr(tradefleet, "create_app", lambda: app)
    assert entry == "{{ app_name }}:create_app()"
    assert import_app(entry.replace("{{ app_name }}", "tradefleet")) is app  # as gunicorn reads it
    imported = re.findall(r"^from [^#]*[^# ]", (TEMPLATES / "gunicorn.conf.py.j2").read_text(), re.MULTILINE)
    assert imported == ["from {{ app_name }} import create_app, logs"]
    assert tradefleet.logs.config("INFO")["root"]["level"] == "INFO"
    assert tradefleet.__all__ == ["create_app", "logs"]


def test_each_command_of_the_package_exists() -> None:
    scripts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(scripts) == {"tradefleet", "tradefleet-metrics", "tradefleet-worker"}
    for place in scripts.values():
        module, _, name = place.partition(":")
        assert callable(getattr(import_module(module), name))


def test_application_without_a_domain_for_authentication_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no domain identifies the caller"):
        factory.build(Application(), {"SETTINGS": Settings(), "INSTANCE_PATH": str(tmp_path)})


def test_public_view_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    app = registered()
    app.add_views(Blueprint("quotes", __name__), public=["list_quotes"])
    with pytest.raises(ValueError, match=r"declared as public, and no view: quotes\.list_quotes"):
        factory.build(app, {"SETTINGS": Settings(), "INSTANCE_PATH": str(tmp_path)})


def test_only_one_domain_may_authenticate() -> None:
    app = registered()
    assert app.identify is not None
    with pytest.raises(ValueError, match="two domains identify the caller"):
        app.identify_by(app.identify)
