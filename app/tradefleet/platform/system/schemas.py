"""The form of the responses for operators."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tradefleet.platform.redis.store import Health


class Alive(BaseModel):
    """The process responds."""

    status: Literal["ok"]


class Dependencies(BaseModel):
    """Each dependency by name; `redis` is the service with state.

    `schema` is "ok", "unknown" while the database is down, or the reason why this release cannot run on it.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    database: Literal["ok", "down"]
    # Models have a method of the same name.
    fit: str = Field(serialization_alias="schema")
    redis: Health
    cache: Health


class Readiness(BaseModel):
    """Whether requests can be served: ready, degraded (without a Redis), unavailable or draining."""

    status: Literal["ready", "degraded", "unavailable", "draining"]
    dependencies: Dependencies
    outbox_seconds: float | None = Field(
        description="For how long the oldest event has been waiting for a worker; 0 is none, null is unknown."
    )
    outbox_events: int | None = Field(description="How many events wait for a worker, up to 1000; null is unknown.")
    outbox_failed: int | None = Field(
        description="How many events failed and were set aside, up to 1000; null is unknown."
    )


class Migration(BaseModel):
    """The migration of the code, and that of the database; null if the database is unreachable."""

    code: str
    database: str | None


class Version(BaseModel):
    """The running release."""

    release: str
    commit: str
    color: str
    migration: Migration
