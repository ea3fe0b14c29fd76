# ruff: noqa: D103  # the name of a test states what it asserts
"""No response is built from the host name that a client sends."""

import re
from http import HTTPStatus
from uuid import uuid4

import pytest
from flask import Flask
from tradefleet.platform.settings import Settings

from .conftest import MakeApp

FORGED = {
    "Host": "evil.example",
    "Forwarded": "host=evil.example;proto=http",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Server": "evil.example",
    "X-Original-URL": "/evil",
}


def spellings(path: str) -> list[str]:
    return [path, f"/{path}", path.replace("/", "//"), f"{path}/", f"{path}//", f"{path}/.", f"/.{path}"]


@pytest.mark.parametrize("proxies", [0, 1])
def test_no_spelling_of_a_path_is_redirected(make_app: MakeApp, proxies: int) -> None:
    app = make_app(Settings(trusted_proxies=proxies))
    client = app.test_client()
    paths = {re.sub(r"<[^<>]+>", str(uuid4()), rule.rule) for rule in app.url_map.iter_rules()}
    for spelling in {each for path in paths for each in spellings(path)}:
        for method in ("GET", "POST"):
            # gunicorn passes it on like this; the test client would parse two slashes as the start of a host name.
            answer = client.open(method=method, headers=FORGED, environ_overrides={"PATH_INFO": spelling})
            assert not 300 <= answer.status_code < 400, spelling
            assert "evil" not in answer.text + str(answer.headers), spelling


def test_path_has_one_spelling(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/v1/instruments").status_code == HTTPStatus.OK
    for spelling in ("/v1//instruments", "/v1/instruments/", "/v1/./instruments", "/v1/instruments//"):
        assert client.get(spelling).status_code == HTTPStatus.NOT_FOUND, spelling


def test_location_of_a_new_order_contains_no_host(app: Flask, headers: dict[str, str], order: dict[str, str]) -> None:
    answer = app.test_client().post("/v1/orders", json=order, headers=headers | FORGED)
    assert re.fullmatch("/v1/orders/[0-9a-f-]{36}", answer.headers["Location"])
