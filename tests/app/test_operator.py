# ruff: noqa: D103  # the name of a test states what it asserts
"""The operator's view: headers, health, version, log lines and the OpenAPI document."""

import json
import logging
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from tradefleet.platform import logs
from tradefleet.platform.postgres.migrator import head_revision
from tradefleet.platform.settings import Release, Settings

from .conftest import MakeApp

REQUESTS = [
    ("GET", "/healthz"),
    ("GET", "/v1/orders"),
    ("POST", "/v1/orders"),
    ("GET", "/nope"),
    ("DELETE", "/healthz"),
    ("GET", "/openapi.json"),
]


@pytest.fixture
def blue(make_app: MakeApp) -> FlaskClient:
    """A client of release 1.2.3 as blue."""
    return make_app(Settings(release=Release("1.2.3", "abc"), color="blue")).test_client()


@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_every_response_names_release_and_color(blue: FlaskClient, method: str, path: str) -> None:
    answer = blue.open(path, method=method)
    assert (answer.headers["X-Release"], answer.headers["X-Color"]) == ("1.2.3", "blue")
    assert uuid.UUID(answer.headers["X-Request-Id"])


@pytest.mark.parametrize(
    ("given", "is_taken"), [("req-1.A_b", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("<a>", False)]
)
def test_request_id_is_accepted_if_safe(client: FlaskClient, given: str, is_taken: bool) -> None:
    assert (client.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"] == given) is is_taken


def test_ready_and_version_report_the_running_release(blue: FlaskClient) -> None:
    assert blue.get("/readyz").get_json() == {
        "status": "ready",
        "dependencies": {"database": "ok", "schema": "ok", "redis": "disabled", "cache": "disabled"},
        "outbox_seconds": 0,
        "outbox_events": 0,
        "outbox_failed": 0,
    }
    assert blue.get("/version").get_json() == {
        "release": "1.2.3",
        "commit": "abc",
        "color": "blue",
        "migration": {"code": head_revision(), "database": head_revision()},
    }


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_each_request_is_one_json_line(
    client: FlaskClient, headers: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    logging.config.dictConfig(logs.config("INFO"))  # again, because standard error is captured now
    client.get("/v1/orders?limit=3", headers=headers | {"X-Request-Id": "r1"})
    (line,) = lines(capsys.readouterr().err)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["ts"])
    assert line["ms"] >= 0
    assert line | {"ts": "", "ms": 0} == {
        "ts": "",
        "level": "INFO",
        "logger": "tradefleet.access",
        "message": "request",
        "request_id": "r1",
        "method": "GET",
        "path": "/v1/orders",
        "status": 200,
        "ms": 0,
        "trader": "alice",
        "color": "none",
        "release": "dev",
    }


def test_error_is_logged_with_its_request(
    client: FlaskClient,
    headers: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logging.config.dictConfig(logs.config("INFO"))
    monkeypatch.setattr("tradefleet.domains.identity.services.find_principal", lambda *_: 1 / 0)
    client.get("/v1/orders", headers=headers | {"X-Request-Id": "r2"})
    error, request = lines(capsys.readouterr().err)
    assert "ZeroDivisionError" in error["exception"]
    assert (error["request_id"], request["request_id"], request["status"]) == ("r2", "r2", 500)


EDGE = {"400", "403", "413", "414", "421", "429", "502", "503", "504"}


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    """The OpenAPI document."""
    document: dict[str, Any] = client.get("/openapi.json").get_json()
    return document


def test_document_lists_every_v1_route(app: Flask, document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    routes = {
        (re.sub(r"<uuid:(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/v1/")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {(path, method) for path, item in document["paths"].items() for method in item}
    assert len(routes) == 5
    assert routes <= described
    for path, method in routes:
        secured: list[dict[str, list[str]]] = [] if path == "/v1/instruments" else [{"key": []}]
        assert document["paths"][path][method]["security"] == secured


def test_document_is_consistent(document: dict[str, Any]) -> None:
    def references(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            for name, value in part.items():
                if name == "$ref":
                    yield value
                yield from references(value)
        elif isinstance(part, list):
            for value in part:
                yield from references(value)

    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    for path, item in document["paths"].items():
        for described in item.values():
            named = {parameter["name"] for parameter in described["parameters"] if parameter["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert described["summary"]
            assert described["responses"]


def test_document_states_the_requirements_of_the_code(document: dict[str, Any]) -> None:
    place = document["paths"]["/v1/orders"]["post"]
    (key,) = place["parameters"]
    assert (key["name"], key["in"], key["required"]) == ("Idempotency-Key", "header", True)
    limit, market = document["components"]["schemas"]["OrderIn"]["oneOf"]
    for body, price in ((limit, "string"), (market, "null")):
        assert body["additionalProperties"] is False
        assert (body["properties"]["quantity"]["type"], body["properties"]["limit_price"]["type"]) == ("string", price)
    assert ["limit_price" in body["required"] for body in (limit, market)] == [True, False]
    assert set(place["responses"]) - EDGE == {"201", "401", "415", "422"}
    assert list(place["responses"]["504"]["content"]) == ["application/problem+json"]


def test_document_has_the_responses_of_the_edge(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for described in item.values():
            assert set(described["responses"]) >= EDGE, path
            for status in EDGE:
                form = described["responses"][status]["content"]["application/problem+json"]
                assert form["schema"]["$ref"] == "#/components/schemas/ProblemDocument"
    problem = document["components"]["schemas"]["ProblemDocument"]
    # The edge cannot name the path of a malformed request line.
    assert {"type", "title", "status", "detail", "request_id"} == set(problem["required"])
    assert "instance" in problem["properties"]


def test_document_names_the_header_with_the_database_that_answered(document: dict[str, Any]) -> None:
    for path in ("/v1/orders", "/v1/orders/{order_id}"):
        (header,) = document["paths"][path]["get"]["responses"]["200"]["headers"].items()
        assert header[0] == "TradeFleet-Read"
        assert "primary" in header[1]["description"]
    assert "headers" not in document["paths"]["/v1/orders"]["post"]["responses"]["201"]
