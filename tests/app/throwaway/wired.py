# ruff: noqa: D103  # the name of a test states what it asserts
"""Tests of an application with the throw-away domain; test_recipe.py runs this file on a copy that has it."""

import json
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient
from tradefleet import create_app
from tradefleet.domains import registered
from tradefleet.entrypoints.cli import main
from tradefleet.platform import settings
from tradefleet.platform.events.worker import Worker
from tradefleet.platform.http.guard import public_endpoints
from tradefleet.platform.postgres.database import Base
from tradefleet.platform.settings import SettingsError

from ..conftest import activity, place

VARIABLE = "TRADEFLEET_QUOTES_LIMIT"


def test_its_routes_are_served_and_guarded(app: Flask, client: FlaskClient, headers: dict[str, str]) -> None:
    assert client.get("/v1/quotes").get_json() == {"count": 0}
    assert client.get("/v1/quotes/AAPL/7").status_code == 401
    answer = client.get("/v1/quotes/AAPL/7", headers=headers)
    assert (answer.get_json(), answer.headers["X-Guard"]) == ({"symbol": "AAPL", "number": 7}, "key")
    assert {name for name in public_endpoints(app) if name.startswith("quotes.")} == {"quotes.list_quotes"}


def test_the_document_has_its_operations(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    listed = document["paths"]["/v1/quotes"]["get"]
    one = document["paths"]["/v1/quotes/{symbol}/{number}"]["get"]
    assert (listed["security"], one["security"]) == ([], [{"key": []}])
    types: dict[str, Any] = {each["name"]: each["schema"] for each in one["parameters"]}
    assert types == {"symbol": {"type": "string"}, "number": {"type": "integer"}}
    assert {"QuoteList", "QuoteOut"} <= set(document["components"]["schemas"])


def test_its_table_is_migrated_and_owned(app: Flask) -> None:
    assert registered().tables["quotes"] == "quotes"
    with app.extensions["database"].connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_its_handler_is_called_with_the_others(
    client: FlaskClient, headers: dict[str, str], order: dict[str, str], queue_worker: Worker
) -> None:
    placed = place(client, headers, order, "one")
    queue_worker.step()
    assert activity(client, headers) == [placed]
    assert client.get("/v1/quotes").get_json() == {"count": 1}


def test_its_command_exists(app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Flask, "auto_find_instance_path", lambda _: str(tmp_path))
    assert json.loads(CliRunner().invoke(main, ["quotes"]).stdout) == 0
    monkeypatch.setenv(VARIABLE, "many")
    refused = CliRunner().invoke(main, ["quotes"])
    assert (refused.exit_code, refused.stderr.split()[1]) == (1, VARIABLE)


def test_its_setting_is_read_and_has_a_default(
    app: Flask,
    client: FlaskClient,
    headers: dict[str, str],
    order: dict[str, str],
    queue_worker: Worker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for number in range(5):
        place(client, headers, order, f"key-{number}")
    queue_worker.step()
    assert client.get("/v1/quotes").get_json() == {"count": 3}
    monkeypatch.setenv(VARIABLE, "4")
    other = create_app({"INSTANCE_PATH": str(tmp_path)})
    assert other.test_client().get("/v1/quotes").get_json() == {"count": 4}
    other.extensions["database"].dispose()


def test_invalid_value_is_rejected_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "many")
    with pytest.raises(SettingsError, match=f"^{VARIABLE} is not usable .*; write how many quotes an answer has"):
        create_app()


def test_release_without_the_domain_rejects_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new variable must not reach a host until every release that may start there has it (CONTRIBUTING.md)."""
    monkeypatch.setenv(VARIABLE, "4")
    with pytest.raises(SettingsError, match=f"^{VARIABLE} is not a setting"):
        settings.load()
