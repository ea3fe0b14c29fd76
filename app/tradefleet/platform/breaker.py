"""A circuit breaker for an optional dependency, so that failures of it cost no time."""

import threading
import time


class Breaker:
    """Lets calls through until one fails; then, after each pause, one call alone, until one succeeds.

    Call `allows` before a call, and `succeeded` or `failed` after it. A call without either counts as failed.
    """

    def __init__(self, pause_seconds: float) -> None:
        """Set the pause between a failure and the next call. It must be longer than a call."""
        self._pause = pause_seconds
        self._lock = threading.Lock()
        self._is_open = False
        self._next_at = 0.0

    def allows(self) -> bool:
        """Return whether the caller may try. After a failure, one caller per pause may."""
        with self._lock:
            if not self._is_open:
                return True
            now = time.monotonic()
            if now < self._next_at:
                return False
            self._next_at = now + self._pause
            return True

    def succeeded(self) -> None:
        """Allow all calls again."""
        with self._lock:
            self._is_open = False

    def failed(self) -> None:
        """Reject all calls for the length of the pause."""
        with self._lock:
            self._is_open = True
            self._next_at = time.monotonic() + self._pause
