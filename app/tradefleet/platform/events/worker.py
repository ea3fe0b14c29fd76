"""The worker's loop: takes events from the outbox and applies their effects until it is stopped.

It polls in short transactions, because a pooler keeps no session for LISTEN. Any number of workers may run at once,
even of several releases: none takes an event that another one is processing, or of an unknown kind.
"""

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial

from prometheus_client import Counter
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from tradefleet.platform import deadline
from tradefleet.platform.application import Handler
from tradefleet.platform.events import failures, outbox
from tradefleet.platform.events.outbox import Backlog, Event
from tradefleet.platform.postgres.database import run

BATCH = 100
# After a failure, each event in its own transaction.
CAREFUL_BATCH = 20
# For all work on a batch, and so for a stop.
BATCH_SECONDS = 5.0
IDLE_SECONDS = 0.2
# After a failure.
PAUSE_SECONDS = 1.0

log = logging.getLogger(__name__)

_BATCHES = Counter("tradefleet_worker_batches", "Batches of the worker, by result.", ["result"])
for _result in ("applied", "empty", "failed"):
    _BATCHES.labels(_result)
_EVENTS = Counter("tradefleet_worker_events", "Events of finished batches, by result.", ["result"])
for _result in ("applied", "set_aside"):
    _EVENTS.labels(_result)


class Worker:
    """Applies the effects of events, batch by batch, and one by one after a batch has failed."""

    def __init__(self, engine: Engine, handlers: Mapping[str, Sequence[Handler]]) -> None:
        """Set the database's engine and the handlers of each kind of event; nothing connects yet."""
        self._engine = engine
        self._handlers = handlers
        self._backlog = Backlog(handlers)
        self._is_stopping = False
        self._is_careful = False

    def stop(self, *_: object) -> None:
        """Take no further batch, and finish the present one."""
        self._is_stopping = True

    def work(self) -> None:
        """Process events until `stop` is called."""
        while not self._is_stopping:
            time.sleep(self.step())

    def step(self) -> float:
        """Process one batch; return the seconds until the next one."""
        is_careful, self._is_careful = self._is_careful, True
        try:
            with deadline.budget(BATCH_SECONDS):
                done = self._one_by_one() if is_careful else self._at_once()
        except Exception as error:
            # Nothing is lost: unprocessed events are still in the outbox. Another process would fail, too.
            log.warning("the batch failed", exc_info=error)
            _BATCHES.labels("failed").inc()
            return PAUSE_SECONDS
        self._is_careful = False
        _BATCHES.labels("applied" if done else "empty").inc()
        if done:
            log.info("published", extra={"events": done})
        # After a batch of single transactions there may be more events.
        return 0 if done == BATCH or (is_careful and done) else IDLE_SECONDS

    def _at_once(self) -> int:
        done = run(self._engine, self._apply, commit=True)
        _EVENTS.labels("applied").inc(done)
        return done

    def _apply(self, session: Session) -> int:
        if self._backlog.oldest(session) is None:
            return 0
        events = self._backlog.take(session, BATCH)
        for event in events:
            self._handle(session, event)
        return len(events)

    def _apply_one(self, session: Session, event_id: uuid.UUID) -> bool:
        event = outbox.take_one(session, event_id)
        if event is not None:
            self._handle(session, event)
        return event is not None

    def _handle(self, session: Session, event: Event) -> None:
        for handler in self._handlers[event.kind]:
            handler(session, event)

    def _one_by_one(self) -> int:
        """Apply the oldest events in a transaction each; one that fails by itself is set aside."""
        ids = run(self._engine, self._look, commit=False)
        for event_id in ids:
            try:
                is_applied = run(self._engine, partial(self._apply_one, event_id=event_id), commit=True)
                _EVENTS.labels("applied").inc(is_applied)
            except Exception as error:
                if not failures.is_its_own(error):
                    raise
                set_aside = partial(failures.set_aside, event_id=event_id, error=error)
                _EVENTS.labels("set_aside").inc(run(self._engine, set_aside, commit=True))
                log.error("an event was set aside", extra={"event": str(event_id)}, exc_info=error)
        return len(ids)

    def _look(self, session: Session) -> Sequence[uuid.UUID]:
        return [] if self._backlog.oldest(session) is None else self._backlog.ids(session, CAREFUL_BATCH)
