"""One time budget for all database work of a request, so that waits in a row never add up to a hang."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ends_at: ContextVar[float | None] = ContextVar("deadline", default=None)


@contextmanager
def budget(seconds: float) -> Iterator[None]:
    """Bound everything inside to so many seconds from now; a budget that already runs stays the tighter one."""
    ends_at = time.monotonic() + seconds
    running = _ends_at.get()
    token = _ends_at.set(ends_at if running is None else min(ends_at, running))
    try:
        yield
    finally:
        _ends_at.reset(token)


def remaining(default: float) -> float:
    """Return the seconds left, at least 0; `default` where no budget runs."""
    ends_at = _ends_at.get()
    return default if ends_at is None else max(0.0, ends_at - time.monotonic())
