"""Does an order get into a replicated database, and nothing else?"""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from clients import Api
from lab import DATA, leader, sql, wait


def count(key: str) -> str:
    """Return how many orders the primary holds under a key."""
    return sql(leader(), f"SELECT count(*) FROM orders WHERE idempotency_key = '{key}'")


@pytest.mark.parametrize("balancer", ["lb1", "lb2"])
def test_an_order_reaches_every_database(api: Api, balancer: str) -> None:
    """Through either load balancer: acknowledged with an id, and a row on the primary and on both replicas."""
    answer = Api(balancer, api.key).order(str(uuid.uuid4()))
    assert answer.status == 201
    assert answer.headers["x-color"] == "blue"
    query = f"SELECT count(*) FROM orders WHERE id = '{answer.json()['id']}'"
    for host in DATA:
        wait(lambda host=host: sql(host, query) == "1", 5, f"the row is on {host}")


def test_two_hundred_requests_with_one_key_make_one_order(api: Api) -> None:
    """PostgreSQL is the judge of the race, on whichever host the requests land."""
    key = str(uuid.uuid4())
    clients = [Api("lb1", api.key), Api("lb2", api.key)]
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda n: clients[n % 2].order(key), range(200)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert count(key) == "1"


def test_same_key_other_body_is_refused(api: Api) -> None:
    """The first answer again for the same body, a problem for another."""
    key = str(uuid.uuid4())
    first, again, other = api.order(key), api.order(key), api.order(key, quantity="2")
    assert (first.status, again.status, again.json()) == (201, 201, first.json())
    assert other.status in (409, 422)
    assert other.headers["content-type"] == "application/problem+json"
    assert count(key) == "1"


def test_each_role_of_the_database_may_do_its_work_and_no_more() -> None:
    """Of all tables that there are; the owner alone makes any, and nobody is a superuser."""
    rights = """
        SELECT rolname, string_agg(DISTINCT privilege, ' ' ORDER BY privilege)
        FROM pg_roles, pg_tables,
          unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER,MAINTAIN}'::text[]) AS privilege
        WHERE rolname LIKE 'tradefleet%' AND schemaname = 'public'
          AND has_table_privilege(rolname, format('%I.%I', schemaname, tablename), privilege)
        GROUP BY rolname"""
    found = dict(row.split("|") for row in sql(leader(), rights).splitlines())
    rows = "DELETE INSERT SELECT UPDATE"
    assert found == {
        "tradefleet_analytics": "SELECT",
        "tradefleet_app": rows,
        "tradefleet_app_blue": rows,
        "tradefleet_app_green": rows,
        "tradefleet_backup": "SELECT",
        "tradefleet_owner": "DELETE INSERT MAINTAIN REFERENCES SELECT TRIGGER TRUNCATE UPDATE",
    }
    more = """
        SELECT rolname FROM pg_roles WHERE rolname LIKE 'tradefleet%'
          AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls
               OR has_schema_privilege(rolname, 'public', 'CREATE')
               OR has_database_privilege(rolname, 'tradefleet', 'CREATE'))"""
    assert sql(leader(), more) == "tradefleet_owner"
    assert sql(leader(), "SELECT pg_has_role('tradefleet_monitor', 'pg_read_all_stats', 'USAGE')") == "t"


BAD = {
    "malformed": b'{"symbol": ',
    "array": b"[]",
    "not-utf8": b'{"symbol": "\xff"}',
    "number": b'{"symbol":"AAPL","side":"buy","type":"limit","quantity":1.5,"limit_price":"1"}',
    "negative": b'{"symbol":"AAPL","side":"buy","type":"limit","quantity":"-1","limit_price":"1"}',
    "huge": b'{"symbol":"AAPL","side":"buy","type":"limit","quantity":"1e400","limit_price":"1"}',
    "unknown": b'{"symbol":"NOPE","side":"buy","type":"limit","quantity":"1","limit_price":"1"}',
    "2-MB": b'{"symbol":"' + b"A" * 2_000_000 + b'"}',
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_a_bad_body_is_refused_at_the_edge_of_the_fleet(api: Api, body: bytes) -> None:
    """A 4xx problem document through nginx too, and nothing stored. tests/app has the whole table."""
    key = str(uuid.uuid4())
    answer = api.request("POST", "/v1/orders", body, {"Content-Type": "application/json", "Idempotency-Key": key})
    assert 400 <= answer.status < 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status
    assert count(key) == "0"


@pytest.mark.parametrize("key", ["", "x" * 129, "x" * 40_000], ids=["none", "long", "longer-than-a-header"])
def test_a_bad_key_is_refused(api: Api, key: str) -> None:
    """Missing, over-long for the application, over-long for nginx."""
    before = sql(leader(), "SELECT count(*) FROM orders")
    answer = api.order(key) if key else api.request("POST", "/v1/orders", b"{}", {"Content-Type": "application/json"})
    assert 400 <= answer.status < 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert sql(leader(), "SELECT count(*) FROM orders") == before


def test_strangers_are_refused(api: Api) -> None:
    """No key and a wrong key: 401, a problem document."""
    for key in ("", "wrong" * 10):
        answer = Api("lb1", key).request("GET", "/v1/orders")
        assert (answer.status, answer.headers["content-type"]) == (401, "application/problem+json")
