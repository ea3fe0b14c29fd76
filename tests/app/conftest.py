"""An application with its own SQLite file, two traders, a worker, and helpers of tests."""

import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from tradefleet import create_app
from tradefleet.domains.identity import keys
from tradefleet.platform.events.outbox import Event
from tradefleet.platform.events.worker import Worker
from tradefleet.platform.extensions import db
from tradefleet.platform.settings import Address, Settings

KEYS = {"alice": "a" * 40, "bob": "b" * 40}
MakeApp = Callable[[Settings], Flask]


@pytest.fixture(scope="session")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SQLite file that an application creates at its first start."""
    folder = tmp_path_factory.mktemp("schema")
    create_app({"SETTINGS": Settings(), "INSTANCE_PATH": str(folder)}).extensions["database"].dispose()
    return folder / "tradefleet.sqlite3"


@pytest.fixture
def make_app(tmp_path: Path, schema: Path) -> Iterator[MakeApp]:
    """Create applications whose connections are closed at the end."""
    made = []
    # Migrating an empty database would take ten times as long as everything else that creates an application.
    shutil.copy(schema, tmp_path)

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
            # mypy cannot infer the types of a lambda's defaults.
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
    """A port on which nothing listens, and nothing can."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield Address("127.0.0.1", bound.getsockname()[1])


@pytest.fixture
def silent() -> Iterator[Address]:
    """A port at which the kernel accepts connections, but no process responds."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield Address("127.0.0.1", listener.getsockname()[1])


@pytest.fixture
def queue_worker(app: Flask) -> Worker:
    """A worker on the application's database."""
    return Worker(app.extensions["database"], app.extensions["handlers"])


def place(client: FlaskClient, headers: dict[str, str], order: dict[str, str], key: str) -> str:
    """Place an order with this idempotency key; return its ID."""
    answer = client.post("/v1/orders", json=order, headers=headers | {"Idempotency-Key": key})
    assert answer.status_code == 201
    return str(answer.get_json()["id"])


def waiting(app: Flask) -> int:
    """Return the number of events in the outbox."""
    with app.app_context():
        return int(db.read(lambda session: session.scalar(select(func.count()).select_from(Event)) or 0))


def activity(client: FlaskClient, headers: dict[str, str], query: str = "") -> list[str]:
    """Return the IDs of the orders in the trader's activity, the latest first."""
    answer = client.get(f"/v1/activity{query}", headers=headers)
    assert answer.status_code == 200
    return [item["order_id"] for item in answer.get_json()["items"]]
