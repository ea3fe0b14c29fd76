"""One time budget for all database work of a request, so that consecutive waits do not add up."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ends_at: ContextVar[float | None] = ContextVar("deadline", default=None)


@contextmanager
def budget(seconds: float) -> Iterator[None]:
    """Limit everything inside to this many seconds from now, or to the time that is left of an outer budget."""
    ends_at = time.monotonic() + seconds
    running = _ends_at.get()
    token = _ends_at.set(ends_at if running is None else min(ends_at, running))
    try:
        yield
    finally:
        _ends_at.reset(token)


def remaining(default: float) -> float:
    """Return the seconds left, at least 0; `default` without a budget."""
    ends_at = _ends_at.get()
    return default if ends_at is None else max(0.0, ends_at - time.monotonic())
