"""The views of the platform: health, readiness, the version and the OpenAPI document."""

from tradefleet.platform.application import Application
from tradefleet.platform.events.failures import FailedEvent
from tradefleet.platform.events.outbox import Event
from tradefleet.platform.http import openapi
from tradefleet.platform.system import views


def register(app: Application) -> None:
    """Declare the views, like a domain. None of them needs a key."""
    app.add_models(Event, FailedEvent)
    app.add_views(views.blueprint, public=["healthz", "readyz", "version"])
    app.add_views(openapi.blueprint, public=["document"])
