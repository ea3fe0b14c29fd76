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

# What the operator's machinery asks is answered all the same.
ALWAYS_OPEN = frozenset({"/healthz", "/readyz", "/version"})
# In a request's WSGI environment: whether it may go on.
ADMITTED = "tradefleet.admitted"
# A write that has met another failure must not be sent again, so the edge has two places.
_WRITES = frozenset({"POST", "PATCH", "LOCK"})


class Gate:
    """Lets requests through until the flag is there."""

    def __init__(self, flag: Path, folder: str) -> None:
        """Take the flag, and the folder of the lock; without a folder nobody waits for requests."""
        self._flag = flag
        self._lock = Path(folder, "requests") if folder else None
        if self._lock:
            self._lock.touch(mode=0o600)

    def is_closed(self) -> bool:
        """Say whether this host is being taken out."""
        return self._flag.exists()

    @contextmanager
    def passage(self) -> Iterator[bool]:
        """Count as at work inside; gives whether the request may go on."""
        if self._lock is None:
            yield not self.is_closed()
            return
        # A lock belongs to what was opened, so each request opens the file for itself.
        handle = os.open(self._lock, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _share(handle) and not self.is_closed()
        finally:
            os.close(handle)


def _share(handle: int) -> bool:
    """Take the lock without waiting: who has it exclusively has put up the flag before."""
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def headers(method: str) -> Mapping[str, str]:
    """Return what tells the edge to ask another host, and any other caller to come back."""
    place = "write" if method in _WRITES else "read"
    return {"Retry-After": "1", "X-Accel-Redirect": f"@{place}_elsewhere"}


def refusal(method: str) -> ProblemError:
    """Return the answer to a request that was not let through."""
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "This host is being taken out of service. Nothing was done; try again.",
        headers=headers(method),
    )
