"""The outbox on PostgreSQL: the cost of a query during a dump, and an event that no worker can apply."""

import json
import uuid
from collections.abc import Iterator

import pytest
from flask import Flask
from locks import wait
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from testinfra.host import Host
from tradefleet import create_app
from tradefleet.domains import registered
from tradefleet.platform import deadline
from tradefleet.platform.events import failures, outbox
from tradefleet.platform.events.outbox import Backlog
from tradefleet.platform.events.worker import Worker
from tradefleet.platform.postgres.database import make_engine
from tradefleet.platform.settings import DatabaseSettings, Settings
from trial import database, dump

HANDLERS = registered().handlers
DEAD = 200_000
# Blocks of 8 kB. A scan from the start reads some thousands.
BLOCKS = 40
IDS = {"order_id": str(uuid.UUID(int=1)), "trader_id": str(uuid.UUID(int=2))}
RELATIONS = "'{outbox,ix_outbox_created_at,pk_outbox}'::regclass[]"


@pytest.fixture(scope="module")
def found(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatabaseSettings]:
    """A database with the schema of this code, and the statement timeout of a fleet."""
    with database(host, tmp_path_factory.mktemp("trial")) as found:
        host.check_output("runuser -u postgres -- psql -qXc \"ALTER DATABASE trial SET statement_timeout = '2s'\"")
        yield found


@pytest.fixture(scope="module")
def engine(found: DatabaseSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A client of the database like that of the API and the worker."""
    engine = make_engine(found, tmp_path_factory.mktemp("engine"))
    yield engine
    engine.dispose()


@pytest.fixture
def app(found: DatabaseSettings) -> Iterator[Flask]:
    """The API on this database."""
    app = create_app({"SETTINGS": Settings(database=found)})
    yield app
    app.extensions["database"].dispose()


@pytest.fixture(scope="module")
def dead(engine: Engine) -> Iterator[Engine]:
    """A running dump, and 200,000 events that were processed since it began, the last one a minute ago."""
    with dump(engine):
        with deadline.budget(60), engine.begin() as connection:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(
                text(
                    "INSERT INTO outbox SELECT gen_random_uuid(), 'order.accepted', '{}',"
                    " now() - interval '60 s' - number * interval '10 ms' FROM generate_series(1, :dead) AS number"
                ),
                {"dead": DEAD},
            )
        with deadline.budget(60), engine.begin() as connection:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("DELETE FROM outbox"))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE outbox"))
        yield engine


class Reading:
    """A session, and the number of blocks of the outbox and its indexes that it has read since this was created."""

    def __init__(self, session: Session) -> None:
        """Record the starting point: the server's counter includes earlier reads."""
        self._session = session
        self._before = self._total()

    def _total(self) -> int:
        query = f"SELECT sum(pg_stat_get_xact_blocks_fetched(each)) FROM unnest({RELATIONS}) AS each"
        return int(self._session.execute(text(query)).scalar_one())

    def blocks(self) -> int:
        """Return the count."""
        return self._total() - self._before


def write(engine: Engine, kind: str = "order.accepted", payload: str | None = None) -> uuid.UUID:
    """Write an event as an order does, or another one."""
    event_id = uuid.uuid4()
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO outbox VALUES (:id, :kind, CAST(:payload AS json), now())"),
            {"id": event_id, "kind": kind, "payload": json.dumps(IDS) if payload is None else payload},
        )
    return event_id


@pytest.mark.parametrize("kinds", [None, HANDLERS], ids=["readyz", "worker"])
def test_query_cost_is_constant_during_a_dump(dead: Engine, kinds: list[str] | None) -> None:
    """Only the first query reads dead rows; all of them find the existing events."""
    backlog = Backlog(kinds)
    with Session(dead) as session:
        reading = Reading(session)
        assert backlog.oldest(session) is None
        assert reading.blocks() > 20 * BLOCKS  # proves that the cost is visible here
    for _ in range(3):
        with Session(dead) as session:
            reading = Reading(session)
            assert backlog.oldest(session) is None
            assert backlog.take(session, 100) == []
            assert reading.blocks() < BLOCKS
        event_id = write(dead)
        with Session(dead) as session:
            reading = Reading(session)
            assert backlog.oldest(session) is not None
            assert [event.id for event in backlog.take(session, 100)] == [event_id]
            assert reading.blocks() < BLOCKS
            session.commit()


def test_worker_speed_is_constant_during_a_dump(dead: Engine) -> None:
    """This applies to each batch and each idle step after the first."""
    hand = Worker(dead, HANDLERS)
    hand.step()
    for _ in range(3):
        write(dead)
        hand.step()
        with Session(dead) as session:
            assert session.execute(text("SELECT count(*) FROM outbox")).scalar() == 0
        with Session(dead) as session:
            reading = Reading(session)
            hand._apply(session)
            assert reading.blocks() < BLOCKS


def test_readiness_does_not_wait_for_the_outbox(app: Flask, engine: Engine) -> None:
    """A table that does not respond, like a scan of many millions of dead rows, does not stop the host from serving."""

    def ready() -> tuple[int, str, float | None]:
        answer = app.test_client().get("/readyz")
        document = answer.get_json()
        return answer.status_code, document["status"], document["outbox_seconds"]

    wait(lambda: ready() == (200, "ready", 0), 20)
    with engine.begin() as connection:
        connection.execute(text("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE"))
        wait(lambda: ready() == (200, "ready", None), 20)
    app.extensions["backlog"] = Backlog()
    wait(lambda: ready() == (200, "ready", 0), 20)


def work(engine: Engine) -> None:
    """Run a worker until the outbox is empty."""
    hand = Worker(engine, HANDLERS)

    def is_done() -> bool:
        hand.step()
        with Session(engine) as session:
            return session.execute(text("SELECT count(*) FROM outbox")).scalar() == 0

    wait(is_done, 30)


@pytest.mark.parametrize(
    "payload",
    ["{}", "null", '{"order_id": "no uuid", "trader_id": "neither"}', "[" * 3000 + "]" * 3000, "9" * 5000],
    ids=["empty", "null", "no ids", "deep", "long"],
)
def test_malformed_event_is_set_aside(app: Flask, engine: Engine, payload: str) -> None:
    """Other events are processed; nothing is lost, and the event can be retried."""
    before, bad, after = write(engine), write(engine, payload=payload), write(engine)
    work(engine)
    with Session(engine) as session:
        done = set(session.execute(text("SELECT id FROM activity")).scalars())
        assert done & {before, bad, after} == {before, after}
        assert failures.count(session) == 1
        (row,) = failures.listed(session)
        assert row.id == bad
        kept = session.execute(text("SELECT CAST(payload AS text) FROM failed_events")).scalar()
        assert kept == payload
    wait(lambda: app.test_client().get("/readyz").get_json()["outbox_failed"] == 1, 20)
    with Session(engine) as session:
        assert failures.retry(session, []) == 1
        session.execute(text("UPDATE outbox SET payload = CAST(:payload AS json)"), {"payload": json.dumps(IDS)})
        session.commit()
    work(engine)
    with Session(engine) as session:
        assert session.execute(text("SELECT count(*) FROM activity WHERE id = :id"), {"id": bad}).scalar() == 1
        assert (failures.count(session), outbox.waiting(Backlog(), session)) == (0, (0, 0))
