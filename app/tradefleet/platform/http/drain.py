"""Takes this host out of service without losing a request: a drained host rejects requests before any work.

The operator creates a flag, then acquires the lock exclusively. A request holds the lock shared from before it looks
for the flag. So once the operator has had the lock, no request is in progress and none begins. The kernel releases the
lock of a dead process; a count in a file would stay.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

from tradefleet.platform.http.problems import ProblemError

# Probes and the operator's tools still get responses.
ALWAYS_OPEN = frozenset({"/healthz", "/readyz", "/version"})
# In a request's WSGI environment: whether it may continue.
ADMITTED = "tradefleet.admitted"
# The edge must not repeat a write after another failure, so it has two locations.
_WRITES = frozenset({"POST", "PATCH", "LOCK"})


class Gate:
    """Lets requests through until the flag is there."""

    def __init__(self, flag: Path, folder: str) -> None:
        """Set the flag and the folder of the lock; without a folder, requests are not counted."""
        self._flag = flag
        self._lock = Path(folder, "requests") if folder else None
        if self._lock:
            self._lock.touch(mode=0o600)

    def is_closed(self) -> bool:
        """Return whether this host is drained."""
        return self._flag.exists()

    @contextmanager
    def passage(self) -> Iterator[bool]:
        """Count as a request in progress inside; yield whether the request may continue."""
        if self._lock is None:
            yield not self.is_closed()
            return
        # A lock belongs to an open file, so each request opens the file itself.
        handle = os.open(self._lock, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _share(handle) and not self.is_closed()
        finally:
            os.close(handle)


def _share(handle: int) -> bool:
    """Acquire the lock without waiting: the holder of the exclusive lock has created the flag before."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def headers(method: str) -> Mapping[str, str]:
    """Return the headers that tell the edge to try another host, and other clients to retry later."""
    place = "write" if method in _WRITES else "read"
    return {"Retry-After": "1", "X-Accel-Redirect": f"@{place}_elsewhere"}


def refusal(method: str) -> ProblemError:
    """Return the response to a rejected request."""
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "This host is draining. Nothing was done; try again.",
        headers=headers(method),
    )
