"""An application on a SQLite file of its own, and two traders."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from tradefleet import create_app
from tradefleet.auth import keys
from tradefleet.extensions import db
from tradefleet.settings import Address, Settings

KEYS = {"alice": "a" * 40, "bob": "b" * 40}
MakeApp = Callable[[Settings], Flask]


@pytest.fixture
def make_app(tmp_path: Path) -> Iterator[MakeApp]:
    """Make applications whose connections are closed at the end."""
    made = []

    def make(settings: Settings) -> Flask:
        app = create_app({"SETTINGS": settings, "INSTANCE_PATH": str(tmp_path)})
        made.append(app)
        return app

    yield make
    for app in made:
        for engine in filter(None, (app.extensions["database"], app.extensions["replica"])):
            engine.dispose()


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    """The application, with alice's and bob's keys."""
    app = make_app(Settings())
    with app.app_context():
        for name, key in KEYS.items():
            # mypy cannot tell the types of a lambda's defaults
            db.transact(lambda session, name=name, key=key: keys.add(session, name, key))  # type: ignore[misc]
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of the application."""
    return app.test_client()


@pytest.fixture
def headers() -> dict[str, str]:
    """Alice's key, and an idempotency key."""
    return {"Authorization": f"Bearer {KEYS['alice']}", "Idempotency-Key": "order-1"}


@pytest.fixture
def order() -> dict[str, str]:
    """A valid order."""
    return {"symbol": "AAPL", "side": "buy", "type": "limit", "quantity": "1.50", "limit_price": "187.25"}


@pytest.fixture
def closed() -> Iterator[Address]:
    """A port where nobody listens, nor can begin to."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield Address("127.0.0.1", bound.getsockname()[1])


@pytest.fixture
def silent() -> Iterator[Address]:
    """A port where connections are accepted by the kernel and nobody ever answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield Address("127.0.0.1", listener.getsockname()[1])
