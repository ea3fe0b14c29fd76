"""A breaker for a dependency that one can do without: while it fails, it costs nothing."""

import threading
import time


class Breaker:
    """Lets calls through until one fails; then, after each pause, one call alone, until one succeeds.

    Ask `allows` before a call, and tell `succeeded` or `failed` after it. One that tells neither counts as failed.
    """

    def __init__(self, pause_seconds: float) -> None:
        """Take the pause between a failure and the next call, longer than a call takes."""
        self._pause = pause_seconds
        self._lock = threading.Lock()
        self._is_open = False
        self._next_at = 0.0

    def allows(self) -> bool:
        """Say whether the caller may try; after a failure that is one caller for each pause."""
        with self._lock:
            if not self._is_open:
                return True
            now = time.monotonic()
            if now < self._next_at:
                return False
            self._next_at = now + self._pause
            return True

    def succeeded(self) -> None:
        """Let all calls through again."""
        with self._lock:
            self._is_open = False

    def failed(self) -> None:
        """Let no call through for the length of the pause."""
        with self._lock:
            self._is_open = True
            self._next_at = time.monotonic() + self._pause
