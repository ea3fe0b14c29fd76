# ruff: noqa: D103  # the name of a test states what it asserts
"""Instruments: public and the same for everyone, so that the edge may cache them for a moment."""

from pathlib import Path

import pytest
import yaml
from flask import Flask
from flask.testing import FlaskClient
from tradefleet.platform.http.guard import public_endpoints

EDGE = yaml.safe_load((Path(__file__).parents[2] / "roles/nginx/defaults/main.yml").read_text())


def test_any_client_gets_the_tradable_instruments(
    client: FlaskClient, headers: dict[str, str], order: dict[str, str]
) -> None:
    answer = client.get("/v1/instruments")
    assert answer.status_code == 200
    symbols = [item["symbol"] for item in answer.get_json()["items"]]
    assert symbols == sorted(symbols)
    assert len(symbols) == 12
    for symbol in symbols:
        placed = client.post(
            "/v1/orders", json=order | {"symbol": symbol}, headers=headers | {"Idempotency-Key": symbol}
        )
        assert placed.status_code == 201


@pytest.mark.parametrize("path", EDGE["nginx_cache_paths"])
def test_cached_response_is_the_same_for_everyone(
    app: Flask, client: FlaskClient, headers: dict[str, str], path: str
) -> None:
    endpoint, _ = app.url_map.bind("").match(path)
    assert endpoint in public_endpoints(app)
    anonymous, alice = client.get(path), client.get(path, headers=headers)
    assert anonymous.status_code == 200
    assert anonymous.data == alice.data
    # Either header would change how long nginx caches the response, or prevent that.
    assert not {"Cache-Control", "Expires", "Set-Cookie", "Vary", "X-Accel-Expires"} & set(anonymous.headers.keys())
