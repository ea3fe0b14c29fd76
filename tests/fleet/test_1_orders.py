"""Does an order, and nothing else, reach a replicated database?"""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from clients import Api
from lab import DATA, leader, sql, wait


def count(key: str) -> str:
    """Return the number of orders with a key on the primary."""
    return sql(leader(), f"SELECT count(*) FROM orders WHERE idempotency_key = '{key}'")


@pytest.mark.parametrize("balancer", ["lb1", "lb2"])
def test_order_reaches_every_database(api: Api, balancer: str) -> None:
    """Each load balancer returns an ID, and the row is on the primary and on both replicas."""
    answer = Api(balancer, api.key).order(str(uuid.uuid4()))
    assert answer.status == 201
    assert answer.headers["x-color"] == "blue"
    query = f"SELECT count(*) FROM orders WHERE id = '{answer.json()['id']}'"
    for host in DATA:
        wait(lambda host=host: sql(host, query) == "1", 5, f"the row is on {host}")


def test_two_hundred_requests_with_one_key_make_one_order(api: Api) -> None:
    """PostgreSQL decides the race, whichever hosts receive the requests."""
    key = str(uuid.uuid4())
    clients = [Api("lb1", api.key), Api("lb2", api.key)]
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda n: clients[n % 2].order(key), range(200)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert count(key) == "1"


def test_key_with_another_body_is_rejected(api: Api) -> None:
    """The same body gets the first response again, and another one a problem document."""
    key = str(uuid.uuid4())
    first, again, other = api.order(key), api.order(key), api.order(key, quantity="2")
    assert (first.status, again.status, again.json()) == (201, 201, first.json())
    assert other.status in (409, 422)
    assert other.headers["content-type"] == "application/problem+json"
    assert count(key) == "1"


def test_each_database_role_has_only_its_own_permissions() -> None:
    """This covers all tables; only the owner creates any, and no role is a superuser."""
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
def test_invalid_body_is_rejected(api: Api, body: bytes) -> None:
    """It gets a 4xx problem document through nginx as well, and nothing is stored. tests/app covers all cases."""
    key = str(uuid.uuid4())
    answer = api.request("POST", "/v1/orders", body, {"Content-Type": "application/json", "Idempotency-Key": key})
    assert 400 <= answer.status < 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status
    assert count(key) == "0"


@pytest.mark.parametrize("key", ["", "x" * 129, "x" * 40_000], ids=["none", "long", "longer-than-a-header"])
def test_invalid_idempotency_key_is_rejected(api: Api, key: str) -> None:
    """It is missing, too long for the application, or too long for nginx."""
    before = sql(leader(), "SELECT count(*) FROM orders")
    answer = api.order(key) if key else api.request("POST", "/v1/orders", b"{}", {"Content-Type": "application/json"})
    assert 400 <= answer.status < 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert sql(leader(), "SELECT count(*) FROM orders") == before


def test_unauthenticated_request_is_rejected(api: Api) -> None:
    """Without a key or with an invalid one the response is a 401 problem document."""
    for key in ("", "wrong" * 10):
        answer = Api("lb1", key).request("GET", "/v1/orders")
        assert (answer.status, answer.headers["content-type"]) == (401, "application/problem+json")
