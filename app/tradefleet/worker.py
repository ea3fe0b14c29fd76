"""The worker, `tradefleet-worker`: takes events from the outbox and applies their effects until SIGTERM.

It polls in short transactions, since a pooler keeps no session to listen on. Any number of workers may run at once, of
several releases, too: none takes what another has in hand, or what it does not know.
"""

import logging
import signal
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from gunicorn.systemd import sd_notify  # type: ignore[import-untyped]  # gunicorn says nothing of its types
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from tradefleet import create_app, deadline, failures, outbox
from tradefleet.activity import services as activity
from tradefleet.database import run
from tradefleet.orders.services import ACCEPTED
from tradefleet.outbox import Backlog, Event

BATCH = 100
# After a failure, each in its own transaction.
CAREFUL_BATCH = 20
# All work on a batch: what a stop may take.
BATCH_SECONDS = 5.0
IDLE_SECONDS = 0.2
# After a failure.
PAUSE_SECONDS = 1.0
# What to do about each kind of event, in the transaction that takes it.
EFFECTS: Mapping[str, Callable[[Session, Event], None]] = {ACCEPTED: activity.record}

log = logging.getLogger(__name__)


class Worker:
    """Applies the effects of events, batch by batch, and one by one after a batch has failed."""

    def __init__(self, engine: Engine) -> None:
        """Take the database's engine; nothing connects yet."""
        self._engine = engine
        self._backlog = Backlog(EFFECTS)
        self._is_stopping = False
        self._is_careful = False

    def stop(self, *_: object) -> None:
        """Take no further batch; one that is in hand is finished."""
        self._is_stopping = True

    def work(self) -> None:
        """Work until it is told to stop."""
        while not self._is_stopping:
            time.sleep(self.step())

    def step(self) -> float:
        """Take one batch; return the seconds after which to look again."""
        is_careful, self._is_careful = self._is_careful, True
        try:
            with deadline.budget(BATCH_SECONDS):
                done = self._one_by_one() if is_careful else run(self._engine, self._apply, commit=True)
        except Exception as error:
            # Nothing is lost: what is not done is still in the outbox. Another process would do no better.
            log.warning("the batch failed", exc_info=error)
            return PAUSE_SECONDS
        self._is_careful = False
        if done:
            log.info("published", extra={"events": done})
        # After a careful one there may be more.
        return 0 if done == BATCH or (is_careful and done) else IDLE_SECONDS

    def _apply(self, session: Session) -> int:
        if self._backlog.oldest(session) is None:
            return 0
        events = self._backlog.take(session, BATCH)
        for event in events:
            EFFECTS[event.kind](session, event)
        return len(events)

    def _one_by_one(self) -> int:
        """Apply the oldest events in a transaction each; one that fails by itself is set aside."""
        ids = run(self._engine, self._look, commit=False)
        for event_id in ids:
            try:
                run(self._engine, partial(_apply_one, event_id=event_id), commit=True)
            except Exception as error:
                if not failures.is_its_own(error):
                    raise
                run(self._engine, partial(failures.set_aside, event_id=event_id, error=error), commit=True)
                log.error("an event was set aside", extra={"event": str(event_id)}, exc_info=error)
        return len(ids)

    def _look(self, session: Session) -> Sequence[uuid.UUID]:
        return [] if self._backlog.oldest(session) is None else self._backlog.ids(session, CAREFUL_BATCH)


def _apply_one(session: Session, event_id: uuid.UUID) -> None:
    event = outbox.take_one(session, event_id)
    if event is not None:
        EFFECTS[event.kind](session, event)


def main() -> None:
    """Run a worker with the application's settings."""
    worker = Worker(create_app().extensions["database"])
    signal.signal(signal.SIGTERM, worker.stop)
    sd_notify("READY=1", log)
    worker.work()
