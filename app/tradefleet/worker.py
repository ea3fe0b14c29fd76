"""The worker, `tradefleet-worker`: takes events from the outbox and applies their effects until SIGTERM.

It polls in short transactions, since a pooler keeps no session to listen on. Any number of workers may run at once, of
several releases, too: none takes what another has in hand, or what it does not know.
"""

import logging
import signal
import time
from collections.abc import Callable, Mapping

from gunicorn.systemd import sd_notify  # type: ignore[import-untyped]  # gunicorn says nothing of its types
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from tradefleet import create_app, deadline, outbox
from tradefleet.activity import services as activity
from tradefleet.database import DatabaseUnavailableError, OutcomeUnknownError, run
from tradefleet.orders.services import ACCEPTED
from tradefleet.outbox import Event

BATCH = 100
# All work on a batch: what a stop may take.
BATCH_SECONDS = 5.0
IDLE_SECONDS = 0.2
# After a failure of the database.
PAUSE_SECONDS = 1.0
# What to do about each kind of event, in the transaction that takes it.
EFFECTS: Mapping[str, Callable[[Session, Event], None]] = {ACCEPTED: activity.record}

log = logging.getLogger(__name__)


class Worker:
    """Applies the effects of events, batch by batch."""

    def __init__(self, engine: Engine) -> None:
        """Take the database's engine; nothing connects yet."""
        self._engine = engine
        self._is_stopping = False

    def stop(self, *_: object) -> None:
        """Take no further batch; one that is in hand is finished."""
        self._is_stopping = True

    def work(self) -> None:
        """Work until it is told to stop."""
        while not self._is_stopping:
            time.sleep(self.step())

    def step(self) -> float:
        """Take one batch; return the seconds after which to look again."""
        try:
            with deadline.budget(BATCH_SECONDS):
                done = run(self._engine, _apply, commit=True)
        except (DatabaseUnavailableError, OutcomeUnknownError, SQLAlchemyError) as error:
            # Nothing is lost: what is not done is still in the outbox.
            log.warning("the batch failed", exc_info=error)
            return PAUSE_SECONDS
        if done:
            log.info("published", extra={"events": done})
        return 0 if done == BATCH else IDLE_SECONDS


def _apply(session: Session) -> int:
    events = outbox.take(session, EFFECTS, BATCH)
    for event in events:
        EFFECTS[event.kind](session, event)
    return len(events)


def main() -> None:
    """Run a worker with the application's settings."""
    worker = Worker(create_app().extensions["database"])
    signal.signal(signal.SIGTERM, worker.stop)
    sd_notify("READY=1", log)
    worker.work()
