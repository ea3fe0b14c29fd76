"""Orders that are placed while something happens to the fleet."""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from clients import Api
from lab import wait

# The time before the request, and the order's ID.
Acknowledged = list[tuple[float, str]]


@contextmanager
def ordering(api: Api) -> Iterator[tuple[Acknowledged, list[int]]]:
    """Place orders throughout the block; yield the acknowledged ones, and the statuses of the others."""
    acknowledged: Acknowledged = []
    refused: list[int] = []
    done = threading.Event()

    def place() -> None:
        while not done.wait(0.05):
            sent = time.time()
            answer = api.order(uuid.uuid4().hex)
            if answer.status == 201:
                acknowledged.append((sent, answer.json()["id"]))
            else:
                refused.append(answer.status)

    thread = threading.Thread(target=place)
    thread.start()
    try:
        wait(lambda: len(acknowledged) > 10, 30, "orders are placed")
        yield acknowledged, refused
    finally:
        done.set()
        thread.join()
