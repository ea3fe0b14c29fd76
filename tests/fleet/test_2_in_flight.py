"""Are requests in flight answered when the traffic moves?"""

import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor

from clients import Answer, Api
from inside import on
from lab import EDGES, leader, measured, play, playing

ORDERS = 8
# The requests wait for this time; the application times out after five seconds.
LEAST, MOST = 3.0, 4.2


def test_orders_in_flight_at_the_flip_are_answered(api: Api) -> None:
    """They wait three seconds for the database; the color that received them answers, although it is idle by then."""
    primary, flipped = leader(), threading.Event()
    answers: list[Future[Answer]] = []
    with ThreadPoolExecutor(ORDERS + 1) as pool:

        def release(began: float) -> float:
            in_time = flipped.wait(MOST)
            time.sleep(max(0.0, began + LEAST - time.monotonic()))
            on(primary, "pgbouncer-cli --command 'RESUME tradefleet'")
            assert in_time, f"the traffic has not moved within {MOST} s"
            return time.monotonic() - began

        for line in playing("cutover", cutover_to="green"):
            # No step needs the database from here to the flip, which the other line follows.
            if "TASK [nginx : Check | Query nginx" in line:
                on(primary, "pgbouncer-cli --command 'PAUSE tradefleet'")
                released = pool.submit(release, time.monotonic())
                clients = [Api(edge, api.key) for edge in EDGES]
                answers = [pool.submit(clients[n % 2].order, str(uuid.uuid4())) for n in range(ORDERS)]
            elif "TASK [traffic : Verify | Query" in line:
                flipped.set()
        placed = [answer.result() for answer in answers]
    assert len(placed) == ORDERS
    assert {(answer.status, answer.headers["x-color"]) for answer in placed} == {(201, "blue")}
    measured(
        f"{ORDERS} orders were under way for {released.result():.1f} s when the traffic moved: all answered with 201"
    )
    play("cutover", cutover_to="blue")
